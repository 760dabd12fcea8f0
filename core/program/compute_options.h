#pragma once

#include <cstdint>
#include <string>

#include "tandem/core/program/flags.h"

namespace tandem {

// The options of a program that computes.

/// Adds the row of --device.
OptionRow add_device(Flags& flags, std::string& device);

/// Adds the row of --threads.
OptionRow add_threads(Flags& flags, int32_t& threads);

/// Adds the row of --slowdown.
OptionRow add_slowdown(Flags& flags, double& factor);

}  // namespace tandem
