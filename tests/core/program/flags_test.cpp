#include "tandem/core/program/flags.h"

#include <unistd.h>

#include <fstream>
#include <iostream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "support/test.h"

namespace {

namespace fs = std::filesystem;

/// Collects what goes to std::cout and std::cerr while it lives.
class Captured {
 public:
  Captured() : cout_(std::cout.rdbuf(out_.rdbuf())), cerr_(std::cerr.rdbuf(err_.rdbuf())) {}
  ~Captured() {
    std::cout.rdbuf(cout_);
    std::cerr.rdbuf(cerr_);
  }
  std::string out() const { return out_.str(); }
  std::string err() const { return err_.str(); }

 private:
  std::ostringstream out_, err_;
  std::streambuf* cout_;
  std::streambuf* cerr_;
};

/// A folder that goes away with the object.
struct TemporaryFolder {
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "tandem_flags_XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { fs::remove_all(path); }

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return (path / name).string();
  }
  fs::path path;
};

/// Another HOME while it lives; none for an empty one.
class Home {
 public:
  explicit Home(const char* path) {
    if (const char* present = getenv("HOME")) before_ = present;
    *path != '\0' ? setenv("HOME", path, 1) : unsetenv("HOME");
  }
  ~Home() { before_ ? setenv("HOME", before_->c_str(), 1) : unsetenv("HOME"); }

 private:
  std::optional<std::string> before_;
};

/// Flags of every kind, as a program would declare them.
struct Program {
  Program() : flags("tandem-test", "Tests flags.") {
    flags.group("Training");
    flags.add("rounds", rounds, "how many rounds");
    flags.add("lr", lr, "learning rate");
    flags.add_choice("algorithm", algorithm, {"parallel", "relay", "splitfed-v1"}, "the schedule");
    flags.group("Rest");
    flags.add("seed", seed, "seed of the run");
    flags.add("offset", offset, "any whole number");
    flags.add("small", small, "a small whole number");
    flags.add("name", name, "a text");
    flags.add("insecure", insecure, "no encryption");
    flags.add("device", devices, "a device");
    flags.add_path("run-dir", run_dir, "where results go");
    flags.add_data("data", data, "what it is about");
  }

