// The protocol at the aggregator, message by message: what a client can do to a session and what it answers.
#include "tandem/aggregator/session/aggregator_session.h"

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tandem/augment/pipeline.h"
#include "tandem/core/wire/message_codec.h"
//
#include "support/recording_observer.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};

/// A session with a clock that the test moves, and what it sent to each connection.
class Bench : private ServerTransport {
 public:
  enum class Prepared { kYes, kMayFail };

  explicit Bench(
      int clients = 2, const std::function<void(SessionOptions&)>& change = [](SessionOptions&) {},
      Prepared expected = Prepared::kYes, std::optional<InitialWeights> initial_weights = std::nullopt) {
    SessionOptions options;
    options.plan.model = "mlp:hidden=8";
    options.plan.cut = 1;
    options.plan.rounds = 2;
    options.clients = clients;
    options.batch_size = 8;
    options.local_steps = 2;
    options.run_id = 42;
    change(options);
    session = std::make_unique<AggregatorSession>(
        options, SessionDependencies{.transport = this,
                                     .observer = &observer,
                                     .make_augmenter = augment::build_pipeline,
                                     .initial_weights = std::move(initial_weights),
                                     .now = [this] { return now; }});
    prepared = session->prepare();
    REQUIRE((expected == Prepared::kMayFail || prepared.has_value()));
  }

  void receive(uint64_t connection, const ClientId& client, const wire::Message& message) {
    // Through the codec, so that the message has the hash that a transport would give it.
    session->receive({connection}, client, wire::decode(wire::encode(message), {}).value(), 100, now);
  }

  void hello(uint64_t connection, const ClientId& client, uint64_t instance = 1, wire::MessageKey key = {}) {
    receive(connection, client, {.key = key, .body = wire::Hello{"test", instance, {{1, 4, 4}, 3, 16}}});
  }

  /// The newest message of that kind to a connection.
  template <class T>
  std::optional<std::pair<wire::MessageKey, T>> last(uint64_t connection) const {
    const auto found = sent.find(connection);
    if (found == sent.end()) return std::nullopt;
    for (auto it = found->second.rbegin(); it != found->second.rend(); ++it) {
      if (const T* body = std::get_if<T>(&it->body)) return std::pair{it->key, *body};
    }
    return std::nullopt;
  }

  template <class T>
  int count(uint64_t connection) const {
    const auto found = sent.find(connection);
    if (found == sent.end()) return 0;
    return static_cast<int>(
        std::count_if(found->second.begin(), found->second.end(),
                      [](const wire::Message& m) { return std::holds_alternative<T>(m.body); }));
  }

  wire::Message activations(uint64_t connection, uint32_t step, double value = 0.5) const {
    const auto begin = last<wire::BeginRound>(connection);
    REQUIRE(begin.has_value());
    const int64_t size = begin->second.batch_sizes.at(step);
    wire::MessageKey key = begin->first;
    key.step = step;
    return {.key = key,
            .body = wire::Activations{.activations = at::full({size, 8}, value),
                                      .labels = at::zeros({size}, at::kLong)}};
  }

  void pass(std::chrono::milliseconds time) {
    now += time;
    session->tick(now);
  }

  std::string last_join(const std::string& client) const {
    std::string detail;
    for (const EventRecord& event : observer.events) {
      if (event.event == "join" && event.client == client) detail = event.detail;
    }
    return detail;
  }

  Result<void> prepared;
  TimePoint now{};
  testing::RecordingObserver observer;
  std::map<uint64_t, std::vector<wire::Message>> sent;
  std::unique_ptr<AggregatorSession> session;

 private:
  bool send(ConnectionId to, wire::Frames frames) override {
    sent[to.value].push_back(wire::decode(frames, {}).value());
    return true;
  }
};

}  // namespace

