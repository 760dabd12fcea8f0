#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>

#include "tandem/core/transport/link_meter_detail.h"
#include "tandem/core/transport/transport.h"

/// Not installed; for core/transport and its tests.
namespace tandem::transport_detail {

/// Watches a client's one connection by the kernel's counters. The thread that owns the socket calls it, but
/// for state(), which any thread may call.
class ClientLink {
 public:
  /// TCP connected: the socket is this one.
  void connected(int descriptor);
  /// The handshake is complete: what counts begins here.
  void established(LinkTime now);
  void ended();

  void handed_over(LinkTime queued_at, int64_t bytes) { ledger_.handed_over(queued_at, bytes); }
  /// Reads the counters. `held`: when what waits for room in the socket was handed in; `now` where nothing
  /// does.
  void look(LinkTime now, LinkTime held);
  /// When to look next.
  LinkTime next_look() const { return next_look_; }
  /// So much is on its way that a heartbeat would only wait behind it.
  bool is_sending() const;

  LinkState state() const;

 private:
  int descriptor_ = -1;
  uint64_t cookie_ = 0;
  bool established_ = false;
  TransferMeter arrivals_;
  DepartureLedger ledger_;
  LinkTime next_look_{};

  mutable std::mutex mutex_;
  LinkState state_;  // guarded by mutex_
};

}  // namespace tandem::transport_detail
