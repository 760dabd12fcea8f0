#include "tandem/datasets/idx.h"

#include <array>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "datasets/idx_files.h"
#include "support/test.h"

namespace {

namespace fs = std::filesystem;
using namespace tandem::test;
using tandem::ErrorCode;
using tandem::datasets::read_idx;
using tandem::datasets::read_idx_images;
using tandem::datasets::read_idx_labels;
using tandem::datasets::Split;

void check_small_set(const fs::path& folder) {
  const auto read = read_idx(folder, Split::kTrain);
  REQUIRE_MESSAGE(read.has_value(), (read ? "" : read.error().message));
  const tandem::datasets::TensorDataset& dataset = **read;
  CHECK(dataset.describe() == tandem::DataDescription{{1, 4, 3}, 4, 5});
  const std::array<int64_t, 2> wanted{4, 1};
  const tandem::Batch batch = dataset.get(wanted);
  CHECK((batch.inputs.scalar_type() == at::kByte));
  CHECK(batch.inputs.sizes() == at::IntArrayRef({2, 1, 4, 3}));
  CHECK(batch.inputs[0][0][0][0].item<int>() == 48);  // the fifth image begins at pixel 4 * 12
  CHECK(batch.inputs[1][0][3][2].item<int>() == 23);  // the second ends at pixel 2 * 12 - 1
  CHECK(batch.labels[0].item<int64_t>() == 3);
  CHECK(batch.labels[1].item<int64_t>() == 0);
}

/// The error of reading `bytes` as an image file, without the path before it.
std::string image_error(const Bytes& bytes, bool gzip) {
  const TemporaryFolder folder("tandem-idx");
  const fs::path file = folder.path() / "images";
  gzip ? write_gzip(file, bytes) : write_plain(file, bytes);
  const auto read = read_idx_images(file);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == ErrorCode::kCorrupt);
  REQUIRE(read.error().message.rfind(file.string() + ": ", 0) == 0);
  return read.error().message.substr(file.string().size() + 2);
}

std::string label_error(const Bytes& bytes) {
  const TemporaryFolder folder("tandem-idx");
  const fs::path file = folder.path() / "labels";
  write_plain(file, bytes);
  const auto read = read_idx_labels(file);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == ErrorCode::kCorrupt);
  return read.error().message.substr(file.string().size() + 2);
}

std::string folder_error(const fs::path& folder, ErrorCode code) {
  const auto read = read_idx(folder, Split::kTrain);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == code);
  return read.error().message;
}

/// Counts, first labels and class balance of a data set of 60,000 + 10,000 images of 28 x 28.
void check_full_set(const fs::path& folder, const std::vector<int64_t>& first_labels,
                    const std::vector<int64_t>& train_counts, const std::vector<int64_t>& test_counts) {
  const auto train = read_idx(folder, Split::kTrain);
  REQUIRE_MESSAGE(train.has_value(), (train ? "" : train.error().message));
  CHECK((*train)->describe() == tandem::DataDescription{{1, 28, 28}, 10, 60000});
  for (size_t i = 0; i < first_labels.size(); ++i) {
    CHECK((*train)->labels()[static_cast<int64_t>(i)].item<int64_t>() == first_labels[i]);
  }
  CHECK(torch::equal(torch::bincount((*train)->labels()), torch::tensor(train_counts)));
  const auto test = read_idx(folder, Split::kTest);
  REQUIRE(test.has_value());
  CHECK((*test)->describe() == tandem::DataDescription{{1, 28, 28}, 10, 10000});
  CHECK(torch::equal(torch::bincount((*test)->labels()), torch::tensor(test_counts)));
}

}  // namespace

