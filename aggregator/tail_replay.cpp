#include "tandem/aggregator/tail_replay.h"

#include <limits>
#include <stdexcept>
#include <string>

#include "tandem/core/base/random.h"

namespace tandem::aggregator {
namespace {

void check(const std::vector<SmashedBatch>& smashed, const ReplayOptions& options) {
  if (options.epochs < 1) {
    throw std::invalid_argument("ReplayOptions.epochs must be >= 1, got " + std::to_string(options.epochs));
  }
  if (options.batch_size < 1) {
    throw std::invalid_argument("ReplayOptions.batch_size must be >= 1, got " +
                                std::to_string(options.batch_size));
  }
  if (smashed.empty()) throw std::invalid_argument("replay needs at least one batch of smashed data");
}

/// Mean loss per example of one pass.
double pass(TailTrainer& tail, const SmashedBatch& all, int64_t batch_size, uint64_t seed) {
  double loss = 0;
  int64_t examples = 0;
  for (const at::Tensor& places : shuffled_places(all, batch_size, seed)) {
    const SmashedBatch batch = all.select(places);
    const ClientGradient result =
        tail.step({{.activations = batch.activations, .labels = batch.labels}}).front();
    if (!result.rejection.empty()) continue;
    loss += result.loss * static_cast<double>(batch.examples());
    examples += batch.examples();
  }
  return examples > 0 ? loss / static_cast<double>(examples) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

double replay(TailTrainer& tail, const std::vector<SmashedBatch>& smashed, const ReplayOptions& options) {
  check(smashed, options);
  const SmashedBatch all = join(smashed);
  double loss = 0;
  for (int epoch = 0; epoch < options.epochs; ++epoch) {
    loss = pass(tail, all, options.batch_size,
                derive_seed(options.seed, RandomPurpose::kShuffle,
                            {hash_name("tail_replay"), static_cast<uint64_t>(epoch)}));
  }
  return loss;
}

}  // namespace tandem::aggregator
