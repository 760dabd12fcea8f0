#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tandem/core/training/device_model.h"

namespace tandem::edge_client {

/// Models that the virtual clients of one process share. A client between two rounds needs none: the weights
/// come with the next round, and its session keeps what is the client's own. All clients must train the same
/// plan but for the cut, on the same compute device. Thread-safe.
class ModelPool {
 public:
  /// Takes a model with a front of that many blocks that nobody uses, with whatever weights it has; null
  /// where there is none.
  std::unique_ptr<DeviceModel> take(int front_blocks) {
    const std::lock_guard lock(mutex_);
    std::vector<std::unique_ptr<DeviceModel>>& free = free_[front_blocks];
    if (free.empty()) return nullptr;
    std::unique_ptr<DeviceModel> model = std::move(free.back());
    free.pop_back();
    return model;
  }
  /// Gives a model back. Its owner must not use it any more.
  void give(const DeviceModel& model) {
    auto handle = std::make_unique<DeviceModel>(model);
    const std::lock_guard lock(mutex_);
    free_[model.front.last()].push_back(std::move(handle));
  }

 private:
  std::mutex mutex_;
  std::map<int, std::vector<std::unique_ptr<DeviceModel>>> free_;  // by the number of the front's blocks
};

}  // namespace tandem::edge_client
