#pragma once

#include <string>
#include <vector>

#include "tandem/core/program/flag_detail.h"

namespace tandem::detail {

/// How --help shows a value.
std::string default_text(const FlagTarget& target);

/// What --help prints. One of the flags is --config.
std::string help_text(const std::string& program, const std::string& description,
                      const std::vector<Flag>& flags);

}  // namespace tandem::detail
