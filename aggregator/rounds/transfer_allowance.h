#pragma once

#include <map>
#include <vector>

#include "tandem/aggregator/session/roster.h"

namespace tandem::aggregator {

/// By how much a deadline is put off because what it waits for is on its way: the time since it was set in
/// which a transfer to or from one of its clients was going on, of the client with most of it, and at most as
/// long as the options allow. Not thread-safe.
class TransferAllowance {
 public:
  /// None.
  TransferAllowance() = default;
  /// From now on; `roster` must outlive it.
  TransferAllowance(const Roster& roster, const std::vector<ClientId>& clients,
                    std::chrono::milliseconds most);

  TimePoint::duration so_far() const;

 private:
  const Roster* roster_ = nullptr;
  std::map<ClientId, TimePoint::duration> before_;
  TimePoint::duration most_{0};
};

}  // namespace tandem::aggregator
