#pragma once

#include <chrono>
#include <functional>

#include "tandem/core/base/endpoint.h"
#include "tandem/core/transport/zmq_detail.h"

/// Not installed; for ZmqClient and its tests.
namespace tandem::transport_detail {

/// Whether a ZeroMQ program answers at `address`. Connects and waits for the signature with which each side
/// of a ZMTP connection begins without being asked. A port forwarder whose target is down accepts connections
/// too, but it has no signature. Waits for `limit` at most; whenever `wake` is signalled it asks `stopped`,
/// and returns false when that says so.
bool speaks_zmtp(const TcpEndpoint& address, std::chrono::milliseconds limit, WakeUp& wake,
                 const std::function<bool()>& stopped);

}  // namespace tandem::transport_detail
