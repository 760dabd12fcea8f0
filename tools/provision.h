#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem::tools {

struct ProvisionOptions {
  /// Directory for the kits, one folder a party: `aggregator` and each device's name.
  std::filesystem::path out;
  /// Address the devices connect to. Empty: that of the kits in an existing fleet, kDefaultEndpoint in a new
  /// one.
  std::string endpoint;
  /// Address the aggregator listens on. Empty derives it in a new fleet: the same for a loopback endpoint,
  /// otherwise every address at that port, of the endpoint's family where that is a numeric address.
  std::string listen;
  std::vector<std::string> devices;
};

inline constexpr char kDefaultEndpoint[] = "tcp://127.0.0.1:5555";

/// What was changed beside new kits and what the operator has to know, one line each.
using Notes = std::vector<std::string>;

/// A device's name names a folder and a key of the list; kInvalidArgument quotes it and says what it may be.
Result<void> check_device_name(const std::string& name);

/// Makes a start-up kit for each party: key pairs (files 0600, folders 0700), the device list, and TOML
/// files ready for --config. Into an existing fleet it adds the devices that are new. Where a kit or
/// aggregator.toml is there already, only its endpoint is changed to a given one, and a note says so.
///
/// No key is ever replaced. kRefused names the devices and says what to do, before anything is changed, where
/// a device is listed and its kit is elsewhere, where kits are pinned to another server key than the
/// aggregator has, or the server key or the list is missing while devices depend on it. kInvalidArgument
/// names a bad device name or endpoint. One program at a time changes a fleet; others wait. What an
/// interrupted call leaves behind, the next one completes.
Result<Notes> provision(const ProvisionOptions& options);

}  // namespace tandem::tools
