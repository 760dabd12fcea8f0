#include "tandem/aggregator/program/aggregator_flags.h"
#include "tandem/core/base/endpoint.h"
#include "tandem/core/program/link_options.h"

namespace tandem::aggregator {

using Kind = FormParameter::Kind;

const std::vector<Form>& limit_forms(bool has_network) {
  const FormParameter mistakes = {
      "mistakes",
      Kind::kWhole,
      {0, 2147483647},
      "20",
      "messages that make no sense after which nothing of a client is taken any more; 0: never"};
  static const std::vector<Form> simulated = {{"", "", {mistakes}}};
  static const std::vector<Form> all = {
      {"",
       "",
       {frame_limit("a device"),
        {"connections",
         Kind::kWhole,
         {0, 2147483647},
         "0",
         "at a time, also of strangers; 0: two for each listed device and 16, at least 64"},
        mistakes}}};
  return has_network ? all : simulated;
}

Result<PeerLimits> parse_limits(const std::string& text, bool has_network) {
  const auto form = parse_form("--limits", text, limit_forms(has_network));
  if (!form) return form.error();
  PeerLimits limits{.quarantine_after = static_cast<int>(form->whole("mistakes"))};
  if (!has_network) return limits;
  limits.max_frame_bytes = form->whole("frame-mib") << 20;
  limits.max_connections = static_cast<int>(form->whole("connections"));
  return limits;
}

void NetworkFlags::add_to(Flags& flags) {
  flags.section("network", "Network");
  flags
      .add("endpoint", endpoint,
           "Address to listen on, such as tcp://192.0.2.1:5555, tcp://[::1]:5555 or tcp://*:5555 (every "
           "address)")
      .not_of_the_run();
  flags.add_path("key-file", key_file, "This aggregator's key pair (made by tandem provision)")
      .not_of_the_run();
  flags
      .add_path("devices-file", devices_file,
                "List of the devices that may connect; a change takes effect within a second")
      .not_of_the_run();
  flags.add("insecure", insecure, "No encryption and no authentication; loopback addresses only")
      .not_of_the_run()
      .checked_by([this]() -> Result<void> {
        if (!insecure || (key_file.empty() && devices_file.empty())) return {};
        return Error{ErrorCode::kInvalidArgument,
                     "--insecure and " + std::string(key_file.empty() ? "--devices-file" : "--key-file") +
                         " cannot be combined: without encryption nobody shows a key and anybody is let in; "
                         "leave out --insecure (or, for a trial, the keys and the device list)"};
      });
  flags.add("limits", limits, "What is borne from peers")
      .takes(limit_forms(/*has_network=*/true))
      .not_of_the_run()
      .replaces("max-frame-mib", "frame-mib")
      .replaces("max-connections", "connections")
      .replaces("quarantine-after", "mistakes");
  flags.add_path("endpoint-file", endpoint_file, "Write the address that was bound to this file (for port *)")
      .not_of_the_run();
  add_fault(flags, fault);
}

Result<FaultOptions> NetworkFlags::fault_options() const {
  return parse_fault_option(fault);
}

Result<ZmqServerOptions> NetworkFlags::server_options(uint32_t window) const {
  if (auto checked = parse_endpoint("--endpoint", endpoint, EndpointUse::kListen); !checked)
    return checked.error();
  ZmqServerOptions options;
  options.endpoint = endpoint;
  options.insecure = insecure;
  const auto peers = parse_limits(limits, /*has_network=*/true);
  if (!peers) return peers.error();
  options.max_frame_bytes = peers->max_frame_bytes;
  options.max_connections = peers->max_connections;
  options.high_water_mark = static_cast<int>(window) + 2;
  if (insecure) return options;
  if (key_file.empty() || devices_file.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--key-file and --devices-file are missing; \"tandem provision\" makes both and a "
                 "configuration for --config (or --insecure on a loopback address, for a trial)"};
  }
  auto keys = load_key_pair(key_file);
  if (!keys) return keys.error();
  auto devices = load_device_list(devices_file);
  if (!devices) return devices.error();
  options.keys = std::move(*keys);
  options.devices = std::move(*devices);
  return options;
}

}  // namespace tandem::aggregator
