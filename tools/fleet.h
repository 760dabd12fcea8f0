#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/storage/file_lock.h"

/// What a fleet's folder holds: one folder a party, `aggregator` and each device's kit.
namespace tandem::tools {

struct FleetPaths {
  std::filesystem::path fleet;

  std::filesystem::path aggregator() const { return fleet / "aggregator"; }
  std::filesystem::path server_key() const { return aggregator() / "aggregator.key"; }
  std::filesystem::path device_list() const { return aggregator() / "devices.toml"; }
  std::filesystem::path aggregator_toml() const { return aggregator() / "aggregator.toml"; }
  std::filesystem::path kit(const std::string& device) const { return fleet / device; }
  std::filesystem::path device_key(const std::string& device) const { return kit(device) / "device.key"; }
  std::filesystem::path edge_toml(const std::string& device) const { return kit(device) / "edge.toml"; }
};

/// A device's kit as its edge.toml has it; what that does not say is empty.
struct Kit {
  std::string device;  ///< the folder's name
  std::string endpoint;
  std::string server_key;
};

/// Takes the lock that everybody holds who changes the fleet's keys, kits or device list; the folder of the
/// aggregator must exist. While another program holds it, a log line says which, and this waits. The
/// aggregator reads the list without it: the list is replaced in one step.
Result<FileLock> lock_fleet(const FleetPaths& paths);

/// The kits in the fleet's folder, ordered by name. kInvalidArgument names a file that is no TOML and its
/// line.
Result<std::vector<Kit>> read_kits(const FleetPaths& paths);

/// The value of `endpoint` in a TOML file; empty when it has none.
Result<std::string> endpoint_in(const std::filesystem::path& toml_file);

/// Writes another endpoint into a TOML file and leaves everything else in it as it is. kInvalidArgument when
/// the file has no endpoint on a line of its own.
Result<void> replace_endpoint(const std::filesystem::path& toml_file, const std::string& endpoint);

/// "a, b and c"; of more than five names the rest is counted.
std::string names_text(const std::vector<std::string>& names);

}  // namespace tandem::tools
