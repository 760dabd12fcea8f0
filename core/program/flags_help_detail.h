#pragma once

#include <string>

#include "tandem/core/program/flag_detail.h"

namespace tandem::detail {

/// What --help prints. One of the flags is --config.
std::string help_text(const std::string& program, const std::string& description, const FlagTable& flags);

}  // namespace tandem::detail
