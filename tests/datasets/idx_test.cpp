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
              ": no such folder, looked there for train-images-idx3-ubyte and train-labels-idx1-ubyte; "
              "give idx:DIR with the four files of MNIST's format");
    const std::string fashion = (folder.path() / "fashion-mnist").string();
    CHECK(folder_error(fashion, ErrorCode::kNotFound) ==
          fashion +
              ": no such folder, looked there for train-images-idx3-ubyte and train-labels-idx1-ubyte; "
              "install dataset-fashion-mnist or give idx:DIR");
    write_plain(folder.path() / "train-images-idx3-ubyte", image_bytes(1, 2, 2));
    CHECK(
        folder_error(folder.path(), ErrorCode::kNotFound) ==
        folder.path().string() +
            ": no training labels: no name there ends in train-labels-idx1-ubyte (dots for dashes, test for "
            "t10k and .gz are fine too); the folder holds train-images-idx3-ubyte; give idx:DIR with the "
            "four "
            "files of MNIST's format");
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
    CHECK(read.error().message == folder.path().string() + " is a folder where a file is expected");
  }

  TEST_CASE("a file cut at any length is refused with the bytes found and expected") {
    const Bytes whole = image_bytes(2, 3, 5);
    for (size_t length = 1; length < whole.size(); ++length) {
      CAPTURE(length);
      const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
      const std::string expected =
          length < 16
              ? "holds " + std::to_string(length) + " bytes, less than the " + (length < 4 ? "4" : "16") +
                    "-byte header of an IDX image file; fetch it again"
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

  TEST_CASE("what cannot be used is named by its type and dimensions") {
    Bytes bytes = image_bytes(2, 3, 5);
    CHECK(label_error(bytes) == "holds uint8 2 x 3 x 5, expected one label for each example, in 1 dimension");
    CHECK(label_error(array_bytes(0x0B, {2, 3}, Bytes(12))) ==
          "holds int16 2 x 3, expected one label for each example, in 1 dimension; where each row marks its "
          "class "
          "(one-hot), store the number of the class");
    CHECK(image_error(label_bytes(Bytes(20, 1)), false) ==
          "holds uint8 20, expected images in 3 dimensions (N x rows x columns), 4 (N x channels x rows x "
          "columns) "
          "or 2 (N x features)");
    CHECK(
        image_error(array_bytes(0x0A, {2, 2, 2}, Bytes(8)), false) ==
        "announces elements of type 0x0A in 3 dimension(s); IDX has uint8 (0x08), int8 (0x09), int16 (0x0B), "
        "int32 (0x0C), float32 (0x0D) and float64 (0x0E)");
    CHECK(image_error(array_bytes(0x0D, {1, 1, 1, 1, 1}, Bytes(4)), false) ==
          "announces float32 in 5 dimensions, expected 1 to 4");
    CHECK(image_error(array_bytes(0x08, {}, {}), false) ==
          "announces uint8 in 0 dimensions, expected 1 to 4");
    bytes[11] = 0;
    CHECK(image_error(bytes, false) ==
          "its header announces uint8 2 x 0 x 5, expected 1..16384 in each direction");
    bytes = image_bytes(2, 3, 5);
    bytes[13] = 1;
    CHECK(image_error(bytes, false) ==
          "its header announces uint8 2 x 3 x 65541, expected 1..16384 in each direction");
    CHECK(image_error(array_bytes(0x08, {1, 16384, 16384, 2}, {}), false) ==
          "its header announces uint8 1 x 16384 x 16384 x 2, expected at most 268,435,456 values in an "
          "example");
    CHECK(image_error(image_bytes(0, 3, 5), false) == "its header announces no examples");
    CHECK(image_error({1, 2, 3, 4, 5}, false) ==
          "begins with 0x01020304, expected 0x0000TTDD of an IDX image file (TT the type of its elements, DD "
          "the "
          "number of its dimensions)");
  }

  TEST_CASE("labels of every element type are the same labels") {
    const std::vector<std::pair<int, Bytes>> files = {
        {0x08, {3, 0, 9}},
        {0x09, {3, 0, 9}},
        {0x0B, {0, 3, 0, 0, 0, 9}},
        {0x0C, {0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9}},
        {0x0D, {0x40, 0x40, 0, 0, 0, 0, 0, 0, 0x41, 0x10, 0, 0}},
        {0x0E, {0x40, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x22, 0, 0, 0, 0, 0, 0}}};
    const TemporaryFolder folder("tandem-idx");
    for (const auto& [type, values] : files) {
      for (const bool column : {false, true}) {
        CAPTURE(type);
        CAPTURE(column);
        write_plain(folder.path() / "labels",
                    column ? array_bytes(type, {3, 1}, values) : array_bytes(type, {3}, values));
        const auto read = read_idx_labels(folder.path() / "labels");
        REQUIRE_MESSAGE(read.has_value(), (read ? "" : read.error().message));
        CHECK(torch::equal(*read, torch::tensor({3, 0, 9}, torch::kLong)));
      }
    }
    CHECK(label_error(array_bytes(0x0D, {2}, {0x40, 0x40, 0, 0, 0x3F, 0, 0, 0})) ==
          "the label of example 1 (counted from 0) is 0.5; labels are whole numbers, one for each class");
    CHECK(label_error(array_bytes(0x0D, {1}, {0x7F, 0xC0, 0, 0})).find("(counted from 0) is nan; labels") !=
          std::string::npos);
  }

  TEST_CASE("images of every element type keep their values, and only unsigned bytes stay bytes") {
    const TemporaryFolder folder("tandem-idx");
    const auto read = [&](int type, const std::vector<uint32_t>& sizes, const Bytes& values) {
      write_gzip(folder.path() / "images", array_bytes(type, sizes, values));
      const auto images = read_idx_images(folder.path() / "images");
      REQUIRE_MESSAGE(images.has_value(), (images ? "" : images.error().message));
      return *images;
    };
    CHECK((read(0x08, {1, 1, 2}, {0xFF, 0x02}).scalar_type() == at::kByte));
    const auto check = [&](const at::Tensor& images, float first, float second) {
      CHECK((images.scalar_type() == at::kFloat));
      CHECK(torch::equal(images.view({-1}), torch::tensor({first, second})));
    };
    check(read(0x09, {1, 1, 2}, {0xFF, 0x02}), -1, 2);
    check(read(0x0B, {1, 1, 2}, {0xFF, 0xFE, 0x01, 0x00}), -2, 256);
    check(read(0x0C, {1, 1, 2}, {0xFF, 0xFF, 0xFF, 0xFD, 0x00, 0x01, 0x00, 0x00}), -3, 65536);
    check(read(0x0D, {1, 1, 2}, {0x3F, 0x80, 0, 0, 0xBF, 0, 0, 0}), 1, -0.5);
    check(read(0x0E, {1, 1, 2}, {0x3F, 0xF8, 0, 0, 0, 0, 0, 0, 0xC0, 0, 0, 0, 0, 0, 0, 0}), 1.5, -2);
  }

  TEST_CASE("two dimensions are features, three are gray images, four have channels") {
    const TemporaryFolder folder("tandem-idx");
    write_plain(folder.path() / "train-labels-idx1-ubyte", label_bytes({0, 1}));
    const auto shape = [&](const std::vector<uint32_t>& sizes) {
      write_plain(folder.path() / "train-images-idx3-ubyte", array_bytes(0x08, sizes, Bytes(24, 51)));
      const auto read = read_idx(folder.path(), Split::kTrain);
      REQUIRE_MESSAGE(read.has_value(), (read ? "" : read.error().message));
      CHECK(((*read)->inputs().scalar_type() == at::kByte));
      return (*read)->describe().input_shape;
    };
    CHECK(shape({2, 12}) == std::vector<int64_t>{12});
    CHECK(shape({2, 3, 4}) == std::vector<int64_t>{1, 3, 4});
    CHECK(shape({2, 3, 2, 2}) == std::vector<int64_t>{3, 2, 2});
  }

  TEST_CASE("values that training cannot use are named with their place") {
    const Bytes nan = {0x7F, 0xC0, 0, 0};
    Bytes values(4 * 4 * 2, 0);
    std::copy(nan.begin(), nan.end(), values.begin() + 4 * 5);
    CHECK(image_error(array_bytes(0x0D, {2, 2, 2}, values), false) ==
          "value 1 of example 1 (both counted from 0) is nan; training needs finite values");
    const Bytes huge = {0x7E, 0x37, 0xE4, 0x3C, 0x88, 0x00, 0x75, 0x9C};
    CHECK(image_error(array_bytes(0x0E, {1, 1}, huge), false) ==
          "value 0 of example 0 (both counted from 0) is 1e+300, beyond what float32 holds");
  }

  TEST_CASE("a file that is something else is called by its name") {
    const TemporaryFolder folder("tandem-idx");
    const fs::path file = folder.path() / "train-images-idx3-ubyte.gz";
    const auto error_of = [&](const std::string& text, bool gzip) {
      const Bytes bytes(text.begin(), text.end());
      gzip ? write_gzip(file, bytes) : write_plain(file, bytes);
      const auto read = read_idx_images(file);
      REQUIRE_FALSE(read.has_value());
      CHECK(read.error().code == ErrorCode::kCorrupt);
      return read.error().message;
    };
    for (const bool gzip : {false, true}) {
      CHECK(error_of("<!DOCTYPE html>\n<html><head><title>404</title></head></html>", gzip) ==
            file.string() +
                " is an HTML page, not an IDX image file; the server sent it in place of the file: check the "
                "address "
                "and fetch it again");
    }
    CHECK(error_of("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", false)
              .find(" is a Git LFS pointer, not an IDX image file") != std::string::npos);
    CHECK(error_of("", false) == file.string() + " is an empty file, not an IDX image file; fetch it again");
    // Packed twice.
    write_gzip(file, image_bytes(2, 3, 5));
    const Bytes once = read_bytes(file);
    CHECK(error_of(std::string(once.begin(), once.end()), true) ==
          file.string() + " is gzip data, not an IDX image file; unpack it first");
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
