#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "tandem/core/program/flags.h"
#include "tandem/core/program/program.h"
#include "tandem/tools/commands.h"
#include "tandem/tools/devices.h"

namespace tandem::tools {
namespace {

constexpr char kUsage[] =
    "Usage: tandem devices add NAME... --fleet FOLDER\n"
    "       tandem devices revoke NAME... --fleet FOLDER\n"
    "       tandem devices list --fleet FOLDER\n\n"
    "Changes who may connect. A running aggregator follows its list within a second: a new device gets in, "
    "a\n"
    "revoked one loses its connection. tandem devices add --help, and so on, says more.\n";

/// A subcommand's flags; each has the fleet.
struct DevicesFlags {
  Flags flags;
  std::filesystem::path fleet = "fleet";
  std::vector<std::string> names;

  DevicesFlags(const char* program, const char* description) : flags(program, description) {
    flags.add_path("fleet", fleet, "Folder that tandem provision made");
  }
  void take_names() { flags.add_positional("name", names, "Name of a device; one or more"); }
};

int add(int argc, const char* const* argv) {
  DevicesFlags given("tandem devices add", "Makes kits for new devices and lists them.");
  std::string endpoint;
  given.take_names();
  given.flags.add("endpoint", endpoint,
                  "Address the devices connect to: tcp://HOST:PORT; empty takes that of the other kits");
  if (const auto status = given.flags.parse(argc, argv)) return *status;
  return run_program("tandem devices add", 1, [&]() -> Result<int> {
    const auto notes = add_devices(given.fleet, given.names, endpoint);
    if (!notes) return notes.error();
    for (const std::string& name : given.names)
      std::printf("listed:  %s, kit in %s\n", name.c_str(), (given.fleet / name).c_str());
    for (const std::string& note : *notes) std::printf("%s\n", note.c_str());
    std::printf("Copy each kit to its device and nowhere else: it holds a secret key.\n");
    return kExitDone;
  });
}

int revoke(int argc, const char* const* argv) {
  DevicesFlags given("tandem devices revoke", "Takes devices off the list: they may no longer connect.");
  given.take_names();
  if (const auto status = given.flags.parse(argc, argv)) return *status;
  return run_program("tandem devices revoke", 1, [&]() -> Result<int> {
    if (auto revoked = revoke_devices(given.fleet, given.names); !revoked) return revoked.error();
    for (const std::string& name : given.names) std::printf("revoked: %s\n", name.c_str());
    std::printf(
        "The kits stay in %s. Adding the same name again lists the same key, unless its kit is deleted "
        "first.\n",
        given.fleet.c_str());
    return kExitDone;
  });
}

int list(int argc, const char* const* argv) {
  DevicesFlags given("tandem devices list", "Prints the devices that may connect: name and public key.");
  if (const auto status = given.flags.parse(argc, argv)) return *status;
  return run_program("tandem devices list", 1, [&]() -> Result<int> {
    const auto devices = fleet_devices(given.fleet);
    if (!devices) return devices.error();
    std::vector<std::pair<std::string, std::string>> lines;
    size_t width = 0;
    for (const auto& [key, client] : *devices) {
      lines.emplace_back(client.name, key);
      width = std::max(width, client.name.size());
    }
    std::sort(lines.begin(), lines.end());
    for (const auto& [name, key] : lines)
      std::printf("%-*s  %s\n", static_cast<int>(width), name.c_str(), key.c_str());
    return kExitDone;
  });
}

}  // namespace

int devices_command(int argc, const char* const* argv) {
  const std::string action = argc > 1 ? argv[1] : "";
  if (action == "add") return add(argc - 1, argv + 1);
  if (action == "revoke") return revoke(argc - 1, argv + 1);
  if (action == "list") return list(argc - 1, argv + 1);
  if (action == "--help-markdown") {
    for (const auto run : {add, revoke, list}) run(argc, argv);
    return kExitDone;
  }
  if (action == "--help" || action == "-h") return std::fputs(kUsage, stdout), kExitDone;
  if (action.empty()) return std::fputs(kUsage, stderr), kExitUsage;
  const auto near = nearest_name(action, {"add", "revoke", "list"});
  std::fprintf(stderr, "tandem devices: unknown action \"%s\"%s; expected add, revoke or list\n",
               action.c_str(), near ? ("; did you mean \"" + *near + "\"?").c_str() : "");
  return kExitUsage;
}

}  // namespace tandem::tools
