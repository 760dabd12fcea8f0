#pragma once

#include <functional>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/data/data_description.h"

namespace tandem {

/// Runs `PROGRAM profile`: measures a model on this machine, prints a table and writes the profile that
/// `tandem plan --profiles` reads. A profile that is there already and is of the same model, settings and
/// machine is not measured again. `role`: the default of --role. `describe`: says what data a --data text
/// names. Returns the exit status.
int profile_command(const std::string& program, const std::string& role, int argc, const char* const* argv,
                    const std::function<Result<DataDescription>(const std::string&)>& describe);

}  // namespace tandem
