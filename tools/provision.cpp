#include "tandem/tools/provision.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "tandem/core/base/endpoint.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/program/program.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/transport/keys.h"
#include "tandem/tools/commands.h"
#include "tandem/tools/fleet.h"

namespace tandem::tools {
namespace {

namespace fs = std::filesystem;

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

/// Where the aggregator listens for devices that connect to `endpoint`.
std::string derived_listen(const std::string& endpoint) {
  const auto parsed = parse_endpoint("endpoint", endpoint, EndpointUse::kConnect);
  if (!parsed || parsed->is_loopback()) return endpoint;
  if (parsed->is_ipv6()) return "tcp://[::]:" + parsed->port;
  // A name may have addresses of either family.
  return (parsed->is_address() ? "tcp://0.0.0.0:" : "tcp://*:") + parsed->port;
}

/// "cam-1 and cam-2 to KEY, cam-3 to ANOTHER": which kits are pinned to which server key, but for those that
/// are pinned to `but_for`. Empty when there are none.
std::string pins_text(const std::vector<Kit>& kits, const std::string& but_for) {
  std::map<std::string, std::vector<std::string>> devices_by_key;
  for (const Kit& kit : kits)
    if (!kit.server_key.empty() && kit.server_key != but_for)
      devices_by_key[kit.server_key].push_back(kit.device);
  std::string text;
  for (const auto& [key, devices] : devices_by_key)
    text += (text.empty() ? "" : ", ") + names_text(devices) + " to " + key;
  return text;
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

/// A server key that is made anew locks out whoever is pinned to the old one. Needs no lock: a key is written
/// before anything that depends on it, so it is looked for last.
Result<void> check_server_key_is_not_lost(const FleetPaths& paths) {
  const auto kits = read_kits(paths);
  if (!kits) return kits.error();
  const std::string pins = pins_text(*kits, "");
  const bool has_list = fs::exists(paths.device_list());
  if ((pins.empty() && !has_list) || fs::exists(paths.server_key())) return {};
  const std::string dependents =
      pins.empty() ? "the devices in " + paths.device_list().string() + " are pinned to it"
                   : "the kits in " + paths.fleet.string() + " are pinned to public keys: " + pins;
  const std::string to_delete = std::string(pins.empty() ? "" : "those kits") +
                                (pins.empty() || !has_list ? "" : " and ") +
                                (has_list ? paths.device_list().string() : "");
  return Error{ErrorCode::kRefused, paths.server_key().string() + " is missing, and " + dependents +
                                        ". A new server key would lock these devices out; put " +
                                        paths.aggregator().string() +
                                        " back from a copy. To give the fleet a new server key, delete " +
                                        to_delete + ", run this again and copy every new kit to its device"};
}

/// One change of a fleet whose lock is held: reads everything, checks everything, then writes.
class Provisioning {
 public:
  Provisioning(const FleetPaths& paths, const ProvisionOptions& options)
      : paths_(paths),
        options_(options),
        names_(options.devices.begin(), options.devices.end()),
        is_new_(!fs::exists(paths.device_list())) {}

  Result<Notes> run() {
    for (const auto step :
         {&Provisioning::read, &Provisioning::check_pins, &Provisioning::check_list,
          &Provisioning::check_devices, &Provisioning::find_endpoint, &Provisioning::write}) {
      if (auto done = (this->*step)(); !done) return done.error();
    }
    return std::move(notes_);
  }

 private:
  Result<void> read();
  Result<void> check_pins();
  Result<void> check_list();
  Result<void> check_devices();
  Result<void> check_device(const std::string& device, const KeyPair& keys);
  Result<void> find_endpoint();
  Result<void> write();
  Result<void> write_kit(const std::string& device);
  Result<void> write_aggregator_toml();

  const FleetPaths& paths_;
  const ProvisionOptions& options_;
  const std::set<std::string> names_;
  const bool is_new_;  // without a device list
  std::optional<KeyPair> server_;
  std::vector<Kit> kits_;
  DeviceList listed_;
  std::map<std::string, std::string> listed_keys_;  // by name
  std::string endpoint_;
  Notes notes_;
};

Result<void> Provisioning::read() {
  auto kits = read_kits(paths_);
  if (!kits) return kits.error();
  kits_ = std::move(*kits);
  if (fs::exists(paths_.server_key())) {
    auto server = load_key_pair(paths_.server_key());
    if (!server) return server.error();
    server_ = std::move(*server);
  }
  if (is_new_) return {};
  auto listed = load_device_list(paths_.device_list());
  if (!listed) return listed.error();
  listed_ = std::move(*listed);
  for (const auto& [key, client] : listed_) listed_keys_[client.name] = key;
  return {};
}

Result<void> Provisioning::check_pins() {
  const std::string strangers = server_ ? pins_text(kits_, server_->public_key) : "";
  if (strangers.empty()) return {};
  return Error{ErrorCode::kRefused,
               "kits in " + paths_.fleet.string() + " are pinned to another server key than " +
                   paths_.server_key().string() + " has (" + server_->public_key + "): " + strangers +
                   ". Their devices refuse this aggregator; put the aggregator's folder back with which they "
                   "were made, or delete these kits, revoke the devices and make new kits"};
}

/// A list that is made anew admits nobody else.
Result<void> Provisioning::check_list() {
  if (!is_new_) return {};
  std::vector<std::string> forgotten;
  for (const Kit& kit : kits_)
    if (!names_.contains(kit.device)) forgotten.push_back(kit.device);
  if (forgotten.empty()) return {};
  return Error{
      ErrorCode::kRefused,
      paths_.device_list().string() + " is missing, and a new list without " + names_text(forgotten) +
          ", whose kits are in " + paths_.fleet.string() +
          ", would lock them out; put the list back from a copy, or give --device for each device that "
          "may connect (a kit that is there keeps its key) and delete the kits of those that may not"};
}

Result<void> Provisioning::check_devices() {
  std::vector<std::string> elsewhere;
  for (const std::string& device : names_) {
    if (!fs::exists(paths_.device_key(device))) {
      if (listed_keys_.contains(device)) elsewhere.push_back(device);
      continue;
    }
    const auto keys = load_key_pair(paths_.device_key(device));
    if (!keys) return keys.error();
    if (auto checked = check_device(device, *keys); !checked) return checked;
  }
  if (elsewhere.empty()) return {};
  return Error{
      ErrorCode::kRefused,
      names_text(elsewhere) + (elsewhere.size() == 1 ? " is" : " are") + " listed in " +
          paths_.device_list().string() + " already, and the kit is not in " + paths_.fleet.string() +
          " any more (moved to its device?): a new key would lock the device out. Leave the name out; or, "
          "to replace a lost kit, run tandem devices revoke NAME --fleet " +
          paths_.fleet.string() + " first. Nothing was changed"};
}

Result<void> Provisioning::check_device(const std::string& device, const KeyPair& keys) {
  const fs::path file = paths_.device_key(device);
  const auto same_key = listed_.find(keys.public_key);
  if (same_key != listed_.end() && same_key->second.name != device) {
    return Error{ErrorCode::kRefused, file.string() + " holds the key that is listed for " +
                                          same_key->second.name +
                                          ": each device needs a key of its own; delete the folder " +
                                          paths_.kit(device).string() + " to make one"};
  }
  const auto listed = listed_keys_.find(device);
  if (listed != listed_keys_.end() && listed->second != keys.public_key) {
    return Error{ErrorCode::kRefused, device + " is listed with the key " + listed->second + ", and " +
                                          file.string() + " holds another one (" + keys.public_key +
                                          "); to list that one, run tandem devices revoke " + device +
                                          " --fleet " + paths_.fleet.string() + " first"};
  }
  return {};
}

Result<void> Provisioning::find_endpoint() {
  std::set<std::string> endpoints;
  for (const Kit& kit : kits_)
    if (!kit.endpoint.empty()) endpoints.insert(kit.endpoint);
  if (!options_.endpoint.empty()) {
    endpoint_ = options_.endpoint;
  } else if (endpoints.size() == 1) {
    endpoint_ = *endpoints.begin();
    const auto checked = parse_endpoint("the endpoint of the kits in " + paths_.fleet.string(), endpoint_,
                                        EndpointUse::kConnect);
    if (!checked) return checked.error();
  } else if (endpoints.empty() && is_new_) {
    endpoint_ = kDefaultEndpoint;
  } else {
    return Error{ErrorCode::kInvalidArgument,
                 "--endpoint is missing, and it cannot be taken from the other devices: " +
                     std::string(endpoints.empty() ? "no kit in " : "the kits disagree in ") +
                     paths_.fleet.string() + "; give the address the devices connect to, tcp://HOST:PORT"};
  }
  return {};
}

Result<void> Provisioning::write() {
  if (!server_) {
    server_ = generate_key_pair();
    if (auto saved = save_key_pair(paths_.server_key(), *server_); !saved) return saved;
  } else if (is_new_ && fs::exists(paths_.aggregator_toml())) {
    notes_.push_back(paths_.device_list().string() +
                     " was missing and is made anew: only the devices named here may connect");
  }
  for (const std::string& device : names_) {
    if (auto written = write_kit(device); !written) return written;
  }
  if (auto saved = save_device_list(paths_.device_list(), listed_); !saved) return saved;
  return write_aggregator_toml();
}

Result<void> Provisioning::write_kit(const std::string& device) {
  if (auto made = make_private_directory(paths_.kit(device)); !made) return made;
  const auto keys = ensure_keys(paths_.device_key(device));
  if (!keys) return keys.error();
  listed_[keys->public_key] = ClientId{device};
  const auto kit =
      std::find_if(kits_.begin(), kits_.end(), [&](const Kit& known) { return known.device == device; });
  if (kit == kits_.end()) {
    return write_file_atomically(paths_.edge_toml(device),
                                 {edge_toml(device, endpoint_, server_->public_key)}, 0600);
  }
  if (options_.endpoint.empty() || kit->endpoint == endpoint_) return {};
  if (auto replaced = replace_endpoint(paths_.edge_toml(device), endpoint_); !replaced) return replaced;
  notes_.push_back("changed: " + paths_.edge_toml(device).string() + " connects to " + endpoint_ +
                   ", before to " + kit->endpoint + "; copy it to its device again");
  return {};
}

Result<void> Provisioning::write_aggregator_toml() {
  const fs::path file = paths_.aggregator_toml();
  if (!fs::exists(file)) {
    const std::string listen = options_.listen.empty() ? derived_listen(endpoint_) : options_.listen;
    return write_file_atomically(file, {aggregator_toml(listen)}, 0600);
  }
  const auto present = endpoint_in(file);
  if (!present) return present.error();
  if (!options_.listen.empty() && *present != options_.listen) {
    if (auto replaced = replace_endpoint(file, options_.listen); !replaced) return replaced;
    notes_.push_back("changed: " + file.string() + " listens on " + options_.listen + ", before on " +
                     *present + "; start the aggregator again");
    return {};
  }
  const auto listens = parse_endpoint("endpoint", *present, EndpointUse::kListen);
  const auto connects = parse_endpoint("endpoint", endpoint_, EndpointUse::kConnect);
  if (listens && connects && listens->port != "*" && listens->port != connects->port) {
    notes_.push_back("the aggregator listens on " + *present + " (" + file.string() +
                     ") and these devices connect to port " + connects->port +
                     ": something has to forward it, or give --listen");
  }
  return {};
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

Result<Notes> provision(const ProvisionOptions& options) {
  if (options.devices.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--device is missing: give one for each device, as in --device cam-1 --device cam-2"};
  }
  for (const std::string& device : options.devices) {
    if (auto checked = check_device_name(device); !checked)
      return Error{checked.error().code, "--device " + checked.error().message};
  }
  if (!options.endpoint.empty()) {
    const auto checked = parse_endpoint("--endpoint", options.endpoint, EndpointUse::kConnect);
    if (!checked) return checked.error();
  }
  if (!options.listen.empty()) {
    const auto checked = parse_endpoint("--listen", options.listen, EndpointUse::kListen);
    if (!checked) return checked.error();
  }
  const FleetPaths paths{options.out};
  if (auto checked = check_server_key_is_not_lost(paths); !checked) return checked.error();
  for (const fs::path& folder : {paths.fleet, paths.aggregator()}) {
    if (auto made = make_private_directory(folder); !made) return made.error();
  }
  const auto lock = lock_fleet(paths);
  if (!lock) return lock.error();
  return Provisioning(paths, options).run();
}

int provision_command(int argc, const char* const* argv) {
  Flags flags("tandem provision", "Makes a start-up kit a party: keys and ready configuration.");
  ProvisionOptions options{.out = "fleet"};
  flags.add_path("out", options.out, "Directory for the kits; devices are added to an existing one");
  flags.add("endpoint", options.endpoint,
            "Address the devices connect to, tcp://HOST:PORT; empty takes that of the fleet's other kits, "
            "tcp://127.0.0.1:5555 in a new fleet");
  flags.add("listen", options.listen,
            "Address the aggregator listens on; empty derives it from --endpoint in a new fleet");
  flags.add("device", options.devices, "Name of a device; repeat for each");
  if (const auto status = flags.parse(argc, argv)) return *status;
  return run_program("tandem provision", 1, [&]() -> Result<int> {
    const auto notes = provision(options);
    if (!notes) return notes.error();
    std::printf("aggregator: %s\n", (options.out / "aggregator").c_str());
    for (const std::string& device : options.devices)
      std::printf("device:     %s\n", (options.out / device).c_str());
    for (const std::string& note : *notes) std::printf("%s\n", note.c_str());
    std::printf("Copy each folder to its party and nowhere else: it holds a secret key.\n");
    return kExitDone;
  });
}

}  // namespace tandem::tools