TEST_SUITE("datasets/idx") {
  TEST_CASE("plain and gzip files hold the same examples") {
    const TemporaryFolder folder("tandem-idx");
    SUBCASE("plain") {
      write_small_set(folder.path());
    }
    SUBCASE("gzip") {
      write_gzip(folder.path() / "train-images-idx3-ubyte.gz", image_bytes(5, 4, 3));
      write_gzip(folder.path() / "train-labels-idx1-ubyte.gz", label_bytes({2, 0, 1, 2, 3}));
    }
    SUBCASE("plain wins where both exist") {
      write_small_set(folder.path());
      write_plain(folder.path() / "train-images-idx3-ubyte.gz", {1, 2, 3});
      write_plain(folder.path() / "train-labels-idx1-ubyte.gz", {1, 2, 3});
    }
    check_small_set(folder.path());
  }

  TEST_CASE("the test split comes from the t10k files") {
    const TemporaryFolder folder("tandem-idx");
    write_small_set(folder.path());
    write_plain(folder.path() / "t10k-images-idx3-ubyte", image_bytes(2, 4, 3));
    write_plain(folder.path() / "t10k-labels-idx1-ubyte", label_bytes({7, 1}));
    const auto test = read_idx(folder.path(), Split::kTest);
    REQUIRE(test.has_value());
    CHECK((*test)->describe() == tandem::DataDescription{{1, 4, 3}, 8, 2});
  }

  TEST_CASE("there are at least two classes, whatever the labels") {
    const TemporaryFolder folder("tandem-idx");
    write_plain(folder.path() / "train-images-idx3-ubyte", image_bytes(3, 2, 2));
    write_plain(folder.path() / "train-labels-idx1-ubyte", label_bytes({0, 0, 0}));
    const auto read = read_idx(folder.path(), Split::kTrain);
    REQUIRE(read.has_value());
    CHECK((*read)->describe().num_classes == 2);
  }

  TEST_CASE("a missing folder or file is named, with how to get it") {
    const TemporaryFolder folder("tandem-idx");
    const std::string missing = (folder.path() / "none").string();
    CHECK(folder_error(missing, ErrorCode::kNotFound) ==
          missing +
              ": no such folder, looked there for train-images-idx3-ubyte or train-images-idx3-ubyte.gz; "
              "give idx:DIR with the four files of MNIST's format");
    const std::string fashion = (folder.path() / "fashion-mnist").string();
    CHECK(folder_error(fashion, ErrorCode::kNotFound) ==
          fashion +
              ": no such folder, looked there for train-images-idx3-ubyte or train-images-idx3-ubyte.gz; "
              "install dataset-fashion-mnist or give idx:DIR");
    write_plain(folder.path() / "train-images-idx3-ubyte", image_bytes(1, 2, 2));
    CHECK(folder_error(folder.path(), ErrorCode::kNotFound) ==
          folder.path().string() +
              ": the folder has neither train-labels-idx1-ubyte nor train-labels-idx1-ubyte.gz; "
              "give idx:DIR with the four files of MNIST's format");
  }

  TEST_CASE("a file that cannot be opened is an error of the file system") {
    const auto read = read_idx_labels("/nonexistent/labels");
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().code == ErrorCode::kIo);
    CHECK(read.error().message == "/nonexistent/labels: cannot open: No such file or directory");
  }

  TEST_CASE("a folder in place of a file is an error of the file system") {
    const TemporaryFolder folder("tandem-idx");
    const auto read = read_idx_labels(folder.path());
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().code == ErrorCode::kIo);
    CHECK(read.error().message == folder.path().string() + ": cannot read: Is a directory");
  }

  TEST_CASE("a file cut at any length is refused with the bytes found and expected") {
    const Bytes whole = image_bytes(2, 3, 5);
    for (size_t length = 0; length < whole.size(); ++length) {
      CAPTURE(length);
      const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
      const std::string expected =
          length < 16
              ? "holds " + std::to_string(length) +
                    " bytes, less than the 16-byte header of an IDX image file; fetch it again"
              : "holds " + std::to_string(length - 16) +
                    " bytes of image data after the 16-byte header, expected 30 (2 x 3 x 5): the file is "
                    "truncated; fetch it again";
      CHECK(image_error(cut, false) == expected);
      CHECK(image_error(cut, true) == expected);
    }
  }

  TEST_CASE("large sizes are written with separators") {
    Bytes bytes = image_bytes(0, 0, 0);
    bytes.resize(4);
    for (const uint32_t number : {60000u, 28u, 28u}) append_number(bytes, number);
    bytes.resize(16 + 1234);
    CHECK(image_error(bytes, false) ==
          "holds 1,234 bytes of image data after the 16-byte header, expected 47,040,000 (60000 x 28 x 28): "
          "the "
          "file is truncated; fetch it again");
  }

  TEST_CASE("a file longer than its header says is refused") {
    Bytes bytes = image_bytes(2, 3, 5);
    bytes.resize(bytes.size() + 100'000);  // more than one buffer of the reader
    for (const bool gzip : {false, true}) {
      CHECK(
          image_error(bytes, gzip) ==
          "holds 100,030 bytes of image data after the 16-byte header, expected 30 (2 x 3 x 5): the file is "
          "longer than its header says; fetch it again");
    }
    Bytes labels = label_bytes({1, 2, 3});
    labels.push_back(0);
    CHECK(label_error(labels) ==
          "holds 4 bytes of labels after the 8-byte header, expected 3: the file is longer than its header "
          "says; "
          "fetch it again");
  }

  TEST_CASE("a header that promises far more than the file holds takes no memory") {
    Bytes bytes;
    for (const uint32_t number : {0x803u, 0xFFFFFFFFu, 16384u, 16384u}) append_number(bytes, number);
    CHECK(image_error(bytes, true) ==
          "holds 0 bytes of image data after the 16-byte header, expected 1,152,921,504,338,411,520 "
          "(4294967295 x "
          "16384 x 16384): the file is truncated; fetch it again");
  }

  TEST_CASE("magic numbers and dimensions are checked") {
    Bytes bytes = image_bytes(2, 3, 5);
    CHECK(label_error(bytes) == "begins with 0x00000803, expected 0x00000801 of an IDX label file");
    CHECK(image_error(label_bytes(Bytes(20, 1)), false) ==
          "begins with 0x00000801, expected 0x00000803 of an IDX image file");
    bytes[11] = 0;
    CHECK(image_error(bytes, false) ==
          "its header announces images of 0 x 5 pixels, expected 1..16384 in each direction");
    bytes = image_bytes(2, 3, 5);
    bytes[13] = 1;
    CHECK(image_error(bytes, false) ==
          "its header announces images of 3 x 65541 pixels, expected 1..16384 in each direction");
    CHECK(image_error(image_bytes(0, 3, 5), false) == "its header announces no examples");
  }

  TEST_CASE("damaged or unfinished gzip data is refused") {
    const TemporaryFolder folder("tandem-idx");
    const fs::path file = folder.path() / "images.gz";
    write_gzip(file, image_bytes(20, 28, 28));
    const Bytes good = read_bytes(file);
    Bytes damaged = good;
    damaged[damaged.size() - 6] ^= 1;  // in the checksum
    write_plain(file, damaged);
    auto read = read_idx_images(file);
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().code == ErrorCode::kCorrupt);
    CHECK(read.error().message ==
          file.string() + ": incorrect data check: the gzip data is damaged; fetch it again");

    for (size_t missing = 1; missing <= 8; ++missing) {
      CAPTURE(missing);
      write_plain(file, Bytes(good.begin(), good.end() - static_cast<std::ptrdiff_t>(missing)));
      read = read_idx_images(file);
      REQUIRE_FALSE(read.has_value());
      CHECK(read.error().message ==
            file.string() +
                ": the gzip stream ends before its checksum: the file is truncated; fetch it "
                "again");
    }
    write_plain(file, Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(good.size() / 2)));
    read = read_idx_images(file);
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().message.find("expected 15,680 (20 x 28 x 28): the file is truncated") !=
          std::string::npos);
  }

  TEST_CASE("no flipped byte of a gzip file is read as something else") {
    const TemporaryFolder folder("tandem-idx");
    const fs::path file = folder.path() / "labels.gz";
    write_gzip(file, label_bytes({1, 2, 3, 4, 5, 6, 7, 8, 9}));
    const auto expected = read_idx_labels(file);
    REQUIRE(expected.has_value());
    const Bytes good = read_bytes(file);
    int harmless = 0;
    for (size_t at = 0; at < good.size(); ++at) {
      Bytes damaged = good;
      damaged[at] ^= 0x40;
      write_plain(file, damaged);
      CAPTURE(at);
      const auto read = read_idx_labels(file);
      if (!read) continue;
      ++harmless;
      CHECK(torch::equal(*read, *expected));
    }
    // The time of writing, two hints and the padding after the last bit.
    CHECK(harmless >= 4);
    CHECK(harmless <= 8);
  }

  TEST_CASE("images and labels must be as many") {
    const TemporaryFolder folder("tandem-idx");
    write_small_set(folder.path());
    write_plain(folder.path() / "train-labels-idx1-ubyte", label_bytes({1, 2}));
    CHECK(folder_error(folder.path(), ErrorCode::kCorrupt) ==
          (folder.path() / "train-images-idx3-ubyte").string() + " holds 5 images but " +
              (folder.path() / "train-labels-idx1-ubyte").string() + " holds 2 labels: not a pair");
  }

  TEST_CASE("the real Fashion-MNIST reads as published") {
    const fs::path folder = "/usr/share/datasets/fashion-mnist";
    if (!fs::exists(folder)) {
      MESSAGE("skipped: " << folder.string() << " is missing (Debian package dataset-fashion-mnist)");
      return;
    }
    check_full_set(folder, {9, 0, 0, 3, 0, 2, 7, 2, 5, 5}, std::vector<int64_t>(10, 6000),
                   std::vector<int64_t>(10, 1000));
  }

  TEST_CASE("the real MNIST reads as published") {
    // ctest runs in the project's root; the data lie beside it.
    const fs::path folder = fs::current_path() / ".." / "shared" / "data" / "mnist";
    if (!fs::exists(folder)) {
      MESSAGE("skipped: " << folder.string() << " is missing");
      return;
    }
    check_full_set(folder, {5, 0, 4, 1, 9, 2, 1, 3, 1, 4},
                   {5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949},
                   {980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009});
  }
}
