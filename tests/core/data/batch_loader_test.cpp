#include "tandem/core/data/batch_loader.h"

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/test.h"
#include "tandem/core/base/random.h"

namespace {

using tandem::Batch;
using tandem::BatchLoader;
using tandem::BatchLoaderOptions;
using tandem::RandomPurpose;

/// Example i is the vector (i, 2i) with label i mod 3. A hook runs at the beginning of every get().
class CountingDataset : public tandem::Dataset {
 public:
  explicit CountingDataset(int64_t size) : size_(size) {}

  tandem::DataDescription describe() const override { return {{2}, 3, size_}; }

  Batch get(std::span<const int64_t> indices) const override {
    ++calls;
    if (hook) hook(indices);
    const auto n = static_cast<int64_t>(indices.size());
    Batch batch{torch::empty({n, 2}), torch::empty({n}, torch::kLong)};
    for (int64_t i = 0; i < n; ++i) {
      const int64_t example = indices[static_cast<size_t>(i)];
      batch.inputs[i][0] = static_cast<float>(example);
      batch.inputs[i][1] = static_cast<float>(2 * example);
      batch.labels[i] = example % 3;
    }
    return batch;
  }

  std::function<void(std::span<const int64_t>)> hook;
  mutable std::atomic<int> calls{0};

