#include <algorithm>
#include <utility>

#include "tandem/core/planning/scattered_search_detail.h"

namespace tandem::detail {
namespace {

constexpr double kRounding = 1e-12;
/// The labels of a search hold at most this many numbers.
constexpr size_t kMostNumbers = 32'000'000;
/// Comparing labels is the work: a search does about this much of it.
constexpr size_t kMostLabels = 200'000;

bool none_above(const std::vector<double>& a, const std::vector<double>& b, double room) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] > b[i] + room) return false;
  }
  return true;
}

/// Whether what `a` holds leaves as much room as what `b` holds for anything that may still come: `left` in all.
bool leaves_more(double a, double b, double left, double limit) {
  return a <= b || fits(a + left, limit);
}

}  // namespace

ScatteredSearch::ScatteredSearch(const ChainModel& model, const ChainWeights& weights, const SearchGoal& goal)
    : model_(model),
      chain_(model.chain()),
      weights_(weights),
      goal_(goal),
      devices_(chain_.devices.size()),
      threshold_(goal.threshold),
      memory_left_(model.blocks() + 1, 0.0),
      forward_left_(model.blocks() + 1, 0.0),
      backward_left_(model.blocks() + 1, 0.0),
      energy_left_(model.blocks() + 1, std::vector<double>(devices_, 0.0)),
      latency_left_(model.blocks() + 1, std::vector<double>(devices_, kNever)) {
  if (goal.ties) tolerance_ = goal.threshold * kRounding;
  const size_t width = 2 * devices_ + (weights.bottleneck > 0 ? 2 * devices_ * (devices_ + 1) : 0);
  most_labels_ = std::min({goal.most_labels, kMostLabels, kMostNumbers / width});
  if (goal.avoid) avoid_ = device_of_blocks(*goal.avoid, model.blocks());
  fill_tables();
}

void ScatteredSearch::fill_tables() {
  const size_t blocks = model_.blocks();
  for (size_t d = 0; d < devices_; ++d) latency_left_[blocks][d] = model_.return_ms(model_.class_of(d));
  for (size_t i = blocks; i-- > 0;) {
    memory_left_[i] = memory_left_[i + 1] + model_.problem().blocks[i].memory_bytes;
    double forward = kNever;
    double backward = kNever;
    for (size_t d = 0; d < devices_; ++d) {
      const PlanDevice& device = chain_.devices[d];
      energy_left_[i][d] = energy_left_[i + 1][d] + device.limits.energy_mj[i];
      forward = std::min(forward, device.times.forward_ms[i]);
      backward = std::min(backward, device.times.backward_ms[i]);
      const double rest = device.times.forward_ms[i] + device.times.backward_ms[i] + latency_left_[i + 1][d];
      for (size_t from = 0; from < devices_; ++from) {
        if (!is_permitted(from, d, i)) continue;
        latency_left_[i][from] = std::min(latency_left_[i][from], both_ways(from, d, i) + rest);
      }
    }
    forward_left_[i] = forward_left_[i + 1] + forward;
    backward_left_[i] = backward_left_[i + 1] + backward;
  }
}

double ScatteredSearch::both_ways(size_t from, size_t to, size_t cut) const {
  if (from == to) return 0;
  const double bytes = bytes_before(model_.problem(), cut);
  const bool has_gradient = model_.problem().training && cut > 0;
  return transfer_ms(chain_.link(from, to), bytes) +
         (has_gradient ? transfer_ms(chain_.link(to, from), bytes) : 0);
}

/// Memory and energy are not looked at.
bool ScatteredSearch::is_permitted(size_t from, size_t device, size_t block) const {
  if (device == chain_.source) return true;
  if (block < chain_.min_front_blocks) return false;
  if (block + 1 == model_.blocks() && chain_.last_stage_on_source) return false;
  return device == from || model_.problem().may_leave(block);
}

