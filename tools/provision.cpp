#include "tandem/tools/provision.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <system_error>

#include "tandem/core/config/flags.h"
#include "tandem/core/config/program.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/transport/keys.h"
#include "tandem/tools/commands.h"

namespace tandem::tools {
namespace {

namespace fs = std::filesystem;

/// "tcp://HOST:PORT" -> HOST and PORT.
Result<std::pair<std::string, std::string>> split_endpoint(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  const bool well_formed = endpoint.starts_with("tcp://") && colon != std::string::npos && colon > 6 &&
                           colon + 1 < endpoint.size() &&
                           std::all_of(endpoint.begin() + static_cast<std::ptrdiff_t>(colon) + 1,
                                       endpoint.end(), [](unsigned char c) { return std::isdigit(c); });
  if (!well_formed) {
    return Error{
        ErrorCode::kInvalidArgument,
        "--endpoint is \"" + endpoint + "\", expected tcp://HOST:PORT, the address the devices connect to"};
  }
  return std::pair{endpoint.substr(6, colon - 6), endpoint.substr(colon + 1)};
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

Result<void> make_private_directory(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) fs::permissions(path, fs::perms::owner_all, error);
  if (error) return Error{ErrorCode::kIo, path.string() + ": cannot create this folder: " + error.message()};
  return {};
}

/// The key pair in `path`, made if it is not there yet.
Result<KeyPair> ensure_keys(const fs::path& path) {
  if (fs::exists(path)) return load_key_pair(path);
  KeyPair keys = generate_key_pair();
  if (auto saved = save_key_pair(path, keys); !saved) return saved.error();
  return keys;
}

Result<void> write_once(const fs::path& path, const std::string& text) {
  if (fs::exists(path)) return {};
  return write_file_atomically(path, {text}, 0600);
}

std::string aggregator_toml(const std::string& listen) {
  return "# Start-up kit of the aggregator: tandem-aggregator --config aggregator.toml --model cnn --cut 2 "
         "...\n"
         "# Every flag of tandem-aggregator may stand here; paths are relative to this file.\n"
         "endpoint = \"" +
         listen +
         "\"\n"
         "key-file = \"aggregator.key\"\n"
         "devices-file = \"devices.toml\"\n";
}

std::string edge_toml(const std::string& name, const std::string& endpoint, const std::string& server_key) {
  return "# Start-up kit of this device: tandem-edge --config edge.toml --data ...\n"
         "# Every flag of tandem-edge may stand here; paths are relative to this file.\n"
         "name = \"" +
         name +
         "\"\n"
         "endpoint = \"" +
         endpoint +
         "\"\n"
         "server-key = \"" +
         server_key +
         "\"\n"
         "key-file = \"device.key\"\n";
}

}  // namespace

Result<void> check_device_name(const std::string& name) {
  const bool well_formed = !name.empty() && name.size() <= 64 && name != "aggregator" && name[0] != '.' &&
                           std::all_of(name.begin(), name.end(), [](unsigned char c) {
                             return std::isalnum(c) || c == '-' || c == '_' || c == '.';
                           });
  if (well_formed) return {};
  return Error{ErrorCode::kInvalidArgument,
               "\"" + name +
                   "\": a device's name is 1 to 64 letters, digits, '-', '_' or '.', does not begin with '.' "
                   "and is not \"aggregator\""};
}

Result<void> provision(const ProvisionOptions& options) {
  if (options.devices.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--device is missing: give one for each device, as in --device cam-1 --device cam-2"};
  }
  for (const std::string& device : options.devices) {
    if (auto checked = check_device_name(device); !checked)
      return Error{checked.error().code, "--device " + checked.error().message};
  }
  const auto address = split_endpoint(options.endpoint);
  if (!address) return address.error();
  const auto& [host, port] = *address;
  std::string listen = options.listen;
  if (listen.empty()) listen = is_loopback(host) ? options.endpoint : "tcp://0.0.0.0:" + port;

  const fs::path aggregator = options.out / "aggregator";
  for (const fs::path& folder : {options.out, aggregator}) {
    if (auto made = make_private_directory(folder); !made) return made;
  }
  const auto server = ensure_keys(aggregator / "aggregator.key");
  if (!server) return server.error();

  DeviceList listed;
  if (fs::exists(aggregator / "devices.toml")) {
    auto loaded = load_device_list(aggregator / "devices.toml");
    if (!loaded) return loaded.error();
    listed = std::move(*loaded);
  }
  for (const std::string& device : options.devices) {
    const fs::path folder = options.out / device;
    if (auto made = make_private_directory(folder); !made) return made;
    const auto keys = ensure_keys(folder / "device.key");
    if (!keys) return keys.error();
    // A device has one key: one that was made anew replaces the lost one.
    std::erase_if(listed, [&](const auto& entry) { return entry.second.name == device; });
    listed[keys->public_key] = ClientId{device};
    if (auto written =
            write_once(folder / "edge.toml", edge_toml(device, options.endpoint, server->public_key));
        !written) {
      return written;
    }
  }
  if (auto saved = save_device_list(aggregator / "devices.toml", listed); !saved) return saved;
  return write_once(aggregator / "aggregator.toml", aggregator_toml(listen));
}

int provision_command(int argc, const char* const* argv) {
  Flags flags("tandem provision", "Makes a start-up kit a party: keys and ready configuration.");
  ProvisionOptions options{.out = "fleet", .endpoint = "tcp://127.0.0.1:5555"};
  flags.add_path("out", options.out, "Directory for the kits; devices are added to an existing one");
  flags.add("endpoint", options.endpoint, "Address the devices connect to: tcp://HOST:PORT");
  flags.add("listen", options.listen, "Address the aggregator listens on; empty derives it from --endpoint");
  flags.add("device", options.devices, "Name of a device; repeat for each");
  if (const auto status = flags.parse(argc, argv)) return *status;
  return run_program("tandem provision", 1, [&]() -> Result<int> {
    if (auto made = provision(options); !made) return made.error();
    std::printf("aggregator: %s\n", (options.out / "aggregator").c_str());
    for (const std::string& device : options.devices)
      std::printf("device:     %s\n", (options.out / device).c_str());
    std::printf("Copy each folder to its party and nowhere else: it holds a secret key.\n");
    return kExitDone;
  });
}

}  // namespace tandem::tools
