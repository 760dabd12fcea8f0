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

  TEST_CASE(
      "a listed device whose kit is elsewhere keeps its key: a new one is refused, and nothing is made") {
    Fleet fleet;
    const DeviceList before = fleet.devices();
    std::filesystem::rename(fleet.path / "cam-1", fleet.folder.path / "moved");
    for (const auto& outcome :
         {add_devices(fleet.path, {"cam-1", "cam-3"}, ""),
          provision(
              {.out = fleet.path, .endpoint = "tcp://192.0.2.1:5555", .devices = {"cam-3", "cam-1"}})}) {
      REQUIRE_FALSE(outcome);
      CHECK(outcome.error().code == ErrorCode::kRefused);
      CHECK(outcome.error().message == "cam-1 is listed in " + fleet.list.string() +
                                           " already, and the kit is not in " + fleet.path.string() +
                                           " any more (moved to its device?): a new key would lock the "
                                           "device out. Leave the name out; or, to "
                                           "replace a lost kit, run tandem devices revoke NAME --fleet " +
                                           fleet.path.string() + " first. Nothing was changed");
      CHECK(fleet.devices() == before);
      CHECK_FALSE(std::filesystem::exists(fleet.path / "cam-3"));
    }
    // Others are added beside it.
    REQUIRE(add_devices(fleet.path, {"cam-3"}, ""));
    CHECK(fleet.names() == Names{"cam-1", "cam-2", "cam-3"});
    for (const auto& [key, client] : before) CHECK(fleet.devices().at(key) == client);
  }

  TEST_CASE("a kit with another key than the listed one, or with another device's, changes no list") {
    Fleet fleet;
    const std::string before = content_of(fleet.list);
    REQUIRE(save_key_pair(fleet.path / "cam-1" / "device.key", generate_key_pair()));
    const auto another = add_devices(fleet.path, {"cam-1"}, "");
    REQUIRE_FALSE(another);
    CHECK(another.error().message.find("cam-1 is listed with the key ") == 0);
    std::filesystem::copy(fleet.path / "cam-2", fleet.path / "cam-3");
    const auto copied = add_devices(fleet.path, {"cam-3"}, "");
    REQUIRE_FALSE(copied);
    CHECK(copied.error().message.find("holds the key that is listed for cam-2") != std::string::npos);
    CHECK(content_of(fleet.list) == before);
  }

  TEST_CASE("a lost server key is not made anew while kits or a list depend on it") {
    Fleet fleet;
    const std::string pinned = load_key_pair(fleet.path / "aggregator" / "aggregator.key")->public_key;
    const auto again = [&] {
      return provision(
          {.out = fleet.path, .endpoint = "tcp://192.0.2.1:5555", .devices = {"cam-1", "cam-2"}});
    };
    SUBCASE("the whole folder is gone, the kits are there") {
      std::filesystem::remove_all(fleet.path / "aggregator");
      const auto refused = again();
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == ErrorCode::kRefused);
      CHECK(
          refused.error().message ==
          fleet.path.string() + "/aggregator/aggregator.key is missing, and the kits in " +
              fleet.path.string() + " are pinned to public keys: cam-1 and cam-2 to " + pinned +
              ". A new server key would lock these devices out; put " + fleet.path.string() +
              "/aggregator back from a copy. To give the fleet a new server key, delete those kits, run this "
              "again and copy every new kit to its device");
      CHECK_FALSE(std::filesystem::exists(fleet.path / "aggregator"));
      // What the message says helps.
      for (const char* device : {"cam-1", "cam-2"}) std::filesystem::remove_all(fleet.path / device);
      REQUIRE(again());
      CHECK(fleet.names() == Names{"cam-1", "cam-2"});
    }
    SUBCASE("only the key is gone, and the kits are on their devices") {
      std::filesystem::remove(fleet.path / "aggregator" / "aggregator.key");
      for (const char* device : {"cam-1", "cam-2"}) std::filesystem::remove_all(fleet.path / device);
      const auto refused = again();
      REQUIRE_FALSE(refused);
      CHECK(refused.error().message.find("are pinned to it. A new server key would lock these devices out") !=
            std::string::npos);
      CHECK_FALSE(std::filesystem::exists(fleet.path / "aggregator" / "aggregator.key"));
    }
    SUBCASE("another fleet's folder stands in its place") {
      REQUIRE(save_key_pair(fleet.path / "aggregator" / "aggregator.key", generate_key_pair()));
      const auto refused = add_devices(fleet.path, {"cam-3"}, "");
      REQUIRE_FALSE(refused);
      CHECK(refused.error().message.find("kits in " + fleet.path.string() +
                                         " are pinned to another server key than ") == 0);
      CHECK(refused.error().message.find("): cam-1 and cam-2 to " + pinned + ". ") != std::string::npos);
      CHECK_FALSE(std::filesystem::exists(fleet.path / "cam-3"));
    }
  }

  TEST_CASE("a lost list is not made anew without those whose kits are there") {
    Fleet fleet;
    std::filesystem::remove(fleet.list);
    const auto with = [&](const std::vector<std::string>& devices) {
      return provision({.out = fleet.path, .devices = devices});
    };
    const auto refused = with({"cam-2", "cam-3"});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("a new list without cam-1, whose kits are in ") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(fleet.path / "cam-3"));
    const auto made = with({"cam-1", "cam-2"});
    REQUIRE(made);
    REQUIRE(made->size() == 1);
    CHECK(made->front() ==
          fleet.list.string() + " was missing and is made anew: only the devices named here may connect");
    CHECK(fleet.names() == Names{"cam-1", "cam-2"});
  }

  TEST_CASE("a given endpoint goes into the kits that are named, and nothing else of them changes") {
    Fleet fleet;
    const std::filesystem::path kit = fleet.path / "cam-1" / "edge.toml";
    {
      std::ofstream toml(kit, std::ios::app);
      toml << "# the north gate\ndata = \"idx:/srv/images\"  # endpoint = \"none\"\n";
    }
    const std::string before = content_of(kit);
    REQUIRE(provision({.out = fleet.path, .devices = {"cam-1"}})->empty());
    REQUIRE(
        provision({.out = fleet.path, .endpoint = "tcp://192.0.2.1:5555", .devices = {"cam-1"}})->empty());
    CHECK(content_of(kit) == before);
    const auto moved = provision(
        {.out = fleet.path, .endpoint = "tcp://agg.example.org:5555", .devices = {"cam-1", "cam-3"}});
    REQUIRE(moved);
    CHECK(*moved ==
          Notes{"changed: " + kit.string() +
                " connects to tcp://agg.example.org:5555, before to tcp://192.0.2.1:5555; copy it to its "
                "device again"});
    std::string expected = before;
    const std::string old = "tcp://192.0.2.1:5555";
    expected.replace(expected.find(old), old.size(), "tcp://agg.example.org:5555");
    CHECK(content_of(kit) == expected);
    CHECK(content_of(fleet.path / "cam-2" / "edge.toml").find(old) != std::string::npos);
    CHECK((std::filesystem::status(kit).permissions() & std::filesystem::perms::mask) ==
          (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
  }

  TEST_CASE("a kit whose keys stand in the table of their section is read and changed like any other") {
    Fleet fleet;
    const std::filesystem::path kit = fleet.path / "cam-1" / "edge.toml";
    const std::string flat = content_of(kit);
    std::ofstream(kit) << "[network]\n" << flat << "[data]\ndata = \"idx:/srv/images\"\n";
    const std::string before = content_of(kit);
    const std::string old = "tcp://192.0.2.1:5555";
    REQUIRE(before.find(old) != std::string::npos);
    const auto moved =
        provision({.out = fleet.path, .endpoint = "tcp://agg.example.org:5555", .devices = {"cam-1"}});
    REQUIRE(moved);
    std::string expected = before;
    expected.replace(expected.find(old), old.size(), "tcp://agg.example.org:5555");
    CHECK(content_of(kit) == expected);
  }

  TEST_CASE("the aggregator listens where the devices can reach it, and a port that differs is said") {
    const std::pair<const char*, const char*> cases[] = {
        {"tcp://192.0.2.1:5555", "tcp://0.0.0.0:5555"},   {"tcp://[2001:db8::1]:5555", "tcp://[::]:5555"},
        {"tcp://agg.example.org:5555", "tcp://*:5555"},   {"tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"},
        {"tcp://localhost:5555", "tcp://localhost:5555"}, {"tcp://[::1]:5555", "tcp://[::1]:5555"},
    };
    for (const auto& [endpoint, listen] : cases) {
      CAPTURE(endpoint);
      const TemporaryFolder folder;
      REQUIRE(provision({.out = folder.path / "fleet", .endpoint = endpoint, .devices = {"cam-1"}}));
      CHECK(content_of(folder.path / "fleet" / "aggregator" / "aggregator.toml")
                .find("endpoint = \"" + std::string(listen) + "\"\n") != std::string::npos);
    }
    Fleet fleet;
    const auto forwarded = add_devices(fleet.path, {"cam-3"}, "tcp://192.0.2.1:6000");
    REQUIRE(forwarded);
    REQUIRE(forwarded->size() == 1);
    CHECK(forwarded->front().find("the aggregator listens on tcp://0.0.0.0:5555") == 0);
    const auto listens = provision({.out = fleet.path,
                                    .endpoint = "tcp://192.0.2.1:6000",
                                    .listen = "tcp://0.0.0.0:6000",
                                    .devices = {"cam-3"}});
    REQUIRE(listens);
    REQUIRE(listens->size() == 1);
    CHECK(listens->front().find("listens on tcp://0.0.0.0:6000, before on tcp://0.0.0.0:5555") !=
          std::string::npos);
  }

  TEST_CASE("a malformed endpoint is refused by its flag before anything is made") {
    for (const char* endpoint : {"tcp://host:99999", "http://host:5555", "tcp://*:5555", "tcp://:5555", "*",
                                 "tcp://2001:db8::1:5555", "tcp://host", "tcp://host:0"}) {
      CAPTURE(endpoint);
      const TemporaryFolder folder;
      const auto refused =
          provision({.out = folder.path / "fleet", .endpoint = endpoint, .devices = {"cam-1"}});
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == ErrorCode::kInvalidArgument);
      CHECK(refused.error().message.starts_with("--endpoint \"" + std::string(endpoint) +
                                                "\" is not of the form"));
      const auto listen =
          provision({.out = folder.path / "fleet", .listen = "http://", .devices = {"cam-1"}});
      REQUIRE_FALSE(listen);
      CHECK(listen.error().message.starts_with("--listen \"http://\" is not of the form"));
      CHECK_FALSE(std::filesystem::exists(folder.path / "fleet"));
    }
  }

  TEST_CASE("a kit whose listing failed is listed by the next call, with the same key") {
    Fleet fleet;
    const KeyPair keys = generate_key_pair();
    std::filesystem::create_directory(fleet.path / "cam-3");
    REQUIRE(save_key_pair(fleet.path / "cam-3" / "device.key", keys));  // and then the disk was full
    REQUIRE(add_devices(fleet.path, {"cam-3"}, ""));
    CHECK(fleet.devices().at(keys.public_key).name == "cam-3");
    CHECK(std::filesystem::exists(fleet.path / "cam-3" / "edge.toml"));
  }
}

}  // namespace tandem::tools
