#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>

#include "tandem/core/transport/keys.h"

namespace tandem::aggregator {

/// Follows a device list's file while a run goes on, on a thread of its own: looks at it once an interval,
/// reads it when it changed, logs by name who was added and who was revoked, and hands the new list on. A
/// file that is missing or damaged at that moment is a warning, and the old list stays.
class DeviceWatch {
 public:
  /// Called on the watch's thread with each new list.
  using Apply = std::function<void(DeviceList)>;

  /// `devices`: the list in force. What the file already says otherwise is handed on at once.
  DeviceWatch(std::filesystem::path file, DeviceList devices, Apply apply,
              std::chrono::milliseconds interval = std::chrono::seconds(1));
  /// Stops and joins.
  ~DeviceWatch();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::aggregator
