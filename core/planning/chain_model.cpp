#include <algorithm>

#include "tandem/core/planning/chain_model_detail.h"

namespace tandem::detail {
namespace {

bool same(const PlanLink& a, const PlanLink& b) {
  return a.bytes_per_ms == b.bytes_per_ms && a.latency_ms == b.latency_ms;
}

bool same(const PlanDevice& a, const PlanDevice& b) {
  return a.times.forward_ms == b.times.forward_ms && a.times.backward_ms == b.times.backward_ms &&
         a.limits.memory_bytes == b.limits.memory_bytes && a.limits.energy_mj == b.limits.energy_mj &&
         a.limits.max_energy_mj == b.limits.max_energy_mj;
}

constexpr UsedCounts::Id kUnknown = UsedCounts::kNone - 1;

}  // namespace

ChainModel::ChainModel(const Problem& problem) : problem_(problem), chain_(*problem.chain()) {
  for (size_t d = 0; d < chain_.devices.size(); ++d) {
    const auto alike = std::find_if(classes_.begin(), classes_.end(), [&](const DeviceClass& known) {
      return interchangeable(known.members[0], d);
    });
    class_of_.push_back(static_cast<size_t>(alike - classes_.begin()));
    if (alike == classes_.end()) {
      classes_.push_back({{d}});
    } else {
      alike->members.push_back(d);
    }
  }
  for (const DeviceClass& group : classes_) {
    const PlanDevice& device = chain_.devices[group.members[0]];
    for (size_t i = 0; i < problem.size(); ++i) {
      costs_.push_back({device.times.forward_ms[i], device.times.backward_ms[i],
                        problem.blocks[i].memory_bytes, device.limits.energy_mj[i]});
    }
  }
}

bool ChainModel::interchangeable(size_t a, size_t b) const {
  if (a == chain_.source || b == chain_.source || !same(chain_.devices[a], chain_.devices[b])) return false;
  if (!same(chain_.link(a, b), chain_.link(b, a))) return false;
  for (size_t other = 0; other < chain_.devices.size(); ++other) {
    if (other == a || other == b) continue;
    if (!same(chain_.link(a, other), chain_.link(b, other))) return false;
    if (!same(chain_.link(other, a), chain_.link(other, b))) return false;
  }
  return true;
}

Crossing ChainModel::crossing(size_t from, size_t to, size_t cut) const {
  const size_t sender = classes_[from].members[0];
  const size_t receiver = from == to ? classes_[to].members[1] : classes_[to].members[0];
  const double bytes = bytes_before(problem_, cut);
  Crossing crossing{transfer_ms(chain_.link(sender, receiver), bytes), 0, bytes};
  if (problem_.training && cut > 0) {
    crossing.backward = transfer_ms(chain_.link(receiver, sender), bytes);
    crossing.bytes += bytes;
  }
  return crossing;
}

double ChainModel::return_bytes(size_t k) const {
  return problem_.training || k == source_class() ? 0 : chain_.return_bytes;
}

double ChainModel::return_ms(size_t k) const {
  const double bytes = return_bytes(k);
  return bytes == 0 ? 0 : transfer_ms(chain_.link(classes_[k].members[0], chain_.source), bytes);
}

UsedCounts::UsedCounts(const ChainModel& model) : model_(model) {
  id_of(std::vector<uint16_t>(model.classes(), 0));
}

UsedCounts::Id UsedCounts::id_of(std::vector<uint16_t> counts) {
  const auto [found, is_new] = ids_.emplace(counts, static_cast<Id>(vectors_.size()));
  if (is_new) {
    size_t total = 0;
    for (const uint16_t count : counts) total += count;
    totals_.push_back(total);
    next_.emplace_back(model_.classes(), kUnknown);
    vectors_.push_back(std::move(counts));
  }
  return found->second;
}

UsedCounts::Id UsedCounts::with(Id used, size_t k) {
  if (next_[used][k] != kUnknown) return next_[used][k];
  Id next = kNone;
  if (vectors_[used][k] < model_.device_class(k).size()) {
    std::vector<uint16_t> counts = vectors_[used];
    ++counts[k];
    next = id_of(std::move(counts));
  }
  next_[used][k] = next;
  return next;
}

bool UsedCounts::enumerate(size_t most) {
  double all = 1;
  for (size_t k = 0; k < model_.classes(); ++k) all *= static_cast<double>(model_.device_class(k).size() + 1);
  if (all > static_cast<double>(most)) return false;
  for (Id used = 0; used < vectors_.size(); ++used) {  // grows while it is walked
    for (size_t k = 0; k < model_.classes(); ++k) with(used, k);
  }
  return true;
}

}  // namespace tandem::detail
