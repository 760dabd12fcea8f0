#include "tandem/tools/devices.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <utility>

#include "core/run/temporary_folder.h"
#include "support/test.h"
#include "tandem/tools/provision.h"

namespace tandem::tools {
namespace {

/// A fleet of two devices.
struct Fleet {
  Fleet() {
    REQUIRE(provision({.out = path, .endpoint = "tcp://192.0.2.1:5555", .devices = {"cam-1", "cam-2"}}));
  }
  DeviceList devices() const {
    auto devices = fleet_devices(path);
    REQUIRE(devices);
    return std::move(*devices);
  }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& [key, client] : devices()) names.insert(client.name);
    return names;
  }
  TemporaryFolder folder;
  std::filesystem::path path = folder.path / "fleet";
  std::filesystem::path list = path / "aggregator" / "devices.toml";
};

using Names = std::set<std::string>;

}  // namespace

TEST_SUITE("tools/devices") {
  TEST_CASE("an added device gets a kit like the others', and theirs do not change") {
    Fleet fleet;
    const DeviceList before = fleet.devices();
    const std::string kit_before = content_of(fleet.path / "cam-1" / "device.key");
    REQUIRE(add_devices(fleet.path, {"cam-3", "cam-4"}, ""));
    DeviceList after = fleet.devices();
    CHECK(fleet.names() == Names{"cam-1", "cam-2", "cam-3", "cam-4"});
    for (const auto& [key, client] : before) CHECK(after.at(key) == client);
    CHECK(content_of(fleet.path / "cam-1" / "device.key") == kit_before);
    const auto keys = load_key_pair(fleet.path / "cam-3" / "device.key");
    REQUIRE(keys);
    CHECK(after.at(keys->public_key).name == "cam-3");
    const std::string toml = content_of(fleet.path / "cam-3" / "edge.toml");
    CHECK(toml.find("endpoint = \"tcp://192.0.2.1:5555\"\n") != std::string::npos);
    CHECK(toml.find("name = \"cam-3\"\n") != std::string::npos);
  }

  TEST_CASE("a revoked device is off the list and keeps its kit; added again it has the same key") {
    Fleet fleet;
    const std::string key = load_key_pair(fleet.path / "cam-1" / "device.key")->public_key;
    REQUIRE(revoke_devices(fleet.path, {"cam-1", "cam-1"}));
    CHECK(fleet.names() == Names{"cam-2"});
    CHECK(fleet.devices().count(key) == 0);
    REQUIRE(add_devices(fleet.path, {"cam-1"}, ""));
    CHECK(fleet.devices().at(key).name == "cam-1");

    REQUIRE(revoke_devices(fleet.path, {"cam-1"}));
    std::filesystem::remove_all(fleet.path / "cam-1");
    REQUIRE(add_devices(fleet.path, {"cam-1"}, ""));
    CHECK(fleet.names() == Names{"cam-1", "cam-2"});
    CHECK(fleet.devices().count(key) == 0);
  }

  TEST_CASE("an unknown name names the nearest, and then nobody is revoked") {
    Fleet fleet;
    const std::string before = content_of(fleet.list);
    const auto revoked = revoke_devices(fleet.path, {"cam-1", "cam-22"});
    REQUIRE_FALSE(revoked);
    CHECK(revoked.error().code == ErrorCode::kNotFound);
    CHECK(revoked.error().message ==
          "\"cam-22\" is not in " + fleet.list.string() + "; did you mean \"cam-2\"? Nothing was changed");
    CHECK(revoke_devices(fleet.path, {"microscope"}).error().message ==
          "\"microscope\" is not in " + fleet.list.string() + ". Nothing was changed");
    CHECK(content_of(fleet.list) == before);
  }

  TEST_CASE("a bad name is quoted, and nothing is made") {
    Fleet fleet;
    for (const std::string name : {"", "a b", "../cam", "aggregator", ".hidden"}) {
      CAPTURE(name);
      const auto added = add_devices(fleet.path, {"cam-3", name}, "");
      REQUIRE_FALSE(added);
      CHECK(added.error().code == ErrorCode::kInvalidArgument);
      CHECK(added.error().message.find("\"" + name + "\": a device's name is 1 to 64 letters") == 0);
    }
    CHECK(fleet.names() == Names{"cam-1", "cam-2"});
    CHECK_FALSE(std::filesystem::exists(fleet.path / "cam-3"));
  }

  TEST_CASE("without a fleet every action says how to make one") {
    const TemporaryFolder folder;
    const std::filesystem::path none = folder.path / "none";
    const std::string expected = "--fleet " + none.string() + ": there is no fleet, " + none.string() +
                                 "/aggregator/devices.toml does not exist; tandem provision --out " +
                                 none.string() + " makes one";
    CHECK(fleet_devices(none).error().message == expected);
    CHECK(add_devices(none, {"cam-1"}, "tcp://192.0.2.1:5555").error().message == expected);
    CHECK(revoke_devices(none, {"cam-1"}).error().message == expected);
    CHECK_FALSE(std::filesystem::exists(none));
  }

  TEST_CASE("without kits to take it from the endpoint has to be given") {
    Fleet fleet;
    for (const char* device : {"cam-1", "cam-2"}) std::filesystem::remove_all(fleet.path / device);
    const auto added = add_devices(fleet.path, {"cam-3"}, "");
    REQUIRE_FALSE(added);
    CHECK(added.error().message ==
          "--endpoint is missing, and it cannot be taken from the other devices: no kit in " +
              fleet.path.string() + "; give the address the devices connect to, tcp://HOST:PORT");
    CHECK(add_devices(fleet.path, {"cam-3"}, "tcp://192.0.2.7:5555"));
    // Now that one and another address: which one is meant?
    CHECK(add_devices(fleet.path, {"cam-4"}, "tcp://192.0.2.8:5555"));
    CHECK(add_devices(fleet.path, {"cam-5"}, "").error().message.find("the kits disagree in ") !=
          std::string::npos);
  }
}

}  // namespace tandem::tools
