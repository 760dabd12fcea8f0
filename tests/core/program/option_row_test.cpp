// What a row of the table says beyond name, type and default.
#include "tandem/core/program/option_row.h"

#include "core/program/flags_program.h"
#include "support/test.h"

using namespace tandem;
using Kind = FormParameter::Kind;

namespace {

/// The mistake that check() finds, or nothing.
std::string mistake(const Flags& flags) {
  const auto checked = flags.check();
  return checked ? "" : checked.error().message;
}

const std::vector<Form>& shapes() {
  static const std::vector<Form> forms = {
      {"dot"}, {"circle", "", {{"radius", Kind::kNumber, {.low = 0, .above_low = true}, "1"}}}};
  return forms;
}

}  // namespace

TEST_SUITE("core/program/option_row") {
  TEST_CASE("a number outside of its range is refused by name, value and range") {
    for (const auto& [value, refusal] :
         {std::pair<int32_t, std::string>{0, "--n must be from 1 to 64, got 0"},
          {65, "--n must be from 1 to 64, got 65"},
          {1, ""},
          {64, ""}}) {
      Flags flags("p", "d");
      int32_t n = value;
      flags.add("n", n, "").between(1, 64);
      CHECK(mistake(flags) == refusal);
    }
    Flags flags("p", "d");
    double rate = 0;
    uint32_t steps = 0;
    flags.add("rate", rate, "").within({.low = 0, .high = 1, .above_low = true, .below_high = true});
    flags.add("steps", steps, "").at_least(1);
    CHECK(mistake(flags) == "--rate must be above 0 to below 1, got 0");
    rate = 1;
    CHECK(mistake(flags) == "--rate must be above 0 to below 1, got 1");
    rate = 0.5;
    CHECK(mistake(flags) == "--steps must be >= 1, got 0");
  }

  TEST_CASE("parse checks what the command line gave") {
    testing::Captured captured;
    Flags flags("p", "d");
    int32_t n = 1;
    flags.add("n", n, "").at_least(1);
    const char* argv[] = {"p", "--n", "0"};
    CHECK(flags.parse(3, argv) == kExitUsage);
    CHECK(captured.err() == "p: --n must be >= 1, got 0 (run p --help)\n");
  }

  TEST_CASE("a text that takes forms fits one of them") {
    Flags flags("p", "d");
    std::string shape = "dot";
    int32_t number = 0;
    flags.add("shape", shape, "").takes(shapes());
    CHECK_THROWS_AS(flags.add("number", number, "").takes(shapes()), std::logic_error);
    CHECK(mistake(flags) == "");
    shape = "circle:radius=2";
    CHECK(mistake(flags) == "");
    shape = "dot:radius=2";
    CHECK(mistake(flags) == "--shape: unknown parameter \"radius\" of \"dot\"; it takes none");
    shape = "circle:radius=0";
    CHECK(mistake(flags) == "--shape circle:radius must be a finite number > 0, got \"0\"");
  }

  TEST_CASE("a value that is not the default and does nothing is refused, or mentioned") {
    Flags flags("p", "d");
    std::string shape = "dot";
    int32_t colour = 0;
    int32_t width = 0;
    const auto is_dot = [&] { return shape == "dot"; };
    flags.add("shape", shape, "").takes(shapes());
    flags.add("colour", colour, "").does_nothing("with --shape dot", "it is black", "choose circle", is_dot);
    flags.add("width", width, "")
        .does_nothing("with --shape dot", "it has none", "", is_dot)
        .may_stay_unused();
    CHECK(mistake(flags) == "");
    CHECK(flags.notes().empty());
    colour = 3;
    width = 4;
    CHECK(mistake(flags) ==
          "--colour 3 does nothing with --shape dot: it is black; leave it out or choose circle");
    CHECK(flags.notes() ==
          std::vector<std::string>{"--width 4 does nothing with --shape dot: it has none; leave it out"});
    shape = "circle";
    CHECK(mistake(flags) == "");
    CHECK(flags.notes().empty());
  }

  TEST_CASE("what must hold together with other options is checked before anything is called unused") {
    Flags flags("p", "d");
    int32_t low = 3;
    int32_t high = 2;
    flags.add("low", low, "").does_nothing("now", "so", "", [] { return true; });
    flags.add("high", high, "").checked_by([&]() -> Result<void> {
      if (high >= low) return {};
      return Error{ErrorCode::kInvalidArgument, "--high is below --low"};
    });
    CHECK(mistake(flags) == "--high is below --low");
    high = 3;
    CHECK(mistake(flags) == "");
  }

  TEST_CASE("a parameter is added to a specification, or to the first form that has it") {
    CHECK(with_parameter("circle", "radius", "2", shapes()) == "circle:radius=2");
    CHECK(with_parameter("circle:x=1", "radius", "2", shapes()) == "circle:x=1,radius=2");
    CHECK(with_parameter("dot", "radius", "2", shapes()) == "circle:radius=2");
    CHECK(with_parameter("dot", "size", "a,b", {}) == "dot:size=a%2Cb");
    const std::vector<Form> list = {{"", "", {{"seed", Kind::kWhole}}}};
    CHECK(with_parameter("", "seed", "2", list) == "seed=2");
    CHECK(with_parameter("x=1", "seed", "2", list) == "x=1,seed=2");
  }
}
