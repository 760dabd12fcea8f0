#include "tandem/core/planning/chain_bounds_detail.h"

#include <algorithm>

namespace tandem::detail {
namespace {

constexpr size_t kMostVectors = 4096;

}  // namespace

CompletionTable::CompletionTable(const ChainModel& model, UsedCounts& used, const ChainWeights& weights,
                                 double threshold, double cap, double most_steps)
    : model_(model), used_(used), weights_(weights), threshold_(threshold), cap_(cap) {
  const auto blocks = static_cast<double>(model.blocks());
  const auto classes = static_cast<double>(model.classes());
  const double steps = blocks * blocks / 2 * classes * classes;
  const double affordable = std::min(most_steps / steps, static_cast<double>(kMostVectors));
  by_counts_ = model.chain().contiguous && affordable >= 1 && used.enumerate(static_cast<size_t>(affordable));
  if (by_counts_) layers_ = used.size();
  entries_.resize((model.blocks() + 1) * layers_ * model.classes());
  for (size_t done = model.blocks() + 1; done-- > 0;) {
    for (size_t layer = 0; layer < layers_; ++layer) {
      for (size_t k = 0; k < model.classes(); ++k) fill(done, layer, k);
    }
  }
}

void CompletionTable::fill(size_t done, size_t layer, size_t k) {
  Completion& best = entry(done, layer, k);
  // At the start nothing is used and the input lies on the source; later whoever is last has been used.
  if (done == 0 && (layer != 0 || k != model_.source_class())) return;
  const ChainPlaces& chain = model_.chain();
  if (by_counts_ && done > 0) {
    const auto used = static_cast<UsedCounts::Id>(layer);
    if (used_.count(used, k) == 0) return;
    if (chain.min_front_blocks > 0 && used_.count(used, model_.source_class()) == 0) return;
  }
  if (done == model_.blocks()) {
    if (chain.last_stage_on_source && k != model_.source_class()) return;
    best = {model_.return_ms(k), model_.return_ms(k), 0};
    return;
  }
  if (done < chain.min_front_blocks) {
    if (done == 0 && k == model_.source_class()) try_stages(done, layer, k, k, best);
    return;
  }
  for (size_t next = 0; next < model_.classes(); ++next) try_stages(done, layer, k, next, best);
}

UsedCounts::Id CompletionTable::layer_after(size_t layer, size_t k, size_t next) const {
  const size_t source = model_.source_class();
  if (!by_counts_) return k == next && model_.device_class(k).size() < 2 ? UsedCounts::kNone : 0;
  const auto used = static_cast<UsedCounts::Id>(layer);
  // A second visit of the source is only ever the last stage; the table need not know that there are no more.
  if (next == source && model_.chain().last_stage_on_source && used_.count(used, source) > 0) {
    return k == source ? UsedCounts::kNone : used;
  }
  return used_.with(used, next);
}

void CompletionTable::try_stages(size_t done, size_t layer, size_t k, size_t next, Completion& best) {
  const bool stays = done == 0 && next == model_.source_class() && k == next;  // the input does not travel
  const UsedCounts::Id after =
      stays && !by_counts_ ? 0 : layer_after(layer, stays ? model_.classes() : k, next);
  if (after == UsedCounts::kNone || !model_.may_enter(next, done)) return;
  const Crossing crossing = stays ? Crossing{} : model_.crossing(k, next, done);
  if (crossing.both() > cap_) return;
  StageSum stage;
  for (size_t end = done; end < model_.blocks();) {
    stage.add(model_.block_cost(next, end++));
    const double busy = stage.forward + stage.backward;
    const double least = weights_.value(crossing.both() + busy, busy);
    if (busy > cap_ || least > threshold_ || !model_.fits_limits(next, stage)) return;
    if (done < model_.chain().min_front_blocks && end < model_.chain().min_front_blocks) continue;
    const Completion& rest = at(end, after, next);
    best.latency =
        std::min(best.latency, crossing.both() + stage.forward + stage.backward + rest.latency);
    best.forward = std::min(best.forward, std::max({crossing.forward, stage.forward, rest.forward}));
    best.backward = std::min(best.backward, std::max({crossing.backward, stage.backward, rest.backward}));
  }
}

double largest_bottleneck(const CompletionTable& table, const ChainWeights& weights, double threshold) {
  if (weights.bottleneck == 0) return kNever;
  const double latency = weights.latency > 0 ? weights.latency * table.whole().latency : 0;
  // A hair more, against rounding.
  if (latency == kNever || latency > threshold) return 0;
  return (threshold - latency) / weights.bottleneck * (1 + 1e-12);
}

}  // namespace tandem::detail
