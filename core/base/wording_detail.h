#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/base/specification.h"

/// How the errors of flags, files and specifications are worded.
namespace tandem::detail {

inline Error invalid(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}

inline std::string in_quotes(std::string_view text) {
  std::string quoted = "\"";
  quoted += text;
  return quoted += '"';
}

inline std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// `; did you mean "--rounds"?`, or nothing when none of `known` is near. `dashes` go in front of the name.
inline std::string did_you_mean(const std::string& word, const std::vector<std::string>& known,
                                const std::string& dashes = "") {
  const auto near = nearest_name(word, known);
  return near ? "; did you mean " + in_quotes(dashes + *near) + "?" : "";
}

}  // namespace tandem::detail
