#include "tandem/aggregator/rounds/transfer_allowance.h"

#include <algorithm>

namespace tandem::aggregator {

TransferAllowance::TransferAllowance(const Roster& roster, const std::vector<ClientId>& clients,
                                     std::chrono::milliseconds most)
    : roster_(&roster), most_(most) {
  if (most.count() == 0) return;
  for (const ClientId& client : clients) {
    if (const Member* member = roster.find(client)) before_[client] = member->transfer;
  }
}

TimePoint::duration TransferAllowance::so_far() const {
  TimePoint::duration longest{0};
  for (const auto& [client, before] : before_) {
    longest = std::max(longest, roster_->find(client)->transfer - before);
  }
  return std::min(longest, most_);
}

}  // namespace tandem::aggregator
