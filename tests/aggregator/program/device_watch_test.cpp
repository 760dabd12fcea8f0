#include "tandem/aggregator/program/device_watch.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/run/temporary_folder.h"
#include "support/test.h"
#include "tandem/core/base/mailbox.h"

namespace tandem::aggregator {
namespace {

constexpr std::chrono::seconds kPatience{20};

/// The texts of what is logged, in order.
class LogLines : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::string next() { return lines_.pop_until(std::chrono::steady_clock::now() + kPatience).value_or(""); }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    lines_.try_push(std::string(message.payload.data(), message.payload.size()));
  }
  void flush_() override {}

 private:
  Mailbox<std::string> lines_{100};
};

/// A watched file with two devices.
class Watched {
 public:
  Watched() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("captured", log));
    REQUIRE(save_device_list(file, list));
    start();
  }
  ~Watched() {
    watch_.reset();
    spdlog::set_default_logger(before_);
  }

  void start() {
    watch_ = std::make_unique<DeviceWatch>(
        file, list, [this](DeviceList devices) { lists_.try_push(std::move(devices)); },
        std::chrono::milliseconds(5));
  }
  void stop() { watch_.reset(); }
  DeviceList next() {
    auto handed_on = lists_.pop_until(std::chrono::steady_clock::now() + kPatience);
    REQUIRE(handed_on);
    return std::move(*handed_on);
  }

  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path / "devices.toml";
  const DeviceList list{{generate_key_pair().public_key, {"cam-1"}},
                        {generate_key_pair().public_key, {"cam-2"}}};
  const std::shared_ptr<LogLines> log = std::make_shared<LogLines>();

 private:
  std::shared_ptr<spdlog::logger> before_;
  Mailbox<DeviceList> lists_{100};
  std::unique_ptr<DeviceWatch> watch_;
};

DeviceList without(DeviceList list, const std::string& name) {
  std::erase_if(list, [&](const auto& entry) { return entry.second.name == name; });
  return list;
}

}  // namespace

TEST_SUITE("aggregator/program/device_watch") {
  TEST_CASE("a changed list is handed on, and who came and went is logged by name") {
    Watched watched;
    DeviceList changed = without(watched.list, "cam-1");
    changed[generate_key_pair().public_key] = ClientId{"cam-3"};
    REQUIRE(save_device_list(watched.file, changed));
    CHECK(watched.next() == changed);
    CHECK(watched.log->next() == "devices revoked: cam-1");
    CHECK(watched.log->next() == "devices added: cam-3");
  }

  TEST_CASE("a new key under an old name is both") {
    Watched watched;
    DeviceList changed = without(watched.list, "cam-2");
    changed[generate_key_pair().public_key] = ClientId{"cam-2"};
    REQUIRE(save_device_list(watched.file, changed));
    CHECK(watched.next() == changed);
    CHECK(watched.log->next() == "devices revoked: cam-2");
    CHECK(watched.log->next() == "devices added: cam-2");
  }

  TEST_CASE("a damaged or missing file is a warning, and the next good one counts") {
    Watched watched;
    std::filesystem::remove(watched.file);
    CHECK(watched.log->next() == "the device list stays as it was: cannot open " + watched.file.string() +
                                     ": No such file or directory");
    {
      std::ofstream damaged(watched.folder.path / "damaged.toml");
      damaged << "[devices]\ncam-1 = \"short\"\n";
    }
    std::filesystem::rename(watched.folder.path / "damaged.toml", watched.file);
    CHECK(watched.log->next() == "the device list stays as it was: " + watched.file.string() +
                                     ": line 2: the key of \"cam-1\" is not a Z85 key of 40 characters");
    const DeviceList changed = without(watched.list, "cam-1");
    REQUIRE(save_device_list(watched.file, changed));
    // The first list that is handed on.
    CHECK(watched.next() == changed);
  }

  TEST_CASE("a change between reading the list and watching the file is not missed") {
    Watched watched;
    watched.stop();
    const DeviceList changed = without(watched.list, "cam-2");
    REQUIRE(save_device_list(watched.file, changed));
    watched.start();
    CHECK(watched.next() == changed);
  }
}

}  // namespace tandem::aggregator
