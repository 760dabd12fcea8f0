#include "tandem/core/base/form.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "support/test.h"

using namespace tandem;
using Kind = FormParameter::Kind;

namespace {

const std::vector<Form>& forms() {
  static const std::vector<Form> all = {
      {"none"},
      {"every",
       "",
       {{"steps", Kind::kWhole, {1, 1e6}, "", "", {}, /*required=*/true},
        {"factor", Kind::kNumber, {.low = 0, .high = 1, .below_high = true}, "0.5"},
        {"after", Kind::kTime, {0.001, 3600}, "10s"},
        {"order", Kind::kText, {}, "up", "", {"up", "down"}},
        {"head", Kind::kText, {}, ""}}}};
  return all;
}

const std::vector<Form>& list() {
  static const std::vector<Form> only = {{"", "", {{"size", Kind::kWhole, {.low = 0}, "3"}}}};
  return only;
}

std::string mistake(const std::string& text, const std::vector<Form>& known = forms()) {
  const auto parsed = parse_form("--when", text, known);
  return parsed ? "" : parsed.error().message;
}

}  // namespace

TEST_SUITE("core/base/form") {
  TEST_CASE("parameters are read by type, and defaults where they are left out") {
    const auto given =
        parse_form("--when", "every:steps=3,factor=1e-1,after=250ms,order=down,head=mlp:hidden=8", forms())
            .value();
    CHECK(given.name() == "every");
    CHECK(given.whole("steps") == 3);
    CHECK(given.number("factor") == 0.1);
    CHECK(given.time("after") == std::chrono::milliseconds(250));
    CHECK(given.text("order") == "down");
    CHECK(given.text("head") == "mlp:hidden=8");
    const auto left_out = parse_form("--when", "every:steps=3", forms()).value();
    CHECK_FALSE(left_out.given("factor"));
    CHECK(left_out.number("factor") == 0.5);
    CHECK(left_out.time("after") == std::chrono::seconds(10));
    CHECK(left_out.text("head") == "");
    CHECK_THROWS_AS(left_out.number("head"), std::logic_error);
    CHECK_THROWS_AS(left_out.text("nothing"), std::logic_error);
    CHECK(parse_form("--when", "none", forms())->name() == "none");
  }

  TEST_CASE("a list of parameters has no name, and may be empty") {
    CHECK(parse_form("--limits", "size=7", list())->whole("size") == 7);
    CHECK(parse_form("--limits", "", list())->whole("size") == 3);
    CHECK(mistake("size=-1", list()) == "--when size must be a whole number >= 0, got \"-1\"");
    CHECK(mistake("sice=1", list()).find("did you mean \"size\"?") != std::string::npos);
  }

  TEST_CASE("the full text is the same exactly when the values are") {
    const auto full = [](const std::string& text) {
      return parse_form("--when", text, forms())->full_text();
    };
    CHECK(full("every:steps=3") == "every:steps=3,factor=0.5,after=10s,order=up,head=");
    CHECK(full("every:order=up,factor=5e-1,steps=03,after=10000ms") == full("every:steps=3"));
    CHECK(full("every:steps=3,after=10001ms") != full("every:steps=3"));
    CHECK(full("none") == "none");
  }

  TEST_CASE("mistakes name the option, the parameter, the value and what is taken") {
    for (const auto& [text, message] : {
             std::pair<std::string, std::string>{
                 "evry:steps=3",
                 "--when must be one of none, every, got \"evry:steps=3\"; did you mean \"every\"?"},
             {"", "--when: a specification must not be empty"},
             {"none:steps=3", "--when: unknown parameter \"steps\" of \"none\"; it takes none"},
             {"every:3", "--when: \"3\" in \"every:3\" is not key=value"},
             {"every", "--when every:steps is missing"},
             {"every:steps=0", "--when every:steps must be a whole number from 1 to 1000000, got \"0\""},
             {"every:steps=1.5", "--when every:steps must be a whole number from 1 to 1000000, got \"1.5\""},
             {"every:steps=1,factor=1",
              "--when every:factor must be a finite number from 0 to below 1, got \"1\""},
             {"every:steps=1,factor=nan",
              "--when every:factor must be a finite number from 0 to below 1, got \"nan\""},
             {"every:steps=1,after=10",
              "--when every:after must be a time such as 10s or 500ms from 0.001s to 3600s, got \"10\""},
             {"every:steps=1,after=2h",
              "--when every:after must be a time such as 10s or 500ms from 0.001s to 3600s, got \"2h\""},
             {"every:steps=1,after=0s",
              "--when every:after must be a time such as 10s or 500ms from 0.001s to 3600s, got \"0s\""},
             {"every:steps=1,order=upp",
              "--when every:order must be one of up, down, got \"upp\"; did you mean \"up\"?"},
         }) {
      CAPTURE(text);
      CHECK(mistake(text) == message);
    }
  }

  TEST_CASE("forms are shown with their defaults") {
    CHECK(forms_text(forms()) == "none or every:steps=N,factor=0.5,after=10s,order=up,head=TEXT");
    CHECK(forms_text(list()) == "size=3");
    CHECK(forms_text({{"a"}, {"b"}, {"c"}}) == "a, b or c");
  }

  TEST_CASE("a range says its ends") {
    CHECK(Range{}.text() == "");
    CHECK(Range{.low = 1}.text() == ">= 1");
    CHECK(Range{.low = 0, .above_low = true}.text() == "> 0");
    CHECK(Range{.high = 2}.text() == "<= 2");
    CHECK(Range{.low = 0, .high = 1e6}.text() == "from 0 to 1000000");
    CHECK(Range{.low = 0.5, .high = 3}.text("s") == "from 0.5s to 3s");
    CHECK_FALSE(Range{.low = 0, .above_low = true}.contains(0));
    CHECK_FALSE(Range{.high = 1, .below_high = true}.contains(1));
    CHECK(Range{.low = 0, .high = 1}.contains(1));
  }
}
