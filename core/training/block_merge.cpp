#include "tandem/core/training/block_merge.h"

#include <limits>
#include <stdexcept>
#include <utility>

namespace tandem {
namespace {

Error of_owner(const ClientId& owner, const Error& error) {
  return {error.code, "update of client " + owner.name + ": " + error.message};
}

}  // namespace

BlockMerge::BlockMerge(const NamedTensors& layout, const std::vector<int>& boundaries) {
  int first = 0;
  const auto add_range = [&](int last) {
    NamedTensors part = tensors_of_blocks(layout, first, last);
    first = last;
    if (part.empty()) return;
    FederatedAverage average(part);
    ranges_.push_back({std::move(part), std::move(average)});
  };
  for (const int boundary : boundaries) add_range(boundary);
  add_range(std::numeric_limits<int>::max());
}

Result<void> BlockMerge::add(const ClientId& owner, const NamedTensors& copy, uint64_t examples) {
  if (examples < 1) {
    throw std::invalid_argument("BlockMerge.add: examples of " + owner.name + " must be >= 1, got 0");
  }
  std::vector<std::pair<Range*, NamedTensors>> parts;
  NamedTensors expected;
  for (Range& range : ranges_) {
    NamedTensors part = named_like(range.layout, copy);
    if (part.empty()) continue;
    append(expected, range.layout);
    parts.emplace_back(&range, std::move(part));
  }
  // All of it before any of it is added.
  if (auto checked = check_same_layout(expected, copy); !checked) return of_owner(owner, checked.error());
  if (auto checked = check_finite(copy); !checked) return of_owner(owner, checked.error());
  for (const auto& [range, part] : parts) {
    if (auto added = range->average.add(owner, part, examples); !added) return added;
  }
  return {};
}

NamedTensors BlockMerge::merged() const {
  NamedTensors merged;
  for (const Range& range : ranges_) {
    if (range.average.clients() > 0) append(merged, range.average.mean());
  }
  return merged;
}

}  // namespace tandem
