#include "tandem/core/partition/client_cuts.h"

#include <string>
#include <vector>

#include "support/test.h"

using namespace tandem;

TEST_SUITE("client cuts") {
  TEST_CASE("a number is everybody's") {
    const ClientCuts cuts = ClientCuts::parse("3").value();
    CHECK(cuts.equal());
    CHECK(cuts.of({"anybody"}) == 3);
    CHECK(cuts.distinct() == std::vector<int>{3});
    CHECK(cuts.text() == "3");
  }

  TEST_CASE("a list names clients, and * all others") {
    const ClientCuts cuts = ClientCuts::parse("bob=4, ann=1 ,*=2").value();
    CHECK_FALSE(cuts.equal());
    CHECK(cuts.of({"ann"}) == 1);
    CHECK(cuts.of({"bob"}) == 4);
    CHECK(cuts.of({"carl"}) == 2);
    CHECK(cuts.lowest() == 1);
    CHECK(cuts.highest() == 4);
    CHECK(cuts.distinct() == std::vector<int>{1, 2, 4});
    CHECK(cuts.text() == "ann=1,bob=4,*=2");
    CHECK(ClientCuts::parse(cuts.text()).value() == cuts);
  }

  TEST_CASE("of exactly the clients that there are, a cut that nobody uses is none") {
    const ClientCuts cuts = ClientCuts::parse("ann=1,bob=4,*=2").value();
    const ClientCuts known = cuts.of_clients({{"ann"}, {"bob"}}).value();
    CHECK(known.distinct() == std::vector<int>{1, 4});
    CHECK(known.text() == "ann=1,bob=4");
    CHECK(ClientCuts::parse("ann=2,*=2").value().of_clients({{"ann"}, {"bob"}})->equal());
    const auto unknown = cuts.of_clients({{"ann"}, {"bobb"}});
    REQUIRE_FALSE(unknown);
    CHECK(unknown.error().code == ErrorCode::kNotFound);
    CHECK(unknown.error().message == "there is no client bob, the nearest name is bobb");
  }

  TEST_CASE("what is neither is refused with the part that is wrong") {
    const auto refused = [](const std::string& text, const std::string& part) {
      const auto cuts = ClientCuts::parse(text);
      REQUIRE_FALSE(cuts);
      CAPTURE(cuts.error().message);
      CHECK(cuts.error().code == ErrorCode::kInvalidArgument);
      CHECK(cuts.error().message.find(part) != std::string::npos);
      CHECK(cuts.error().message.find("client-1=1,*=2") != std::string::npos);
    };
    refused("", "cut");
    refused("0", "0");
    refused("two", "two");
    refused("ann=1", "*=CUT is missing");
    refused("ann=1,ann=2,*=3", "ann occurs twice");
    refused("ann=1,*=x", "*: ");
    refused("ann=1,2,*=3", "\"2\" is not NAME=CUT");
    refused("=1,*=3", "\"=1\" is not NAME=CUT");
    refused("ann=1,*=2,", "\"\" is not NAME=CUT");
  }
}
