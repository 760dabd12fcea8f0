#pragma once

#include <optional>

#include <nlohmann/json_fwd.hpp>

#include "tandem/core/run/run_directory.h"

namespace tandem {

/// A figure that there may be none of: then null.
nlohmann::ordered_json json_of(const std::optional<double>& value);
/// The reverse. Throws nlohmann's exceptions on anything else.
std::optional<double> figure_of(const nlohmann::json& value);

/// What summary.json holds, and the log's line that says the same.
nlohmann::ordered_json json_of(const RunSummary& summary);

/// A client's part of a round, as in metrics.jsonl and in checkpoints.
nlohmann::ordered_json json_of(const ClientRecord& record);
/// The reverse. Throws nlohmann's exceptions on anything else.
ClientRecord client_record_of(const nlohmann::json& value);

}  // namespace tandem
