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

using Way = MemoryNetwork::Way;

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

struct Simulation::Edge {
  ClientId client;
  std::shared_ptr<const Dataset> dataset;
  std::shared_ptr<const Dataset> held_out;
  std::shared_ptr<CheckpointStorage> checkpoints;
  std::unique_ptr<edge_client::EdgeSession> session;
};

Simulation::Simulation(aggregator::SessionOptions options, aggregator::RunObserver& observer,
                       const Dataset* eval_data, std::optional<InitialWeights> initial_weights,
                       std::vector<VirtualEdge> edges, SimulationOptions simulation,
                       CheckpointStorage* checkpoints)
    : options_(simulation), arrival_(derive_seed(simulation.arrival_seed, RandomPurpose::kNetwork, {})) {
  network_.filter = [this](size_t edge, Way way, const wire::Frames& frames) {
    return !filter || filter(edge, way == Way::kUp, frames);
  };
  session_ = std::make_unique<aggregator::AggregatorSession>(
      std::move(options), aggregator::SessionDependencies{.transport = &network_.server(),
                                                          .observer = &observer,
                                                          .eval_data = eval_data,
                                                          .make_augmenter = augment::build_pipeline,
                                                          .initial_weights = std::move(initial_weights),
                                                          .now = [this] { return now(); },
                                                          .checkpoints = checkpoints});
  for (VirtualEdge& described : edges) {
    auto edge = std::make_unique<Edge>();
    edge->client = {described.name};
    edge->dataset = std::move(described.dataset);
    edge->held_out = std::move(described.held_out);
    edge->checkpoints = std::move(described.checkpoints);
    const size_t index = network_.add_client();
    network_.connect(index);
    edge->session = std::make_unique<edge_client::EdgeSession>(
        edge_client::EdgeSessionOptions{.instance = index + 1, .prefetch = 0},
        edge_client::EdgeSessionDependencies{.transport = &network_.client(index),
                                             .dataset = edge->dataset.get(),
                                             .held_out = edge->held_out.get(),
                                             .make_augmenter = augment::build_pipeline,
                                             .now = [this] { return now(); },
                                             .checkpoints = edge->checkpoints.get(),
                                             .models = options_.shares_models ? &models_ : nullptr});
    edges_.push_back(std::move(edge));
  }
}

Simulation::~Simulation() = default;

edge_client::EdgeSession& Simulation::edge(size_t index) {
  return *edges_.at(index)->session;
}

std::vector<size_t> Simulation::with_mail(Way way) const {
  std::vector<size_t> waiting;
  for (size_t i = 0; i < edges_.size(); ++i) {
    if (network_.has_message(i, way)) waiting.push_back(i);
  }
  return waiting;
}

void Simulation::deliver_to_edges() {
  const std::vector<size_t> ready = with_mail(Way::kDown);
  // Each edge touches only its own state, so any number of workers gives the same result.
  parallel_for(ready.size(), options_.workers, options_.threads, [&](size_t i) {
    edge_client::EdgeSession& session = *edges_[ready[i]]->session;
    while (const auto frames = network_.take(ready[i], Way::kDown)) {
      auto message = wire::decode(*frames, {});
      session.receive(std::move(message).value(), static_cast<int64_t>(wire::total_bytes(*frames)));
      while (session.has_work()) session.work();
    }
  });
}

void Simulation::deliver_to_aggregator() {
  std::vector<size_t> waiting = with_mail(Way::kUp);
  // One message at a time from a randomly chosen client: any order of arrival that a network can produce.
  while (!waiting.empty()) {
    const size_t chosen = arrival_.below(waiting.size());
    const size_t index = waiting[chosen];
    const ClientId& client = edges_[index]->client;
    const ConnectionId connection = network_.connection(index);
    const wire::Frames frames = network_.take(index, Way::kUp).value();
    if (!network_.has_message(index, Way::kUp))
      waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(chosen));
    auto message = wire::decode(frames, {});
    if (message) {
      if (tamper) tamper(index, *message);
      session_->receive(connection, client, std::move(*message),
                        static_cast<int64_t>(wire::total_bytes(frames)), now());
    } else {
      session_->receive_undecodable(connection, client, message.error());
    }
  }
}

void Simulation::skip_to_next_deadline(aggregator::TimePoint deadline) {
  skipped_ += std::max(deadline - now(), std::chrono::steady_clock::duration{0});
  for (size_t i = 0; i < edges_.size(); ++i) {
    const Edge& edge = *edges_[i];
    const ConnectionId connection = network_.connection(i);
    if (connection == ConnectionId{} || edge.session->done()) continue;
    edge.session->tick();
    session_->receive(connection, edge.client, {.body = wire::Heartbeat{}}, 0, now());
  }
  session_->tick(now());
}

void Simulation::kill(size_t index) {
  network_.disconnect(index);
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
    } else if (!with_mail(Way::kUp).empty()) {
      deliver_to_aggregator();
    } else if (!with_mail(Way::kDown).empty()) {
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
