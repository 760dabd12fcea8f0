#pragma once

#include "tandem/core/base/result.h"
#include "tandem/core/transport/zmq_client.h"
#include "tandem/core/transport/zmq_server.h"

/// Not installed; for ZmqClient and ZmqServer.
namespace tandem::transport_detail {

/// kInvalidArgument names the first option that is wrong and what was expected.
Result<void> check(const ZmqClientOptions& options);
Result<void> check(const ZmqServerOptions& options);

}  // namespace tandem::transport_detail
