#include "tandem/tools/devices.h"

#include <toml++/toml.h>

#include <algorithm>
#include <set>
#include <system_error>

#include "tandem/core/config/specification.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/tools/provision.h"

namespace tandem::tools {
namespace {

namespace fs = std::filesystem;

fs::path list_of(const fs::path& fleet) {
  return fleet / "aggregator" / "devices.toml";
}

/// The endpoint in a device's kit; empty when the file has none.
Result<std::string> endpoint_of(const fs::path& kit) {
  const auto text = read_file(kit);
  if (!text) return text.error();
  try {
    const toml::table table = toml::parse(*text);
    return table["endpoint"].value_or(std::string());
  } catch (const toml::parse_error& error) {
    return Error{ErrorCode::kInvalidArgument, kit.string() + ": line " +
                                                  std::to_string(error.source().begin.line) + ": " +
                                                  std::string(error.description())};
  }
}

/// What the kits in the fleet's folder say.
Result<std::string> endpoint_of_fleet(const fs::path& fleet) {
  std::set<std::string> endpoints;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(fleet, error)) {
    const fs::path kit = entry.path() / "edge.toml";
    if (!fs::exists(kit, error)) continue;
    auto endpoint = endpoint_of(kit);
    if (!endpoint) return endpoint;
    if (!endpoint->empty()) endpoints.insert(*endpoint);
  }
  if (endpoints.size() == 1) return *endpoints.begin();
  const char* why = endpoints.empty() ? "no kit in " : "the kits disagree in ";
  return Error{ErrorCode::kInvalidArgument,
               "--endpoint is missing, and it cannot be taken from the other devices: " + std::string(why) +
                   fleet.string() + "; give the address the devices connect to, tcp://HOST:PORT"};
}

std::vector<std::string> names_of(const DeviceList& devices) {
  std::vector<std::string> names;
  for (const auto& [key, client] : devices) names.push_back(client.name);
  return names;
}

}  // namespace

Result<DeviceList> fleet_devices(const fs::path& fleet) {
  std::error_code error;
  if (!fs::exists(list_of(fleet), error)) {
    return Error{ErrorCode::kNotFound,
                 "--fleet " + fleet.string() + ": there is no fleet, " + list_of(fleet).string() +
                     " does not exist; tandem provision --out " + fleet.string() + " makes one"};
  }
  return load_device_list(list_of(fleet));
}

Result<void> add_devices(const fs::path& fleet, const std::vector<std::string>& names,
                         const std::string& endpoint) {
  for (const std::string& name : names) {
    if (auto checked = check_device_name(name); !checked) return checked;
  }
  if (const auto devices = fleet_devices(fleet); !devices) return devices.error();
  std::string connect_to = endpoint;
  if (connect_to.empty()) {
    auto derived = endpoint_of_fleet(fleet);
    if (!derived) return derived.error();
    connect_to = std::move(*derived);
  }
  return provision({.out = fleet, .endpoint = connect_to, .devices = names});
}

Result<void> revoke_devices(const fs::path& fleet, const std::vector<std::string>& names) {
  auto devices = fleet_devices(fleet);
  if (!devices) return devices.error();
  const std::vector<std::string> listed = names_of(*devices);
  for (const std::string& name : std::set<std::string>(names.begin(), names.end())) {
    if (std::find(listed.begin(), listed.end(), name) == listed.end()) {
      const auto near = nearest_name(name, listed);
      return Error{ErrorCode::kNotFound, "\"" + name + "\" is not in " + list_of(fleet).string() +
                                             (near ? "; did you mean \"" + *near + "\"?" : ".") +
                                             " Nothing was changed"};
    }
    std::erase_if(*devices, [&](const auto& entry) { return entry.second.name == name; });
  }
  return save_device_list(list_of(fleet), *devices);
}

}  // namespace tandem::tools
