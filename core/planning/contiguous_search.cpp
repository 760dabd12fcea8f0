#include <algorithm>

#include "tandem/core/planning/contiguous_search_detail.h"

namespace tandem::detail {
namespace {

/// Sums of the same numbers in another order differ by less than this.
constexpr double kRounding = 1e-12;
/// A table that takes more steps than this costs more than its tighter bounds save.
constexpr double kMostTableSteps = 2e7;
/// How often tables are made, each with the bottleneck's bound that follows from the one before; the first few
/// without the devices that are used.
constexpr int kMostRounds = 5;
constexpr int kQuickRounds = 2;
constexpr double kWorthwhile = 0.95;
/// Bounds for plans up to a threshold do for a lower one that is as near as this.
constexpr double kNear = 0.98;

}  // namespace

ContiguousSearch::ContiguousSearch(const ChainModel& model, UsedCounts& used, const CompletionTable& table,
                                   const ChainWeights& weights, const SearchGoal& goal)
    : model_(model),
      used_(used),
      table_(table),
      weights_(weights),
      goal_(goal),
      threshold_(goal.threshold),
      two_visits_(model.chain().last_stage_on_source),
      states_(model.blocks() + 1),
      indices_(model.blocks() + 1) {
  if (goal.ties) tolerance_ = goal.threshold * kRounding;
}

SearchResult ContiguousSearch::run() {
  ChainLabel start;
  start.last_class = static_cast<uint32_t>(model_.source_class());
  start.avoided = goal_.avoid != nullptr;
  labels_.push_back(start);
  extend_all(0, 0);
  for (uint32_t done = 1; done < model_.blocks(); ++done) {
    // The level is final: labels only ever lead to more blocks.
    for (const int label : level(done)) {
      extend_all(label, done);
      if (labels_.size() > goal_.most_labels) return stopped(done);
    }
    states_[done].clear();
    indices_[done].clear();
  }
  best_.complete = !cut_off_;
  return best_;
}

/// The labels to go on from, the best ones where there is a beam.
std::vector<int> ContiguousSearch::level(uint32_t done) {
  std::vector<int> labels;
  for (const LabelState& state : states_[done]) {
    labels.insert(labels.end(), state.labels.begin(), state.labels.end());
  }
  if (goal_.beam == 0 || labels.size() <= goal_.beam) return labels;
  std::vector<std::pair<double, int>> by_bound;
  for (const int label : labels) by_bound.emplace_back(bound(labels_[label]), label);
  std::sort(by_bound.begin(), by_bound.end());
  labels.clear();
  for (size_t i = 0; i < goal_.beam; ++i) labels.push_back(by_bound[i].second);
  cut_off_ = true;
  return labels;
}

void ContiguousSearch::extend_all(int label, uint32_t done) {
  if (exceeds(bound(labels_[label]))) return;  // the threshold may have fallen since
  const ChainPlaces& chain = model_.chain();
  for (size_t next = 0; next < model_.classes(); ++next) {
    if (done < chain.min_front_blocks && next != model_.source_class()) continue;
    if (model_.may_enter(next, done)) extend(label, done, next);
  }
}

void ContiguousSearch::extend(int label, uint32_t done, size_t next) {
  const ChainLabel parent = labels_[label];
  const UsedCounts::Id used = used_.with(parent.used, next);
  if (used == UsedCounts::kNone) {
    if (two_visits_ && next == model_.source_class()) extend_to_source_again(label, done);
    return;
  }
  const bool stays = done == 0 && next == model_.source_class();
  const Crossing crossing = stays ? Crossing{} : model_.crossing(parent.last_class, next, done);
  StageSum stage;
  for (uint32_t end = done; end < model_.blocks();) {
    stage.add(model_.block_cost(next, end++));
    if (!model_.fits_limits(next, stage)) return;
    if (end < model_.chain().min_front_blocks) continue;
    ChainLabel child = child_of(label, next, used, end, stage, crossing);
    if (exceeds(weights_.value(child.latency, child.forward + child.backward))) return;  // it only grows
    if (two_visits_ && next == model_.source_class()) child.on_source = stage;
    if (!exceeds(bound(child))) keep(child);
  }
}

/// The rest of the blocks, on the source, which has had a range before.
void ContiguousSearch::extend_to_source_again(int label, uint32_t done) {
  const ChainLabel& parent = labels_[label];
  const size_t source = model_.source_class();
  if (parent.last_class == source) return;
  StageSum stage;
  StageSum total = parent.on_source;
  const auto blocks = static_cast<uint32_t>(model_.blocks());
  for (uint32_t i = done; i < blocks; ++i) {
    stage.add(model_.block_cost(source, i));
    total.add(model_.block_cost(source, i));
  }
  if (!model_.fits_limits(source, total)) return;
  ChainLabel child = child_of(label, source, parent.used, blocks, stage,
                              model_.crossing(parent.last_class, source, done));
  child.forward = std::max(child.forward, total.forward);
  child.backward = std::max(child.backward, total.backward);
  if (!exceeds(bound(child))) keep(child);
}

ChainLabel ContiguousSearch::child_of(int label, size_t next, UsedCounts::Id used, uint32_t end,
                                      const StageSum& stage, const Crossing& crossing) const {
  ChainLabel child = labels_[label];
  child.latency += crossing.both() + stage.forward + stage.backward;
  child.forward = std::max({child.forward, crossing.forward, stage.forward});
  child.backward = std::max({child.backward, crossing.backward, stage.backward});
  child.bytes += crossing.bytes;
  child.parent = label;
  child.used = used;
  child.last_class = static_cast<uint32_t>(next);
  const DeviceClass& group = model_.device_class(next);
  child.device = static_cast<uint32_t>(group.members[used_.count(used, next) - 1]);
  child.begin = child.end;
  child.end = end;
  return child;
}

double ContiguousSearch::bound(const ChainLabel& label) const {
  const Completion& rest = table_.at(label.end, label.used, label.last_class);
  if (rest.forward == kNever) return kNever;
  return weights_.value(label.latency + rest.latency,
                        std::max(label.forward, rest.forward) + std::max(label.backward, rest.backward));
}

bool ContiguousSearch::stays_on_avoided(int parent, const ChainLabel& label) const {
  if (!labels_[parent].avoided) return false;
  return std::any_of(goal_.avoid->begin(), goal_.avoid->end(), [&](const PlanStage& stage) {
    return stage.first == label.begin && stage.last + 1 == label.end &&
           model_.class_of(stage.device) == label.last_class;
  });
}

void ContiguousSearch::keep(ChainLabel label) {
  label.avoided = stays_on_avoided(label.parent, label);
  if (label.end == model_.blocks()) return finish(label);
  const uint64_t key = uint64_t{label.used} * model_.classes() + label.last_class;
  auto& states = states_[label.end];
  const auto [found, is_new] = indices_[label.end].emplace(key, states.size());
  if (is_new) states.push_back({label.used, label.last_class, {}});
  keep_in_state(label, states[found->second]);
}

void ContiguousSearch::keep_in_state(const ChainLabel& label, LabelState& state) {
  // A beginning of the avoided plan has fewer ways to go on than others: it is compared with none.
  if (!label.avoided) {
    for (const int other : state.labels) {
      if (!labels_[other].avoided && dominates(labels_[other], label)) return;
    }
    std::erase_if(state.labels,
                  [&](int other) { return !labels_[other].avoided && dominates(label, labels_[other]); });
  }
  labels_.push_back(label);
  state.labels.push_back(static_cast<int>(labels_.size()) - 1);
}

void ContiguousSearch::finish(const ChainLabel& label) {
  if (label.avoided) return;
  const double last = model_.return_ms(label.last_class);
  const double value = weights_.value(label.latency + last, std::max(label.forward, last) + label.backward);
  if (exceeds(value) || (!goal_.ties && value >= best_.value)) return;
  std::vector<PlanStage> stages = stages_of_label(label);
  if (goal_.ties && best_.stages && !wins_tie(model_.problem(), stages, *best_.stages)) return;
  best_.stages = std::move(stages);
  best_.value = value;
  if (!goal_.ties) threshold_ = std::min(threshold_, value * (1 - kRounding));
}

bool ContiguousSearch::dominates(const ChainLabel& a, const ChainLabel& b) const {
  const double room = tolerance_;
  if (weights_.latency > 0 && a.latency > b.latency + room) return false;
  if (weights_.bottleneck > 0 && (a.forward > b.forward + room || a.backward > b.backward + room)) {
    // Where only the bottleneck counts, nothing below the threshold matters any more.
    const bool same = goal_.ties && weights_.latency == 0 && !model_.problem().training;
    if (!same) return false;
  }
  if (two_visits_) {
    const StageSum& mine = a.on_source;
    const StageSum& other = b.on_source;
    if (mine.memory > other.memory || mine.energy > other.energy) return false;
    if (weights_.bottleneck > 0 && (mine.forward > other.forward || mine.backward > other.backward)) {
      return false;
    }
  }
  return !goal_.ties || (fits(a.bytes, b.bytes) && has_lower_ids(a, b));
}

/// Whether the blocks' devices of `a` come first in alphabetical order, or both have the same.
bool ContiguousSearch::has_lower_ids(const ChainLabel& a, const ChainLabel& b) const {
  const ChainLabel* left = &a;
  const ChainLabel* right = &b;
  bool is_lower = true;
  // From the last block to the first: the last difference seen is the first in order.
  while (left->end > 0 && left != right) {
    if (left->device != right->device) is_lower = left->device < right->device;
    const uint32_t begin = std::max(left->begin, right->begin);
    if (left->begin == begin) left = &labels_[left->parent];
    if (right->begin == begin) right = &labels_[right->parent];
  }
  return is_lower;
}

std::vector<PlanStage> ContiguousSearch::stages_of_label(const ChainLabel& label) const {
  std::vector<PlanStage> stages;
  for (const ChainLabel* at = &label; at->parent >= 0; at = &labels_[at->parent]) {
    stages.push_back({at->device, at->begin, at->end - 1});
  }
  std::reverse(stages.begin(), stages.end());
  return stages;
}

SearchResult ContiguousSearch::stopped(uint32_t done) const {
  SearchResult result = best_;
  result.complete = false;
  result.lower_bound = best_.value;
  for (size_t at = done; at < states_.size(); ++at) {
    for (const LabelState& state : states_[at]) {
      for (const int label : state.labels) {
        result.lower_bound = std::min(result.lower_bound, bound(labels_[label]));
      }
    }
  }
  return result;
}

void SearchTables::prepare(const ChainModel& model, const ChainWeights& weights, double threshold, bool rough) {
  const bool has_tighter = weights.bottleneck > 0 && threshold < kNear * threshold_;
  if (completions_ && !rough && by_counts_ && threshold <= threshold_ && !has_tighter) return;
  // The least latency bounds the bottleneck, and with that bound the latency is longer.
  double cap = weights.bottleneck > 0 ? threshold / weights.bottleneck * (1 + kRounding) : kNever;
  by_counts_ = false;
  completions_.emplace(model, used_, weights, threshold, cap, 0);
  for (int round = 0; round < kMostRounds; ++round) {
    const double next = largest_bottleneck(*completions_, weights, threshold);
    if ((by_counts_ || rough) && !(next < cap * kWorthwhile)) break;
    cap = std::min(cap, next);
    by_counts_ = !rough && round + 1 >= kQuickRounds;
    completions_.emplace(model, used_, weights, threshold, cap, by_counts_ ? kMostTableSteps : 0);
  }
  threshold_ = threshold;
}

SearchResult search_contiguous(const ChainModel& model, const ChainWeights& weights, const SearchGoal& goal,
                               SearchTables& tables) {
  tables.prepare(model, weights, goal.threshold, goal.rough);
  return ContiguousSearch(model, tables.used(), tables.completions(), weights, goal).run();
}

}  // namespace tandem::detail
