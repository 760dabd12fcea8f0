// A run's sessions joined by a network that a test can disturb: every message can be lost, doubled, changed
// or counted, connections break, devices die, restart and come back. The clock is the network's own.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tandem/aggregator/session/aggregator_session.h"
#include "tandem/augment/pipeline.h"
#include "tandem/core/base/random.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/core/transport/memory_network.h"
#include "tandem/core/wire/message_codec.h"
#include "tandem/edge_client/session/edge_session.h"
//
#include "support/recording_observer.h"
#include "support/simulated_runs.h"
#include "support/test.h"

namespace tandem::testing {

enum class Fate { kDeliver, kLose, kTwice };

/// One thread, one message at a time, the order across clients drawn by a seed. As with a socket, what one
/// side sends to the other arrives in order. Nothing waits for real time: when nobody has anything to do
/// the clock moves to the next deadline.
class SessionNetwork {
 public:
  using TimePoint = aggregator::TimePoint;

  explicit SessionNetwork(const aggregator::SessionOptions& options, const Dataset* eval_data = nullptr,
                          uint64_t arrival_seed = 0, NamedTensors initial_weights = {})
      : options_(options),
        eval_data_(eval_data),
        initial_weights_(std::move(initial_weights)),
        random_(derive_seed(arrival_seed, RandomPurpose::kNetwork, {})) {
    configure_compute_thread(1);
    network_.filter = [this](size_t edge, Way way, const wire::Frames& frames) {
      if (way == Way::kUp && on_frames_up) on_frames_up(edge, frames);
      return true;
    };
    start_session();
  }

  /// A device that is not connected yet.
  size_t add(const std::string& name, std::shared_ptr<const Dataset> data,
             std::shared_ptr<const Dataset> held_out = nullptr) {
    auto edge = std::make_unique<Edge>();
    edge->client = {name};
    edge->data = std::move(data);
    edge->held_out = std::move(held_out);
    edges_.push_back(std::move(edge));
    const size_t index = network_.add_client();
    start(index);
    return index;
  }

  /// A new connection; what was on the old one is lost.
  void connect(size_t index) {
    network_.connect(index);
    edges_.at(index)->alive = true;
    edges_[index]->session->connected();
  }
  void connect_all() {
    for (size_t i = 0; i < edges_.size(); ++i) connect(i);
  }
  /// Another start of the program, with nothing it knew.
  void restart(size_t index) {
    start(index);
    connect(index);
  }
  /// Another start of the program that goes on from its checkpoints, which survive it like its identity.
  void revive(size_t index) {
    --edges_.at(index)->instance;
    start(index);
    edges_.at(index)->session->resume();
    connect(index);
  }
  /// The aggregator dies and is started again, going on from its newest checkpoint if there is one. Every
  /// connection is lost.
  void restart_aggregator() {
    for (size_t i = 0; i < edges_.size(); ++i) network_.disconnect(i);
    if (checkpoints_.positions().empty()) ++options_.run_id;  // a run that begins has its own
    start_session();
    if (!checkpoints_.positions().empty()) {
      const auto resumed = session_->resume(checkpoints_.load(checkpoints_.positions().front()).value());
      REQUIRE_MESSAGE(resumed.has_value(), (resumed ? "" : resumed.error().message));
    }
  }
  bool alive(size_t index) const { return edges_.at(index)->alive; }
  /// Neither receives nor sends from now on, heartbeats included.
  void kill(size_t index) {
    edges_.at(index)->alive = false;
    network_.disconnect(index);
  }

  /// The program is stopped cleanly: what it sent is heard, goodbye included.
  void pause(size_t index) {
    edges_.at(index)->session->leave("interrupted");
    while (network_.has_message(index, Way::kUp)) deliver(index, Way::kUp);
    kill(index);
  }

  aggregator::AggregatorSession& session() { return *session_; }
  edge_client::EdgeSession& edge(size_t index) { return *edges_.at(index)->session; }
  size_t edges() const { return edges_.size(); }
  TimePoint now() const { return now_; }

  /// Sees every message but heartbeats just before it arrives, and may change it.
  std::function<Fate(size_t edge, bool up, wire::Message&)> on_message;
  /// Sees every message that goes up as it is sent.
  std::function<void(size_t edge, const wire::Frames&)> on_frames_up;
  /// Set before add(): a device that leaves does so as a program that keeps its checkpoints on the disk.
  bool edges_come_back = false;
  /// How long a message and a local step take.
  std::chrono::milliseconds event_time{0};

