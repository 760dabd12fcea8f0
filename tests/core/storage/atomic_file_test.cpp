#include "tandem/core/storage/atomic_file.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "core/storage/storage_support.h"
#include "support/test.h"

using namespace tandem;
namespace fs = std::filesystem;

namespace {

mode_t mode_of(const fs::path& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

}  // namespace

TEST_SUITE("core/storage/atomic_file") {
  TEST_CASE("a file holds its parts in order and replaces the old one") {
    const TemporaryDirectory directory;
    const fs::path path = directory.path() / "file";
    REQUIRE(write_file_atomically(path, {"old contents that are longer"}).has_value());
    const std::string zeros("\0\0", 2);
    REQUIRE(write_file_atomically(path, {"one ", zeros, "", " two"}).has_value());
    CHECK(read_file(path).value() == "one " + zeros + " two");
    REQUIRE(write_file_atomically(path, {}).has_value());
    CHECK(read_file(path).value().empty());
    CHECK(names_in(directory.path()) == std::vector<std::string>{"file"});
  }

  TEST_CASE("the process's umask takes away what it takes away, and a secret is its owner's alone") {
    const TemporaryDirectory directory;
    const fs::path path = directory.path() / "file";
    for (const mode_t mask : {0000, 0022, 0027, 0077}) {
      for (const int mode : {kPublicMode, kSecretMode}) {
        CAPTURE(mask);
        const mode_t before = ::umask(mask);
        const bool written = write_file_atomically(path, {"text"}, mode).has_value();
        ::umask(before);
        REQUIRE(written);
        CHECK(mode_of(path) == (static_cast<mode_t>(mode) & ~mask));
      }
    }
  }

  TEST_CASE("a new file takes nobody's name") {
    const TemporaryDirectory directory;
    const fs::path path = directory.path() / "file";
    REQUIRE(write_new_file(path, {"mine"}).has_value());
    fs::create_symlink("nowhere", directory.path() / "link");
    for (const fs::path& taken : {path, directory.path() / "link"}) {
      const auto refused = write_new_file(taken, {"other"});
      REQUIRE_FALSE(refused.has_value());
      CHECK((refused.error().code == ErrorCode::kInvalidArgument));
      CHECK(refused.error().message ==
            taken.string() + ": there is a file already; choose another name or move it away");
    }
    CHECK(read_file(path).value() == "mine");
    CHECK(names_in(directory.path()) == std::vector<std::string>{"file", "link"});
  }

  TEST_CASE("a secret is its owner's alone, or root's who lets a group read it") {
    const TemporaryDirectory directory;
    const fs::path path = directory.path() / "key";
    const auto readable = [&](mode_t mode) {
      REQUIRE(write_file_atomically(path, {"secret"}, kSecretMode).has_value());
      REQUIRE(::chmod(path.c_str(), mode) == 0);
      const auto read = read_secret_file(path);
      if (!read) {
        CHECK((read.error().code == ErrorCode::kInvalidArgument));
      }
      return read.has_value();
    };
    CHECK(readable(0400));
    CHECK(readable(0600));
    for (const mode_t mode : {0604, 0620, 0660, 0610, 0444, 0644}) {
      CAPTURE(mode);
      CHECK_FALSE(readable(mode));
    }
    const bool root = ::geteuid() == 0;
    CHECK(readable(0440) == root);  // as secret volumes have it
    CHECK(readable(0640) == root);
    if (!root) return;
    REQUIRE(::chown(path.c_str(), 65534, 0) == 0);
    CHECK_FALSE(read_secret_file(path).has_value());
  }

  TEST_CASE("a secret volume's links are followed") {
    const TemporaryDirectory directory;
    fs::create_directory(directory.path() / "..2026");
    REQUIRE(write_file_atomically(directory.path() / "..2026" / "key", {"secret"}, kSecretMode).has_value());
    fs::create_directory_symlink("..2026", directory.path() / "..data");
    fs::create_symlink("..data/key", directory.path() / "key");
    CHECK(read_secret_file(directory.path() / "key").value() == "secret");
  }

  TEST_CASE("who may not read a file learns whose it is and who asked") {
    if (::geteuid() != 0) return;  // only root can become somebody else
    const TemporaryDirectory directory;
    fs::permissions(directory.path(), fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec);
    const fs::path path = directory.path() / "key";
    REQUIRE(write_file_atomically(path, {"secret"}, kSecretMode).has_value());
    fs::create_directory(directory.path() / "closed");
    fs::permissions(directory.path() / "closed", fs::perms::owner_all);
    const fs::path hidden = directory.path() / "closed" / "key";
    REQUIRE(::seteuid(65534) == 0);
    const auto denied = read_secret_file(path);
    const auto below = read_secret_file(hidden);
    REQUIRE(::seteuid(0) == 0);
    REQUIRE_FALSE(denied.has_value());
    CHECK(denied.error().message == "cannot read " + path.string() +
                                        ": Permission denied; this program runs as user 65534, group 0, the "
                                        "file belongs to user 0, group "
                                        "0 and has mode 0600: let it read the file (chown, chmod)");
    REQUIRE_FALSE(below.has_value());
    CHECK(below.error().message == "cannot read " + hidden.string() +
                                       ": Permission denied; this program runs as user 65534, group 0, which "
                                       "may not enter the folder " +
                                       hidden.parent_path().string() + ": let it (chown, chmod)");
  }

  TEST_CASE("a path without a directory is in the working directory") {
    const std::string name = "tandem_atomic_file_test.tmp";
    REQUIRE(write_file_atomically(name, {"here"}).has_value());
    CHECK(read_file(fs::current_path() / name).value() == "here");
    fs::remove(name);
  }

  TEST_CASE("a missing directory, and a directory in the place of the file, are named") {
    const TemporaryDirectory directory;
    const fs::path missing = directory.path() / "missing" / "file";
    const auto result = write_file_atomically(missing, {"x"});
    REQUIRE_FALSE(result.has_value());
    CHECK((result.error().code == ErrorCode::kIo));
    CHECK(result.error().message ==
          "cannot create a temporary file for " + missing.string() + ": No such file or directory");

    const fs::path occupied = directory.path() / "occupied";
    fs::create_directory(occupied);
    const auto replaced = write_file_atomically(occupied, {"x"});
    REQUIRE_FALSE(replaced.has_value());
    CHECK(replaced.error().message ==
          "cannot put a new file in the place of " + occupied.string() + ": Is a directory");
    CHECK(names_in(directory.path()) == std::vector<std::string>{"occupied"});
  }

  TEST_CASE("a write that fails half-way leaves the old file whole and nothing else") {
    const TemporaryDirectory directory;
    const fs::path path = directory.path() / "file";
    REQUIRE(write_file_atomically(path, {"old"}).has_value());
    const std::string large(100'000, 'x');
    {
      const FileSizeLimit limit(65'536);
      const auto result = write_file_atomically(path, {large});
      REQUIRE_FALSE(result.has_value());
      CHECK((result.error().code == ErrorCode::kIo));
      CHECK(result.error().message == "cannot write " + path.string() +
                                          ": File too large; free space there or choose another --run-dir");
    }
    CHECK(read_file(path).value() == "old");
    CHECK(names_in(directory.path()) == std::vector<std::string>{"file"});
    CHECK(write_file_atomically(path, {large}).has_value());
  }

  TEST_CASE("a full disk leaves the old file whole and nothing else") {
    const TemporaryDirectory directory;
    const fs::path mount_point = directory.path() / "disk";
    fs::create_directory(mount_point);
    if (::mount("tandem-test", mount_point.c_str(), "tmpfs", 0, "size=64k") != 0) {
      MESSAGE("skipped: this user may not mount a small tmpfs");
      return;
    }
    const fs::path path = mount_point / "file";
    CHECK(write_file_atomically(path, {"old"}).has_value());
    const auto result = write_file_atomically(path, {std::string(100'000, 'x')});
    const std::vector<std::string> names = names_in(mount_point);
    const std::string contents = read_file(path).value();
    ::umount(mount_point.c_str());
    REQUIRE_FALSE(result.has_value());
    CHECK((result.error().code == ErrorCode::kIo));
    CHECK(result.error().message ==
          "cannot write " + path.string() +
              ": No space left on device; free space there or choose another --run-dir");
    CHECK(names == std::vector<std::string>{"file"});
    CHECK(contents == "old");
  }

  TEST_CASE("read_file tells a missing file from one that cannot be read") {
    const TemporaryDirectory directory;
    const fs::path missing = directory.path() / "missing";
    const auto not_found = read_file(missing);
    REQUIRE_FALSE(not_found.has_value());
    CHECK((not_found.error().code == ErrorCode::kNotFound));
    CHECK(not_found.error().message == "cannot open " + missing.string() + ": No such file or directory");
    const auto not_a_file = read_file(directory.path());
    REQUIRE_FALSE(not_a_file.has_value());
    CHECK((not_a_file.error().code == ErrorCode::kIo));
    CHECK(not_a_file.error().message == "cannot read " + directory.path().string() + ": Is a directory");
  }

  TEST_CASE("read_file reads files that say they are empty, as those in /proc do") {
    const auto status = read_file("/proc/self/status");
    REQUIRE(status.has_value());
    CHECK(status->find("VmHWM:") != std::string::npos);
  }

  TEST_CASE("sha256_hex gives the digests of FIPS 180-4") {
    CHECK(sha256_hex({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sha256_hex({"abc"}) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sha256_hex({"abcdbcdecdefdefgefghfghighij", "", "hijkijkljklmklmnlmnomnopnopq"}) ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  }
}
