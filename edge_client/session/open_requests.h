#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "tandem/core/wire/messages.h"

namespace tandem::edge_client {

using TimePoint = std::chrono::steady_clock::time_point;

/// What a device has asked the aggregator and has no answer to, by step. It knows what is to be sent again,
/// and sends nothing itself. A resend is the same message, so its key and its bytes are the same.
class OpenRequests {
 public:
  /// In the place of a step: requests of a round that belong to none.
  static constexpr uint32_t kTrained = 0xFFFFFFFE;
  static constexpr uint32_t kWeightUpdate = 0xFFFFFFFF;
  static constexpr bool is_step(uint32_t step) { return step < kTrained; }

  /// `message` goes out at `now`; it takes the place of an earlier one of that step.
  void open(uint32_t step, wire::Message message, TimePoint now);
  /// Its answer has come, or none will be waited for.
  void close(uint32_t step) { requests_.erase(step); }
  void clear() { requests_.clear(); }

  bool empty() const { return requests_.empty(); }
  size_t size() const { return requests_.size(); }
  bool contains(uint32_t step) const { return requests_.contains(step); }
  /// Null when it is not open.
  const wire::Message* find(uint32_t step) const;

  /// How many messages went out so far; names the moment at which the aggregator is asked what it holds.
  uint64_t sent() const { return sent_; }
  /// Hands every request to `send`, in the order of the steps, that went out last before `asked`, when the
  /// aggregator was asked, and is not among what it holds. Returns how many.
  int resend(uint64_t asked, const std::vector<wire::RequestId>& held,
             const std::function<void(const wire::Message&)>& send);
  /// Every one, whenever it went out.
  void resend_all(const std::function<void(const wire::Message&)>& send);
  /// Sends one again, unless it went out after `asked`. Requires it to be open.
  void resend_one(uint32_t step, uint64_t asked, const std::function<void(const wire::Message&)>& send);
  /// From now on they are sent under that incarnation of the aggregator.
  void set_incarnation(uint32_t incarnation);

  struct Oldest {
    uint32_t step;
    TimePoint since;  ///< it went out first
  };
  /// The first in the order of the steps.
  std::optional<Oldest> oldest() const;
  /// The first step with an open request, but at most `bound`.
  uint32_t first_step(uint32_t bound) const;
  /// Those of steps.
  std::map<uint32_t, wire::Message> of_steps() const;

 private:
  struct Request {
    wire::Message message;
    TimePoint first_sent_at;
    uint64_t sent = 0;  ///< its number, when it went out last
  };
  std::map<uint32_t, Request> requests_;
  uint64_t sent_ = 0;
};

}  // namespace tandem::edge_client
