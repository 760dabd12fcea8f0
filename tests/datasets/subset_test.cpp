#include "tandem/datasets/subset.h"

#include <memory>
#include <string>
#include <vector>

#include "support/test.h"

namespace {

using tandem::Batch;
using tandem::datasets::copy_examples;
using tandem::datasets::read_labels;
using tandem::datasets::Subset;
using tandem::datasets::TensorDataset;

/// Example i holds the value i and the label i mod 7.
std::shared_ptr<const TensorDataset> numbered(int64_t size) {
  return std::make_shared<TensorDataset>(torch::arange(size, torch::kFloat).view({size, 1}),
                                         torch::arange(size, torch::kLong).remainder(7), 7);
}

}  // namespace

TEST_SUITE("datasets/subset") {
  TEST_CASE("a subset shows the chosen examples under new numbers and keeps the number of classes") {
    const Subset subset(numbered(20), {13, 2, 13});
    CHECK(subset.describe() == tandem::DataDescription{{1}, 7, 3});
    const Batch batch = subset.get(std::vector<int64_t>{1, 0});
    CHECK(torch::equal(batch.inputs, torch::tensor({{2.0f}, {13.0f}})));
    CHECK(torch::equal(batch.labels, torch::tensor({2, 6}, torch::kLong)));
  }

  TEST_CASE("numbers outside are refused") {
    CHECK_THROWS_WITH_AS(Subset(numbered(5), {4, 5}), "Subset: example 5 is outside 0..4",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(Subset(nullptr, {}), "Subset: no data set", std::invalid_argument);
    const Subset subset(numbered(5), {4});
    CHECK_THROWS_WITH_AS(subset.get(std::vector<int64_t>{1}), "Subset: example 1 is outside 0..0",
                         std::invalid_argument);
  }

  TEST_CASE("copied examples do not keep the rest alive") {
    auto whole = numbered(1000);
    const std::weak_ptr<const TensorDataset> watched = whole;
    const auto copy = copy_examples(*whole, std::vector<int64_t>{999, 3});
    whole.reset();
    CHECK(watched.expired());
    CHECK(copy->describe() == tandem::DataDescription{{1}, 7, 2});
    CHECK(copy->inputs().storage().nbytes() == 2 * sizeof(float));
    CHECK(torch::equal(copy->labels(), torch::tensor({5, 3}, torch::kLong)));
  }

  TEST_CASE("read_labels gives every label in order, from memory and through a subset") {
    const auto whole = numbered(2500);
    std::vector<int64_t> backwards;
    for (int64_t i = 2499; i >= 0; --i) backwards.push_back(i);
    const std::vector<int64_t> direct = read_labels(*whole);
    const std::vector<int64_t> through = read_labels(Subset(whole, backwards));
    REQUIRE(direct.size() == 2500);
    REQUIRE(through.size() == 2500);
    for (size_t i = 0; i < 2500; ++i) {
      REQUIRE(direct[i] == static_cast<int64_t>(i % 7));
      REQUIRE(through[i] == static_cast<int64_t>((2499 - i) % 7));
    }
  }
}