  std::optional<int> parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "tandem-test");
    return flags.parse(static_cast<int>(arguments.size()), arguments.data());
  }

  /// The message of a parse that must fail, without the program's name and the hint.
  std::string mistake(const std::vector<const char*>& arguments) {
    Captured captured;
    const auto status = parse(arguments);
    CHECK(status == tandem::kExitUsage);
    CHECK(captured.out() == "");
    std::string text = captured.err();
    const std::string head = "tandem-test: ";
    const std::string tail = " (run tandem-test --help)\n";
    REQUIRE(text.size() >= head.size() + tail.size());
    CHECK(text.substr(0, head.size()) == head);
    CHECK(text.substr(text.size() - tail.size()) == tail);
    return text.substr(head.size(), text.size() - head.size() - tail.size());
  }

  uint32_t rounds = 5;
  double lr = 0.05;
  std::string algorithm = "parallel";
  uint64_t seed = 1;
  int64_t offset = 0;
  int32_t small = 0;
  std::string name;
  bool insecure = false;
  std::vector<std::string> devices;
  fs::path run_dir = "runs/first";
  std::string data;
  tandem::Flags flags;
};

}  // namespace

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

  TEST_CASE("the file wins over defaults and loses to the command line") {
    TemporaryFolder folder;
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

  TEST_CASE("a path in the file is relative to the file's folder") {
    TemporaryFolder folder;
    fs::create_directory(folder.path / "kit");
    const std::string file = folder.write("kit/edge.toml", "run-dir = \"../runs/./x\"\n");
    Program program;
    CHECK(program.parse({"--config", file.c_str()}) == std::nullopt);
    CHECK(program.run_dir == folder.path / "runs/x");

    const std::string empty = folder.write("kit/empty.toml", "run-dir = \"\"\n");
    Program other;
    CHECK(other.parse({"--config", empty.c_str()}) == std::nullopt);
    CHECK(other.run_dir == "");
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
        {"[training]\nrounds = 5\n",
         "key \"training\" in FILE:1 is a table: the file is flat, every key is the name of a flag"},
        {"config = \"other.toml\"\n", "key \"config\" in FILE:1: a configuration file cannot name another"},
        // The first line in the file is reported, not the first name in the alphabet.
        {"zeta = 1\nalpha = 2\n", "unknown key \"zeta\" in FILE:1"},
    };
    TemporaryFolder folder;
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
    TemporaryFolder folder;
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
    const TemporaryFolder folder;
    std::string key = "a";
    for (int i = 0; i < 1'000'000; ++i) key += ".a";
    const std::string file = folder.write("deep.toml", "rounds = 1\n" + key + " = 1\n");
    Program program;
    CHECK(program.mistake({"--config", file.c_str()}) ==
          file + ":2: a line has at most 5000 dots, since each may nest a table; found 1000000");
  }

  TEST_CASE("to_toml groups, escapes, and reads back to the same values") {
    Program program;
    CHECK(program.parse({"--lr", "3", "--seed", "18446744073709551615", "--offset", "-9223372036854775808",
                         "--name", "a \"b\" \\ c\n\t\x01 \u00e9", "--device", "x", "--device", "y \"z\"",
                         "--run-dir", "/tmp/r/../s"}) == std::nullopt);
    const std::string toml = program.flags.to_toml();
    CHECK(toml ==
          "# Training\n"
          "rounds = 5\n"
          "lr = 3.0\n"
          "algorithm = \"parallel\"\n"
          "\n"
          "# Rest\n"
          "seed = \"18446744073709551615\"\n"
          "offset = -9223372036854775808\n"
          "small = 0\n"
          "name = \"a \\\"b\\\" \\\\ c\\n\\t\\u0001 \u00e9\"\n"
          "insecure = false\n"
          "device = [\"x\", \"y \\\"z\\\"\"]\n"
          "run-dir = \"/tmp/s\"\n"
          "data = \"\"\n");

    TemporaryFolder folder;
    const std::string file = folder.write("config.toml", toml);
    Program again;
    CHECK(again.parse({"--config", file.c_str()}) == std::nullopt);
    CHECK(again.flags.to_toml() == toml);
    CHECK(again.name == program.name);
    CHECK(again.seed == UINT64_MAX);
    CHECK(again.offset == INT64_MIN);
  }

  TEST_CASE("to_toml makes relative paths absolute") {
    Program program;
    CHECK(program.flags.to_toml().find("run-dir = \"" + (fs::current_path() / "runs/first").string() +
                                       "\"") != std::string::npos);
  }

  TEST_CASE("paths in the folder where the text lies are relative to it, all others absolute") {
    TemporaryFolder folder;
    fs::create_directories(folder.path / "runs/a");
    Program program;
    const std::string run = (folder.path / "runs/./a/").string();
    const std::string data = "idx:" + (folder.path / "runs/../data").string() + ",x=1";
    CHECK(program.parse({"--run-dir", run.c_str(), "--data", data.c_str()}) == std::nullopt);
    const std::string text = program.flags.to_toml(program.run_dir);
    CHECK(text.find("run-dir = \".\"\n") != std::string::npos);
    CHECK(text.find("data = \"idx:" + (folder.path / "data").string() + ",x=1\"\n") != std::string::npos);
    fs::rename(folder.path / "runs", folder.path / "moved");
    std::ofstream(folder.path / "moved/a/config.toml") << text;
    Program again;
    const std::string config = (folder.path / "moved/a/config.toml").string();
    CHECK(again.parse({"--config", config.c_str()}) == std::nullopt);
    CHECK(fs::equivalent(again.run_dir, folder.path / "moved/a"));
  }

  TEST_CASE("data in a file is relative to the file, and what names no files stays as it is") {
    TemporaryFolder folder;
    for (const auto& [text, expected] :
         {std::pair<std::string, std::string>{"idx:data/mnist",
                                              "idx:" + (folder.path / "data/mnist").string()},
          {"idx:../x", "idx:" + (folder.path.parent_path() / "x").string()},
          {"idx:/data", "idx:/data"},
          {"idx:a%2Cb,classes=3", "idx:" + (folder.path / "a%2Cb").string() + ",classes=3"},
          {"idx:", "idx:"},
          {"synthetic:images,examples=6", "synthetic:images,examples=6"},
          {"nonsense", "nonsense"}}) {
      const std::string file = folder.write("run.toml", "data = \"" + text + "\"\n");
      Program program;
      CHECK(program.parse({"--config", file.c_str()}) == std::nullopt);
      CHECK(program.data == expected);
      Program given;
      CHECK(given.parse({"--data", text.c_str()}) == std::nullopt);
      CHECK(given.data == text);
    }
  }

  TEST_CASE("~/ is the home of the user, anywhere; another user's is refused") {
    const Home home("/home/me");
    TemporaryFolder folder;
    for (const auto& [text, expected] : {std::pair<std::string, std::string>{"~/runs/a", "/home/me/runs/a"},
                                         {"~", "/home/me"},
                                         {"./~x", "./~x"}}) {
      Program program;
      const std::string data = "idx:" + text;
      CHECK(program.parse({"--run-dir", text.c_str(), "--data", data.c_str()}) == std::nullopt);
      CHECK(program.run_dir == fs::path(expected));
      CHECK(program.data == "idx:" + expected);
    }
    const std::string file = folder.write("run.toml", "run-dir = \"~/a\"\ndata = \"idx:~/b\"\n");
    Program program;
    CHECK(program.parse({"--config", file.c_str()}) == std::nullopt);
    CHECK(program.run_dir == fs::path("/home/me/a"));
    CHECK(program.data == "idx:/home/me/b");
    const std::string refused =
        " is \"~bob/x\": only ~/ at the beginning of a path is somebody's home, yours; write the path out, "
        "or "
        "./~bob/x for a file of that name";
    CHECK(Program().mistake({"--run-dir", "~bob/x"}) == "--run-dir" + refused);
    CHECK(Program().mistake({"--data", "idx:~bob/x"}) == "--data" + refused);
    const Home none("");
    CHECK(Program().mistake({"--run-dir", "~/x"}) ==
          "--run-dir is \"~/x\", and HOME is not set; write the path out");
  }

  TEST_CASE("what differs from a recorded run is found by value, all at once") {
    TemporaryFolder folder;
    const std::string data = (folder.path / "mnist").string();
    const std::string file = folder.write("config.toml",
                                          "lr = 0.1\nname = \"crop:2,flip\"\nseed = 7\nrun-dir = \"a\"\n"
                                          "data = \"idx:mnist\"\nrounds = 3\nof-a-later-version = 1\n");
    const std::string same_data = "idx:" + data + "/../mnist/";
    const std::string same_dir = (folder.path / "b/../a/").string();
    Program same;
    same.flags.not_of_the_run({"rounds"});
    CHECK(same.parse({"--lr", "1e-1", "--name", " crop:2, flip", "--seed", "7", "--data", same_data.c_str(),
                      "--run-dir", same_dir.c_str(), "--rounds", "9"}) == std::nullopt);
    CHECK(same.flags.differences_from(file).value().empty());
    const auto also = same.flags.differences_from(file, {"rounds"}).value();
    CHECK(tandem::Flags::text_of(also) == "--rounds 3, now 9");

    Program other;
    CHECK(other.parse({"--name", "", "--data", "idx:/other", "--run-dir", same_dir.c_str(), "--rounds",
                       "3"}) == std::nullopt);
    CHECK(tandem::Flags::text_of(other.flags.differences_from(file).value()) ==
          "--lr 0.1, now 0.05; --seed 7, now 1; --name crop:2,flip, now \"\"; --data idx:" + data +
              ", now idx:/other");
    CHECK_THROWS_AS(other.flags.not_of_the_run({"nothing"}), std::logic_error);
    const std::string broken = folder.write("broken.toml", "lr = \"x\"\n");
    CHECK(other.flags.differences_from(broken).error().message ==
          "key \"lr\" in " + broken + ":1 must be a number, found the string \"x\"");
  }

  TEST_CASE("a mistake is an object where the log is JSON") {
    for (const bool in_file : {false, true}) {
      tandem::Flags flags("tandem-test", "Tests flags.");
      std::string format = "text";
      int32_t rounds = 1;
      flags.add_choice("log-format", format, {"text", "json"}, "how");
      flags.add("rounds", rounds, "many");
      TemporaryFolder folder;
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

  TEST_CASE("doubles read back bit for bit") {
    TemporaryFolder folder;
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
    CHECK(flags->to_toml() == "# Flags\nname = \"y\"\n");
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
    CHECK_THROWS_WITH_AS(flags.add("--cut", value, ""), "flag name \"--cut\" is badly formed",
                         std::logic_error);
    CHECK_THROWS_AS(flags.add("Cut_layer", value, ""), std::logic_error);
  }
}
