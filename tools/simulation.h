#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tandem/aggregator/session/aggregator_session.h"
#include "tandem/core/base/random.h"
#include "tandem/core/data/dataset.h"
#include "tandem/core/transport/memory_network.h"
#include "tandem/edge_client/session/edge_session.h"
#include "tandem/edge_client/training/model_pool.h"

namespace tandem::tools {

struct SimulationOptions {
  /// Threads on which the edges compute; the aggregator has the calling one. >= 1.
  int workers = 1;
  /// Intra-op threads of each worker.
  int threads = 1;
  /// Seed of the order in which messages of different clients arrive; results must not depend on it.
  uint64_t arrival_seed = 0;
  /// Clients give their model to the next one between their rounds; without it each keeps one of its own. The
  /// results are the same.
  bool shares_models = true;
};

/// One virtual device.
struct VirtualEdge {
  std::string name;
  std::shared_ptr<const Dataset> dataset;
  /// Examples it holds back for evaluation; null for none.
  std::shared_ptr<const Dataset> held_out;
  /// Where it keeps the moments to which it can go back; null for nowhere.
  std::shared_ptr<CheckpointStorage> checkpoints;
};

/// An aggregator's session and many edges' in one process, joined by a MemoryNetwork; every message is
/// encoded and decoded as for a socket. Time passes as it does, but deadlines are looked at only when nobody
/// has anything to do, and then time skips to the next one: none fires because this machine is slow, and
/// waiting for a client that is gone takes no time.
class Simulation {
 public:
  /// `checkpoints`: where the aggregator keeps the run; null for nowhere.
  Simulation(aggregator::SessionOptions options, aggregator::RunObserver& observer, const Dataset* eval_data,
             std::optional<InitialWeights> initial_weights, std::vector<VirtualEdge> edges,
             SimulationOptions simulation, CheckpointStorage* checkpoints = nullptr);
  ~Simulation();

  /// Connects every edge and delivers messages until the run is done, or `should_stop`. Returns the
  /// session's failure, or the first edge's that is not explained by it.
  /// With `from` both sides go on from their checkpoints, the aggregator from this one.
  Result<void> run(
      const std::function<bool()>& should_stop = [] { return false; }, const Checkpoint* from = nullptr);

  const aggregator::AggregatorSession& session() const { return *session_; }
  edge_client::EdgeSession& edge(size_t index);

  /// From now on the device is as good as dead: it neither receives nor sends, heartbeats included.
  void kill(size_t index);

  /// Called for every message on its way; returning false loses it. For tests of failures. With several
  /// workers it is called from several threads at once.
  std::function<bool(size_t edge, bool to_aggregator, const wire::Frames&)> filter;

  /// Called for every message that reaches the aggregator, which it may change: what a malicious device
  /// would send. For tests of attacks.
  std::function<void(size_t edge, wire::Message&)> tamper;

 private:
  struct Edge;

  aggregator::TimePoint now() const { return std::chrono::steady_clock::now() + skipped_; }
  void skip_to_next_deadline(aggregator::TimePoint deadline);
  void deliver_to_edges();
  void deliver_to_aggregator();
  /// The edges that something waits for, that way.
  std::vector<size_t> with_mail(MemoryNetwork::Way way) const;

  SimulationOptions options_;
  std::chrono::steady_clock::duration skipped_{0};
  SplitMix64 arrival_;
  edge_client::ModelPool models_;
  MemoryNetwork network_;  // outlives the sessions
  std::unique_ptr<aggregator::AggregatorSession> session_;
  std::vector<std::unique_ptr<Edge>> edges_;
};

}  // namespace tandem::tools
