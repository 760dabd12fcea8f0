#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "tandem/core/run/progress.h"
#include "tandem/edge_client/session/edge_session.h"

namespace tandem::edge_client {

/// What a person at the device sees: this device's progress in the round, and notes.
class EdgeDisplay {
 public:
  explicit EdgeDisplay(bool quiet) : progress_(quiet) {}

  void step(const EdgeReport& report);
  void note(const std::string& line) { progress_.note(line); }
  void warn(const std::string& line) { progress_.warn(line); }
  void finished(const EdgeSession& session);

 private:
  Progress progress_;
  uint32_t round_ = 0;
  std::chrono::steady_clock::time_point round_started_;
};

}  // namespace tandem::edge_client