TEST_SUITE("aggregator/session/aggregator_session") {
  TEST_CASE("the first round begins when the clients asked for are there") {
    Bench bench;
    bench.hello(1, kAnn);
    REQUIRE(bench.last<wire::Welcome>(1).has_value());
    CHECK(bench.last<wire::Welcome>(1)->second.client == "ann");
    CHECK(bench.last<wire::Welcome>(1)->second.plan.input_shape == std::vector<int64_t>{1, 4, 4});
    CHECK(bench.count<wire::BeginRound>(1) == 0);
    bench.hello(2, kBob);
    CHECK(bench.count<wire::BeginRound>(1) == 1);
    CHECK(bench.last<wire::BeginRound>(2)->first.round == 1);
    CHECK(bench.last<wire::BeginRound>(2)->second.batch_sizes.size() == 2);
  }

  TEST_CASE("nobody gets a byte of the model before Hello") {
    Bench bench;
    bench.receive(9, {"eve"}, {.body = wire::Heartbeat{}});
    CHECK(bench.count<wire::Refuse>(9) == 1);
    CHECK(bench.last<wire::Refuse>(9)->second.reason == "say Hello first on this connection");
    CHECK(bench.sent[9].size() == 1);
  }

  TEST_CASE("a step runs when both have sent, and a repeat gets the same answer without a second step") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    const auto from_ann = bench.activations(1, 0);
    bench.receive(1, kAnn, from_ann);
    bench.receive(1, kAnn, from_ann);  // a repeat while it waits
    CHECK(bench.count<wire::Gradients>(1) == 0);
    bench.receive(2, kBob, bench.activations(2, 0));
    REQUIRE(bench.count<wire::Gradients>(1) == 1);
    const auto first = bench.last<wire::Gradients>(1);
    const NamedTensors weights = snapshot(bench.session->weights());
    bench.receive(1, kAnn, from_ann);  // the answer got lost
    REQUIRE(bench.count<wire::Gradients>(1) == 2);
    CHECK(at::equal(bench.last<wire::Gradients>(1)->second.gradient, first->second.gradient));
    CHECK((bench.last<wire::Gradients>(1)->first == first->first));
    for (size_t i = 0; i < weights.size(); ++i)
      CHECK(at::equal(weights[i].tensor, bench.session->weights()[i].tensor));
    CHECK(bench.observer.steps.size() == 1);
  }

  TEST_CASE("other data under the key of an answered step are refused") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    bench.receive(1, kAnn, bench.activations(1, 0, 0.5));
    bench.receive(2, kBob, bench.activations(2, 0));
    bench.receive(1, kAnn, bench.activations(1, 0, 0.75));
    REQUIRE(bench.last<wire::Refuse>(1).has_value());
    CHECK(bench.last<wire::Refuse>(1)->second.reason == "step 0 was already answered for other data");
    CHECK(bench.observer.steps.size() == 1);
  }

  TEST_CASE("activations that are not what was agreed are left out at once, and the step goes on") {
    struct Case {
      std::string name;
      std::function<void(wire::Activations&)> spoil;
      std::string expected;
    };
    const std::vector<Case> cases = {
        {"NaN",
         [](wire::Activations& a) {
           a.activations.index_put_({0, 0}, std::nan(""));
         },
         "finite values up to"},
        {"infinity",
         [](wire::Activations& a) {
           a.activations.index_put_({0, 0}, -INFINITY);
         },
         "finite values up to"},
        {"1e30",
         [](wire::Activations& a) {
           a.activations.index_put_({0, 0}, 1e30);
         },
         "finite values up to"},
        {"shape",
         [](wire::Activations& a) {
           a.activations = at::zeros({1, 9});
         },
         "activations have shape 1x9 Float, expected"},
        {"dtype", [](wire::Activations& a) { a.activations = a.activations.to(at::kDouble); },
         "Double, expected"},
        {"label too large", [](wire::Activations& a) { a.labels.fill_(3); },
         "labels range from 3 to 3, expected 0 to 2"},
        {"label negative", [](wire::Activations& a) { a.labels.fill_(-1); },
         "labels range from -1 to -1, expected 0 to 2"},
        {"label dtype", [](wire::Activations& a) { a.labels = a.labels.to(at::kInt); }, "Int, expected"},
        {"label count", [](wire::Activations& a) { a.labels = at::zeros({1000}, at::kLong); },
         "labels have shape 1000 Long"},
    };
    for (const Case& each : cases) {
      CAPTURE(each.name);
      Bench bench;
      bench.hello(1, kAnn);
      bench.hello(2, kBob);
      auto bad = bench.activations(1, 0);
      each.spoil(std::get<wire::Activations>(bad.body));
      bench.receive(1, kAnn, bad);
      REQUIRE(bench.last<wire::Skip>(1).has_value());
      CHECK(bench.last<wire::Skip>(1)->second.reason.find(each.expected) != std::string::npos);
      CHECK_FALSE(bench.last<wire::Skip>(1)->second.until_next_round);
      bench.receive(2, kBob, bench.activations(2, 0));
      CHECK(bench.count<wire::Gradients>(2) == 1);
      CHECK(bench.observer.find("bad-activations", "ann") != nullptr);
    }
  }

  TEST_CASE("a silent client misses the step at the deadline and the round after two") {
    Bench bench(2, [](SessionOptions& options) {
      options.step_deadline = std::chrono::seconds(3);
      options.client_timeout = std::chrono::hours(1);
    });
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    bench.receive(2, kBob, bench.activations(2, 0));
    bench.pass(std::chrono::milliseconds(2999));
    CHECK(bench.count<wire::Gradients>(2) == 0);
    bench.pass(std::chrono::milliseconds(1));
    CHECK(bench.count<wire::Gradients>(2) == 1);
    CHECK(bench.last<wire::Skip>(1)->second.reason == "nothing came within the step deadline of 3000 ms");
    bench.receive(2, kBob, bench.activations(2, 1));
    bench.pass(std::chrono::seconds(3));
    CHECK(bench.last<wire::Skip>(1)->second.until_next_round);
    CHECK(bench.count<wire::EndRound>(1) == 0);
    CHECK(bench.count<wire::EndRound>(2) == 1);
    // What it sends late is answered, and changes nothing.
    bench.receive(1, kAnn, bench.activations(1, 1));
    CHECK(bench.last<wire::Skip>(1)->second.reason == "this client takes no part in the round any more");
  }

  TEST_CASE("a client whose heartbeats come is not dropped, one whose do not is") {
    Bench bench(2, [](SessionOptions& options) { options.client_timeout = std::chrono::seconds(2); });
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    for (int i = 0; i < 4; ++i) {
      bench.receive(1, kAnn, {.body = wire::Heartbeat{}});
      bench.pass(std::chrono::seconds(1));
    }
    CHECK(bench.observer.find("leave", "ann") == nullptr);
    REQUIRE(bench.observer.find("leave", "bob") != nullptr);
    CHECK(bench.observer.find("leave", "bob")->detail == "silent for 2000 ms");
    CHECK(bench.count<wire::Heartbeat>(1) == 4);
  }

  TEST_CASE("bytes that come are a sign of life, whether or not they make a message") {
    Bench bench(2, [](SessionOptions& options) { options.client_timeout = std::chrono::seconds(2); });
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    bench.session->heard({"nobody"}, bench.now, std::chrono::seconds(1));
    for (int i = 0; i < 60; ++i) {
      bench.session->heard(kAnn, bench.now, std::chrono::seconds(1));
      bench.pass(std::chrono::seconds(1));
    }
    CHECK(bench.observer.find("leave", "ann") == nullptr);
    CHECK(bench.observer.find("leave", "bob")->detail == "silent for 2000 ms");
    bench.pass(std::chrono::seconds(3));
    CHECK(bench.observer.find("leave", "ann") != nullptr);
  }

  TEST_CASE("a step waits for data that are on their way, and no longer than the slowest link needs") {
    for (const bool given : {false, true}) {
      CAPTURE(given);
      Bench bench(2, [&](SessionOptions& options) {
        options.step_deadline = std::chrono::seconds(5);
        options.step_waits_for_transfers = !given;
      });
      bench.hello(1, kAnn);
      bench.hello(2, kBob);
      bench.receive(2, kBob, bench.activations(2, 0));
      int seconds = 0;
      while (bench.observer.find("missed-step") == nullptr && ++seconds < 3600) {
        bench.session->heard(kAnn, bench.now, std::chrono::seconds(1));
        bench.session->heard(kBob, bench.now, {});
        bench.pass(std::chrono::seconds(1));
      }
      CHECK(bench.observer.find("missed-step")->client == "ann");
      // The largest message is little more than a MiB here: there and back at 4096 bytes a second.
      const int64_t most = 5 + 2 * bench.session->largest_message() / 4096;
      if (given) CHECK(seconds == 5);
      if (!given) CHECK(std::abs(seconds - most) <= 1);
    }
  }

  TEST_CASE("the end is waited for while it is on its way, whatever the deadline of an update") {
    for (const bool is_on_its_way : {false, true}) {
      CAPTURE(is_on_its_way);
      Bench bench(1, [](SessionOptions& options) {
        options.plan.rounds = 1;
        options.local_steps = 1;
        options.update_deadline = std::chrono::seconds(3);
      });
      bench.hello(1, kAnn);
      bench.receive(1, kAnn, bench.activations(1, 0));
      const auto [key, round] = bench.last<wire::BeginRound>(1).value();
      bench.receive(
          1, kAnn,
          {.key = key, .body = wire::WeightUpdate{.examples = 8, .steps = 1, .weights = round.weights}});
      REQUIRE(bench.count<wire::Finish>(1) == 1);
      int seconds = 0;
      while (!bench.session->done() && ++seconds < 60) {
        const auto transfer = std::chrono::seconds(is_on_its_way ? 1 : 0);
        bench.session->heard(kAnn, bench.now, transfer);
        bench.pass(std::chrono::seconds(1));
      }
      CHECK(seconds == (is_on_its_way ? 60 : 3));
      bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kLeaving, "the run is complete"}});
      CHECK(bench.session->completed());
    }
  }

  TEST_CASE("a client that pauses keeps its place for as long as a silent one, and goes on with its round") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    const auto from_ann = bench.activations(1, 0);
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kPaused, "interrupted"}});
    CHECK(bench.count<wire::Bye>(1) == 1);
    CHECK(bench.observer.find("pause", "ann")->detail == "interrupted; its place is kept for 10000 ms");
    // What was on its way is answered, and does not count.
    bench.receive(1, kAnn, from_ann);
    bench.receive(1, kAnn, {.body = wire::Heartbeat{}});
    bench.hello(1, kAnn);
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kPaused, "interrupted"}});
    CHECK(bench.count<wire::Bye>(1) == 2);
    CHECK(bench.observer.count("pause") == 1);
    bench.session->heard(kBob, bench.now + std::chrono::seconds(9), {});
    bench.pass(std::chrono::seconds(9));
    CHECK(bench.observer.count("leave") == 0);
    bench.hello(3, kAnn, 1, from_ann.key);
    CHECK(bench.last<wire::Welcome>(3)->second.resumed);
    CHECK(bench.observer.find("reconnect", "ann") != nullptr);
    bench.receive(3, kAnn, from_ann);
    bench.receive(2, kBob, bench.activations(2, 0));
    CHECK(bench.count<wire::Gradients>(3) == 1);
  }

  TEST_CASE("a client that pauses for longer has left, and comes back with its state") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    const auto from_ann = bench.activations(1, 0);
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kPaused, "interrupted"}});
    bench.session->heard(kBob, bench.now + std::chrono::seconds(10), {});
    bench.pass(std::chrono::milliseconds(10'001));
    CHECK(bench.observer.find("leave", "ann")->detail == "paused, and not back after 10000 ms");
    CHECK(bench.observer.find("leave", "bob") == nullptr);
    bench.hello(3, kAnn, 1, from_ann.key);
    CHECK_FALSE(bench.last<wire::Welcome>(3)->second.resumed);
    CHECK(bench.last_join("ann") ==
          "16 examples, tandem test; back with its optimiser state, from the next round on");
    bench.hello(4, kAnn, 2);
    CHECK(bench.last_join("ann") ==
          "16 examples, tandem test; a new program, its optimiser state starts at zero");
  }

  TEST_CASE("a paused client has no place to keep where the run is over, or when another program comes") {
    Bench bench(1, [](SessionOptions& options) { options.plan.rounds = 1; });
    bench.hello(1, kAnn);
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kPaused, "interrupted"}});
    bench.hello(2, kAnn, 2);
    CHECK(bench.count<wire::BeginRound>(2) == 1);
    CHECK(bench.last_join("ann") ==
          "16 examples, tandem test; a new program, its optimiser state starts at zero");
  }

  TEST_CASE(
      "what is here is named to a client that asks, and weights that went out are not sent at once again") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    CHECK(bench.count<wire::BeginRound>(1) == 1);
    const auto from_ann = bench.activations(1, 0);
    bench.hello(1, kAnn, 1, {.run_id = 42, .incarnation = 1});  // BeginRound may have crossed this
    CHECK(bench.last<wire::Welcome>(1)->second.resumed);
    CHECK(bench.count<wire::BeginRound>(1) == 1);
    bench.hello(1, kAnn, 1, {.run_id = 42, .incarnation = 1});  // it did not
    CHECK(bench.count<wire::BeginRound>(1) == 2);
    bench.receive(1, kAnn, from_ann);
    bench.hello(1, kAnn, 1, from_ann.key);
    const std::vector<wire::RequestId> held = bench.last<wire::Welcome>(1)->second.held;
    CHECK(std::count(held.begin(), held.end(), wire::RequestId{wire::MessageType::kActivations, 1, 0}) == 1);
    CHECK(std::count(held.begin(), held.end(), wire::RequestId{wire::MessageType::kTrained, 1, 0}) == 0);
    bench.receive(2, kBob, bench.activations(2, 0));
    bench.hello(1, kAnn, 1, from_ann.key);
    // Answered: if the answer got lost, the request has to come again.
    const auto again = bench.last<wire::Welcome>(1);
    for (const wire::RequestId& request : again->second.held)
      CHECK_FALSE((request.type == wire::MessageType::kActivations));
  }

  TEST_CASE("a second program with the same key takes over and the first is told") {
    Bench bench;
    bench.hello(1, kAnn, 1);
    bench.hello(3, kAnn, 2);
    REQUIRE(bench.last<wire::Bye>(1).has_value());
    CHECK((bench.last<wire::Bye>(1)->second.reason == wire::ByeReason::kReplaced));
    CHECK(bench.last<wire::Welcome>(3).has_value());
    bench.receive(1, kAnn, {.body = wire::EndRound{}});
    CHECK(bench.last<wire::Refuse>(1)->second.reason == "say Hello first on this connection");
    CHECK(bench.observer.find("replaced", "ann")->detail == "another program with its key took over");
    bench.hello(4, kAnn, 1);
    CHECK(bench.observer.events.rbegin()[1].detail ==
          "another program with its key took over; time 2 in this run; if its kit is on two machines, stop "
          "one and "
          "make a kit for each (tandem devices add)");
  }

  TEST_CASE("the same program on a new connection goes on with its round") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    bench.receive(2, kBob, bench.activations(2, 0));
    const auto from_ann = bench.activations(1, 0);
    bench.hello(5, kAnn, 1, from_ann.key);
    CHECK(bench.last<wire::Welcome>(5)->second.resumed);
    CHECK(bench.count<wire::BeginRound>(5) == 0);  // it said it is in the round already
    bench.receive(5, kAnn, from_ann);
    CHECK(bench.count<wire::Gradients>(5) == 1);
  }

  TEST_CASE("a client that lost BeginRound with its connection gets it again") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    bench.hello(5, kAnn, 1);
    CHECK(bench.count<wire::BeginRound>(5) == 1);
  }

  TEST_CASE("messages of another run or incarnation are refused") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    auto message = bench.activations(1, 0);
    message.key.incarnation = 2;
    bench.receive(1, kAnn, message);
    CHECK(bench.last<wire::Refuse>(1)->second.reason ==
          "that message belongs to another run; say Hello again");
  }

  TEST_CASE("steps that are not open, and messages a client never sends, are refused") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    auto ahead = bench.activations(1, 1);
    bench.receive(1, kAnn, ahead);
    CHECK(bench.last<wire::Refuse>(1)->second.reason ==
          "step 1 is not open for this client before an earlier one is answered");
    bench.receive(1, kAnn, {.key = ahead.key, .body = wire::EndRound{}});
    CHECK(bench.last<wire::Refuse>(1)->second.reason == "a client does not send EndRound");
  }

  TEST_CASE("data that do not fit are refused for good, with the reason") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.receive(2, kBob, {.body = wire::Hello{"test", 1, {{1, 5, 5}, 3, 16}}});
    CHECK(bench.last<wire::Refuse>(2)->second.fatal);
    CHECK(bench.last<wire::Refuse>(2)->second.reason ==
          "its examples have shape 1x5x5, this run trains on 1x4x4 (from device ann)");
    bench.receive(2, kBob, {.body = wire::Hello{"test", 1, {{1, 4, 4}, 3, 0}}});
    CHECK(bench.last<wire::Refuse>(2)->second.reason ==
          "it has 0 examples, this run takes devices with 1 to 67108864");
    bench.receive(2, kBob, {.body = wire::Hello{"test", 1, {{1, 4, 4}, 3, int64_t{1} << 62}}});
    CHECK(bench.last<wire::Refuse>(2)->second.fatal);
  }

  TEST_CASE("the first Hello cannot make the aggregator build what it likes, nor end the run") {
    for (const DataDescription& absurd :
         {DataDescription{{1, 4, 4}, int64_t{1} << 50, 10}, DataDescription{{65536, 65536}, 3, 10},
          DataDescription{{}, 3, 10}, DataDescription{{-4}, 3, 10}, DataDescription{{1, 4, 4}, -1, 10}}) {
      Bench bench;
      bench.receive(9, {"mallory"}, {.body = wire::Hello{"test", 1, absurd}});
      CHECK(bench.last<wire::Refuse>(9)->second.fatal);
      CHECK_FALSE(bench.session->done());
      bench.hello(1, kAnn);
      CHECK(bench.last<wire::Welcome>(1).has_value());
    }
  }

  TEST_CASE("a setting that does not fit the first device's data ends the run, and names flag and device") {
    struct Case {
      std::string expected;
      DataDescription data;
      std::function<void(SessionOptions&)> change;
    };
    const std::vector<Case> cases = {
        {"--normalize \"0.5/0.25,0.5/0.25\": 2 pairs MEAN/STD, expected 1 or one for each of 1 channels",
         {{1, 8, 8}, 3, 16},
         [](SessionOptions& o) { o.plan.normalize = "0.5/0.25,0.5/0.25"; }},
        {"--augment \"crop:9\": the number of pixels",
         {{1, 8, 8}, 3, 16},
         [](SessionOptions& o) { o.plan.augment = "crop:9"; }},
        {"--augment \"cutout:20\": the number of pixels",
         {{1, 8, 8}, 3, 16},
         [](SessionOptions& o) { o.plan.augment = "flip,cutout:20"; }},
        {"--augment \"flip\": needs images",
         {{20}, 3, 16},
         [](SessionOptions& o) { o.plan.augment = "flip"; }},
        {"--model: model cnn needs images {C,H,W}",
         {{20}, 3, 16},
         [](SessionOptions& o) { o.plan.model = "cnn"; }},
        {"--model: model resnet18 needs images of at least 8x8 pixels",
         {{1, 4, 4}, 3, 16},
         [](SessionOptions& o) { o.plan.model = "resnet18"; }},
        {"--edge-objective: auxiliary head: conv needs activations {C,H,W}, got 8",
         {{1, 8, 8}, 3, 16},
         [](SessionOptions& o) {
           o.plan.objective = EdgeObjective::kLocal;
           o.plan.auxiliary_head = "conv";
           o.plan.input_shape = {1, 8, 8};
         }},
    };
    for (const Case& each : cases) {
      CAPTURE(each.expected);
      Bench bench(2, each.change, Bench::Prepared::kMayFail);
      // What can be known without a device is said before any connects.
      if (!bench.prepared) {
        CHECK(bench.prepared.error().message.find(each.expected) == 0);
        continue;
      }
      bench.receive(1, kAnn, {.body = wire::Hello{"test", 1, each.data}});
      REQUIRE(bench.session->done());
      REQUIRE(bench.session->failure().has_value());
      const std::string& message = bench.session->failure()->message;
      CHECK_MESSAGE(message.find(each.expected) == 0, message);
      CHECK_MESSAGE(message.find("the shape " + shape_to_string(each.data.input_shape) +
                                 " comes from device ann") != std::string::npos,
                    message);
      CHECK((bench.session->failure()->code == ErrorCode::kInvalidArgument));
      CHECK(bench.count<wire::Refuse>(1) == 0);
      const auto bye = bench.last<wire::Bye>(1);
      REQUIRE(bye.has_value());
      CHECK((bye->second.reason == wire::ByeReason::kShuttingDown));
      CHECK(bye->second.text == "the run failed: " + message);
      CHECK(bench.observer.events.empty());  // a run that recorded nothing leaves its directory free
    }
  }

  TEST_CASE(
      "data that nobody trains on are refused though settings do not fit them, and do not end the run") {
    for (const DataDescription& odd :
         {DataDescription{{1, 2, 900}, 3, 16}, DataDescription{{40, 8, 8}, 3, 16}}) {
      Bench bench(2, [](SessionOptions& options) {
        options.plan.model = "cnn";
        options.plan.normalize = "0.5/0.25,0.5/0.25,0.5/0.25";
      });
      bench.receive(9, {"mallory"}, {.body = wire::Hello{"test", 1, odd}});
      REQUIRE(bench.last<wire::Refuse>(9).has_value());
      CHECK(bench.last<wire::Refuse>(9)->second.fatal);
      CHECK_FALSE(bench.session->done());
      CHECK(bench.session->waiting_for().find("0 of 2 are here; refused: mallory (--") != std::string::npos);
      bench.receive(1, kAnn, {.body = wire::Hello{"test", 1, {{3, 8, 8}, 3, 16}}});
      CHECK(bench.last<wire::Welcome>(1).has_value());
    }
  }

  TEST_CASE(
      "a device whose announced class count makes a layer too large is refused, and does not end the run") {
    Bench bench(2, [](SessionOptions& options) { options.plan.model = "mlp:hidden=65536"; });
    bench.receive(9, {"mallory"}, {.body = wire::Hello{"test", 1, {{1, 4, 4}, 65'536, 16}}});
    REQUIRE(bench.last<wire::Refuse>(9).has_value());
    CHECK(bench.last<wire::Refuse>(9)->second.reason.find("block fc2 would hold 65536 x 65536 weights") !=
          std::string::npos);
    CHECK_FALSE(bench.session->done());
  }

  TEST_CASE("the device that decided the shape does not decide for ever: once it left the next one does") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.receive(2, kBob, {.body = wire::Hello{"test", 1, {{1, 5, 5}, 3, 16}}});
    CHECK(bench.last<wire::Refuse>(2)->second.fatal);
    CHECK(
        bench.session->waiting_for() ==
        "clients for the first round: 1 of 2 are here; refused: bob (its examples have shape 1x5x5, this run "
        "trains on 1x4x4 (from device ann))");
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kLeaving, "mended"}});
    bench.receive(3, kBob, {.body = wire::Hello{"test", 2, {{1, 5, 5}, 3, 16}}});
    REQUIRE(bench.last<wire::Welcome>(3).has_value());
    CHECK(bench.last<wire::Welcome>(3)->second.plan.input_shape == std::vector<int64_t>{1, 5, 5});
    bench.receive(4, kAnn, {.body = wire::Hello{"test", 2, {{1, 5, 5}, 3, 16}}});
    CHECK(bench.count<wire::BeginRound>(4) == 1);
  }

  TEST_CASE("the class count is the largest of those who are there when the first round begins") {
    const auto hello = [](int64_t classes, uint64_t instance = 1) {
      return wire::Message{.body = wire::Hello{"test", instance, {{1, 4, 4}, classes, 16}}};
    };
    Bench bench(3);
    bench.receive(1, kAnn, hello(5));
    bench.receive(2, kBob, hello(256));
    CHECK(bench.last<wire::Welcome>(1)->second.plan.num_classes == 5);
    CHECK(bench.last<wire::Welcome>(2)->second.plan.num_classes == 256);
    REQUIRE(bench.observer.find("class-counts", "bob") != nullptr);
    CHECK(bench.observer.find("class-counts", "bob")->detail ==
          "its labels need 256 classes, those of ann 5: the model gets the larger number; if label 255 is a "
          "mistake, mend it or give --num-classes 5");
    // Read in time: the device comes back with its label mended.
    bench.receive(2, kBob, {.body = wire::Bye{wire::ByeReason::kLeaving, "mended"}});
    bench.receive(3, kBob, hello(10, 2));
    bench.receive(4, {"eve"}, hello(5));
    for (const uint64_t connection : {1u, 3u, 4u}) {
      CAPTURE(connection);
      REQUIRE(bench.last<wire::Welcome>(connection).has_value());
      const auto welcome = *bench.last<wire::Welcome>(connection);
      CHECK(welcome.second.plan.num_classes == 10);
      REQUIRE(bench.count<wire::BeginRound>(connection) == 1);
      CHECK(bench.last<wire::BeginRound>(connection)->first.run_id == welcome.first.run_id);
    }
    CHECK(bench.session->plan().num_classes == 10);
    bench.receive(5, {"zoe"}, hello(11));
    CHECK(bench.last<wire::Refuse>(5)->second.reason ==
          "its labels need 11 classes, this run has 10 (from device bob); mend its labels, or start the run "
          "anew "
          "with --num-classes 11");
  }

  TEST_CASE("devices with the same class count are welcomed once") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    CHECK(bench.count<wire::Welcome>(1) == 1);
    CHECK(bench.last<wire::Welcome>(1)->first.run_id == 42);
    CHECK(bench.observer.find("class-counts") == nullptr);
    CHECK(bench.observer.plans.size() == 1);
  }

  TEST_CASE("a class count that is given is nobody else's to decide") {
    Bench bench(2, [](SessionOptions& options) { options.plan.num_classes = 4; });
    bench.receive(1, kAnn, {.body = wire::Hello{"test", 1, {{1, 4, 4}, 5, 16}}});
    CHECK(bench.last<wire::Refuse>(1)->second.reason ==
          "its labels need 5 classes, this run has 4 (from --num-classes); mend its labels, or start the run "
          "anew "
          "with --num-classes 5");
    bench.hello(2, kBob);
    CHECK(bench.last<wire::Welcome>(2)->second.plan.num_classes == 4);
  }

  TEST_CASE("weights to start from decide the class count, and the run ends when they do not fit the data") {
    const auto weights = define_model("mlp:hidden=8", {1, 4, 4}, 6)->build(1).state();
    for (const int64_t side : {4, 5}) {
      Bench bench(
          1, [](SessionOptions&) {}, Bench::Prepared::kYes,
          InitialWeights{snapshot(weights), "--init FILE", ""});
      bench.receive(1, kAnn, {.body = wire::Hello{"test", 1, {{1, side, side}, 3, 16}}});
      if (side == 4) {
        CHECK(bench.last<wire::Welcome>(1)->second.plan.num_classes == 6);
      } else {
        REQUIRE(bench.session->failure().has_value());
        const std::string& message = bench.session->failure()->message;
        CHECK_MESSAGE(message.find("--init FILE does not fit --model") == 0, message);
        CHECK_MESSAGE(message.find("the shape 1x5x5 comes from device ann") != std::string::npos, message);
      }
    }
  }

  TEST_CASE("after its goodbye nothing that was on its way brings a client back") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    const auto late = bench.activations(1, 0);
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kLeaving, "interrupted"}});
    bench.receive(1, kAnn, {.body = wire::Heartbeat{}});
    bench.receive(1, kAnn, late);
    bench.hello(1, kAnn);
    CHECK(bench.observer.count("join") == 2);
    CHECK(bench.count<wire::Welcome>(1) == 1);
    bench.hello(3, kAnn);
    CHECK(bench.observer.count("join") == 3);
  }

  TEST_CASE("while it gathers it can say how many clients it waits for and who is gone") {
    Bench bench;
    CHECK(bench.session->waiting_for() == "clients for the first round: 0 of 2 are here");
    bench.hello(1, kAnn);
    CHECK(bench.session->waiting_for() == "clients for the first round: 1 of 2 are here");
    bench.hello(2, kBob);
    CHECK(bench.session->waiting_for() == "");
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kLeaving, "interrupted"}});
    bench.receive(2, kBob, {.body = wire::Bye{wire::ByeReason::kLeaving, "interrupted"}});
    CHECK(bench.session->waiting_for() == "clients for the next round: 0 of 1 are here; gone: ann, bob");
  }

  TEST_CASE("every goodbye is answered, because the answer to the first can be lost") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kLeaving, "interrupted"}});
    CHECK(bench.count<wire::Bye>(1) == 1);
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kLeaving, "interrupted"}});
    CHECK(bench.count<wire::Bye>(1) == 2);
    CHECK(bench.observer.count("leave") == 1);
  }

  TEST_CASE("a client that reconnected counts as alive before it says Hello") {
    Bench bench(2, [](SessionOptions& options) { options.client_timeout = std::chrono::seconds(2); });
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    for (int i = 0; i < 4; ++i) {
      bench.receive(7, kAnn, {.body = wire::Heartbeat{}});
      bench.receive(2, kBob, {.body = wire::Heartbeat{}});
      bench.pass(std::chrono::seconds(1));
    }
    CHECK(bench.observer.find("leave") == nullptr);
  }

  TEST_CASE("a client whose place is kept counts as alive, too, before it says Hello on its new connection") {
    Bench bench(2, [](SessionOptions& options) {
      options.min_clients = 2;
      options.client_timeout = std::chrono::seconds(2);
    });
    bench.hello(1, kAnn);
    bench.hello(2, kBob);
    bench.pass(std::chrono::seconds(3));
    CHECK(bench.observer.count("leave") == 2);
    CHECK(bench.observer.count("waiting") == 1);
    bench.hello(3, kBob);
    for (int i = 0; i < 4; ++i) {
      bench.receive(7, kAnn, {.body = wire::Heartbeat{}});
      bench.receive(3, kBob, {.body = wire::Heartbeat{}});
      bench.pass(std::chrono::seconds(1));
    }
    bench.hello(7, kAnn);
    CHECK(bench.observer.count("going-on") == 1);
    CHECK(bench.last<wire::Welcome>(7)->second.resumed);
    CHECK(bench.count<wire::Refuse>(7) == 0);
  }

  TEST_CASE("a connection stands for one program: another instance on it is refused and counted") {
    Bench bench(1, [](SessionOptions& options) { options.quarantine_after = 3; });
    bench.hello(1, kAnn, 1);
    for (uint64_t instance = 2; instance < 4; ++instance) {
      bench.hello(1, kAnn, instance);
      CHECK(bench.last<wire::Refuse>(1)->second.reason ==
            "another program has said Hello on this connection");
    }
    CHECK(bench.observer.count("join") == 1);
    CHECK(bench.observer.count("quarantined") == 0);
    bench.hello(1, kAnn, 4);
    CHECK(bench.observer.count("quarantined") == 1);
    bench.hello(2, kAnn, 5);
    CHECK(bench.last<wire::Refuse>(2)->second.reason.find("this device is in quarantine") == 0);
  }

  TEST_CASE("a round in which nothing of the only client can be used ends the run with the reason") {
    Bench bench(1, [](SessionOptions& options) { options.local_steps = 4; });
    bench.hello(1, kAnn);
    for (int i = 0; i < 6 && !bench.session->done(); ++i) {
      const auto begin = bench.last<wire::BeginRound>(1);
      const auto skipped = bench.count<wire::Skip>(1);
      auto bad = bench.activations(1, static_cast<uint32_t>(i % 2));
      std::get<wire::Activations>(bad.body).activations.fill_(std::nan(""));
      bench.receive(1, kAnn, bad);
      CHECK(bench.count<wire::Skip>(1) == skipped + 1);
    }
    REQUIRE(bench.session->failure().has_value());
    CHECK(bench.session->failure()->message.find(
              "the training diverges: what 1 of 1 client(s) learned is of no use (ann: activations reach") ==
          0);
  }

  TEST_CASE("a clean stop tells every client") {
    Bench bench;
    bench.hello(1, kAnn);
    bench.session->stop("interrupted");
    CHECK(bench.session->done());
    CHECK_FALSE(bench.session->completed());
    CHECK((bench.last<wire::Bye>(1)->second.reason == wire::ByeReason::kShuttingDown));
    CHECK(bench.session->summary().status == "interrupted");
  }

  TEST_CASE("when the last client leaves, the round is abandoned and begins again with those who come") {
    Bench bench(1);
    bench.hello(1, kAnn);
    const auto first_round = bench.last<wire::BeginRound>(1)->first.round;
    bench.receive(1, kAnn, {.body = wire::Bye{wire::ByeReason::kLeaving, "done here"}});
    CHECK(bench.observer.find("round-abandoned") != nullptr);
    CHECK(bench.last<wire::Bye>(1).has_value());
    bench.hello(2, kBob);
    CHECK(bench.last<wire::BeginRound>(2)->first.round == first_round + 1);
    CHECK(bench.session->summary().rounds == 0);
  }
}
