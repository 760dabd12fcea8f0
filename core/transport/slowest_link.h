#pragma once

#include <cstdint>

namespace tandem {

/// What crosses a link more slowly than this (32 kbit/s) is no transfer that anybody waits for: whoever sends
/// a byte now and then gains nothing by it. Heartbeats and libzmq's pings take a quarter of it.
inline constexpr int64_t kSlowestLinkBytesPerSecond = 4096;

}  // namespace tandem
