#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/transport/keys.h"

namespace tandem::tools {

/// The devices of a fleet, as its aggregator's list has them. A folder without a list is kNotFound and says
/// how to make one.
Result<DeviceList> fleet_devices(const std::filesystem::path& fleet);

/// Makes kits for devices and lists them, as provision() does into an existing fleet: a kit that is there
/// keeps its key. `endpoint`, where the devices connect to, may be empty when the kits in the fleet agree on
/// it. kInvalidArgument names a bad name, or says that the endpoint cannot be derived.
Result<void> add_devices(const std::filesystem::path& fleet, const std::vector<std::string>& names,
                         const std::string& endpoint);

/// Takes devices off the list, all or none, in one step for whoever reads it; their kits stay. A name that is
/// not listed is kNotFound, with the nearest that is.
Result<void> revoke_devices(const std::filesystem::path& fleet, const std::vector<std::string>& names);

}  // namespace tandem::tools
