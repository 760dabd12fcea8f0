#include "tandem/edge_client/session/open_requests.h"

#include <algorithm>
#include <utility>

namespace tandem::edge_client {

void OpenRequests::open(uint32_t step, wire::Message message, TimePoint now) {
  requests_.insert_or_assign(step,
                             Request{.message = std::move(message), .first_sent_at = now, .sent = ++sent_});
}

const wire::Message* OpenRequests::find(uint32_t step) const {
  const auto found = requests_.find(step);
  return found == requests_.end() ? nullptr : &found->second.message;
}

int OpenRequests::resend(uint64_t asked, const std::vector<wire::RequestId>& held,
                         const std::function<void(const wire::Message&)>& send) {
  int resent = 0;
  for (auto& [step, request] : requests_) {
    const wire::RequestId id{wire::type_of(request.message.body), request.message.key.round,
                             request.message.key.step};
    // What went out after the question is behind it, and not known to be lost.
    if (request.sent > asked || std::find(held.begin(), held.end(), id) != held.end()) continue;
    request.sent = ++sent_;
    send(request.message);
    ++resent;
  }
  return resent;
}

void OpenRequests::resend_all(const std::function<void(const wire::Message&)>& send) {
  (void)resend(sent_, {}, send);
}

void OpenRequests::resend_one(uint32_t step, uint64_t asked,
                              const std::function<void(const wire::Message&)>& send) {
  Request& request = requests_.at(step);
  if (request.sent > asked) return;
  request.sent = ++sent_;
  send(request.message);
}

void OpenRequests::set_incarnation(uint32_t incarnation) {
  for (auto& [step, request] : requests_) request.message.key.incarnation = incarnation;
}

std::optional<OpenRequests::Oldest> OpenRequests::oldest() const {
  if (requests_.empty()) return std::nullopt;
  const auto& [step, request] = *requests_.begin();
  return Oldest{.step = step, .since = request.first_sent_at};
}

uint32_t OpenRequests::first_step(uint32_t bound) const {
  const auto first = oldest();  // what belongs to no step comes last
  return first && is_step(first->step) ? std::min(first->step, bound) : bound;
}

std::map<uint32_t, wire::Message> OpenRequests::of_steps() const {
  std::map<uint32_t, wire::Message> messages;
  for (const auto& [step, request] : requests_) {
    if (is_step(step)) messages.emplace(step, request.message);
  }
  return messages;
}

}  // namespace tandem::edge_client
