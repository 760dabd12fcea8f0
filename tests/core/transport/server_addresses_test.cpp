#include "tandem/core/transport/server_addresses_detail.h"

#include <chrono>
#include <string>
#include <vector>

#include "core/transport/peers.h"
#include "support/test.h"
#include "tandem/core/base/mailbox.h"

namespace tandem::transport_detail {
namespace {

using test::kPatience;

/// The addresses of one cycle, waited for as ZmqClient does.
class Cycles {
 public:
  explicit Cycles(TcpEndpoint server, bool loopback_only = false)
      : addresses(std::move(server), loopback_only, [this] { notified_.try_push(1); }) {}

  std::vector<std::string> next() {
    addresses.begin(std::chrono::steady_clock::now());
    while (!addresses.ready(std::chrono::steady_clock::now()))
      REQUIRE(notified_.pop_until(std::chrono::steady_clock::now() + kPatience));
    std::vector<std::string> texts;
    while (const auto address = addresses.next()) texts.push_back(address->text());
    return texts;
  }

 private:
  Mailbox<int> notified_{10};  // before the lookups that signal it

 public:
  ServerAddresses addresses;
};

}  // namespace

TEST_SUITE("core/transport/server_addresses") {
  TEST_CASE("an address is its own only one, without any lookup") {
    Cycles cycles({"192.0.2.1", "5555"});
    cycles.addresses.begin({});
    CHECK(cycles.addresses.ready({}));
    CHECK(cycles.next() == std::vector<std::string>{"tcp://192.0.2.1:5555"});
    CHECK(Cycles({"2001:db8::1", "5555"}).next() == std::vector<std::string>{"tcp://[2001:db8::1]:5555"});
  }

  TEST_CASE("a name is looked up in each cycle, and the address that worked comes first") {
    Cycles cycles({"localhost", "5555"});
    const std::vector<std::string> first = cycles.next();
    REQUIRE_FALSE(first.empty());
    cycles.addresses.worked();  // the last one
    const std::vector<std::string> second = cycles.next();
    CHECK(second.size() == first.size());
    CHECK(second.front() == first.back());
  }

  TEST_CASE("a name that does not exist is named with the reason") {
    Cycles cycles({"two..dots", "5555"});
    CHECK(cycles.next().empty());
    CHECK(cycles.addresses.problem().starts_with("cannot look up the host name \"two..dots\": "));
  }

  TEST_CASE("where only loopback will do other addresses are left out, and that is said") {
    Cycles cycles({"192.0.2.1", "5555"}, true);
    CHECK(cycles.next().empty());
    CHECK(cycles.addresses.problem().find("is no loopback address here") != std::string::npos);
    CHECK_FALSE(Cycles({"localhost", "5555"}, true).next().empty());
  }

  TEST_CASE("a lookup that is under way keeps nobody who goes away") {
    for (int i = 0; i < 50; ++i) {
      Cycles cycles({"two..dots", "5555"});
      cycles.addresses.begin(std::chrono::steady_clock::now());
    }
  }
}

}  // namespace tandem::transport_detail
