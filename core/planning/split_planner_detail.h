#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tandem/core/planning/choice_bound_detail.h"

namespace tandem::detail {

/// A choice for each client, and what is proved about it.
struct SplitResult {
  Choice choice;
  double value = 0;
  double lower_bound = 0;
};

/// Searches for the cuts and the order of one sequential server. Every list of options has an entry. Exact for
/// few clients; for many it stops at a limit, with a lower bound.
SplitResult plan_sequential(const ClientOptions& options);

/// The same for the other kinds of server, always exact.
SplitResult plan_parallel_server(ServerKind kind, const ClientOptions& options);

/// The options that a choice picks.
std::vector<CutOption> chosen_options(const ClientOptions& options, const Choice& choice);

/// Each client's best cut for itself.
Choice choose_alone(const ClientOptions& options);
/// The best cut that all clients can have; nothing where there is none.
std::optional<Choice> choose_common(ServerKind kind, const ClientOptions& options);
/// All blocks on every client; nothing where one may not.
std::optional<Choice> choose_solo(const ClientOptions& options, size_t blocks);

/// The exact planner's answer for clients.
Plan plan_split(const Problem& problem);

/// The names of the baselines for clients.
const std::vector<std::string>& split_baseline_names();
/// A baseline's answer for clients, without lower bound.
Plan plan_split_baseline(const Problem& problem, const std::string& name);

}  // namespace tandem::detail
