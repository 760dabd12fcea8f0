#pragma once

#include <string>
#include <vector>

#include "tandem/core/base/form.h"
#include "tandem/core/base/result.h"
#include "tandem/core/training/optimizer.h"

namespace tandem {

/// What --optimizer takes, such as "sgd:momentum=0.9,weight-decay=1e-4" or "adam".
const std::vector<Form>& optimizer_forms();

/// Reads such a text: all but the learning rate, which has a flag of its own. kInvalidArgument names the
/// flag, and the name, parameter or value that is wrong.
Result<OptimizerOptions> parse_optimizer(const std::string& text);

}  // namespace tandem
