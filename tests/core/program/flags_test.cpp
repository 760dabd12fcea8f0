// The command line.
#include <nlohmann/json.hpp>

#include "core/program/flags_program.h"
#include "support/test.h"

using namespace tandem::testing;

TEST_SUITE("core/program/flags") {
  TEST_CASE("defaults stay when nothing is given") {
    Program program;
    CHECK(program.parse({}) == std::nullopt);
    CHECK(program.rounds == 5);
    CHECK(program.run_dir == "runs/first");
    CHECK_FALSE(program.flags.given("rounds"));
  }

  TEST_CASE("the command line sets every kind of value") {
    Program program;
    CHECK(program.parse({"--rounds", "7", "--lr=1e-3", "--algorithm", "relay", "--seed=18446744073709551615",
                         "--offset", "-3", "--small=-2147483648", "--name", "[a,b]", "--insecure", "--device",
                         "cam-1", "--device=cam-2", "--run-dir", "out/x"}) == std::nullopt);
    CHECK(program.rounds == 7);
    CHECK(program.lr == 1e-3);
    CHECK(program.algorithm == "relay");
    CHECK(program.seed == UINT64_MAX);
    CHECK(program.offset == -3);
    CHECK(program.small == INT32_MIN);
    CHECK(program.name == "[a,b]");
    CHECK(program.insecure);
    CHECK(program.devices == std::vector<std::string>{"cam-1", "cam-2"});
    CHECK(program.run_dir == "out/x");
    CHECK(program.flags.given("device"));
    CHECK_THROWS_AS(program.flags.given("devices"), std::logic_error);
  }

  TEST_CASE("a switch can be turned off") {
    Program program;
    program.insecure = true;
    CHECK(program.parse({"--insecure=false"}) == std::nullopt);
    CHECK_FALSE(program.insecure);
  }

  TEST_CASE("mistakes on the command line name the flag and the rule") {
    const std::pair<std::vector<const char*>, const char*> cases[] = {
        {{"--round", "5"}, "unknown flag \"--round\"; did you mean \"--rounds\"?"},
        {{"--round=5"}, "unknown flag \"--round\"; did you mean \"--rounds\"?"},
        {{"-rounds", "5"}, "unknown flag \"-rounds\"; did you mean \"--rounds\"?"},
        {{"--hlep"}, "unknown flag \"--hlep\"; did you mean \"--help\"?"},
        {{"--quality", "5"}, "unknown flag \"--quality\""},
        {{"extra"}, "unexpected argument \"extra\""},
        {{"--rounds"}, "--rounds needs a value"},
        {{"--rounds", "1", "--rounds", "2"}, "--rounds is given twice"},
        {{"--rounds", "five"}, "--rounds must be a whole number from 0 to 4294967295, got \"five\""},
        {{"--rounds", "-1"}, "--rounds must be a whole number from 0 to 4294967295, got \"-1\""},
        {{"--rounds", "4294967296"},
         "--rounds must be a whole number from 0 to 4294967295, got \"4294967296\""},
        {{"--rounds", "1.5"}, "--rounds must be a whole number from 0 to 4294967295, got \"1.5\""},
        {{"--small", "2147483648"},
         "--small must be a whole number from -2147483648 to 2147483647, got \"2147483648\""},
        {{"--lr", "nan"}, "--lr must be a finite number, got \"nan\""},
        {{"--lr", "inf"}, "--lr must be a finite number, got \"inf\""},
        {{"--lr", ""}, "--lr must be a finite number, got \"\""},
        {{"--insecure=maybe"}, "--insecure must be true or false, got \"maybe\""},
        {{"--name", "\xff"}, "--name is not valid UTF-8"},
        {{"--algorithm", "paralel"},
         "--algorithm must be one of parallel, relay, splitfed-v1, got \"paralel\"; did you mean "
         "\"parallel\"?"},
        {{"--algorithm", "x"}, "--algorithm must be one of parallel, relay, splitfed-v1, got \"x\""},
    };
    for (const auto& [arguments, message] : cases) {
      CAPTURE(message);
      Program program;
      CHECK(program.mistake(arguments) == message);
    }
  }

  TEST_CASE("a mistake is an object where the log is JSON") {
    for (const bool in_file : {false, true}) {
      tandem::Flags flags("tandem-test", "Tests flags.");
      std::string format = "text";
      int32_t rounds = 1;
      flags.add_choice("log-format", format, {"text", "json"}, "how");
      flags.add("rounds", rounds, "many");
      FlagsFolder folder;
      const std::string file = folder.write("run.toml", "log-format = \"json\"\nrounds = 2\n");
      std::vector<const char*> arguments = {"p", "--rounds", "x", "--log-format", "json"};
      if (in_file) arguments = {"p", "--config", file.c_str(), "--rounds", "x"};
      Captured captured;
      CHECK(flags.parse(static_cast<int>(arguments.size()), arguments.data()) == tandem::kExitUsage);
      const auto line = nlohmann::json::parse(captured.err());
      CHECK(line.at("level") == "error");
      CHECK(line.at("program") == "tandem-test");
      CHECK(line.at("message").get<std::string>().find("--rounds must be a whole number") == 0);
    }
  }

  TEST_CASE("a positional argument is required, may stand anywhere, and is no key") {
    std::string run_dir;
    std::string name = "x";
    const auto make = [&] {
      auto flags = std::make_unique<tandem::Flags>("tandem report", "Renders a run.");
      flags->add("name", name, "a name");
      flags->add_positional("run-dir", run_dir, "the run");
      return flags;
    };
    const char* good[] = {"report", "--name", "y", "runs/a"};
    CHECK(make()->parse(4, good) == std::nullopt);
    CHECK(run_dir == "runs/a");
    CHECK(name == "y");
    const char* separated[] = {"report", "--", "-odd"};
    CHECK(make()->parse(3, separated) == std::nullopt);
    CHECK(run_dir == "-odd");

    const auto flags = make();
    CHECK(flags->to_toml() == "name = \"y\"\n");
    CHECK(flags->help().find("Usage: tandem report [flags] run-dir\n\nArguments\n  run-dir ") !=
          std::string::npos);

    Captured captured;
    const char* missing[] = {"report"};
    CHECK(make()->parse(1, missing) == tandem::kExitUsage);
    const char* extra[] = {"report", "a", "b"};
    CHECK(make()->parse(3, extra) == tandem::kExitUsage);
    CHECK(captured.err() ==
          "tandem report: missing argument run-dir (run tandem report --help)\n"
          "tandem report: unexpected argument \"b\" (run tandem report --help)\n");
  }

  TEST_CASE("a positional list takes one or more, with flags between them") {
    std::vector<std::string> names;
    std::string fleet;
    const auto make = [&] {
      auto flags = std::make_unique<tandem::Flags>("tandem devices add", "Adds devices.");
      flags->add("fleet", fleet, "the fleet");
      flags->add_positional("name", names, "a device");
      return flags;
    };
    const char* several[] = {"add", "a", "b", "--fleet", "f", "c"};
    CHECK(make()->parse(6, several) == std::nullopt);
    CHECK(names == std::vector<std::string>{"a", "b", "c"});
    CHECK(fleet == "f");
    const char* separated[] = {"add", "--fleet=g", "--", "-odd", "d"};
    CHECK(make()->parse(5, separated) == std::nullopt);
    CHECK(names == std::vector<std::string>{"-odd", "d"});
    CHECK(make()->help().find("Usage: tandem devices add [flags] name...\n") != std::string::npos);

    Captured captured;
    const char* missing[] = {"add", "--fleet", "f"};
    CHECK(make()->parse(3, missing) == tandem::kExitUsage);
    CHECK(captured.err() == "tandem devices add: missing argument name (run tandem devices add --help)\n");
  }

  TEST_CASE("adding a badly formed or repeated name is a mistake of the program") {
    tandem::Flags flags("p", "d");
    int32_t value = 0;
    flags.add("rounds", value, "");
    CHECK_THROWS_WITH_AS(flags.add("rounds", value, ""), "flag \"rounds\" is added twice", std::logic_error);
    CHECK_THROWS_AS(flags.add("config", value, ""), std::logic_error);
    CHECK_THROWS_AS(flags.add("help", value, ""), std::logic_error);
    CHECK_THROWS_AS(flags.add("help-markdown", value, ""), std::logic_error);
    CHECK_THROWS_AS(flags.section("Training", "Training"), std::logic_error);
    CHECK_THROWS_WITH_AS(flags.add("--cut", value, ""), "flag name \"--cut\" is badly formed",
                         std::logic_error);
    CHECK_THROWS_AS(flags.add("Cut_layer", value, ""), std::logic_error);
  }
}
