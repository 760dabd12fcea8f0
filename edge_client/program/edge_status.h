#pragma once

#include <cstdint>

#include "tandem/core/run/run_status.h"
#include "tandem/edge_client/session/edge_session.h"

namespace tandem::edge_client {

/// Keeps a RunStatus up to date with a session. Ready means: connected, and welcomed by the aggregator. Lives
/// on the session's thread.
class EdgeStatus {
 public:
  /// `status` must outlive it.
  explicit EdgeStatus(RunStatus& status);

  /// A turn of the main loop.
  void turn(const EdgeSession& session, bool connected);
  void step(const EdgeReport& report);

 private:
  void show(const EdgeSession& session, bool connected);

  RunStatus& status_;
  bool connected_ = false;
  EdgeSession::Phase phase_ = EdgeSession::Phase::kConnecting;
  /// Counted already, of the round under way.
  uint32_t round_ = 0;
  uint32_t steps_ = 0;
  int64_t examples_ = 0;
};

}  // namespace tandem::edge_client
