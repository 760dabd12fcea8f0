#include <algorithm>
#include <chrono>
#include <string>

#include "tandem/core/base/endpoint.h"
#include "tandem/core/transport/zmq_options_detail.h"

namespace tandem::transport_detail {

using std::chrono::milliseconds;

Result<void> check(const ZmqClientOptions& options) {
  const auto invalid = [](const std::string& text) { return Error{ErrorCode::kInvalidArgument, text}; };
  const auto endpoint = parse_endpoint("endpoint", options.endpoint, EndpointUse::kConnect);
  if (!endpoint) return endpoint.error();
  if (options.max_frame_bytes < 1) return invalid("ZmqClientOptions.max_frame_bytes must be >= 1");
  if (options.high_water_mark < 1) return invalid("ZmqClientOptions.high_water_mark must be >= 1");
  if (std::min({options.reconnect_first, options.reconnect_max, options.heartbeat_interval}) <
      milliseconds(1))
    return invalid("ZmqClientOptions: intervals must be >= 1 ms");
  if (options.insecure) {
    if (!endpoint->is_loopback())
      return invalid(
          "without encryption the client connects to loopback only (127.0.0.0/8, localhost, [::1]), not to " +
          options.endpoint);
    if (!is_device_name(options.insecure_name))
      return invalid("ZmqClientOptions.insecure_name must have 1 to 64 characters and no control characters");
    return {};
  }
  if (!is_z85_key(options.server_public_key))
    return invalid("the server's public key is not a Z85 key of 40 characters");
  if (!is_z85_key(options.keys.public_key) || !is_z85_key(options.keys.secret_key))
    return invalid("the device's keys are not Z85 keys of 40 characters");
  return {};
}

Result<void> check(const ZmqServerOptions& options) {
  const auto invalid = [](const std::string& text) { return Error{ErrorCode::kInvalidArgument, text}; };
  const auto endpoint = parse_endpoint("endpoint", options.endpoint, EndpointUse::kListen);
  if (!endpoint) return endpoint.error();
  if (options.max_frame_bytes < 1) return invalid("ZmqServerOptions.max_frame_bytes must be >= 1");
  if (options.high_water_mark < 1) return invalid("ZmqServerOptions.high_water_mark must be >= 1");
  if (options.max_connections < 0) return invalid("ZmqServerOptions.max_connections must be >= 0");
  if (options.heartbeat_interval < milliseconds(1))
    return invalid("ZmqServerOptions.heartbeat_interval must be >= 1 ms");
  if (options.insecure && !endpoint->is_loopback())
    return invalid(
        "without encryption the server listens on loopback only (127.0.0.0/8, localhost, [::1]), not on " +
        options.endpoint);
  if (!options.insecure && (!is_z85_key(options.keys.public_key) || !is_z85_key(options.keys.secret_key)))
    return invalid("the server's keys are not Z85 keys of 40 characters");
  return {};
}

}  // namespace tandem::transport_detail
