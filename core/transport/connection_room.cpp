#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "tandem/core/base/open_files.h"
#include "tandem/core/transport/connection_room_detail.h"
#include "tandem/core/transport/gatekeeper_detail.h"

namespace tandem::transport_detail {
namespace {

// Without a device list there is nothing to derive a number from.
constexpr int kInsecureConnections = 4096;
// Files that are no connections: libraries, libzmq's own, the run's.
constexpr int64_t kOtherFiles = 128;

int wanted_connections(const ZmqServerOptions& options) {
  if (options.max_connections > 0) return options.max_connections;
  return options.insecure ? kInsecureConnections : connection_limit_for(options.devices.size());
}

/// Raises the limit of open files for that many connections, and says how many there may be.
int64_t room_for(int64_t connections) {
  return raise_open_files(connections + kOtherFiles) - kOtherFiles;
}

std::string too_little_room(int64_t wanted, int64_t room) {
  return std::to_string(wanted) + " connections need " + std::to_string(wanted + kOtherFiles) +
         " open files and this process may have " + std::to_string(room + kOtherFiles) +
         "; raise its limit (ulimit -Hn, LimitNOFILE= of a systemd unit)";
}

}  // namespace

Result<void> check_connection_room(const ZmqServerOptions& options) {
  const bool asked = options.max_connections > 0;
  const int64_t needed = asked ? options.max_connections : static_cast<int64_t>(options.devices.size());
  const int64_t room = room_for(needed);
  if (room >= needed) return {};
  return Error{ErrorCode::kNetwork,
               (asked ? "--limits connections: " : "the device list: ") + too_little_room(needed, room)};
}

int connection_limit(const ZmqServerOptions& options) {
  const int64_t wanted = wanted_connections(options);
  const int64_t room = room_for(wanted);
  const int64_t fit = std::clamp<int64_t>(room, 1, wanted);
  if (fit < wanted) spdlog::warn("at most {} connections at a time: {}", fit, too_little_room(wanted, room));
  return static_cast<int>(fit);
}

}  // namespace tandem::transport_detail
