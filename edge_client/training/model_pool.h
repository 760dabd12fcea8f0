#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tandem/core/training/device_model.h"

namespace tandem::edge_client {

/// Models that the virtual clients of one process share. A client between two rounds needs none: the weights
/// come with the next round, and its session keeps what is the client's own. All clients must train the same
/// plan on the same compute device. Thread-safe.
class ModelPool {
 public:
  /// Takes a model that nobody uses, with whatever weights it has; null where there is none.
  std::unique_ptr<DeviceModel> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return nullptr;
    std::unique_ptr<DeviceModel> model = std::move(free_.back());
    free_.pop_back();
    return model;
  }
  /// Gives a model back. Its owner must not use it any more.
  void give(const DeviceModel& model) {
    auto handle = std::make_unique<DeviceModel>(model);
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(handle));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<DeviceModel>> free_;
};

}  // namespace tandem::edge_client
