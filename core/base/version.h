#pragma once

namespace tandem {

/// The version of this source tree, as in CMakeLists.txt.
inline constexpr const char* kVersion = "0.1.0";

}  // namespace tandem
