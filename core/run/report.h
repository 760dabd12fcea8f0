#pragma once

#include <filesystem>
#include <string>

#include "tandem/core/base/result.h"

namespace tandem {

/// Renders a run directory as one self-contained HTML page (inline CSS and SVG, no script from outside,
/// no network): headline figures, loss and accuracy curves, clients, bytes by direction, events,
/// configuration. Everything that came from a client is escaped. kNotFound or kCorrupt name the file.
Result<std::string> render_report(const std::filesystem::path& run_directory);

}  // namespace tandem