  /// Until the run is done or `until`; false when it does not come to that.
  bool run(const std::function<bool()>& until = [] { return false; }) {
    const TimePoint latest = now_ + std::chrono::hours(4);
    while (!session_->done()) {
      if (until()) return true;
      if (now_ > latest || ++turns_ > 400'000) return false;
      if (one_event()) {
        now_ += event_time;
        if (const auto deadline = session_->next_deadline(); deadline && *deadline <= now_) tick();
      } else {
        // Nobody is there: only time passes.
        const auto deadline = session_->next_deadline().value_or(now_ + std::chrono::seconds(1));
        now_ = std::max(now_, deadline);
        tick();
      }
    }
    while (one_down()) {
    }
    return true;
  }

  /// So much time, in which whatever can happen does.
  void pass(std::chrono::milliseconds time) {
    const TimePoint latest = now_ + time;
    REQUIRE(run([&] { return now_ >= latest; }));
  }

  RecordingObserver observer;

 private:
  using Way = MemoryNetwork::Way;

  struct Edge {
    ClientId client;
    std::shared_ptr<const Dataset> data, held_out;
    std::unique_ptr<edge_client::EdgeSession> session;
    uint64_t instance = 0;
    bool alive = false;
    CheckpointMemory checkpoints{3};
  };

  void start(size_t index) {
    Edge* edge = edges_.at(index).get();
    edge->session = std::make_unique<edge_client::EdgeSession>(
        edge_client::EdgeSessionOptions{
            .instance = ++edge->instance, .prefetch = 0, .comes_back = edges_come_back},
        edge_client::EdgeSessionDependencies{.transport = &network_.client(index),
                                             .dataset = edge->data.get(),
                                             .held_out = edge->held_out.get(),
                                             .make_augmenter = augment::build_pipeline,
                                             .now = [this] { return now_; },
                                             .checkpoints = &edge->checkpoints});
  }

  void start_session() {
    session_ = std::make_unique<aggregator::AggregatorSession>(
        options_, aggregator::SessionDependencies{.transport = &network_.server(),
                                                  .observer = &observer,
                                                  .eval_data = eval_data_,
                                                  .make_augmenter = augment::build_pipeline,
                                                  .initial_weights = to_start_from(initial_weights_),
                                                  .now = [this] { return now_; },
                                                  .checkpoints = &checkpoints_});
    REQUIRE(session_->prepare().has_value());
  }

  /// What the hook makes of the next message of a queue: none, one or two copies, decoded.
  std::vector<std::pair<wire::Message, int64_t>> take(size_t index, Way way) {
    const wire::Frames frames = network_.take(index, way).value();
    wire::Message message = wire::decode(frames, {}).value();
    const auto bytes = static_cast<int64_t>(wire::total_bytes(frames));
    if (!on_message || std::holds_alternative<wire::Heartbeat>(message.body)) return {{message, bytes}};
    const Fate fate = on_message(index, way == Way::kUp, message);
    // Through the codec again, so that a changed message has the hash that a transport would give it.
    message = wire::decode(wire::encode(message), {}).value();
    if (fate == Fate::kLose) return {};
    if (fate == Fate::kDeliver) return {{message, bytes}};
    return {{message, bytes}, {message, bytes}};
  }

  void deliver(size_t index, Way way) {
    Edge& edge = *edges_[index];
    const ConnectionId connection = network_.connection(index);
    for (auto& [message, bytes] : take(index, way)) {
      if (!edge.alive) return;  // the hook killed it
      if (way == Way::kUp) {
        session_->receive(connection, edge.client, message, bytes, now_);
      } else {
        edge.session->receive(message, bytes);
      }
    }
  }

  bool one_event() {
    struct Event {
      size_t edge;
      enum { kUp, kDown, kWork } kind;
    };
    std::vector<Event> events;
    for (size_t i = 0; i < edges_.size(); ++i) {
      if (network_.has_message(i, Way::kUp)) events.push_back({i, Event::kUp});
      if (network_.has_message(i, Way::kDown)) events.push_back({i, Event::kDown});
      if (edges_[i]->alive && edges_[i]->session->has_work()) events.push_back({i, Event::kWork});
    }
    if (events.empty()) return false;
    const Event chosen = events[random_.below(events.size())];
    if (chosen.kind == Event::kWork) {
      edges_[chosen.edge]->session->work();
    } else {
      deliver(chosen.edge, chosen.kind == Event::kUp ? Way::kUp : Way::kDown);
    }
    return true;
  }

  bool one_down() {
    for (size_t i = 0; i < edges_.size(); ++i) {
      if (!network_.has_message(i, Way::kDown)) continue;
      deliver(i, Way::kDown);
      return true;
    }
    return false;
  }

  void tick() {
    for (size_t i = 0; i < edges_.size(); ++i) {
      const Edge& edge = *edges_[i];
      if (!edge.alive || edge.session->done()) continue;
      edge.session->tick();
      session_->receive(network_.connection(i), edge.client, {.body = wire::Heartbeat{}}, 0, now_);
    }
    session_->tick(now_);
  }

  aggregator::SessionOptions options_;
  const Dataset* eval_data_;
  NamedTensors initial_weights_;
  CheckpointMemory checkpoints_{2};
  TimePoint now_ = TimePoint{} + std::chrono::hours(1);
  SplitMix64 random_;
  int turns_ = 0;
  MemoryNetwork network_;  // outlives the sessions
  std::unique_ptr<aggregator::AggregatorSession> session_;
  std::vector<std::unique_ptr<Edge>> edges_;
};

/// A way to train: which messages flow between the sessions depends on it.
struct Flow {
  std::string name;
  std::string algorithm;
  int head_blocks = 0;
  EdgeObjective objective = EdgeObjective::kEndToEnd;
  uint32_t tail_interval = 1;
  uint32_t window = 1;
  std::string cuts = "1";
};

inline std::vector<Flow> all_flows() {
  constexpr auto kLocal = EdgeObjective::kLocal;
  return {{"parallel", "parallel"},
          {"splitfed-v1", "splitfed-v1"},
          {"splitfed-v2", "splitfed-v2"},
          {"relay", "relay"},
          {"federated", "federated"},
          {"parallel U", "parallel", 1},
          {"splitfed-v1 U", "splitfed-v1", 1},
          {"splitfed-v2 U", "splitfed-v2", 1},
          {"relay U", "relay", 1},
          {"parallel local", "parallel", 0, kLocal},
          {"splitfed-v1 local", "splitfed-v1", 0, kLocal, 2},
          {"splitfed-v2 local", "splitfed-v2", 0, kLocal},
          {"relay local", "relay", 0, kLocal, 2},
          {"splitfed-v2 aligned", "splitfed-v2", 0, EdgeObjective::kAligned},
          {"parallel window 3", "parallel", 0, EdgeObjective::kEndToEnd, 1, 3},
          {"splitfed-v1 window 2", "splitfed-v1", 0, EdgeObjective::kEndToEnd, 1, 2},
          {"splitfed-v2 local window 2", "splitfed-v2", 0, kLocal, 1, 2},
          {"parallel cuts", "parallel", 0, EdgeObjective::kEndToEnd, 1, 1, "client-1=3,client-2=1,*=2"},
          {"splitfed-v1 cuts", "splitfed-v1", 0, EdgeObjective::kEndToEnd, 1, 1, "client-1=1,*=2"},
          {"splitfed-v2 cuts", "splitfed-v2", 0, EdgeObjective::kEndToEnd, 1, 1, "client-2=1,*=3"}};
}

inline aggregator::SessionOptions flow_options(const Flow& flow, int clients = 3) {
  auto options = base_options("cnn", 1, clients);
  options.plan.algorithm = find_algorithm(flow.algorithm).value();
  options.plan.head_blocks = flow.head_blocks;
  options.plan.objective = flow.objective;
  options.plan.tail_interval = flow.tail_interval;
  if (flow.objective == EdgeObjective::kAligned) options.alignment.tail_epochs = 1;
  options.plan.window = flow.window;
  if (const auto cuts = ClientCuts::parse(flow.cuts).value(); !cuts.equal()) options.cuts = cuts;
  options.batch_size = flow.algorithm == "parallel" ? 24 : 8;
  options.min_clients = 1;
  return options;
}

/// "client-1", "client-2", ... with so many synthetic images each, not connected yet.
inline void add_clients(SessionNetwork& network, const std::vector<int>& examples,
                        const std::vector<int>& held_out = {}) {
  for (size_t i = 0; i < examples.size(); ++i) {
    const int number = static_cast<int>(i);
    const bool holds = i < held_out.size() && held_out[i] > 0;
    network.add(client_name(number), images(examples[i], 8, 1, number + 1),
                holds ? images(held_out[i], 8, 1, 100 + number) : nullptr);
  }
}

inline NamedTensors weights_of(SessionNetwork& network) {
  return snapshot(network.session().weights());
}

inline bool finite(const NamedTensors& tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [](const NamedTensor& entry) { return at::isfinite(entry.tensor).all().item<bool>(); });
}

}  // namespace tandem::testing
