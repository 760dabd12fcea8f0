#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem {

/// `scheme:location?key=value&key=value` or `name?key=value`: how data and models are named on a command
/// line.
struct Specification {
  std::string scheme;    ///< before the first ':', empty when there is none
  std::string location;  ///< between scheme and '?'
  std::map<std::string, std::string> parameters;
};

/// kInvalidArgument quotes the part that is not `key=value`, or a key given twice; empty text is refused.
Result<Specification> parse_specification(const std::string& text);

/// kInvalidArgument names the first parameter not in `known`, with the nearest known one.
Result<void> check_parameters(const Specification& specification, const std::vector<std::string>& known);

/// Whether the location behind this scheme is a path: idx.
bool names_files(const std::string& scheme);

/// A text of words and numbers, as flags carry them ("crop:2,flip", "fedprox?mu=0.01&x=1", "0.5/0.5"), in one
/// spelling: without blanks around the signs , : / ? & =, numbers in their shortest form, parameters by name.
std::string canonical_specification(const std::string& text);

/// A whole decimal number, with a range; kInvalidArgument says `what`, the text and the range.
Result<int64_t> parse_integer(const std::string& what, const std::string& text, int64_t low, int64_t high);
/// A finite decimal number, with a range, both ends included.
Result<double> parse_number(const std::string& what, const std::string& text, double low, double high);

/// The candidate with the smallest edit distance to `word` (insertions, deletions, substitutions and
/// swaps of neighbours), if it is near enough to be a typing mistake: at most max(1, length / 3).
std::optional<std::string> nearest_name(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace tandem
