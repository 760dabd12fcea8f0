#include <algorithm>

#include "tandem/core/transport/link_meter_detail.h"

namespace tandem::transport_detail {

using std::chrono::milliseconds;

void TransferMeter::begin(LinkTime now, int64_t bytes) {
  since_ = now;
  bytes_ = bytes;
}

std::optional<milliseconds> TransferMeter::look(LinkTime now, int64_t bytes) {
  const auto passed = std::chrono::duration_cast<milliseconds>(now - since_);
  if (passed < kInterval) return std::nullopt;
  const int64_t came = bytes - bytes_;
  begin(now, bytes);
  const bool is_transfer = came * 1000 >= kSlowestLinkBytesPerSecond * passed.count();
  return is_transfer ? std::min(passed, kLongest) : milliseconds(0);
}

void DepartureLedger::begin(int64_t acknowledged) {
  waiting_.clear();
  base_ = acknowledged;
  acknowledged_ = handed_over_ = 0;
}

void DepartureLedger::handed_over(LinkTime queued_at, int64_t bytes) {
  // What transport sends by itself is acknowledged too; it must not add up.
  if (waiting_.empty()) begin(base_ + acknowledged_);
  handed_over_ += bytes;
  waiting_.push_back({queued_at, handed_over_});
}

void DepartureLedger::acknowledged(int64_t bytes) {
  acknowledged_ = std::max(acknowledged_, bytes - base_);
  while (!waiting_.empty() && waiting_.front().end <= acknowledged_) waiting_.pop_front();
}

std::optional<LinkTime> DepartureLedger::oldest() const {
  if (waiting_.empty()) return std::nullopt;
  return waiting_.front().queued_at;
}

}  // namespace tandem::transport_detail
