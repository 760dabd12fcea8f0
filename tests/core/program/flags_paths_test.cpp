// Paths on the command line and in a file.
#include <cstdlib>

#include "core/program/flags_program.h"
#include "support/test.h"

using namespace tandem::testing;
namespace fs = std::filesystem;

namespace {

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

}  // namespace

TEST_SUITE("core/program/flags_paths") {
  TEST_CASE("a path in the file is relative to the file's folder") {
    FlagsFolder folder;
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

  TEST_CASE("to_toml makes relative paths absolute") {
    Program program;
    CHECK(program.flags.to_toml().find("run-dir = \"" + (fs::current_path() / "runs/first").string() +
                                       "\"") != std::string::npos);
  }

  TEST_CASE("paths in the folder where the text lies are relative to it, all others absolute") {
    FlagsFolder folder;
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
    FlagsFolder folder;
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
    FlagsFolder folder;
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

  TEST_CASE("a path among the parameters of a text is relative to the file as well") {
    FlagsFolder folder;
    const auto endpoint_in = [&](const std::string& text) {
      tandem::Flags flags("p", "d");
      std::string endpoint;
      flags.add("endpoint", endpoint, "").with_path("file");
      const std::string file = folder.write("run.toml", "endpoint = \"" + text + "\"\n");
      const char* argv[] = {"p", "--config", file.c_str()};
      CHECK(flags.parse(3, argv) == std::nullopt);
      CHECK(flags.to_toml(folder.path) == "endpoint = \"" + text + "\"\n");
      return endpoint;
    };
    CHECK(endpoint_in("127.0.0.1:1,file=a/b,x=1") ==
          "127.0.0.1:1,file=" + (folder.path / "a/b").string() + ",x=1");
    CHECK(endpoint_in("127.0.0.1:1,file=/c") == "127.0.0.1:1,file=/c");
    CHECK(endpoint_in("file=a") == "file=a");
    CHECK(endpoint_in("") == "");
  }
}
