#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/transport/keys.h"
#include "tandem/tools/provision.h"

namespace tandem::tools {

/// The devices of a fleet, as its aggregator's list has them. A folder without a list is kNotFound and says
/// how to make one.
Result<DeviceList> fleet_devices(const std::filesystem::path& fleet);

/// Makes kits for devices and lists them, as provision() does into an existing fleet.
Result<Notes> add_devices(const std::filesystem::path& fleet, const std::vector<std::string>& names,
                          const std::string& endpoint);

/// Takes devices off the list, all or none, in one step for whoever reads it; their kits stay. A name that is
/// not listed is kNotFound, with the nearest that is. One program at a time changes a fleet; others wait.
Result<void> revoke_devices(const std::filesystem::path& fleet, const std::vector<std::string>& names);

}  // namespace tandem::tools
