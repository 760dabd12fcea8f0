// What the simplest baselines do, straight from their rules.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace tandem::brute_force {

/// {"stages": ...} by the rule of `even`, `exo` or `llama-rpc` for a chain whose source is the first device.
/// Nothing for other planners and chains, and where the rule leaves open which block goes where. The stages
/// may break limits of the problem.
std::optional<nlohmann::json> stages_by_rule(const nlohmann::json& problem, const std::string& planner);

}  // namespace tandem::brute_force
