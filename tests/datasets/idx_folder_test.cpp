#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "datasets/idx_files.h"
#include "support/test.h"
#include "tandem/datasets/idx.h"
#include "tandem/datasets/idx_folder_detail.h"

namespace {

namespace fs = std::filesystem;
using namespace tandem::test;
using tandem::ErrorCode;
using tandem::datasets::find_idx_files;
using tandem::datasets::Split;

void touch(const fs::path& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names) write_plain(folder / name, {1});
}

std::string error_of(const fs::path& folder, Split split, ErrorCode code) {
  const auto found = find_idx_files(folder, split);
  REQUIRE_FALSE(found.has_value());
  CHECK(found.error().code == code);
  REQUIRE(found.error().message.rfind(folder.string(), 0) == 0);
  return found.error().message.substr(folder.string().size());
}

/// For a while this process is nobody, whom permissions bind.
class AsNobody {
 public:
  AsNobody() : possible(::seteuid(65534) == 0) {}
  ~AsNobody() {
    if (possible && ::seteuid(0) != 0) std::abort();
  }
  const bool possible;
};

}  // namespace

TEST_SUITE("datasets/idx_folder") {
  TEST_CASE("files are found by the ends of their names") {
    struct Row {
      const char* images;
      const char* labels;
      Split split;
    };
    const Row rows[] = {
        {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", Split::kTrain},
        {"train-images.idx3-ubyte", "train-labels.idx1-ubyte", Split::kTrain},
        {"train-images.idx3-ubyte.gz", "train-labels-idx1-ubyte.GZ", Split::kTrain},
        {"emnist-letters-train-images-idx3-ubyte.gz", "emnist-letters-train-labels-idx1-ubyte.gz",
         Split::kTrain},
        {"my train_images_idx2_float", "my train_labels_idx1_int", Split::kTrain},
        {"Train-Images.idx4-ubyte", "Train-Labels.idx1-ubyte", Split::kTrain},
        {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", Split::kTest},
        {"test-images.idx3-ubyte", "test-labels.idx1-ubyte.gz", Split::kTest},
        {"qmnist-test-images-idx3-ubyte.gz", "qmnist-test-labels-idx2-int.gz", Split::kTest},
    };
    for (const Row& row : rows) {
      CAPTURE(row.images);
      const TemporaryFolder folder("tandem-folder");
      touch(folder.path(), {row.images, row.labels, "notes.txt"});
      const auto found = find_idx_files(folder.path(), row.split);
      REQUIRE_MESSAGE(found.has_value(), (found ? "" : found.error().message));
      CHECK(found->images == folder.path() / row.images);
      CHECK(found->labels == folder.path() / row.labels);
    }
  }

  TEST_CASE("two files that could be meant are an error with both names") {
    const TemporaryFolder folder("tandem-folder");
    touch(folder.path(),
          {"a-train-images-idx3-ubyte", "b-train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"});
    CHECK(error_of(folder.path(), Split::kTrain, ErrorCode::kInvalidArgument) ==
          ": each of a-train-images-idx3-ubyte and b-train-images-idx3-ubyte.gz could be the training "
          "images; leave "
          "one of them in the folder, or give a folder of its own");
  }

  TEST_CASE("what only looks like a second file does not count") {
    const TemporaryFolder folder("tandem-folder");
    touch(folder.path(),
          {"train-images.idx3-ubyte", "train-labels.idx1-ubyte", "train-labels.idx1-ubyte.gz",
           "._train-images.idx3-ubyte", "train-images.idx3-ubyte.part", "train-images.idx3-ubyte (1)"});
    fs::create_directory(folder.path() / "train-images-idx3-ubyte");  // as archives bring it along
    const auto found = find_idx_files(folder.path(), Split::kTrain);
    REQUIRE_MESSAGE(found.has_value(), (found ? "" : found.error().message));
    CHECK(found->images == folder.path() / "train-images.idx3-ubyte");
    CHECK(found->labels == folder.path() / "train-labels.idx1-ubyte");
  }

  TEST_CASE("what is missing is said together with what is there") {
    const TemporaryFolder folder("tandem-folder");
    const std::string there = "(dots for dashes, test for t10k and .gz are fine too); the folder ";
    const std::string format = "; give idx:DIR with the four files of MNIST's format";
    const std::string both =
        ": no training images and no training labels: no name there ends in "
        "train-images-idx3-ubyte or train-labels-idx1-ubyte " +
        there;
    CHECK(error_of(folder.path(), Split::kTrain, ErrorCode::kNotFound) == both + "is empty" + format);
    touch(folder.path(), {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"});
    fs::create_directory(folder.path() / "raw");
    CHECK(error_of(folder.path(), Split::kTrain, ErrorCode::kNotFound) ==
          both + "holds raw/, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte" + format);
    fs::remove(folder.path() / "t10k-labels-idx1-ubyte");
    for (int i = 0; i < 9; ++i) touch(folder.path(), {"file-" + std::to_string(i)});
    CHECK(error_of(folder.path(), Split::kTest, ErrorCode::kNotFound) ==
          ": no test labels: no name there ends in t10k-labels-idx1-ubyte " + there +
              "holds file-0, file-1, file-2, file-3, file-4, file-5, file-6, file-7 and 3 more" + format);
  }

  TEST_CASE("a folder that is none, cannot be read or is a dangling link is called that") {
    const TemporaryFolder folder("tandem-folder");
    write_gzip(folder.path() / "mnist.gz", {1, 2, 3});
    CHECK(error_of(folder.path() / "mnist.gz", Split::kTrain, ErrorCode::kIo) ==
          " is a file (gzip data), and idx:DIR needs the folder that holds the files");
    fs::create_symlink("nowhere", folder.path() / "link");
    CHECK(error_of(folder.path() / "link", Split::kTrain, ErrorCode::kNotFound) ==
          " is a link to nowhere, which does not exist");
    fs::create_directory(folder.path() / "closed");
    ::chmod((folder.path() / "closed").c_str(), 0);
    ::chmod(folder.path().c_str(), 0755);
    const AsNobody nobody;
    if (::geteuid() == 0) {
      MESSAGE("skipped: this process cannot become another user");
      return;
    }
    CHECK(error_of(folder.path() / "closed", Split::kTrain, ErrorCode::kIo) ==
          ": cannot read the folder: Permission denied");
    CHECK(error_of(folder.path() / "closed" / "inside", Split::kTrain, ErrorCode::kIo) ==
          ": cannot look there: Permission denied");
  }

  TEST_CASE("a link, a folder or a pipe in place of a file is called that") {
    const TemporaryFolder folder("tandem-folder");
    touch(folder.path(), {"train-images-idx3-ubyte"});
    const fs::path labels = folder.path() / "train-labels-idx1-ubyte";
    const auto labels_error = [&] {
      const auto read = tandem::datasets::read_idx(folder.path(), Split::kTrain);
      REQUIRE_FALSE(read.has_value());
      REQUIRE(read.error().message.rfind(labels.string(), 0) == 0);
      return read.error().message.substr(labels.string().size());
    };
    fs::create_symlink("../elsewhere", labels);
    CHECK(labels_error() == " is a link to ../elsewhere, which does not exist");
    fs::remove(labels);
    fs::create_directory(labels);
    CHECK(labels_error() == " is a folder where a file is expected");
    fs::remove(labels);
    REQUIRE(::mkfifo(labels.c_str(), 0600) == 0);
    CHECK(labels_error() == " is neither a file nor a folder; give a regular file");
    // A link to a file is as good as the file.
    fs::remove(labels);
    write_plain(folder.path() / "elsewhere", label_bytes({1}));
    fs::create_symlink("elsewhere", labels);
    CHECK(tandem::datasets::read_idx_labels(labels).has_value());
  }
}
