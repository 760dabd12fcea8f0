// The file that --config names.
#include "core/program/flags_program.h"
#include "support/test.h"

using namespace tandem::testing;

TEST_SUITE("core/program/flags_file") {
  TEST_CASE("the file wins over defaults and loses to the command line") {
    FlagsFolder folder;
    const std::string file = folder.write("run.toml",
                                          "rounds = 9\nlr = 1  # a whole number is a number\nseed = 4\n"
                                          "insecure = true\ndevice = [\"a\", \"b\"]\nname = \"n\"\n");
    Program program;
    CHECK(program.parse({"--seed", "6", "--config", file.c_str(), "--device", "c"}) == std::nullopt);
    CHECK(program.rounds == 9);
    CHECK(program.lr == 1.0);
    CHECK(program.seed == 6);
    CHECK(program.insecure);
    CHECK(program.name == "n");
    CHECK(program.devices == std::vector<std::string>{"c"});
    CHECK(program.flags.given("rounds"));
    CHECK_FALSE(program.flags.given("offset"));
  }

  TEST_CASE("a key stands in the table of its section or at the top") {
    FlagsFolder folder;
    const std::string file =
        folder.write("run.toml", "seed = 4\n[training]\nrounds = 9\nlr = 1e-3\n[rest]\nname = \"n\"\n");
    Program program;
    CHECK(program.parse({"--config", file.c_str(), "--rounds", "7"}) == std::nullopt);
    CHECK(program.rounds == 7);
    CHECK(program.lr == 1e-3);
    CHECK(program.seed == 4);
    CHECK(program.name == "n");
  }

  TEST_CASE("mistakes in the file name the file, the line, the key, expected and found") {
    const std::pair<const char*, const char*> cases[] = {
        {"seed = 3\nround = 5\n", "unknown key \"round\" in FILE:2; did you mean \"rounds\"?"},
        {"quality = 5\n", "unknown key \"quality\" in FILE:1"},
        {"rounds = \"five\"\n", "key \"rounds\" in FILE:1 must be a whole number, found the string \"five\""},
        {"rounds = 1.5\n", "key \"rounds\" in FILE:1 must be a whole number, found the number 1.5"},
        {"rounds = -1\n", "key \"rounds\" in FILE:1 must be a whole number from 0 to 4294967295, got \"-1\""},
        {"\nlr = true\n", "key \"lr\" in FILE:2 must be a number, found true"},
        {"lr = nan\n", "key \"lr\" in FILE:1 must be a finite number, got \"nan\""},
        {"insecure = 1\n", "key \"insecure\" in FILE:1 must be true or false, found the whole number 1"},
        {"device = \"a\"\n", "key \"device\" in FILE:1 must be an array of strings, found the string \"a\""},
        {"device = [\"a\", 1]\n", "key \"device\" in FILE:1 must be an array of strings, found an array"},
        {"name = 1979-05-27\n", "key \"name\" in FILE:1 must be a string, found a date or time"},
        {"seed = \"5\"\n", "key \"seed\" in FILE:1 must be a whole number, found the string \"5\""},
        {"algorithm = \"rely\"\n",
         "key \"algorithm\" in FILE:1 must be one of parallel, relay, splitfed-v1, got \"rely\"; did you "
         "mean "
         "\"relay\"?"},
        {"[trainin]\nrounds = 5\n",
         "key \"trainin\" in FILE:1 is a table: tables are training, rest; did you mean \"training\"?"},
        {"[rounds]\nrounds = 5\n", "key \"rounds\" in FILE:1 is a table: tables are training, rest"},
        {"[training]\nrounds = 5\nseed = 1\n",
         "key \"seed\" in FILE:3 stands in [training], expected in [rest] or at the top"},
        {"[training]\nround = 5\n", "unknown key \"round\" in FILE:2; did you mean \"rounds\"?"},
        {"[training.rounds]\nx = 5\n", "key \"rounds\" in FILE:1 is a table within a table"},
        {"rounds = 5\n[training]\nrounds = 6\n", "key \"rounds\" in FILE:3 is given twice, first in line 1"},
        {"config = \"other.toml\"\n", "key \"config\" in FILE:1: a configuration file cannot name another"},
        // The first line in the file is reported, not the first name in the alphabet.
        {"zeta = 1\nalpha = 2\n", "unknown key \"zeta\" in FILE:1"},
    };
    FlagsFolder folder;
    for (const auto& [text, expected] : cases) {
      CAPTURE(text);
      const std::string file = folder.write("run.toml", text);
      std::string message = expected;
      message.replace(message.find("FILE"), 4, file);
      Program program;
      CHECK(program.mistake({"--config", file.c_str()}) == message);
    }
  }

  TEST_CASE("a file that is missing or not TOML is an error with its name") {
    FlagsFolder folder;
    const std::string missing = (folder.path / "none.toml").string();
    Program first;
    CHECK(first.mistake({"--config", missing.c_str()}).find(missing) != std::string::npos);

    const std::string broken = folder.write("broken.toml", "rounds = 5\nlr = = 3\n");
    Program second;
    const std::string message = second.mistake({"--config", broken.c_str()});
    CHECK(message.substr(0, broken.size() + 4) == broken + ":2: ");

    const std::string twice = folder.write("twice.toml", "rounds = 5\nrounds = 6\n");
    Program third;
    CHECK(third.mistake({"--config", twice.c_str()}).substr(0, twice.size() + 4) == twice + ":2: ");
  }

  TEST_CASE("a file that nests tables without end is an error, not the end of the stack") {
    const FlagsFolder folder;
    std::string key = "a";
    for (int i = 0; i < 1'000'000; ++i) key += ".a";
    const std::string file = folder.write("deep.toml", "rounds = 1\n" + key + " = 1\n");
    Program program;
    CHECK(program.mistake({"--config", file.c_str()}) ==
          file + ":2: a line has at most 5000 dots, since each may nest a table; found 1000000");
  }

  TEST_CASE("to_toml writes sections, escapes, and reads back to the same values") {
    Program program;
    CHECK(program.parse({"--lr", "3", "--seed", "18446744073709551615", "--offset", "-9223372036854775808",
                         "--name", "a \"b\" \\ c\n\t\x01 \u00e9", "--device", "x", "--device", "y \"z\"",
                         "--run-dir", "/tmp/r/../s"}) == std::nullopt);
    const std::string toml = program.flags.to_toml();
    CHECK(toml ==
          "[training]\n"
          "rounds = 5\n"
          "lr = 3.0\n"
          "algorithm = \"parallel\"\n"
          "\n"
          "[rest]\n"
          "seed = \"18446744073709551615\"\n"
          "offset = -9223372036854775808\n"
          "small = 0\n"
          "name = \"a \\\"b\\\" \\\\ c\\n\\t\\u0001 \u00e9\"\n"
          "insecure = false\n"
          "device = [\"x\", \"y \\\"z\\\"\"]\n"
          "run-dir = \"/tmp/s\"\n"
          "data = \"\"\n");

    FlagsFolder folder;
    const std::string file = folder.write("config.toml", toml);
    Program again;
    CHECK(again.parse({"--config", file.c_str()}) == std::nullopt);
    CHECK(again.flags.to_toml() == toml);
    CHECK(again.name == program.name);
    CHECK(again.seed == UINT64_MAX);
    CHECK(again.offset == INT64_MIN);
  }

  TEST_CASE("doubles read back bit for bit") {
    FlagsFolder folder;
    for (const double value : {0.1, 1.0 / 3, 1e-300, 1.7976931348623157e308, -0.0, 5e-324, 1e22}) {
      CAPTURE(value);
      Program program;
      program.lr = value;
      const std::string file = folder.write("config.toml", program.flags.to_toml());
      Program again;
      CHECK(again.parse({"--config", file.c_str()}) == std::nullopt);
      CHECK(again.lr == value);
    }
  }
}
