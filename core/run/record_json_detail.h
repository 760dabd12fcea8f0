#pragma once

#include <optional>

#include <nlohmann/json.hpp>

#include "tandem/core/run/run_directory.h"

namespace tandem::detail {

/// A figure that there may be none of.
inline nlohmann::ordered_json json_of(const std::optional<double>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

/// summary.json, and the fields of the line that says the same in a log.
nlohmann::ordered_json json_of(const RunSummary& summary);

}  // namespace tandem::detail
