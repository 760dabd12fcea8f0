#include "tandem/core/training/example_pool.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "tandem/core/base/random.h"

namespace tandem {
namespace {

constexpr int64_t kMaxMinimumBatch = 1024;

struct Share {
  int64_t remaining;
  int64_t taken = 0;
};

/// The share that holds the example number `position` of all that remain.
Share& share_at(std::vector<Share>& shares, int64_t position) {
  for (Share& share : shares) {
    if (position < share.remaining) return share;
    position -= share.remaining;
  }
  throw std::logic_error("ExamplePool: position past the last example");
}

/// How many a client that was picked gives: one, but the minimum on its first pick, and all of what would
/// otherwise be left below the minimum.
int64_t pick_size(const Share& share, int64_t minimum) {
  const int64_t size = share.taken == 0 ? minimum : 1;
  return share.remaining - size < minimum ? share.remaining : size;
}

}  // namespace

ExamplePool::ExamplePool(uint64_t run_seed, uint32_t minimum_batch)
    : run_seed_(run_seed), minimum_batch_(minimum_batch) {
  if (minimum_batch_ < 1 || minimum_batch_ > kMaxMinimumBatch) {
    throw std::invalid_argument("ExamplePool: minimum_batch must be 1..1024, got " +
                                std::to_string(minimum_batch));
  }
}

void ExamplePool::refill(const std::map<ClientId, int64_t>& examples) {
  std::map<ClientId, int64_t> filled;
  for (const auto& [client, count] : examples) {
    if (count < 0) {
      throw std::invalid_argument("ExamplePool.refill: client " + client.name + " cannot have " +
                                  std::to_string(count) + " examples");
    }
    if (count >= minimum_batch_) filled.emplace(client, count);
  }
  state_.remaining = std::move(filled);
}

int64_t ExamplePool::remaining() const {
  int64_t total = 0;
  for (const auto& [client, count] : state_.remaining) total += count;
  return total;
}

std::map<ClientId, uint32_t> ExamplePool::draw(uint32_t batch_size) {
  if (batch_size == 0) throw std::invalid_argument("ExamplePool.draw: batch_size must be >= 1, got 0");
  SplitMix64 random(derive_seed(run_seed_, RandomPurpose::kBatchDraw, {state_.draws++}));
  std::vector<Share> shares;
  shares.reserve(state_.remaining.size());
  for (const auto& [client, count] : state_.remaining) shares.push_back({count});

  int64_t left = remaining();
  for (int64_t drawn = 0; drawn < batch_size && left > 0;) {
    Share& share = share_at(shares, static_cast<int64_t>(random.below(static_cast<uint64_t>(left))));
    const int64_t size = pick_size(share, minimum_batch_);
    share.taken += size;
    share.remaining -= size;
    drawn += size;
    left -= size;
  }

  std::map<ClientId, uint32_t> batch;
  auto share = shares.begin();
  for (auto& [client, count] : state_.remaining) {
    count = share->remaining;
    if (share->taken > 0) batch.emplace_hint(batch.end(), client, static_cast<uint32_t>(share->taken));
    ++share;
  }
  return batch;
}

void ExamplePool::restore(State state) {
  for (const auto& [client, count] : state.remaining) {
    if (count == 0 || count >= minimum_batch_) continue;
    throw std::invalid_argument("ExamplePool.restore: client " + client.name + " cannot have " +
                                std::to_string(count) + " examples left, the minimum is " +
                                std::to_string(minimum_batch_));
  }
  state_ = std::move(state);
}

}  // namespace tandem
