#include "tandem/tools/simulation.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <utility>

#include "tandem/augment/pipeline.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/core/wire/message_codec.h"

namespace tandem::tools {
namespace {

/// Runs `task(i)` for every index on `workers` threads and waits; rethrows the first exception.
void parallel_for(size_t count, int workers, int threads, const std::function<void(size_t)>& task) {
  std::atomic<size_t> next{0};
  std::vector<std::exception_ptr> failures(static_cast<size_t>(workers));
  std::vector<std::thread> pool;
  for (size_t worker = 0; worker < std::min(failures.size(), count); ++worker) {
    pool.emplace_back([&, worker] {
      try {
        configure_compute_thread(threads);
        for (size_t i = next++; i < count; i = next++) task(i);
      } catch (...) {
        failures[worker] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace

struct Simulation::Edge : ClientTransport {
  bool send(wire::Frames frames) override {
    const size_t index = connection.value - 1;
    if (!network->filter || network->filter(index, true, frames)) to_aggregator.push_back(std::move(frames));
    return true;
  }
  /// What is sent has left at once.
  LinkState link() const override { return {.sent_until = aggregator::TimePoint::max()}; }

  const Simulation* network = nullptr;
  ClientId client;
  ConnectionId connection;
  std::shared_ptr<const Dataset> dataset;
  std::shared_ptr<const Dataset> held_out;
  std::shared_ptr<CheckpointStorage> checkpoints;
  std::unique_ptr<edge_client::EdgeSession> session;
  bool alive = true;
  std::deque<wire::Frames> to_edge;
  std::deque<wire::Frames> to_aggregator;
};

Simulation::Simulation(aggregator::SessionOptions options, aggregator::RunObserver& observer,
                       const Dataset* eval_data, std::optional<InitialWeights> initial_weights,
                       std::vector<VirtualEdge> edges, SimulationOptions simulation,
                       CheckpointStorage* checkpoints)
    : options_(simulation), arrival_(derive_seed(simulation.arrival_seed, RandomPurpose::kNetwork, {})) {
  session_ = std::make_unique<aggregator::AggregatorSession>(
      std::move(options), aggregator::SessionDependencies{
                              .transport = this,
                              .observer = &observer,
                              .eval_data = eval_data,
                              .make_augmenter = augment::build_pipeline,
                              .initial_weights = std::move(initial_weights),
                              .now = [this] { return now(); },
                              .checkpoints = checkpoints});
  for (VirtualEdge& described : edges) {
    auto edge = std::make_unique<Edge>();
    edge->client = {described.name};
    edge->connection = {edges_.size() + 1};
    edge->dataset = std::move(described.dataset);
    edge->held_out = std::move(described.held_out);
    edge->checkpoints = std::move(described.checkpoints);
    edge->network = this;
    Edge* self = edge.get();
    const size_t index = edges_.size();
    edge->session = std::make_unique<edge_client::EdgeSession>(
        edge_client::EdgeSessionOptions{.instance = index + 1, .prefetch = 0},
        edge_client::EdgeSessionDependencies{.transport = self,
                                             .dataset = self->dataset.get(),
                                             .held_out = self->held_out.get(),
                                             .make_augmenter = augment::build_pipeline,
                                             .now = [this] { return now(); },
                                             .checkpoints = self->checkpoints.get(),
                                             .models = options_.shares_models ? &models_ : nullptr});
    edges_.push_back(std::move(edge));
  }
}

Simulation::~Simulation() = default;

bool Simulation::send(ConnectionId to, wire::Frames frames) {
  const size_t index = to.value - 1;
  if (edges_[index]->alive && (!filter || filter(index, false, frames)))
    edges_[index]->to_edge.push_back(std::move(frames));
  return true;
}

edge_client::EdgeSession& Simulation::edge(size_t index) {
  return *edges_.at(index)->session;
}

bool Simulation::edges_have_mail() const {
  return std::any_of(edges_.begin(), edges_.end(), [](const auto& edge) { return !edge->to_edge.empty(); });
}

bool Simulation::aggregator_has_mail() const {
  return std::any_of(edges_.begin(), edges_.end(),
                     [](const auto& edge) { return !edge->to_aggregator.empty(); });
}

void Simulation::deliver_to_edges() {
  std::vector<Edge*> ready;
  for (const auto& edge : edges_) {
    if (!edge->to_edge.empty()) ready.push_back(edge.get());
  }
  // Each edge touches only its own state, so any number of workers gives the same result.
  parallel_for(ready.size(), options_.workers, options_.threads, [&](size_t i) {
    Edge& edge = *ready[i];
    while (!edge.to_edge.empty()) {
      const wire::Frames frames = std::move(edge.to_edge.front());
      edge.to_edge.pop_front();
      auto message = wire::decode(frames, {});
      edge.session->receive(std::move(message).value(), static_cast<int64_t>(wire::total_bytes(frames)));
      while (edge.session->has_work()) edge.session->work();
    }
  });
}

void Simulation::deliver_to_aggregator() {
  std::vector<Edge*> waiting;
  for (const auto& edge : edges_) {
    if (!edge->to_aggregator.empty()) waiting.push_back(edge.get());
  }
  // One message at a time from a randomly chosen client: any order of arrival that a network can produce.
  while (!waiting.empty()) {
    const size_t chosen = arrival_.below(waiting.size());
    Edge& edge = *waiting[chosen];
    const wire::Frames frames = std::move(edge.to_aggregator.front());
    edge.to_aggregator.pop_front();
    if (edge.to_aggregator.empty()) waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(chosen));
    auto message = wire::decode(frames, {});
    if (message) {
      if (tamper) tamper(edge.connection.value - 1, *message);
      session_->receive(edge.connection, edge.client, std::move(*message),
                        static_cast<int64_t>(wire::total_bytes(frames)), now());
    } else {
      session_->receive_undecodable(edge.connection, edge.client, message.error());
    }
  }
}

void Simulation::skip_to_next_deadline(aggregator::TimePoint deadline) {
  skipped_ += std::max(deadline - now(), std::chrono::steady_clock::duration{0});
  for (const auto& edge : edges_) {
    if (!edge->alive || edge->session->done()) continue;
    edge->session->tick();
    session_->receive(edge->connection, edge->client, {.body = wire::Heartbeat{}}, 0, now());
  }
  session_->tick(now());
}

void Simulation::kill(size_t index) {
  Edge& edge = *edges_.at(index);
  edge.alive = false;
  edge.to_edge.clear();
  edge.to_aggregator.clear();
}

Result<void> Simulation::run(const std::function<bool()>& should_stop, const Checkpoint* from) {
  if (auto prepared = session_->prepare(); !prepared) return prepared;
  if (from != nullptr) {
    if (auto resumed = session_->resume(*from); !resumed) return resumed;
    for (const auto& edge : edges_) edge->session->resume();
  }
  for (const auto& edge : edges_) edge->session->connected();
  while (!session_->done()) {
    if (should_stop()) {
      session_->stop("interrupted");
    } else if (aggregator_has_mail()) {
      deliver_to_aggregator();
    } else if (edges_have_mail()) {
      deliver_to_edges();
    } else {
      // Before the first round everybody is waited for: one that was refused will never come.
      for (const auto& edge : edges_) {
        if (!session_->started() && edge->session->failure()) return *edge->session->failure();
      }
      const auto deadline = session_->next_deadline();
      if (!deadline)
        return Error{ErrorCode::kTimeout, "the simulation stands still: nobody has anything to do"};
      skip_to_next_deadline(*deadline);
    }
  }
  if (session_->failure()) return *session_->failure();
  deliver_to_edges();
  for (const auto& edge : edges_) {
    if (edge->session->failure() && session_->completed()) return *edge->session->failure();
  }
  return {};
}

}  // namespace tandem::tools