 private:
  int64_t size_;
};

/// Puts a number drawn from the example's seed into the second column.
class SeedAugmenter : public tandem::Augmenter {
 public:
  at::Tensor augment(const at::Tensor& inputs, std::span<const uint64_t> seeds) const override {
    at::Tensor output = inputs.clone();
    for (size_t i = 0; i < seeds.size(); ++i) {
      output[static_cast<int64_t>(i)][1] = static_cast<float>(tandem::SplitMix64(seeds[i]).uniform());
    }
    return output;
  }
  at::Tensor prepare(const at::Tensor& inputs) const override { return inputs.clone(); }
};

const SeedAugmenter kAugmenter;
constexpr uint64_t kSeed = 11;
constexpr uint64_t kClient = 77;

BatchLoaderOptions options(int prefetch) {
  return {.run_seed = kSeed, .client_hash = kClient, .prefetch = prefetch};
}

/// What stands at `position` of the client's sequence, by the documented rule.
struct Expected {
  int64_t example;
  float drawn;
};

Expected expected_at(uint64_t position, int64_t n) {
  const uint64_t epoch = position / static_cast<uint64_t>(n);
  const std::vector<int64_t> order =
      tandem::random_permutation(n, tandem::derive_seed(kSeed, RandomPurpose::kShuffle, {kClient, epoch}));
  const int64_t example = order[position % static_cast<uint64_t>(n)];
  const uint64_t seed =
      tandem::derive_seed(kSeed, RandomPurpose::kAugment, {kClient, epoch, static_cast<uint64_t>(example)});
  return {example, static_cast<float>(tandem::SplitMix64(seed).uniform())};
}

void check_batch(const Batch& batch, uint64_t position, int64_t n) {
  REQUIRE(batch.inputs.size(0) == batch.labels.size(0));
  for (int64_t i = 0; i < batch.inputs.size(0); ++i) {
    const Expected expected = expected_at(position + static_cast<uint64_t>(i), n);
    CAPTURE(position);
    CAPTURE(i);
    CHECK(batch.inputs[i][0].item<float>() == static_cast<float>(expected.example));
    CHECK(batch.inputs[i][1].item<float>() == expected.drawn);
    CHECK(batch.labels[i].item<int64_t>() == expected.example % 3);
  }
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& thrown) {
    return thrown.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_SUITE("core/data/batch_loader") {
  TEST_CASE("batches follow the documented sequence, across epochs, with and without a thread") {
    const CountingDataset dataset(10);
    for (const int prefetch : {0, 1, 2, 8}) {
      CAPTURE(prefetch);
      BatchLoader loader(dataset, kAugmenter, options(prefetch));
      const std::vector<uint32_t> sizes{4, 4, 4, 1, 25, 3};  // the third and the fifth straddle epochs
      loader.start(0, sizes);
      uint64_t position = 0;
      for (const uint32_t size : sizes) {
        const Batch batch = loader.next();
        REQUIRE(batch.inputs.size(0) == static_cast<int64_t>(size));
        check_batch(batch, position, 10);
        position += size;
      }
    }
  }

  TEST_CASE("one epoch shows every example once and the next in another order") {
    const CountingDataset dataset(50);
    BatchLoader loader(dataset, kAugmenter, options(2));
    loader.start(0, {50, 50});
    std::vector<std::vector<float>> epochs;
    for (int epoch = 0; epoch < 2; ++epoch) {
      const at::Tensor first = loader.next().inputs.select(1, 0).contiguous();
      const float* values = first.data_ptr<float>();
      epochs.emplace_back(values, values + 50);
      CHECK(std::set<float>(values, values + 50).size() == 50);
    }
    CHECK(epochs[0] != epochs[1]);
  }

  TEST_CASE("an example is augmented anew in each epoch, but alike wherever its epoch is entered") {
    const CountingDataset dataset(1);
    BatchLoader loader(dataset, kAugmenter, options(0));
    loader.start(0, {1, 1});
    const float first = loader.next().inputs[0][1].item<float>();
    const float second = loader.next().inputs[0][1].item<float>();
    CHECK(first != second);
    loader.start(1, {1});
    CHECK(loader.next().inputs[0][1].item<float>() == second);
  }

  TEST_CASE("starting in the middle yields what passing through would have") {
    const CountingDataset dataset(7);
    for (const int prefetch : {0, 2}) {
      BatchLoader loader(dataset, kAugmenter, options(prefetch));
      loader.start(1'000'003, {5, 5});
      check_batch(loader.next(), 1'000'003, 7);
      check_batch(loader.next(), 1'000'008, 7);
      loader.start(2, {3});  // and back
      check_batch(loader.next(), 2, 7);
    }
  }

  TEST_CASE("clients and runs have orders of their own") {
    const CountingDataset dataset(100);
    const auto order = [&](uint64_t run, uint64_t client) {
      BatchLoader loader(dataset, kAugmenter, {.run_seed = run, .client_hash = client, .prefetch = 0});
      loader.start(0, {100});
      return loader.next().inputs.select(1, 0).clone();
    };
    CHECK(torch::equal(order(1, 2), order(1, 2)));
    CHECK_FALSE(torch::equal(order(1, 2), order(1, 3)));
    CHECK_FALSE(torch::equal(order(1, 2), order(2, 2)));
  }

  TEST_CASE("a size of zero yields an empty batch and asks the data set for nothing") {
    const CountingDataset dataset(4);
    for (const int prefetch : {0, 2}) {
      dataset.calls = 0;
      BatchLoader loader(dataset, kAugmenter, options(prefetch));
      loader.start(0, {0, 0});
      for (int i = 0; i < 2; ++i) {
        const Batch batch = loader.next();
        CHECK(batch.inputs.sizes() == at::IntArrayRef({0, 2}));
        CHECK((batch.inputs.scalar_type() == at::kFloat));
        CHECK(batch.labels.sizes() == at::IntArrayRef({0}));
        CHECK((batch.labels.scalar_type() == at::kLong));
      }
      CHECK(dataset.calls == 0);
      loader.start(0, {2, 0, 2});
      check_batch(loader.next(), 0, 4);
      CHECK(loader.next().labels.size(0) == 0);
      check_batch(loader.next(), 2, 4);
    }
  }

  TEST_CASE("next past the last batch is refused and does not spoil the loader") {
    const CountingDataset dataset(4);
    for (const int prefetch : {0, 2}) {
      BatchLoader loader(dataset, kAugmenter, options(prefetch));
      CHECK(message_of([&] { loader.next(); }) == "BatchLoader::next called after the last of 0 batches");
      loader.start(0, {2});
      loader.next();
      CHECK_THROWS_AS(loader.next(), std::logic_error);
      CHECK(message_of([&] { loader.next(); }) == "BatchLoader::next called after the last of 1 batches");
      loader.start(2, {2});
      check_batch(loader.next(), 2, 4);
    }
  }

  TEST_CASE("what the data set throws comes out of next, after the batches before it, until a new start") {
    CountingDataset dataset(8);
    for (const int prefetch : {0, 1, 4}) {
      CAPTURE(prefetch);
      dataset.calls = 0;
      dataset.hook = [&](std::span<const int64_t>) {
        if (dataset.calls == 3) throw std::runtime_error("the card was pulled out");
      };
      BatchLoader loader(dataset, kAugmenter, options(prefetch));
      loader.start(0, {2, 2, 2, 2});
      check_batch(loader.next(), 0, 8);
      check_batch(loader.next(), 2, 8);
      CHECK(message_of([&] { loader.next(); }) == "the card was pulled out");
      CHECK(message_of([&] { loader.next(); }) == "the card was pulled out");
      CHECK(dataset.calls == 3);
      loader.start(4, {2});
      check_batch(loader.next(), 4, 8);
    }
  }

  TEST_CASE("the thread prepares no more than `prefetch` batches ahead") {
    CountingDataset dataset(100);
    std::promise<void> third;
    dataset.hook = [&](std::span<const int64_t>) {
      if (dataset.calls == 3) third.set_value();
    };
    BatchLoader loader(dataset, kAugmenter, options(3));
    loader.start(0, std::vector<uint32_t>(20, 5));
    third.get_future().wait();  // ahead of any demand
    for (int taken = 1; taken <= 20; ++taken) {
      loader.next();
      CHECK(dataset.calls <= taken + 3);
    }
    CHECK(dataset.calls == 20);
  }

  TEST_CASE("start while the thread is busy returns at once and drops the batch in preparation") {
    CountingDataset dataset(10);
    std::promise<void> entered;
    std::promise<void> release;
    std::shared_future<void> released = release.get_future().share();
    dataset.hook = [&](std::span<const int64_t>) {
      if (dataset.calls == 1) {
        entered.set_value();
        released.wait();
      }
    };
    BatchLoader loader(dataset, kAugmenter, options(2));
    loader.start(0, {3, 3, 3});
    entered.get_future().wait();
    loader.start(20, {4});  // the thread is still inside the first get()
    release.set_value();
    check_batch(loader.next(), 20, 10);
    CHECK(dataset.calls == 2);
    CHECK_THROWS_AS(loader.next(), std::logic_error);
  }

  TEST_CASE("a failure of dropped work does not reach the new sequence") {
    CountingDataset dataset(10);
    std::promise<void> entered;
    std::promise<void> release;
    std::shared_future<void> released = release.get_future().share();
    dataset.hook = [&](std::span<const int64_t>) {
      if (dataset.calls != 1) return;
      entered.set_value();
      released.wait();
      throw std::runtime_error("too late to matter");
    };
    BatchLoader loader(dataset, kAugmenter, options(2));
    loader.start(0, {3});
    entered.get_future().wait();
    loader.start(0, {2});
    release.set_value();
    check_batch(loader.next(), 0, 10);
  }

  TEST_CASE("many restarts in a row leave only the last sequence") {
    const CountingDataset dataset(10);
    BatchLoader loader(dataset, kAugmenter, options(2));
    for (uint64_t round = 0; round < 300; ++round) {
      loader.start(round * 3, {3, 3, 3});
      if (round % 3 == 0) continue;
      const Batch batch = loader.next();
      REQUIRE(batch.inputs[0][0].item<float>() == static_cast<float>(expected_at(round * 3, 10).example));
    }
  }

  TEST_CASE("destruction with work left neither waits for it nor leaks the thread") {
    CountingDataset dataset(10);
    {
      BatchLoader loader(dataset, kAugmenter, options(2));
      loader.start(0, std::vector<uint32_t>(1'000'000, 5));
      loader.next();
    }
    CHECK(dataset.calls <= 4);
    { BatchLoader never_started(dataset, kAugmenter, options(2)); }
  }

  TEST_CASE("the preparing thread runs one intra-op thread and leaves everyone else's count alone") {
    const int before = at::get_num_threads();
    at::set_num_threads(2);
    CountingDataset dataset(4);
    std::atomic<int> inside{0};
    std::atomic<bool> other_thread{false};
    const auto owner = std::this_thread::get_id();
    dataset.hook = [&](std::span<const int64_t>) {
      inside = at::get_num_threads();
      other_thread = std::this_thread::get_id() != owner;
    };
    BatchLoader loader(dataset, kAugmenter, options(1));
    loader.start(0, {4});
    loader.next();
    CHECK(inside == 1);
    CHECK(other_thread);
    CHECK(at::get_num_threads() == 2);
    int later_thread = 0;
    std::thread([&] { later_thread = at::get_num_threads(); }).join();
    CHECK(later_thread == 2);
    at::set_num_threads(before);
  }

  TEST_CASE("options and data sets that cannot work are refused") {
    const CountingDataset dataset(4);
    const CountingDataset empty(0);
    CHECK(message_of([&] { BatchLoader(dataset, kAugmenter, options(-1)); }) ==
          "BatchLoaderOptions.prefetch must be >= 0, got -1");
    CHECK(message_of([&] { BatchLoader(empty, kAugmenter, options(2)); }) ==
          "BatchLoader: the data set has no examples");
  }
}
