#include "tandem/core/transport/keys.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <zmq.hpp>

#include "support/test.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

/// A directory of its own, removed afterwards.
class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "tandem-keys-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Scratch() { fs::remove_all(path_); }
  fs::path file(const std::string& name) const { return path_ / name; }
  fs::path write(const std::string& name, const std::string& text, mode_t mode) const {
    std::ofstream(file(name)) << text;
    REQUIRE(chmod(file(name).c_str(), mode) == 0);
    return file(name);
  }

 private:
  fs::path path_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

std::string key_file(const std::string& public_key, const std::string& secret_key) {
  return "public = \"" + public_key + "\"\nsecret = \"" + secret_key + "\"\n";
}

}  // namespace

TEST_SUITE("core/transport/keys") {
  TEST_CASE("a generated pair belongs together and no two are the same") {
    const KeyPair first = generate_key_pair();
    const KeyPair second = generate_key_pair();
    char derived[41];
    REQUIRE(zmq_curve_public(derived, first.secret_key.c_str()) == 0);
    CHECK(first.public_key == derived);
    CHECK(first.secret_key != second.secret_key);
    CHECK(is_z85_key(first.public_key));
    CHECK(is_z85_key(first.secret_key));
  }

  TEST_CASE("is_z85_key accepts 40 characters that decode and nothing else") {
    // The first four groups are RFC 32's test vector, "HelloWorld" twice.
    CHECK(is_z85_key("HelloWorldHelloWorldHelloWorldHelloWorld"));
    const std::vector<std::string> bad{
        "",
        "HelloWorld",
        "HelloWorldHelloWorldHelloWorldHelloWorl",
        "HelloWorldHelloWorldHelloWorldHelloWorldX",
        "HelloWorldHelloWorldHelloWorldHelloWor\"d",
        "HelloWorldHelloWorldHelloWorldHelloWor d",
        "HelloWorldHelloWorldHelloWorldHelloWor\\d",
        std::string("HelloWorldHelloWorldHelloWorldHelloWorl\0", 40),
        "########################################",  // 5 digits of 84 are more than 32 bits
    };
    for (const std::string& text : bad) {
      CAPTURE(text);
      CHECK_FALSE(is_z85_key(text));
    }
  }

  TEST_CASE("is_device_name bounds the length and refuses control characters") {
    CHECK(is_device_name("cam-1"));
    CHECK(is_device_name("Kamera Süd"));
    CHECK(is_device_name(std::string(64, 'x')));
    CHECK_FALSE(is_device_name(""));
    CHECK_FALSE(is_device_name(std::string(65, 'x')));
    CHECK_FALSE(is_device_name("cam\n1"));
    CHECK_FALSE(is_device_name(std::string("cam\0", 4)));
    CHECK_FALSE(is_device_name("cam\x7f"));
  }

  TEST_CASE("assignment replaces both halves and survives itself") {
    const KeyPair original = generate_key_pair();
    KeyPair copy = generate_key_pair();
    copy = original;
    CHECK(copy.public_key == original.public_key);
    CHECK(copy.secret_key == original.secret_key);
    const KeyPair& alias = copy;
    copy = alias;
    CHECK(copy.secret_key == original.secret_key);
    KeyPair moved;
    moved = std::move(copy);
    CHECK(moved.secret_key == original.secret_key);
  }

  TEST_CASE("a saved pair loads again and only its owner can read the file") {
    const Scratch scratch;
    const KeyPair keys = generate_key_pair();
    REQUIRE(save_key_pair(scratch.file("key.toml"), keys));
    struct stat status {};
    REQUIRE(stat(scratch.file("key.toml").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
    const auto loaded = load_key_pair(scratch.file("key.toml"));
    REQUIRE(loaded);
    CHECK(loaded->public_key == keys.public_key);
    CHECK(loaded->secret_key == keys.secret_key);
  }

  TEST_CASE("saving what is not a key pair is the caller's mistake") {
    const Scratch scratch;
    CHECK_THROWS_AS((void)save_key_pair(scratch.file("key.toml"), KeyPair("a", "b")), std::invalid_argument);
    CHECK_FALSE(fs::exists(scratch.file("key.toml")));
  }

  TEST_CASE("a key file that others can access is refused with the mode and the command that helps") {
    const Scratch scratch;
    const KeyPair keys = generate_key_pair();
    for (const mode_t mode : {0660, 0604, 0620, 0601, 0644, 0777}) {
      CAPTURE(mode);
      const fs::path path = scratch.write("key.toml", key_file(keys.public_key, keys.secret_key), mode);
      const auto loaded = load_key_pair(path);
      REQUIRE_FALSE(loaded);
      CHECK(loaded.error().code == ErrorCode::kInvalidArgument);
      CHECK(contains(loaded.error().message, "chmod 600 " + path.string()));
      if (mode == 0644) CHECK(contains(loaded.error().message, "mode 0644"));
    }
    CHECK(load_key_pair(scratch.write("key.toml", key_file(keys.public_key, keys.secret_key), 0600)));
    CHECK(load_key_pair(scratch.write("key.toml", key_file(keys.public_key, keys.secret_key), 0400)));
  }

  TEST_CASE("a malformed key file is refused without quoting a secret") {
    const Scratch scratch;
    const KeyPair keys = generate_key_pair();
    const KeyPair other = generate_key_pair();
    const struct {
      std::string text;
      std::string expected;
    } cases[] = {
        {"", "no public = "},
        {"public = \"" + keys.public_key + "\"\n", "no secret = "},
        {"secret = \"" + keys.secret_key + "\"\n", "no public = "},
        {"public = 5\nsecret = \"" + keys.secret_key + "\"\n", "no public = "},
        {"public = \"" + keys.public_key + "\"\nsecret = \"" + keys.secret_key + "\n",
         "line 2: not valid TOML"},
        {key_file("short", keys.secret_key), "public is not a Z85 key"},
        {key_file(keys.public_key, keys.secret_key + "0"), "secret is not a Z85 key"},
        {key_file(other.public_key, keys.secret_key), "do not belong together"},
    };
    for (const auto& entry : cases) {
      CAPTURE(entry.expected);
      const fs::path path = scratch.write("key.toml", entry.text, 0600);
      const auto loaded = load_key_pair(path);
      REQUIRE_FALSE(loaded);
      CHECK(loaded.error().code == ErrorCode::kInvalidArgument);
      CHECK(contains(loaded.error().message, entry.expected));
      CHECK(contains(loaded.error().message, path.string()));
      CHECK_FALSE(contains(loaded.error().message, keys.secret_key));
    }
  }

  TEST_CASE("a missing key file is not found") {
    const Scratch scratch;
    const auto loaded = load_key_pair(scratch.file("none.toml"));
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().code == ErrorCode::kNotFound);
    CHECK(contains(loaded.error().message, "none.toml"));
  }

  TEST_CASE("a saved device list loads again, whatever the names") {
    const Scratch scratch;
    DeviceList devices;
    for (const char* name : {"cam-1", "Kamera Süd", "with \"quotes\" and \\", "cam'2", "a.b = c", "#", "[x]"})
      devices.emplace(generate_key_pair().public_key, ClientId{name});
    REQUIRE(save_device_list(scratch.file("devices.toml"), devices));
    const auto loaded = load_device_list(scratch.file("devices.toml"));
    REQUIRE(loaded);
    CHECK((*loaded == devices));
  }

  TEST_CASE("an empty device list is a list") {
    const Scratch scratch;
    REQUIRE(save_device_list(scratch.file("devices.toml"), {}));
    const auto loaded = load_device_list(scratch.file("devices.toml"));
    REQUIRE(loaded);
    CHECK(loaded->empty());
  }

  TEST_CASE("a device list with a mistake is refused and the line named") {
    const Scratch scratch;
    const std::string key = generate_key_pair().public_key;
    const std::string other = generate_key_pair().public_key;
    const struct {
      std::string text;
      std::string expected;
    } cases[] = {
        {"", "has one table, [devices]"},
        {"devices = 3\n", "has one table, [devices]"},
        {"[devices]\na = \"" + key + "\"\n[other]\n", "line 3: unknown key \"other\""},
        {"[devices]\na = \"" + key + "\"\nb = \"" + key + "\"\n", "line 3: \"b\" has the same key as \"a\""},
        {"[devices]\na = \"" + key + "\"\na = \"" + other + "\"\n", "line 3"},
        {"[devices]\n\na = \"abc\"\n", "line 3: the key of \"a\" is not a Z85 key"},
        {"[devices]\na = 7\n", "line 2: the key of \"a\" is not a string"},
        {"[devices]\n\"\" = \"" + key + "\"\n", "line 2: a device name has 1 to 64 characters"},
        {"[devices]\n\"a\\nb\" = \"" + key + "\"\n", "line 2: a device name has 1 to 64 characters"},
        {"[devices\n", "line 1"},
        {"\na" + repeated(".a", 1'000'000) + " = 1\n",
         "line 2: a line has at most 5000 dots, since each may nest a table; found 1000000"},
        {"[a" + repeated(".a", 1'000'000) + "]\n", "line 1: a line has at most 5000 dots"},
        {"[a" + repeated(".a", 5000) + "]\nb" + repeated(".b", 5000) + " = 1\n", "unknown key \"a\""},
        {"a = " + repeated("[", 1'000'000) + "\n", "line 1"},
        {"a = " + repeated("{a=", 1'000'000) + "\n", "line 1"},
    };
    for (const auto& entry : cases) {
      CAPTURE(entry.text.substr(0, 200));
      const auto loaded = load_device_list(scratch.write("devices.toml", entry.text, 0644));
      REQUIRE_FALSE(loaded);
      CAPTURE(loaded.error().message);
      CHECK(loaded.error().code == ErrorCode::kInvalidArgument);
      CHECK(contains(loaded.error().message, entry.expected));
      CHECK(contains(loaded.error().message, "devices.toml"));
    }
  }

  TEST_CASE("a device list that could not be read again is not written") {
    const Scratch scratch;
    const DeviceList twice{{generate_key_pair().public_key, {"a"}}, {generate_key_pair().public_key, {"a"}}};
    const auto saved = save_device_list(scratch.file("devices.toml"), twice);
    REQUIRE_FALSE(saved);
    CHECK(contains(saved.error().message, "\"a\" is listed twice"));
    CHECK_FALSE(save_device_list(scratch.file("devices.toml"), {{"no key", {"a"}}}));
    CHECK_FALSE(save_device_list(scratch.file("devices.toml"), {{generate_key_pair().public_key, {""}}}));
    const auto latin1 =
        save_device_list(scratch.file("devices.toml"), {{generate_key_pair().public_key, {"S\xFC"}}});
    REQUIRE_FALSE(latin1);
    CHECK(latin1.error().message ==
          scratch.file("devices.toml").string() +
              ": a device name has 1 to 64 characters of UTF-8, none of them a control "
              "character");
    CHECK_FALSE(fs::exists(scratch.file("devices.toml")));
  }
}

}  // namespace tandem
