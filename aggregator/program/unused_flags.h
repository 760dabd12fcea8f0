#pragma once

#include <optional>
#include <string>

#include "tandem/aggregator/program/aggregator_flags.h"
#include "tandem/core/base/result.h"

namespace tandem::aggregator {

/// A flag that is set to something and yet would change nothing in this run: whoever sets it expects
/// something of it, and would take the run for what it is not. kInvalidArgument names the first one, why it
/// does nothing, and what to do. Set is what differs from the default: the configuration that a run records
/// has every flag, and must do for a run that goes on. The flags must be valid otherwise.
Result<void> check_no_flag_is_unused(const TrainingFlags& flags);

/// The same for a flag that may well stay as it is while other algorithms are compared: a line that says so.
std::optional<std::string> harmless_unused_flag(const TrainingFlags& flags);

}  // namespace tandem::aggregator
