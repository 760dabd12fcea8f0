#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem::tools {

struct ProvisionOptions {
  /// Directory for the kits, one folder a party: `aggregator` and each device's name.
  std::filesystem::path out;
  /// Address the devices connect to.
  std::string endpoint;
  /// Address the aggregator listens on; empty derives it: the same for a loopback endpoint, otherwise
  /// every interface at that port.
  std::string listen;
  std::vector<std::string> devices;
};

/// A device's name names a folder and a key of the list; kInvalidArgument quotes it and says what it may be.
Result<void> check_device_name(const std::string& name);

/// Makes a start-up kit for each party: key pairs (files 0600, folders 0700), the device list, and TOML
/// files ready for --config. Into an existing fleet it adds the devices that are new, keeps every key, and
/// changes nothing else. kInvalidArgument names a bad device name or endpoint.
Result<void> provision(const ProvisionOptions& options);

}  // namespace tandem::tools
