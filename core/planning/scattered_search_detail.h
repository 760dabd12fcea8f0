#pragma once

#include <vector>

#include "tandem/core/planning/chain_search_detail.h"

namespace tandem::detail {

/// A beginning of a chain whose devices may be visited again: it carries what each of them holds.
struct ScatteredLabel {
  double latency = 0;
  double bytes = 0;
  int parent = -1;
  size_t device = 0;  ///< of the last block
  bool avoided = false;
  /// For each device; emptied once the label has been extended.
  std::vector<uint8_t> used;
  std::vector<double> memory;
  std::vector<double> energy;
  /// Devices, then directed links [from * devices + to]; empty where only the latency counts.
  std::vector<double> forward;
  std::vector<double> backward;
};

/// Exact label setting over (blocks done, last device), block by block. Far slower than ContiguousSearch, since
/// devices can be visited again: a label has to carry every device's memory and load.
class ScatteredSearch {
 public:
  ScatteredSearch(const ChainModel& model, const ChainWeights& weights, const SearchGoal& goal);
  SearchResult run();

 private:
  using Level = std::vector<std::vector<int>>;  ///< labels by last device

  void fill_tables();
  void extend(int label, size_t block, Level& next);
  bool may_place(const ScatteredLabel& parent, size_t device, size_t block) const;
  bool is_permitted(size_t from, size_t device, size_t block) const;
  double both_ways(size_t from, size_t to, size_t cut) const;
  ScatteredLabel child_of(int label, size_t device, size_t block) const;
  void add_transfer(ScatteredLabel& label, size_t from, size_t to, size_t cut) const;
  double bound(const ScatteredLabel& label, size_t done) const;
  bool exceeds(double value) const { return value > threshold_ || value == kNever; }
  double busiest(const std::vector<double>& loads, double left) const;
  void keep(ScatteredLabel label, size_t done, std::vector<int>& state);
  void narrow(Level& level, size_t done);
  void finish(ScatteredLabel label);
  bool dominates(const ScatteredLabel& a, const ScatteredLabel& b, size_t done) const;
  bool wins_every_tie(const ScatteredLabel& a, const ScatteredLabel& b) const;
  std::vector<size_t> devices_of(const ScatteredLabel& label) const;
  SearchResult stopped(const Level& level, size_t done) const;
  void forget_loads(const Level& level);

  const ChainModel& model_;
  const ChainPlaces& chain_;
  const ChainWeights weights_;
  const SearchGoal& goal_;
  size_t devices_;
  double threshold_;
  double tolerance_ = 0;
  size_t most_labels_;
  bool cut_off_ = false;
  std::vector<size_t> avoid_;
  // Of the blocks from `done` on: all memory, the least time on any devices.
  std::vector<double> memory_left_;
  std::vector<double> forward_left_;
  std::vector<double> backward_left_;
  std::vector<std::vector<double>> energy_left_;   ///< [done][device]
  std::vector<std::vector<double>> latency_left_;  ///< [done][last device], memory and energy not looked at
  std::vector<ScatteredLabel> labels_;
  SearchResult best_;
};

}  // namespace tandem::detail
