#include "tandem/aggregator/tail/smashed_data.h"

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};

/// Of one example: three floats and a label.
constexpr int64_t kExample = 3 * 4 + 8;

/// A batch of `examples` whose values are all `value`.
void keep(SmashedData& data, const ClientId& client, int64_t examples, int64_t value) {
  data.keep(client, at::full({examples, 3}, static_cast<double>(value)),
            at::full({examples}, value, at::kLong));
}

/// The value of each batch that is kept.
std::vector<int64_t> kept(const SmashedData& data) {
  std::vector<int64_t> values;
  for (const SmashedBatch& batch : data.batches({kAnn, kBob})) {
    REQUIRE(batch.activations.size(0) == batch.labels.size(0));
    CHECK(batch.activations.eq(batch.labels[0]).all().item<bool>());
    values.push_back(batch.labels[0].item<int64_t>());
  }
  return values;
}

}  // namespace

TEST_SUITE("aggregator/tail/smashed_data") {
  TEST_CASE("each client's newest batches are kept, as many as its share has room for") {
    SmashedData data(8 * kExample, 2);
    CHECK(data.empty());
    for (const int64_t value : {1, 2, 3, 4}) keep(data, kAnn, 2, value);
    CHECK(kept(data) == std::vector<int64_t>{3, 4});
    // A second batch of three does not fit into a share of four.
    for (const int64_t value : {5, 6, 7}) keep(data, kBob, 3, value);
    CHECK(kept(data) == std::vector<int64_t>{3, 4, 7});
    CHECK_FALSE(data.empty());
    CHECK(data.batches({kAnn}).size() == 2);
    CHECK(data.batches({{"carl"}}).empty());
  }

  TEST_CASE("what is kept does not depend on the order in which clients' batches arrive") {
    SmashedData in_turn(8 * kExample, 2), mixed(8 * kExample, 2);
    for (const int64_t value : {1, 2, 3}) keep(in_turn, kAnn, 2, value);
    for (const int64_t value : {5, 6, 7}) keep(in_turn, kBob, 2, value);
    for (const int64_t value : {1, 2, 3}) {
      keep(mixed, kBob, 2, value + 4);
      keep(mixed, kAnn, 2, value);
    }
    CHECK(kept(in_turn) == std::vector<int64_t>{2, 3, 6, 7});
    CHECK(kept(mixed) == kept(in_turn));
  }

  TEST_CASE("a client's newest batch is kept though it is larger than its share, or the share is nothing") {
    SmashedData data(1, 2);
    keep(data, kAnn, 5, 1);
    keep(data, kAnn, 5, 2);
    CHECK(kept(data) == std::vector<int64_t>{2});
  }

  TEST_CASE("copies are kept, in the memory format in which they came") {
    SmashedData data(1 << 20, 1);
    at::Tensor activations = at::ones({2, 3, 4, 4}).contiguous(at::MemoryFormat::ChannelsLast);
    at::Tensor labels = at::ones({2}, at::kLong);
    data.keep(kAnn, activations, labels);
    activations.fill_(9);
    labels.fill_(9);
    const SmashedBatch batch = data.batches({kAnn}).at(0);
    CHECK(batch.activations.eq(1).all().item<bool>());
    CHECK(batch.labels.eq(1).all().item<bool>());
    CHECK(batch.activations.is_contiguous(at::MemoryFormat::ChannelsLast));
  }

  TEST_CASE("what a checkpoint keeps gives the same batches, and goes on with the same share") {
    SmashedData before(8 * kExample, 2), after(8 * kExample, 2);
    for (const int64_t value : {1, 2, 3}) keep(before, kAnn, 2, value);
    keep(before, kBob, 3, 4);
    NamedTensors tensors = {{"0.weight", at::zeros({1})}};
    const nlohmann::json state = before.state(tensors);
    REQUIRE(after.load_state(state, tensors).has_value());
    CHECK(kept(after) == std::vector<int64_t>{2, 3, 4});
    for (SmashedData* data : {&before, &after}) keep(*data, kAnn, 2, 5);
    CHECK(kept(after) == kept(before));
  }

  TEST_CASE("a checkpoint without a batch that it counts is refused, and the client named") {
    SmashedData before(8 * kExample, 2), after(8 * kExample, 2);
    keep(before, kAnn, 2, 1);
    keep(before, kBob, 2, 2);
    NamedTensors tensors;
    const nlohmann::json state = before.state(tensors);
    tensors.pop_back();
    const auto loaded = after.load_state(state, tensors);
    REQUIRE_FALSE(loaded.has_value());
    CHECK((loaded.error().code == ErrorCode::kCorrupt));
    CHECK(loaded.error().message == "the checkpoint lacks smashed data of bob");
  }
}
