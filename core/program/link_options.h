#pragma once

#include <string>

#include "tandem/core/base/form.h"
#include "tandem/core/base/result.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/transport/fault_injector.h"

namespace tandem {

// The options of a link that both ends have.

/// The parameter frame-mib of --limits: the largest tensor accepted from `peer` ("a device"), MiB.
FormParameter frame_limit(const std::string& peer);

/// Adds the row of --fault.
void add_fault(Flags& flags, std::string& fault);

/// Parses --fault: what parse_faults() takes, and seed=N, the seed of all random decisions (1).
/// kInvalidArgument names the flag and the part that is wrong.
Result<FaultOptions> parse_fault_option(const std::string& text);

}  // namespace tandem
