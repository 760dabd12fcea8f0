#include "tandem/core/training/block_merge.h"

#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/test.h"

using namespace tandem;

namespace {

NamedTensor block(int index, float value) {
  return {std::to_string(index) + ".weight", at::full({2}, value)};
}

float value_of(const NamedTensors& tensors, int index) {
  return find_tensor(tensors, std::to_string(index) + ".weight")->index({0}).item<float>();
}

}  // namespace

TEST_SUITE("block merge") {
  TEST_CASE("each block is the mean of its copies by the examples of each") {
    BlockMerge merge({block(0, 0), block(1, 0), block(2, 0)}, {1, 2});
    REQUIRE(merge.add({"ann"}, 0, 1, {block(0, 1)}, 1));
    REQUIRE(merge.add({"bob"}, 0, 2, {block(0, 3), block(1, 5)}, 2));
    REQUIRE(merge.add({"aggregator"}, 1, 2, {block(1, 8)}, 1));
    const NamedTensors merged = merge.merged();
    CHECK(merged.size() == 2);  // nobody has a copy of the third
    CHECK(value_of(merged, 0) == static_cast<float>(7.0 / 3));
    CHECK(value_of(merged, 1) == 6);
  }

  TEST_CASE("a single copy is left as it is, to the bit") {
    const at::Tensor odd = at::rand({1000}) * 1e-3;
    BlockMerge merge({{"0.weight", odd}}, {1});
    REQUIRE(merge.add({"ann"}, 0, 1, {{"0.weight", odd}}, 123'457));
    CHECK(at::equal(merge.merged()[0].tensor, odd));
  }

  TEST_CASE("copies of the same blocks: as FederatedAverage, to the bit") {
    const auto copy = [] {
      return NamedTensors{
          {"0.weight", at::rand({50})}, {"3.bias", at::randn({7})}, {"3.count", at::tensor(int64_t{4})}};
    };
    const NamedTensors a = copy(), b = copy();
    FederatedAverage average(a);
    BlockMerge merge(a, {2});
    for (const auto& [name, weights, examples] :
         {std::tuple{"ann", a, uint64_t{13}}, std::tuple{"bob", b, uint64_t{40}}}) {
      REQUIRE(average.add({name}, weights, examples));
      REQUIRE(merge.add({name}, 0, 4, weights, examples));
    }
    const NamedTensors expected = average.mean(), merged = merge.merged();
    REQUIRE(merged.size() == expected.size());
    for (size_t i = 0; i < merged.size(); ++i) CHECK(at::equal(merged[i].tensor, expected[i].tensor));
  }

  TEST_CASE("a copy that does not fit leaves no trace, and is named") {
    BlockMerge merge({block(0, 0), block(1, 0)}, {1});
    REQUIRE(merge.add({"ann"}, 0, 2, {block(0, 1), block(1, 1)}, 1));
    const auto refused = [&](const NamedTensors& copy, ErrorCode code) {
      const auto added = merge.add({"bob"}, 0, 2, copy, 5);
      REQUIRE_FALSE(added);
      CHECK(added.error().code == code);
      CHECK(added.error().message.find("bob") != std::string::npos);
    };
    refused({block(0, 2), {"1.weight", at::ones({3})}}, ErrorCode::kShapeMismatch);
    refused({block(0, 2), {"1.other", at::ones({2})}}, ErrorCode::kShapeMismatch);
    refused({block(1, 2), block(0, 2)}, ErrorCode::kShapeMismatch);
    refused({block(0, 2)}, ErrorCode::kShapeMismatch);  // of one block, where it is to hold two
    refused({block(0, 2), block(1, std::numeric_limits<float>::quiet_NaN())}, ErrorCode::kNonFinite);
    CHECK(value_of(merge.merged(), 0) == 1);
    CHECK_THROWS_AS((void)merge.add({"bob"}, 0, 1, {block(0, 2)}, 0), std::invalid_argument);
  }
}
