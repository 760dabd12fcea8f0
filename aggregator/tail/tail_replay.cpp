#include "tandem/aggregator/tail/tail_replay.h"

#include <ATen/ATen.h>

#include <algorithm>
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
  if (options.minimum_batch < 1) {
    throw std::invalid_argument("ReplayOptions.minimum_batch must be >= 1, got " +
                                std::to_string(options.minimum_batch));
  }
  if (smashed.empty()) throw std::invalid_argument("replay needs at least one batch of smashed data");
}

/// The batches of one pass, as places.
std::vector<at::Tensor> batches_of_pass(const SmashedBatch& all, const ReplayOptions& options, int epoch) {
  const uint64_t seed = derive_seed(options.seed, RandomPurpose::kShuffle,
                                    {hash_name("tail_replay"), static_cast<uint64_t>(epoch)});
  std::vector<at::Tensor> batches =
      shuffled_places(all, std::max(options.batch_size, options.minimum_batch), seed);
  if (batches.back().size(0) >= options.minimum_batch) return batches;
  const at::Tensor rest = batches.back();
  batches.pop_back();
  if (!batches.empty()) batches.back() = at::cat({batches.back(), rest});
  return batches;
}

/// Returns the mean loss of an example in one pass; NaN when every batch was refused.
double pass(TailTrainer& tail, const SmashedBatch& all, const std::vector<at::Tensor>& batches) {
  Figures sum;
  for (const at::Tensor& places : batches) {
    const SmashedBatch batch = all.select(places);
    const ClientGradient result =
        tail.step({{.activations = batch.activations, .labels = batch.labels}}).front();
    if (result.rejection.empty()) sum += result.figures;
  }
  return sum.mean_loss();
}

}  // namespace

double replay(TailTrainer& tail, const std::vector<SmashedBatch>& smashed, const ReplayOptions& options) {
  check(smashed, options);
  const SmashedBatch all = join(smashed);
  double loss = 0;
  for (int epoch = 0; epoch < options.epochs; ++epoch) {
    loss = pass(tail, all, batches_of_pass(all, options, epoch));
  }
  return loss;
}

}  // namespace tandem::aggregator
