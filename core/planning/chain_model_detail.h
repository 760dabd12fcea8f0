#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

#include "tandem/core/planning/chain_cost.h"

namespace tandem::detail {

inline constexpr double kNever = std::numeric_limits<double>::infinity();

/// Devices that can be swapped without changing any cost or constraint. Members are in file order.
struct DeviceClass {
  std::vector<size_t> members;
  size_t size() const { return members.size(); }
};

/// One more block on a device: what a stage grows by.
struct BlockCost {
  double forward = 0;
  double backward = 0;
  double memory = 0;
  double energy = 0;
};

/// The sums of a stage so far.
struct StageSum {
  double forward = 0;
  double backward = 0;
  double memory = 0;
  double energy = 0;

  void add(const BlockCost& block) {
    forward += block.forward;
    backward += block.backward;
    memory += block.memory;
    energy += block.energy;
  }
};

/// What crossing from one device to another costs.
struct Crossing {
  double forward = 0;   ///< the activation's transfer
  double backward = 0;  ///< the gradient's, the other way; 0 in inference and for the input
  double bytes = 0;     ///< both ways

  double both() const { return forward + backward; }
};

/// A chain problem as the searches see it: with classes of devices in place of devices. The source is a class
/// of its own. `problem` must outlive the model.
class ChainModel {
 public:
  explicit ChainModel(const Problem& problem);

  const Problem& problem() const { return problem_; }
  const ChainPlaces& chain() const { return chain_; }
  size_t blocks() const { return problem_.size(); }
  size_t classes() const { return classes_.size(); }
  const DeviceClass& device_class(size_t k) const { return classes_[k]; }
  size_t class_of(size_t device) const { return class_of_[device]; }
  size_t source_class() const { return class_of_[chain_.source]; }

  const BlockCost& block_cost(size_t k, size_t block) const { return costs_[k * blocks() + block]; }
  bool fits_memory(size_t k, double sum) const { return fits(sum, limits(k).memory_bytes); }
  bool fits_limits(size_t k, const StageSum& sum) const {
    return fits(sum.memory, limits(k).memory_bytes) && fits(sum.energy, limits(k).max_energy_mj);
  }

  /// From a device of class `from` to another device of class `to`, before block `cut`.
  Crossing crossing(size_t from, size_t to, size_t cut) const;
  /// The return from a last stage on class `k`.
  double return_ms(size_t k) const;
  double return_bytes(size_t k) const;
  /// Whether a device of class `k` may receive the activation before block `cut`.
  bool may_enter(size_t k, size_t cut) const { return k == source_class() || problem_.may_leave(cut); }

 private:
  bool interchangeable(size_t a, size_t b) const;
  const PlaceLimits& limits(size_t k) const { return chain_.devices[classes_[k].members[0]].limits; }

  const Problem& problem_;
  const ChainPlaces& chain_;
  std::vector<DeviceClass> classes_;
  std::vector<size_t> class_of_;
  std::vector<BlockCost> costs_;
};

/// How many devices of each class a part of a plan uses, as small numbers. Equal vectors get equal ids.
class UsedCounts {
 public:
  using Id = uint32_t;
  static constexpr Id kNone = std::numeric_limits<Id>::max();

  explicit UsedCounts(const ChainModel& model);

  /// The id of the vector of zeros.
  Id none() const { return 0; }
  /// `used` and one more device of class `k`; kNone when the class has no more.
  Id with(Id used, size_t k);
  size_t count(Id used, size_t k) const { return vectors_[used][k]; }
  size_t devices(Id used) const { return totals_[used]; }
  size_t size() const { return vectors_.size(); }
  /// Makes all vectors, if there are at most `most`, and says whether it did.
  bool enumerate(size_t most);

 private:
  Id id_of(std::vector<uint16_t> counts);

  const ChainModel& model_;
  std::map<std::vector<uint16_t>, Id> ids_;
  std::vector<std::vector<uint16_t>> vectors_;
  std::vector<std::vector<Id>> next_;
  std::vector<size_t> totals_;
};

}  // namespace tandem::detail
