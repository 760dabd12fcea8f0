#include "tandem/core/training/block_merge.h"

#include <limits>
#include <stdexcept>
#include <utility>

namespace tandem {

BlockMerge::BlockMerge(const NamedTensors& layout, const std::vector<int>& boundaries) {
  int first = 0;
  const auto add_range = [&](int last) {
    NamedTensors part = tensors_of_blocks(layout, first, last);
    FederatedAverage average(part);
    if (!part.empty()) ranges_.push_back({first, last, std::move(part), std::move(average)});
    first = last;
  };
  for (const int boundary : boundaries) add_range(boundary);
  add_range(std::numeric_limits<int>::max());
}

Result<void> BlockMerge::add(const ClientId& owner, int first, int last, const NamedTensors& copy,
                             uint64_t examples) {
  if (examples < 1) {
    throw std::invalid_argument("BlockMerge.add: examples of " + owner.name + " must be >= 1, got 0");
  }
  std::vector<Range*> ranges;
  NamedTensors expected;
  for (Range& range : ranges_) {
    if (range.first < first || range.first >= last) continue;
    append(expected, range.layout);
    ranges.push_back(&range);
  }
  // All of it before any of it is added.
  if (auto checked = check_same_layout(expected, copy); !checked) return of_client(owner, checked.error());
  if (auto checked = check_finite(copy); !checked) return of_client(owner, checked.error());
  for (Range* range : ranges) {
    const NamedTensors part = tensors_of_blocks(copy, range->first, range->last);
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
