#include "tandem/datasets/class_count.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <span>

namespace tandem::datasets {
namespace {

/// A label: how often it occurs and where first.
struct Occurrence {
  int64_t count = 0;
  int64_t first = 0;
};

using Occurrences = std::map<int64_t, Occurrence>;

Occurrences occurrences_of(std::span<const int64_t> labels) {
  Occurrences found;
  for (size_t i = 0; i < labels.size(); ++i) {
    Occurrence& label = found.try_emplace(labels[i], Occurrence{0, static_cast<int64_t>(i)}).first->second;
    ++label.count;
  }
  return found;
}

std::string label_text(int64_t label, int64_t position) {
  return "label " + std::to_string(label) + " of example " + std::to_string(position) + " (counted from 0)";
}

std::string way_out(int64_t classes) {
  return "correct the labels, or say how many classes there are: idx:DIR,classes=" + std::to_string(classes);
}

/// The first label of those beyond a gap of at least ten labels, where all labels below the gap occur, are
/// fewer than those in it and have 19 of 20 examples; end() if there is none.
Occurrences::const_iterator find_stray(const Occurrences& labels, int64_t num_examples) {
  int64_t complete = 0;  // labels 0..complete-1 occur
  auto next = labels.begin();
  for (; next != labels.end() && next->first == complete; ++next) ++complete;
  constexpr int64_t kNarrowestGap = 10;
  if (next == labels.end() || complete < 2) return labels.end();
  if (next->first - complete < std::max(complete, kNarrowestGap)) return labels.end();
  int64_t beyond = 0;
  for (auto label = next; label != labels.end(); ++label) beyond += label->second.count;
  return beyond * 20 <= num_examples ? next : labels.end();
}

}  // namespace

Result<ClassCount> count_classes(const at::Tensor& labels, int64_t declared, const std::string& source) {
  const std::span values(labels.data_ptr<int64_t>(), static_cast<size_t>(labels.numel()));
  const Occurrences found = occurrences_of(values);
  const auto mistake = [&](const std::string& problem) {
    return Error{ErrorCode::kCorrupt, source + ": " + problem};
  };
  const auto& [lowest, lowest_at] = *found.begin();
  if (lowest < 0) {
    return mistake(label_text(lowest, lowest_at.first) + " is negative; labels are class numbers from 0");
  }
  const auto& [highest, highest_at] = *found.rbegin();
  const int64_t limit = declared > 0 ? declared : kMaxClasses;
  if (highest >= limit) {
    return mistake(
        label_text(highest, highest_at.first) + " is outside 0.." + std::to_string(limit - 1) +
        (declared > 0 ? " of classes=" + std::to_string(declared) : "; labels are class numbers from 0"));
  }
  if (declared > 0) return ClassCount{.classes = std::max<int64_t>(2, declared)};
  const int64_t classes = std::max<int64_t>(2, highest + 1);
  if (const auto stray = find_stray(found, labels.numel()); stray != found.end()) {
    return mistake(label_text(stray->first, stray->second.first) +
                   " is far from all the others, which go up to " + std::to_string(std::prev(stray)->first) +
                   ": it would make a model of " + std::to_string(classes) + " classes; " + way_out(classes));
  }
  const auto present = static_cast<int64_t>(found.size());
  if (2 * present >= classes) return ClassCount{.classes = classes};
  return ClassCount{.classes = classes,
                    .warning = source + ": " + label_text(highest, highest_at.first) + " makes " +
                               std::to_string(classes) + " classes, and " +
                               std::to_string(classes - present) +
                               " of them have no example here; where that is not meant, " + way_out(classes)};
}

}  // namespace tandem::datasets
