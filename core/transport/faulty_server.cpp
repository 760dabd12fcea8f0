#include "tandem/core/transport/faulty_server.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <utility>

namespace tandem {
namespace {

using Direction = FaultInjector::Direction;

// A live client sends a heartbeat every half second; an injector that was idle for so long has none.
constexpr std::chrono::seconds kForgetAfter{60};

}  // namespace

FaultyServer::FaultyServer(std::unique_ptr<ServerConnections> inner, const FaultOptions& options)
    : inner_(std::move(inner)), options_(options) {}

FaultyServer::~FaultyServer() {
  stop(std::chrono::milliseconds(0));
}

Result<void> FaultyServer::start(ServerHandlers handlers) {
  if (!handlers.on_message) throw std::invalid_argument("FaultyServer::start: on_message is empty");
  handlers_ = std::move(handlers);
  ServerHandlers taking;
  taking.on_message = [this](ReceivedFrames message) { inbox_.push(std::move(message)); };
  if (handlers_.on_revoked)
    taking.on_revoked = [this](const ClientId& client) { inbox_.push(Revoked{client}); };
  if (handlers_.on_link) {
    taking.on_link = [this](const ClientId& client, std::chrono::milliseconds transfer) {
      inbox_.push(Link{client, transfer});
    };
  }
  FaultThread::announce(options_);
  auto started = inner_->start(std::move(taking));
  if (started) {
    thread_.start([this] { serve(); },
                  [this] {
                    inbox_.close();
                    connections_.clear();
                  });
  }
  return started;
}

bool FaultyServer::send(ConnectionId to, wire::Frames frames) {
  if (frames.empty()) throw std::invalid_argument("FaultyServer::send: a message has at least one frame");
  return inbox_.push(Outgoing{to, std::move(frames)});
}

void FaultyServer::catch_up() {
  if (!thread_.running()) return;
  inner_->catch_up();
  Mark mark{std::make_shared<std::promise<void>>()};
  auto reached = mark.reached->get_future();
  if (inbox_.push(std::move(mark))) reached.wait();
}

void FaultyServer::stop(std::chrono::milliseconds patience) {
  const std::lock_guard lock(stop_mutex_);
  if (!thread_.running()) return;
  inbox_.close();
  thread_.await(Clock::now() + patience);
  // What the thread still waits to hand over, it cannot any more.
  inner_->stop(patience);
  thread_.join();
}

void FaultyServer::serve() {
  while (!inbox_.closed()) {
    if (auto item = next_item()) take_in(std::move(*item));
    const TimePoint now = Clock::now();
    cut_when_due(now);
    pass_on(now, now);
    thread_.publish();
  }
  hand_over_the_rest();
}

void FaultyServer::hand_over_the_rest() {
  while (auto item = inbox_.try_pop()) {
    if (std::holds_alternative<Outgoing>(*item)) take_in(std::move(*item));
  }
  pass_on(TimePoint::min(), TimePoint::max());
}

std::optional<FaultyServer::Item> FaultyServer::next_item() {
  TimePoint due = TimePoint::max();
  for (const auto& [id, connection] : connections_) due = std::min(due, connection.injector.next_due());
  return due == TimePoint::max() ? inbox_.pop() : inbox_.pop_until(due);
}

void FaultyServer::take_in(Item item) {
  if (auto* message = std::get_if<ReceivedFrames>(&item)) return take_in_message(std::move(*message));
  if (auto* message = std::get_if<Outgoing>(&item)) return take_in_outgoing(std::move(*message));
  if (const auto* revoked = std::get_if<Revoked>(&item)) return handlers_.on_revoked(revoked->client);
  if (const auto* link = std::get_if<Link>(&item)) return handlers_.on_link(link->client, link->transfer);
  pass_on(Clock::now(), TimePoint::min());
  std::get<Mark>(item).reached->set_value();
}

FaultyServer::Connection& FaultyServer::connection_of(const ReceivedFrames& message, TimePoint now) {
  if (const auto known = connections_.find(message.connection); known != connections_.end())
    return known->second;
  forget_idle(now);
  // Counted for each client, so that a client meets the same faults in whatever order others come.
  const uint64_t count = ++connections_of_client_[message.client];
  const uint64_t stream = derive_seed(hash_name(message.client.name), RandomPurpose::kNetwork, {count});
  Connection& connection =
      connections_.try_emplace(message.connection, options_, stream, now, thread_.counts()).first->second;
  connection.client = message.client;
  connection.address = message.address;
  return connection;
}

void FaultyServer::forget_idle(TimePoint now) {
  std::erase_if(connections_,
                [now](const auto& entry) { return now - entry.second.last_used > kForgetAfter; });
}

void FaultyServer::take_in_message(ReceivedFrames message) {
  const TimePoint now = Clock::now();
  Connection& connection = connection_of(message, now);
  connection.last_used = now;
  connection.injector.put(Direction::kIn, std::move(message.frames), now);
}

void FaultyServer::take_in_outgoing(Outgoing message) {
  const auto known = connections_.find(message.to);
  if (known == connections_.end()) {  // idle for so long that its client is gone
    ++thread_.counts().messages;
    ++thread_.counts().discarded;
    return;
  }
  known->second.injector.put(Direction::kOut, std::move(message.frames), Clock::now());
}

void FaultyServer::cut_when_due(TimePoint now) {
  for (auto& [id, connection] : connections_) {
    if (connection.injector.cut_due(now)) {
      connection.injector.cut();
      connection.is_cut = true;
      inner_->cut(id);
    }
    if (connection.is_cut) connection.injector.lose_all();
  }
}

/// Hands on what came and is due by `in_until`, and what is to be sent and due by `out_until`.
void FaultyServer::pass_on(TimePoint in_until, TimePoint out_until) {
  for (auto& [id, connection] : connections_) {
    while (auto frames = connection.injector.take(Direction::kOut, out_until))
      inner_->send(id, std::move(*frames));
    while (auto frames = connection.injector.take(Direction::kIn, in_until))
      deliver({id, connection.client, std::move(*frames), connection.address});
  }
}

void FaultyServer::deliver(ReceivedFrames message) {
  const std::string name = message.client.name;
  try {
    handlers_.on_message(std::move(message));
  } catch (const std::exception& error) {
    spdlog::error("handling a message of {} failed: {}", name, error.what());
  }
}

std::unique_ptr<ServerConnections> with_faults(std::unique_ptr<ServerConnections> inner,
                                               const FaultOptions& options) {
  if (!options.any()) return inner;
  return std::make_unique<FaultyServer>(std::move(inner), options);
}

}  // namespace tandem
