#include "tandem/core/storage/seal.h"

#include <sys/stat.h>

#include <fstream>
#include <set>
#include <string>

#include "core/storage/storage_support.h"
#include "support/test.h"
#include "tandem/core/storage/atomic_file.h"

using namespace tandem;
namespace fs = std::filesystem;

namespace {

SealKey counting_key() {
  std::array<uint8_t, SealKey::kBytes> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  return SealKey(bytes);
}

const std::string kDigits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

std::string from_hex(const std::string& digits) {
  std::string bytes;
  for (size_t i = 0; i < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

/// Writes a key file of that text and mode.
fs::path key_file(const TemporaryDirectory& directory, const std::string& text, int mode = 0600) {
  const fs::path path = directory.path() / "seal.key";
  REQUIRE(write_file_atomically(path, {text}, 0600).has_value());
  REQUIRE(::chmod(path.c_str(), static_cast<mode_t>(mode)) == 0);
  return path;
}

}  // namespace

TEST_SUITE("core/storage/seal") {
  TEST_CASE("what is sealed comes back, whatever its size and pieces") {
    const SealKey key = generate_seal_key();
    const std::string large(3'000'001, 'x');
    for (const std::vector<std::string_view>& pieces : {std::vector<std::string_view>{},
                                                        {""},
                                                        {"a"},
                                                        {"one", "", "two"},
                                                        {large, "tail"},
                                                        {"head", large}}) {
      std::string plain;
      for (const std::string_view piece : pieces) plain += piece;
      const std::string sealed = seal(key, "what it is", pieces).value();
      CHECK(is_sealed(sealed));
      CHECK(sealed.size() == plain.size() + 60 + 10 + 16);
      CHECK(sealed_context(sealed).value() == "what it is");
      CHECK(unseal(key, "what it is", sealed).value() == plain);
    }
  }

  TEST_CASE("the format is what seal.h says: a file that was made by other means opens") {
    // By Python's cryptography: HKDF(SHA256, 48, salt, b"tandem sealed file v1").derive(key) = file key,
    // key check; AESGCM(file key).encrypt(nonce, plain, head).
    const std::string sealed = from_hex(
        "544e444d5345414c010000000a000000"
        "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babb"
        "1e595c1e68f9c1d42facb4c8569b315b"
        "77686174206974206973"
        "433b3289082d6cba194f6810edfd339ec4e8c738e21bf068f696e23c36ec");
    CHECK(unseal(counting_key(), "what it is", sealed).value() == "the plain text");
  }

  TEST_CASE("the same bytes are sealed differently each time, and show in none") {
    const SealKey key = generate_seal_key();
    const std::string plain = "activations of client cam-1, thirty-two bytes of them";
    std::set<std::string> files;
    for (int i = 0; i < 100; ++i) {
      const std::string sealed = seal(key, "c", {plain}).value();
      CHECK(sealed.find(plain.substr(0, 4)) == std::string::npos);
      files.insert(sealed.substr(16, 16));  // salts
    }
    CHECK(files.size() == 100);
  }

  TEST_CASE("any flipped bit and any length but the right one is noticed") {
    const SealKey key = generate_seal_key();
    const std::string sealed = seal(key, "context", {"plain"}).value();
    for (size_t bit = 0; bit < 8 * sealed.size(); ++bit) {
      CAPTURE(bit);
      std::string changed = sealed;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
      const auto plain = unseal(key, "context", changed);
      REQUIRE_FALSE(plain.has_value());
      // A changed salt or key check is what another key looks like.
      const bool like_another_key = (bit / 8 >= 16 && bit / 8 < 32) || (bit / 8 >= 44 && bit / 8 < 60);
      CHECK((plain.error().code == (like_another_key ? ErrorCode::kInvalidArgument : ErrorCode::kCorrupt)));
    }
    for (size_t size = 0; size < sealed.size(); ++size) {
      CAPTURE(size);
      const auto plain = unseal(key, "context", std::string_view(sealed).substr(0, size));
      REQUIRE_FALSE(plain.has_value());
      CHECK((plain.error().code == ErrorCode::kCorrupt));
    }
    CHECK((unseal(key, "context", sealed + "x").error().code == ErrorCode::kCorrupt));
  }

  TEST_CASE("a changed body says what to do") {
    const SealKey key = generate_seal_key();
    std::string sealed = seal(key, "context", {"plain"}).value();
    sealed.back() = static_cast<char>(sealed.back() ^ 1);
    CHECK(unseal(key, "context", sealed).error().message ==
          "sealed file: it was changed after it was sealed; use an older checkpoint or a copy");
    CHECK(unseal(key, "context", "safetensors").error().message ==
          "sealed file: expected it to begin with TNDMSEAL, found something else; use an older checkpoint or "
          "a copy");
    CHECK(unseal(key, "context", std::string_view(sealed).substr(0, 70)).error().message ==
          "sealed file: expected at least 76 bytes, found 70; use an older checkpoint or a copy");
  }

  TEST_CASE("another key is told from damage") {
    const std::string sealed = seal(generate_seal_key(), "context", {"plain"}).value();
    const auto plain = unseal(generate_seal_key(), "context", sealed);
    REQUIRE_FALSE(plain.has_value());
    CHECK((plain.error().code == ErrorCode::kInvalidArgument));
    CHECK(plain.error().message ==
          "sealed with another key, or damaged in its first 60 bytes; give --seal-key the key file that it "
          "was sealed with");
  }

  TEST_CASE("what is sealed for one context does not open for another") {
    const SealKey key = generate_seal_key();
    const std::string sealed = seal(key, "checkpoint 1", {"plain"}).value();
    const auto plain = unseal(key, "checkpoint 2", sealed);
    REQUIRE_FALSE(plain.has_value());
    CHECK((plain.error().code == ErrorCode::kCorrupt));
    CHECK(
        plain.error().message ==
        "sealed file: expected \"checkpoint 2\", found that of \"checkpoint 1\"; use an older checkpoint or "
        "a copy");
    CHECK_THROWS_WITH_AS(seal(key, std::string(1025, 'x'), {}).has_value(),
                         "seal: a context has at most 1024 bytes, got 1025", std::invalid_argument);
  }

  TEST_CASE("a key file comes back, is private, and is never replaced") {
    const TemporaryDirectory directory;
    const fs::path path = directory.path() / "seal.key";
    const SealKey key = generate_seal_key();
    CHECK(key.bytes() != generate_seal_key().bytes());
    REQUIRE(save_seal_key(path, key).has_value());
    CHECK(load_seal_key(path).value().bytes() == key.bytes());
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    const auto again = save_seal_key(path, generate_seal_key());
    REQUIRE_FALSE(again.has_value());
    CHECK((again.error().code == ErrorCode::kInvalidArgument));
    CHECK(again.error().message ==
          path.string() +
              ": there is a file already; what its key sealed could not be read without it: "
              "choose another name");
    CHECK(load_seal_key(path).value().bytes() == key.bytes());
    CHECK(names_in(directory.path()) == std::vector<std::string>{"seal.key"});
  }

  TEST_CASE("a key file is TOML or the digits alone") {
    const TemporaryDirectory directory;
    for (const std::string& text : {"# mine\nseal = \"" + kDigits + "\"\n", kDigits, kDigits + "\n",
                                    "seal='000102030405060708090A0B0C0D0E0F" + kDigits.substr(32) + "'"}) {
      CAPTURE(text);
      CHECK(load_seal_key(key_file(directory, text)).value().bytes() == counting_key().bytes());
    }
  }

  TEST_CASE("a file without a key says what is expected and quotes nothing") {
    const TemporaryDirectory directory;
    for (const std::string& text :
         {std::string(), std::string("seal = "), "seal = \"" + kDigits.substr(1) + "\"", kDigits + "0",
          "seal = \"" + kDigits.substr(1) + "g\"", std::string("seal = 5"), "secret = \"" + kDigits + "\""}) {
      CAPTURE(text);
      const fs::path path = key_file(directory, text);
      const auto key = load_seal_key(path);
      REQUIRE_FALSE(key.has_value());
      CHECK((key.error().code == ErrorCode::kInvalidArgument));
      CHECK(key.error().message == path.string() +
                                       ": expected seal = \"64 hexadecimal digits\"; make a key file with: "
                                       "tandem seal-key --out FILE");
    }
  }

  TEST_CASE("a key file that others can access is refused") {
    const TemporaryDirectory directory;
    for (const int mode : {0644, 0604, 0660, 0610}) {
      const fs::path path = key_file(directory, kDigits, mode);
      const auto key = load_seal_key(path);
      REQUIRE_FALSE(key.has_value());
      CHECK((key.error().code == ErrorCode::kInvalidArgument));
      CHECK(key.error().message.find("so others can access the secret key; run: chmod 600 " +
                                     path.string()) != std::string::npos);
    }
    CHECK((load_seal_key(directory.path() / "missing").error().code == ErrorCode::kNotFound));
  }
}
