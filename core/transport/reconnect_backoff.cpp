#include "tandem/core/transport/reconnect_backoff.h"

#include <algorithm>

namespace tandem {

using std::chrono::milliseconds;

ReconnectBackoff::ReconnectBackoff(milliseconds first, milliseconds longest, uint64_t seed)
    : first_(first), longest_(std::max(first, longest)), limit_(first), random_(seed) {}

milliseconds ReconnectBackoff::next() {
  const milliseconds wait(static_cast<int64_t>(random_.below(static_cast<uint64_t>(limit_.count()) + 1)));
  limit_ = std::min(2 * limit_, longest_);
  return wait;
}

void ReconnectBackoff::connection_ended(milliseconds lived) {
  if (lived >= longest_) limit_ = first_;
}

}  // namespace tandem