SearchResult ScatteredSearch::run() {
  ScatteredLabel start;
  start.device = chain_.source;
  start.avoided = goal_.avoid != nullptr;
  start.used.assign(devices_, 0);
  start.memory.assign(devices_, 0.0);
  start.energy.assign(devices_, 0.0);
  if (weights_.bottleneck > 0) start.forward.assign(devices_ * (devices_ + 1), 0.0);
  if (weights_.bottleneck > 0) start.backward = start.forward;
  labels_.push_back(std::move(start));
  Level level(devices_);
  level[chain_.source].push_back(0);
  for (size_t block = 0; block < model_.blocks(); ++block) {
    Level next(devices_);
    for (const auto& state : level) {
      for (const int label : state) {
        extend(label, block, next);
        if (labels_.size() > most_labels_) return stopped(level, block);
      }
    }
    forget_loads(level);
    level = std::move(next);
    narrow(level, block + 1);
  }
  best_.complete = !cut_off_;
  return best_;
}

bool ScatteredSearch::may_place(const ScatteredLabel& parent, size_t device, size_t block) const {
  if (!is_permitted(parent.device, device, block)) return false;
  if (parent.used[device]) return true;
  // Of devices that are alike the first in file order is used first.
  for (const size_t other : model_.device_class(model_.class_of(device)).members) {
    if (other == device) return true;
    if (!parent.used[other]) return false;
  }
  return true;
}

void ScatteredSearch::extend(int label, size_t block, Level& next) {
  if (exceeds(bound(labels_[label], block))) return;
  for (size_t device = 0; device < devices_; ++device) {
    if (!may_place(labels_[label], device, block)) continue;
    ScatteredLabel child = child_of(label, device, block);
    const PlaceLimits& limits = chain_.devices[device].limits;
    if (!fits(child.memory[device], limits.memory_bytes)) continue;
    if (!fits(child.energy[device], limits.max_energy_mj)) continue;
    if (block + 1 == model_.blocks()) {
      finish(std::move(child));
    } else if (!exceeds(bound(child, block + 1))) {
      keep(std::move(child), block + 1, next[device]);
    }
  }
}

ScatteredLabel ScatteredSearch::child_of(int label, size_t device, size_t block) const {
  ScatteredLabel child = labels_[label];
  if (device != child.device) add_transfer(child, child.device, device, block);
  const BlockTimes& times = chain_.devices[device].times;
  child.latency += times.forward_ms[block] + times.backward_ms[block];
  child.memory[device] += model_.problem().blocks[block].memory_bytes;
  child.energy[device] += chain_.devices[device].limits.energy_mj[block];
  child.used[device] = 1;
  if (weights_.bottleneck > 0) {
    child.forward[device] += times.forward_ms[block];
    child.backward[device] += times.backward_ms[block];
  }
  child.parent = label;
  child.device = device;
  child.avoided = child.avoided && avoid_[block] == device;
  return child;
}

void ScatteredSearch::add_transfer(ScatteredLabel& label, size_t from, size_t to, size_t cut) const {
  const double bytes = bytes_before(model_.problem(), cut);
  const double activation = transfer_ms(chain_.link(from, to), bytes);
  const bool has_gradient = model_.problem().training && cut > 0;
  const double gradient = has_gradient ? transfer_ms(chain_.link(to, from), bytes) : 0;
  label.latency += activation + gradient;
  label.bytes += has_gradient ? 2 * bytes : bytes;
  if (weights_.bottleneck == 0) return;
  label.forward[devices_ + from * devices_ + to] += activation;
  label.backward[devices_ + to * devices_ + from] += gradient;
}

/// The least that the busiest device or link will have: no less than now, and no less than an even share of
/// all the work.
double ScatteredSearch::busiest(const std::vector<double>& loads, double left) const {
  double most = 0;
  double total = left;
  for (size_t i = 0; i < loads.size(); ++i) {
    most = std::max(most, loads[i]);
    if (i < devices_) total += loads[i];
  }
  return std::max(most, total / static_cast<double>(devices_));
}

double ScatteredSearch::bound(const ScatteredLabel& label, size_t done) const {
  const double left = latency_left_[done][label.device];
  if (left == kNever) return kNever;
  if (weights_.bottleneck == 0) return weights_.latency * (label.latency + left);
  return weights_.value(label.latency + left, busiest(label.forward, forward_left_[done]) +
                                                  busiest(label.backward, backward_left_[done]));
}

