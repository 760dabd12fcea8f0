#include <algorithm>
#include <utility>

#include "tandem/core/transport/server_addresses_detail.h"

namespace tandem::transport_detail {
namespace {

constexpr std::chrono::seconds kPatienceWithLookup{2};

}  // namespace

ServerAddresses::ServerAddresses(TcpEndpoint server, bool loopback_only, std::function<void()> notify)
    : server_(std::move(server)), loopback_only_(loopback_only), notify_(std::move(notify)) {}

void ServerAddresses::begin(TimePoint now) {
  began_ = now;
  ready_ = false;
  problem_.clear();
  left_.clear();
  if (server_.is_address()) return go_through({server_.host});
  // One that is still under way from the last cycle serves this one.
  if (!lookup_) lookup_.emplace(server_.host, notify_);
}

bool ServerAddresses::ready(TimePoint now) {
  if (ready_) return true;
  if (lookup_) {
    if (auto found = lookup_->result()) {
      lookup_.reset();
      take(std::move(*found));
    } else if (now >= ask_again_at()) {
      go_through(known_);
    }
  }
  return ready_;
}

ServerAddresses::TimePoint ServerAddresses::ask_again_at() const {
  return known_.empty() ? TimePoint::max() : began_ + kPatienceWithLookup;
}

void ServerAddresses::take(Result<std::vector<std::string>> found) {
  if (found) known_ = *found;
  if (!known_.empty()) return go_through(known_);
  problem_ = found.error().message;
  ready_ = true;
}

void ServerAddresses::go_through(const std::vector<std::string>& hosts) {
  left_.assign(hosts.begin(), hosts.end());
  if (loopback_only_)
    std::erase_if(left_, [](const std::string& host) { return !is_loopback_address(host); });
  std::stable_partition(left_.begin(), left_.end(),
                        [this](const std::string& host) { return host == good_; });
  if (left_.empty()) {
    problem_ = "\"" + server_.host + "\" is no loopback address here, and without encryption (--insecure) " +
               "only those are connected to";
  }
  ready_ = true;
}

std::optional<TcpEndpoint> ServerAddresses::next() {
  if (left_.empty()) return std::nullopt;
  current_ = left_.front();
  left_.pop_front();
  return TcpEndpoint{current_, server_.port};
}

}  // namespace tandem::transport_detail
