#include "tandem/tools/devices.h"

#include <algorithm>
#include <set>
#include <system_error>

#include "tandem/core/base/specification.h"
#include "tandem/tools/fleet.h"

namespace tandem::tools {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_of(const DeviceList& devices) {
  std::vector<std::string> names;
  for (const auto& [key, client] : devices) names.push_back(client.name);
  return names;
}

}  // namespace

Result<DeviceList> fleet_devices(const fs::path& fleet) {
  const fs::path list = FleetPaths{fleet}.device_list();
  std::error_code error;
  if (!fs::exists(list, error)) {
    return Error{ErrorCode::kNotFound, "--fleet " + fleet.string() + ": there is no fleet, " + list.string() +
                                           " does not exist; tandem provision --out " + fleet.string() +
                                           " makes one"};
  }
  return load_device_list(list);
}

Result<Notes> add_devices(const fs::path& fleet, const std::vector<std::string>& names,
                          const std::string& endpoint) {
  for (const std::string& name : names) {
    if (auto checked = check_device_name(name); !checked) return checked.error();
  }
  if (const auto devices = fleet_devices(fleet); !devices) return devices.error();
  return provision({.out = fleet, .endpoint = endpoint, .devices = names});
}

Result<void> revoke_devices(const fs::path& fleet, const std::vector<std::string>& names) {
  if (const auto checked = fleet_devices(fleet); !checked) return checked.error();
  const FleetPaths paths{fleet};
  const auto lock = lock_fleet(paths);
  if (!lock) return lock.error();
  auto devices = fleet_devices(fleet);  // as whoever held the lock left it
  if (!devices) return devices.error();
  const std::vector<std::string> listed = names_of(*devices);
  for (const std::string& name : std::set<std::string>(names.begin(), names.end())) {
    if (std::find(listed.begin(), listed.end(), name) == listed.end()) {
      const auto near = nearest_name(name, listed);
      return Error{ErrorCode::kNotFound, "\"" + name + "\" is not in " + paths.device_list().string() +
                                             (near ? "; did you mean \"" + *near + "\"?" : ".") +
                                             " Nothing was changed"};
    }
    std::erase_if(*devices, [&](const auto& entry) { return entry.second.name == name; });
  }
  return save_device_list(paths.device_list(), *devices);
}

}  // namespace tandem::tools
