#pragma once

#include "tandem/core/base/result.h"
#include "tandem/core/transport/zmq_server.h"

/// Not installed; for ZmqServer and its tests.
namespace tandem::transport_detail {

/// Raises this process's limit of open files, since a connection is one, and checks that there is room for
/// the connections that were asked for, or for every listed device. kNetwork names the option and what to do.
Result<void> check_connection_room(const ZmqServerOptions& options);

/// How many connections a server with these options takes at a time: what it wants where there is room for
/// it, else less, which the log then says. Where no more files may be opened libzmq's accept() would fail
/// again and again. At least 1.
int connection_limit(const ZmqServerOptions& options);

}  // namespace tandem::transport_detail
