#pragma once

#include <string>

#include "tandem/core/program/flag_detail.h"

namespace tandem::detail {

/// The program's part of the reference page, in Markdown: a table for each section with every flag's type,
/// range, default and help, when it does nothing, and whether it belongs to the run; a table for each flag
/// that takes specifications; and the flags of earlier versions with their present spelling.
std::string reference_text(const std::string& program, const std::string& description,
                           const FlagTable& flags);

}  // namespace tandem::detail
