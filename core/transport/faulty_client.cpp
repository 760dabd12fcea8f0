#include "tandem/core/transport/faulty_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <utility>

#include "tandem/core/transport/keepalive_timer_detail.h"

namespace tandem {
namespace {

using Direction = FaultInjector::Direction;

}  // namespace

FaultyClient::FaultyClient(std::unique_ptr<ClientConnection> inner, const FaultOptions& options,
                           const std::string& name)
    : inner_(std::move(inner)), options_(options), name_seed_(hash_name(name)) {}

FaultyClient::~FaultyClient() {
  stop(std::chrono::milliseconds(0));
}

Result<void> FaultyClient::start(Handler handler, Keepalive keepalive) {
  if (!handler) throw std::invalid_argument("FaultyClient::start: the handler is empty");
  handler_ = std::move(handler);
  keepalive_ = std::make_unique<transport_detail::KeepaliveTimer>(std::move(keepalive));
  FaultThread::announce(options_);
  auto started = inner_->start([this](ClientEvent event) { inbox_.push(std::move(event)); }, {});
  if (started) {
    thread_.start([this] { serve(); },
                  [this] {
                    inbox_.close();
                    injector_.reset();
                  });
  }
  return started;
}

bool FaultyClient::send(wire::Frames frames) {
  if (frames.empty()) throw std::invalid_argument("FaultyClient::send: a message has at least one frame");
  return inbox_.push(Outgoing{std::move(frames)});
}

void FaultyClient::stop(std::chrono::milliseconds linger) {
  const std::lock_guard lock(stop_mutex_);
  if (!thread_.running()) return;
  const auto deadline = Clock::now() + linger;
  inbox_.close();
  thread_.await(deadline);
  // What the thread still waits to hand over, it cannot any more.
  inner_->stop(std::max(std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()),
                        std::chrono::milliseconds(0)));
  thread_.join();
}

void FaultyClient::serve() {
  while (!inbox_.closed()) {
    if (auto item = next_item()) take_in(std::move(*item));
    const auto now = Clock::now();
    cut_when_due(now);
    send_keepalive(now);
    pass_on(now, now);
    thread_.publish();
  }
  hand_over_the_rest();
}

void FaultyClient::hand_over_the_rest() {
  while (auto item = inbox_.try_pop()) {
    if (std::holds_alternative<Outgoing>(*item)) take_in(std::move(*item));
  }
  pass_on(Clock::time_point::min(), Clock::time_point::max());
}

std::optional<FaultyClient::Item> FaultyClient::next_item() {
  if (!injector_) return inbox_.pop();
  const auto due = std::min(injector_->next_due(), keepalive_->next_due());
  return due == Clock::time_point::max() ? inbox_.pop() : inbox_.pop_until(due);
}

void FaultyClient::take_in(Item item) {
  if (auto* event = std::get_if<ClientEvent>(&item)) return take_in_event(std::move(*event));
  // As without faults, what is sent while there is no connection is lost.
  if (injector_) injector_->put(Direction::kOut, std::move(std::get<Outgoing>(item).frames), Clock::now());
}

void FaultyClient::take_in_event(ClientEvent event) {
  if (std::holds_alternative<client_event::Connected>(event)) {
    is_cut_ = false;
    begin_connection();
  } else if (std::holds_alternative<client_event::Disconnected>(event)) {
    if (std::exchange(is_cut_, false)) return;  // told already
    end_connection(Clock::time_point::max());   // what came before the end, such as a Bye
  } else if (auto* received = std::get_if<client_event::Received>(&event)) {
    if (injector_) injector_->put(Direction::kIn, std::move(received->frames), Clock::now());
    return;
  }
  deliver(std::move(event));
}

void FaultyClient::begin_connection() {
  const uint64_t stream = derive_seed(name_seed_, RandomPurpose::kNetwork, {++connections_});
  injector_.emplace(options_, stream, Clock::now(), thread_.counts());
  keepalive_->restart(Clock::now());
}

void FaultyClient::end_connection(Clock::time_point deliver_until) {
  pass_on(deliver_until, Clock::time_point::min());
  injector_.reset();
}

void FaultyClient::cut_when_due(Clock::time_point now) {
  if (!injector_ || !injector_->cut_due(now)) return;
  injector_->cut();
  injector_.reset();
  is_cut_ = true;
  inner_->cut();
  deliver(client_event::Disconnected{});
}

void FaultyClient::send_keepalive(Clock::time_point now) {
  if (!injector_ || !keepalive_->take(now, inner_->link().is_sending)) return;
  injector_->put(Direction::kOut, keepalive_->message(), now);
}

/// Hands on what came and is due by `in_until`, and what is to be sent and due by `out_until`.
void FaultyClient::pass_on(Clock::time_point in_until, Clock::time_point out_until) {
  if (!injector_) return;
  while (auto frames = injector_->take(Direction::kIn, in_until))
    deliver(client_event::Received{std::move(*frames)});
  while (auto frames = injector_->take(Direction::kOut, out_until)) inner_->send(std::move(*frames));
}

void FaultyClient::deliver(ClientEvent event) {
  try {
    handler_(std::move(event));
  } catch (const std::exception& error) {
    spdlog::error("handling an event of the connection failed: {}", error.what());
  }
}

std::unique_ptr<ClientConnection> with_faults(std::unique_ptr<ClientConnection> inner,
                                              const FaultOptions& options, const std::string& name) {
  if (!options.any()) return inner;
  return std::make_unique<FaultyClient>(std::move(inner), options, name);
}

}  // namespace tandem