void ScatteredSearch::keep(ScatteredLabel label, size_t done, std::vector<int>& state) {
  if (!label.avoided) {
    for (const int other : state) {
      if (!labels_[other].avoided && dominates(labels_[other], label, done)) return;
    }
    std::erase_if(state,
                  [&](int other) { return !labels_[other].avoided && dominates(label, labels_[other], done); });
  }
  labels_.push_back(std::move(label));
  state.push_back(static_cast<int>(labels_.size()) - 1);
}

/// Leaves only the best of a level.
void ScatteredSearch::narrow(Level& level, size_t done) {
  std::vector<std::pair<double, int>> by_bound;
  for (const auto& state : level) {
    for (const int label : state) by_bound.emplace_back(bound(labels_[label], done), label);
  }
  if (goal_.beam == 0 || by_bound.size() <= goal_.beam) return;
  std::sort(by_bound.begin(), by_bound.end());
  level.assign(devices_, {});
  for (size_t i = 0; i < goal_.beam; ++i) {
    level[labels_[by_bound[i].second].device].push_back(by_bound[i].second);
  }
  cut_off_ = true;
}

void ScatteredSearch::finish(ScatteredLabel label) {
  if (label.avoided) return;
  const std::vector<PlanStage> stages = stages_of(devices_of(label));
  const double value = weights_.value(chain_cost(model_.problem(), stages));
  if (value > threshold_ || (!goal_.ties && value >= best_.value)) return;
  if (goal_.ties && best_.stages && !wins_tie(model_.problem(), stages, *best_.stages)) return;
  best_.stages = stages;
  best_.value = value;
  if (!goal_.ties) threshold_ = std::min(threshold_, value * (1 - kRounding));
}

bool ScatteredSearch::dominates(const ScatteredLabel& a, const ScatteredLabel& b, size_t done) const {
  if (a.latency > b.latency + tolerance_ && weights_.latency > 0) return false;
  for (size_t d = 0; d < devices_; ++d) {
    const PlaceLimits& limits = chain_.devices[d].limits;
    if (!leaves_more(a.memory[d], b.memory[d], memory_left_[done], limits.memory_bytes)) return false;
    if (!leaves_more(a.energy[d], b.energy[d], energy_left_[done][d], limits.max_energy_mj)) return false;
  }
  if (!none_above(a.forward, b.forward, tolerance_) || !none_above(a.backward, b.backward, tolerance_)) {
    return false;
  }
  return !goal_.ties || wins_every_tie(a, b);
}

/// However both go on.
bool ScatteredSearch::wins_every_tie(const ScatteredLabel& a, const ScatteredLabel& b) const {
  for (size_t d = 0; d < devices_; ++d) {
    if (a.used[d] && !b.used[d]) return false;
  }
  return fits(a.bytes, b.bytes) && devices_of(a) <= devices_of(b);
}

std::vector<size_t> ScatteredSearch::devices_of(const ScatteredLabel& label) const {
  std::vector<size_t> devices;
  for (const ScatteredLabel* at = &label; at->parent >= 0; at = &labels_[at->parent]) {
    devices.push_back(at->device);
  }
  std::reverse(devices.begin(), devices.end());
  return devices;
}

SearchResult ScatteredSearch::stopped(const Level& level, size_t done) const {
  SearchResult result = best_;
  result.complete = false;
  result.lower_bound = best_.value;
  for (const auto& state : level) {
    for (const int label : state) result.lower_bound = std::min(result.lower_bound, bound(labels_[label], done));
  }
  return result;
}

void ScatteredSearch::forget_loads(const Level& level) {
  for (const auto& state : level) {
    for (const int index : state) {
      ScatteredLabel& label = labels_[index];
      for (auto* loads : {&label.memory, &label.energy, &label.forward, &label.backward}) {
        std::vector<double>().swap(*loads);
      }
      std::vector<uint8_t>().swap(label.used);
    }
  }
}

SearchResult search_scattered(const ChainModel& model, const ChainWeights& weights, const SearchGoal& goal) {
  return ScatteredSearch(model, weights, goal).run();
}

}  // namespace tandem::detail
