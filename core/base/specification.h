#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem {

/// A specification names a model, a strategy, a data set, a partition or an augmentation and sets its
/// parameters:
///   NAME[:ARG][,KEY=VALUE...]
/// Only the first colon splits. Some names take an ARG, which runs to the next comma and is never read as
/// KEY=VALUE: idx:DIR,classes=10. All other names take none, so KEY=VALUE follows their colon at once:
/// mlp:hidden=256-128. In an ARG or a VALUE, %2C stands for a comma and %25 for a percent sign.
struct Specification {
  std::string name;
  std::string argument;                           ///< without escapes; empty where the text has none
  std::map<std::string, std::string> parameters;  ///< values without escapes
};

/// Whether a name takes an ARG.
enum class Argument { kNone, kTaken };

/// Returns the NAME of `text`, so that a caller can look up whether it takes an ARG. Returns kInvalidArgument
/// for an empty text, and for the spelling of earlier versions, NAME?KEY=VALUE&KEY=VALUE, with the text as it
/// is written now.
Result<std::string> specification_name(const std::string& text);

/// Parses a specification whose name takes an ARG or takes none. Returns kInvalidArgument as
/// specification_name does, and quotes the part that is not KEY=VALUE, a KEY that occurs twice, or a percent
/// sign that begins no escape.
Result<Specification> parse_specification(const std::string& text, Argument argument);

/// Splits a list of specifications that commas separate, such as "crop:2,flip", and removes the blanks beside
/// each comma. An item that has no '=', or whose first ':' comes before its first '=', begins a new
/// specification; every other item is a parameter of the one before it.
std::vector<std::string> split_specifications(const std::string& text);

/// Writes `text` as an ARG or a VALUE: a comma becomes %2C and a percent sign %25.
std::string escaped_for_specification(const std::string& text);

/// kInvalidArgument names the first parameter not in `known`, with the nearest known one.
Result<void> check_parameters(const Specification& specification, const std::vector<std::string>& known);

/// Returns whether the ARG of this name is a path, as that of idx is.
bool names_files(const std::string& name);

/// Returns the one spelling of a flag's text, be it a specification, a list of them ("crop:2,flip") or words
/// and numbers ("0.5/0.5"): without blanks beside the signs , : / =, numbers in their shortest form, and the
/// parameters of each specification in the order of their keys.
std::string canonical_specification(const std::string& text);

/// A whole decimal number, with a range; kInvalidArgument says `what`, the text and the range.
Result<int64_t> parse_integer(const std::string& what, const std::string& text, int64_t low, int64_t high);
/// A finite decimal number, with a range, both ends included.
Result<double> parse_number(const std::string& what, const std::string& text, double low, double high);

/// The candidate with the smallest edit distance to `word` (insertions, deletions, substitutions and
/// swaps of neighbours), if it is near enough to be a typing mistake: at most max(1, length / 3).
std::optional<std::string> nearest_name(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace tandem
