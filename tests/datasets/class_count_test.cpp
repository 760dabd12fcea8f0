#include "tandem/datasets/class_count.h"

#include <string>
#include <vector>

#include "support/test.h"

namespace {

using tandem::ErrorCode;
using tandem::datasets::count_classes;

at::Tensor tensor_of(const std::vector<int64_t>& labels) {
  return torch::tensor(labels, torch::kLong);
}

/// `per_class` examples of each of the classes from `first` up to but not including `end`.
std::vector<int64_t> classes(int64_t first, int64_t end, int per_class) {
  std::vector<int64_t> labels;
  for (int i = 0; i < per_class; ++i) {
    for (int64_t label = first; label < end; ++label) labels.push_back(label);
  }
  return labels;
}

std::string error_of(const std::vector<int64_t>& labels, int64_t declared = 0) {
  const auto counted = count_classes(tensor_of(labels), declared, "FILE");
  REQUIRE_FALSE(counted.has_value());
  CHECK(counted.error().code == ErrorCode::kCorrupt);
  return counted.error().message;
}

tandem::datasets::ClassCount count_of(const std::vector<int64_t>& labels, int64_t declared = 0) {
  const auto counted = count_classes(tensor_of(labels), declared, "FILE");
  REQUIRE_MESSAGE(counted.has_value(), (counted ? "" : counted.error().message));
  return *counted;
}

}  // namespace

TEST_SUITE("datasets/class_count") {
  TEST_CASE("the largest label says how many classes there are, at least two") {
    for (const auto& [labels, expected] : std::vector<std::pair<std::vector<int64_t>, int64_t>>{
             {{0, 0, 0}, 2}, {{0, 1, 2, 1}, 3}, {classes(5, 10, 3), 10}, {classes(0, 100, 1), 100}}) {
      const auto count = count_of(labels);
      CHECK(count.classes == expected);
      CHECK(count.warning == "");
    }
  }

  TEST_CASE("one label far above the others is refused with its place and a way out") {
    std::vector<int64_t> labels = classes(0, 10, 10);
    labels[37] = 255;
    CHECK(
        error_of(labels) ==
        "FILE: label 255 of example 37 (counted from 0) is far from all the others, which go up to 9: it "
        "would make "
        "a model of 256 classes; correct the labels, or say how many classes there are: idx:DIR,classes=256");
    labels[12] = 200;
    CHECK(error_of(labels).find("label 200 of example 12") != std::string::npos);
    // Who says so may have it.
    CHECK(count_of(labels, 256).classes == 256);
    CHECK(count_of(labels, 256).warning == "");
  }

  TEST_CASE("a device that holds few of many classes is believed, with a warning") {
    const auto one = count_of({61, 61, 61});
    CHECK(one.classes == 62);
    CHECK(one.warning ==
          "FILE: label 61 of example 0 (counted from 0) makes 62 classes, and 61 of them have no example "
          "here; where "
          "that is not meant, correct the labels, or say how many classes there are: idx:DIR,classes=62");
    CHECK(count_of({0, 1, 61, 0, 1, 61}).classes == 62);
    CHECK(count_of({9, 4, 9}).warning.find("label 9 of example 0") != std::string::npos);
    // Near enough to be a class that is rare here.
    std::vector<int64_t> labels = classes(0, 10, 10);
    labels[0] = 18;
    CHECK(count_of(labels).classes == 19);
  }

  TEST_CASE("a label that is no class number is refused") {
    CHECK(error_of({0, 1, -1, -1}) ==
          "FILE: label -1 of example 2 (counted from 0) is negative; labels are class numbers from 0");
    CHECK(error_of({0, 2'000'000'000}) ==
          "FILE: label 2000000000 of example 1 (counted from 0) is outside 0..999999; labels are class "
          "numbers from "
          "0");
  }

  TEST_CASE("a number of classes that was given is kept, and checked") {
    CHECK(count_of({0, 1}, 10).classes == 10);
    CHECK(count_of({9}, 10).warning == "");
    CHECK(error_of({0, 3, 10}, 10) ==
          "FILE: label 10 of example 2 (counted from 0) is outside 0..9 of classes=10");
  }
}
