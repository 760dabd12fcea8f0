// --help, --help-markdown and --version.
#include "core/program/flags_program.h"
#include "support/test.h"

using namespace tandem::testing;

TEST_SUITE("core/program/flags_help") {
  TEST_CASE("--help shows groups, defaults and choices, and wins over other mistakes") {
    Program program;
    Captured captured;
    CHECK(program.parse({"--help", "--nonsense"}) == tandem::kExitDone);
    CHECK(captured.err() == "");
    CHECK(captured.out() ==
          "Tests flags.\n"
          "\n"
          "Usage: tandem-test [flags]\n"
          "\n"
          "Training\n"
          "  --rounds N                  how many rounds [5]\n"
          "  --lr NUMBER                 learning rate [0.05]\n"
          "  --algorithm NAME            the schedule; one of parallel, relay, splitfed-v1 [parallel]\n"
          "\n"
          "Rest\n"
          "  --seed N                    seed of the run [1]\n"
          "  --offset N                  any whole number [0]\n"
          "  --small N                   a small whole number [0]\n"
          "  --name TEXT                 a text\n"
          "  --insecure                  no encryption [false]\n"
          "  --device TEXT               a device; repeatable\n"
          "  --run-dir PATH              where results go [runs/first]\n"
          "  --data TEXT                 what it is about\n"
          "\n"
          "General\n"
          "  --config PATH               a TOML file with flags as keys; the command line wins over it\n"
          "  -h, --help                  prints this text\n"
          "  --version                   prints the version\n");
  }

  TEST_CASE("--help breaks long lines between words") {
    tandem::Flags flags("p", "d");
    int32_t value = 0;
    std::string words;
    for (int i = 0; i < 30; ++i) words += (i ? " word" : "word") + std::to_string(i);
    flags.add("a-flag-with-a-very-long-name", value, words);
    std::istringstream lines(flags.help());
    std::string line;
    while (std::getline(lines, line)) {
      CAPTURE(line);
      CHECK(line.size() <= 100);
    }
    CHECK(flags.help().find("\n" + std::string(30, ' ') + "word0 word1 ") != std::string::npos);
  }

  TEST_CASE("--version prints the program and its version") {
    Program program;
    Captured captured;
    CHECK(program.parse({"--version"}) == tandem::kExitDone);
    CHECK(captured.out() == "tandem-test 0.1.0\n");
  }

  TEST_CASE("--help breaks a long specification behind a comma") {
    tandem::Flags flags("p", "d");
    std::string value = "name";
    std::vector<tandem::FormParameter> parameters;
    for (int i = 0; i < 20; ++i) {
      parameters.push_back({"parameter-" + std::to_string(i), tandem::FormParameter::Kind::kWhole, {}, "1"});
    }
    flags.add("value", value, "takes").takes({{"name", "", parameters}});
    std::istringstream lines(flags.help());
    for (std::string line; std::getline(lines, line);) {
      CAPTURE(line);
      CHECK(line.size() <= 100);
    }
  }

  TEST_CASE("--help-markdown shows each row of the table") {
    tandem::Flags flags("p", "Does something.");
    std::string value = "plain";
    int32_t number = 3;
    using Kind = tandem::FormParameter::Kind;
    flags.section("all", "All of them");
    flags.add("value", value, "How")
        .takes({{"plain", "as it is"}, {"late", "later", {{"after", Kind::kTime, {1, 60}, "5s", "when"}}}})
        .replaces("after", "after");
    flags.add("number", number, "How many | if any")
        .at_least(1)
        .does_nothing("with --value plain", "nothing is counted", "", [] { return true; })
        .not_of_the_run();
    Captured captured;
    const char* argv[] = {"p", "--help-markdown"};
    CHECK(flags.parse(2, argv) == tandem::kExitDone);
    CHECK(
        captured.out() ==
        "\n## p\n\nDoes something.\n\n"
        "### All of them, `[all]` in a file\n\n"
        "| flag | value | default | of the run | meaning |\n|---|---|---|---|---|\n"
        "| `--value` | specification | `plain` | yes | How. |\n"
        "| `--number` | whole number >= 1 | `3` | no | How many \\| if any. Does nothing with --value plain: "
        "nothing is counted. |\n"
        "\n`--value` takes:\n\n"
        "| name | parameter | value | default | meaning |\n|---|---|---|---|---|\n"
        "| `plain` | | | | as it is |\n"
        "| `late` | | | | later |\n"
        "| | `after` | time from 1s to 60s | `5s` | when |\n"
        "\n### General\n\n"
        "| flag | value | default | of the run | meaning |\n|---|---|---|---|---|\n"
        "| `--config` | path |  | no | a TOML file with flags as keys; the command line wins over it. |\n"
        "\nFlags of earlier versions are refused with their value in the present spelling. They are, each "
        "with "
        "the flag that it is part of now: `--after` (`--value`).\n");
  }
}
