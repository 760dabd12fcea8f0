// The protocol at the edge, message by message.
#include "tandem/edge_client/session/edge_session.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tandem/augment/pipeline.h"
#include "tandem/core/model/model.h"
#include "tandem/core/wire/message_codec.h"
#include "tandem/datasets/data_source.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::edge_client;

namespace {

class Bench : private ClientTransport {
 public:
  enum class HeldOut { kNothing, kEverything };
  explicit Bench(HeldOut held_out = HeldOut::kNothing, bool comes_back = false) {
    dataset = datasets::open_dataset("synthetic:images,examples=20,classes=3,size=8", datasets::Split::kTrain)
                  .value();
    session = std::make_unique<EdgeSession>(
        EdgeSessionOptions{.instance = 11,
                           .prefetch = 0,
                           .resend_after = std::chrono::seconds(15),
                           .comes_back = comes_back},
        EdgeSessionDependencies{.transport = this,
                                .dataset = dataset.get(),
                                .held_out = held_out == HeldOut::kEverything ? dataset.get() : nullptr,
                                .make_augmenter = augment::build_pipeline,
                                .now = [this] { return now; },
                                .checkpoints = &checkpoints,
                                .on_note = [this](const std::string& line) { notes.push_back(line); }});
    plan.model = "cnn";
    plan.cut = 1;
    plan.input_shape = {1, 8, 8};
    plan.num_classes = 3;
    plan.rounds = 2;
    plan.optimizer.learning_rate = 0.1;
  }

  void receive(wire::Body body, uint32_t round = 0, uint32_t step = 0, uint32_t incarnation = 1) {
    session->receive({.key = {.run_id = 42, .incarnation = incarnation, .round = round, .step = step},
                      .body = std::move(body)},
                     10);
  }
  void welcome(bool resumed = false, std::vector<wire::RequestId> held = {}) {
    receive(wire::Welcome{.plan = plan, .client = "cam", .resumed = resumed, .held = std::move(held)});
  }
  /// So much time, and then a tick.
  void pass(std::chrono::seconds time) {
    now += time;
    session->tick();
  }
  /// What the device holds of the model.
  NamedTensors weights() const {
    const auto definition = define_model(plan.model, plan.input_shape, plan.num_classes);
    NamedTensors state = snapshot(definition->build(3, 0, plan.cut).state());
    const int blocks = definition->num_blocks();
    const int head = blocks - static_cast<int>(plan.head_blocks);
    if (head < blocks) append(state, snapshot(definition->build(3, head, blocks).state()));
    return state;
  }
  void begin(uint32_t round, std::vector<uint32_t> sizes, uint64_t first = 0) {
    receive(wire::BeginRound{.first_example = first, .batch_sizes = std::move(sizes), .weights = weights()},
            round);
  }
  void answer(uint32_t round, uint32_t step) {
    const at::Tensor smashed = activations(round, step).activations;
    const auto examples = static_cast<uint64_t>(smashed.size(0));
    receive(wire::Gradients{.gradient = at::full_like(smashed, 0.01), .figures = {examples, 4.0, 1}}, round,
            step);
  }
  wire::Activations activations(uint32_t round, uint32_t step) const {
    for (const wire::Message& message : sent) {
      const auto* body = std::get_if<wire::Activations>(&message.body);
      if (body && message.key.round == round && message.key.step == step) return *body;
    }
    FAIL("no activations for round " << round << ", step " << step);
    return {};
  }
  template <class T>
  int count() const {
    return static_cast<int>(std::count_if(
        sent.begin(), sent.end(), [](const wire::Message& m) { return std::holds_alternative<T>(m.body); }));
  }
  template <class T>
  T last() const {
    for (auto it = sent.rbegin(); it != sent.rend(); ++it) {
      if (const T* body = std::get_if<T>(&it->body)) return *body;
    }
    FAIL("no such message was sent");
    return {};
  }

  TimePoint now{};
  LinkState moving{.sent_until = TimePoint::max(), .transfer_at = TimePoint::min()};
  CheckpointMemory checkpoints{3};
  TrainingPlan plan;
  std::shared_ptr<const Dataset> dataset;
  std::vector<wire::Message> sent;
  std::vector<std::string> notes;
  std::unique_ptr<EdgeSession> session;

 private:
  bool send(wire::Frames frames) override {
    sent.push_back(wire::decode(frames, {}).value());
    return true;
  }
  LinkState link() const override { return moving; }
};

}  // namespace

TEST_SUITE("edge_client/session/edge_session") {
  TEST_CASE("a connection begins with Hello, which describes the data and nothing of their content") {
    Bench bench;
    bench.session->connected();
    const auto hello = bench.last<wire::Hello>();
    CHECK(hello.instance == 11);
    CHECK(hello.data == DataDescription{.input_shape = {1, 8, 8}, .num_classes = 3, .num_examples = 20});
  }

  TEST_CASE("with window 1 the next step waits for the answer to the one before") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4, 3, 5});
    CHECK(bench.count<wire::Activations>() == 1);
    CHECK(bench.activations(1, 0).activations.size(0) == 4);
    CHECK(bench.activations(1, 0).labels.sizes() == at::IntArrayRef({4}));
    bench.answer(1, 0);
    CHECK(bench.count<wire::Activations>() == 2);
    CHECK(bench.activations(1, 1).activations.size(0) == 3);
  }

  TEST_CASE("with window 3 three steps are open, and answers are applied in step order") {
    Bench bench;
    bench.plan.window = 3;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {2, 2, 2, 2, 2});
    CHECK(bench.count<wire::Activations>() == 3);
    bench.answer(1, 1);  // out of order: waits for step 0
    CHECK(bench.count<wire::Activations>() == 3);
    bench.answer(1, 0);
    CHECK(bench.count<wire::Activations>() == 5);
  }

  TEST_CASE("steps this device sits out are passed over") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {0, 0, 3, 0});
    CHECK(bench.count<wire::Activations>() == 1);
    CHECK(bench.activations(1, 2).activations.size(0) == 3);
    bench.answer(1, 2);
    CHECK((bench.session->phase() == EdgeSession::Phase::kUpdating));
    bench.receive(wire::EndRound{}, 1);
    CHECK(bench.last<wire::WeightUpdate>().examples == 3);
  }

  TEST_CASE("a skipped step does not count and its gradient is not applied") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4});
    bench.receive(wire::Skip{.reason = "late"}, 1, 0);
    bench.receive(wire::EndRound{}, 1);
    const auto update = bench.last<wire::WeightUpdate>();
    CHECK(update.examples == 0);
    const auto front = define_model("cnn", {1, 8, 8}, 3)->build(3, 0, 1);
    for (size_t i = 0; i < update.weights.size(); ++i)
      CHECK(at::equal(update.weights[i].tensor, front.state()[i].tensor));
  }

  TEST_CASE("excluded until the next round, it sends nothing more and joins the next") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4, 4});
    bench.receive(wire::Skip{.until_next_round = true, .reason = "too slow"}, 1, 0);
    const auto before = bench.sent.size();
    bench.receive(wire::EndRound{}, 1);
    CHECK(bench.sent.size() == before);
    bench.begin(2, {4}, 8);
    CHECK(bench.activations(2, 0).activations.size(0) == 4);
  }

  TEST_CASE("after a reconnection unanswered requests are sent again, byte for byte") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4, 4});
    const auto first = bench.sent.back().payload_hash;
    bench.session->connected();
    CHECK(bench.count<wire::Hello>() == 2);
    bench.welcome(true);
    CHECK(bench.count<wire::Activations>() == 2);
    CHECK(bench.sent.back().payload_hash == first);
  }

  TEST_CASE(
      "a request without an answer is asked for after a while, and sent again only if it is not there") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4});
    const auto first = bench.sent.back().payload_hash;
    bench.pass(std::chrono::seconds(14));
    CHECK(bench.count<wire::Hello>() == 1);
    bench.pass(std::chrono::seconds(1));
    CHECK(bench.count<wire::Hello>() == 2);
    CHECK(bench.sent.back().key.round == 1);
    bench.pass(std::chrono::seconds(0));
    CHECK(bench.count<wire::Hello>() == 2);
    bench.welcome(true, {{wire::MessageType::kActivations, 1, 0}});
    CHECK(bench.count<wire::Activations>() == 1);
    bench.pass(std::chrono::seconds(15));
    bench.welcome(true, {{wire::MessageType::kActivations, 1, 1}, {wire::MessageType::kTrained, 1, 0}});
    CHECK(bench.count<wire::Activations>() == 2);
    CHECK(bench.sent.back().payload_hash == first);
  }

  TEST_CASE("what has not left this device, or while something comes, it asks for nothing") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4});
    bench.moving.sent_until = bench.now;  // the activations are in the socket
    for (int i = 0; i < 60; ++i) bench.pass(std::chrono::seconds(1));
    CHECK(bench.count<wire::Hello>() == 1);
    bench.moving.sent_until = TimePoint::max();
    bench.pass(std::chrono::seconds(14));
    CHECK(bench.count<wire::Hello>() == 1);
    bench.moving.transfer_at = bench.now;  // the answer is on its way
    bench.pass(std::chrono::seconds(14));
    CHECK(bench.count<wire::Hello>() == 1);
    bench.pass(std::chrono::seconds(1));
    CHECK(bench.count<wire::Hello>() == 2);
    CHECK(bench.count<wire::Activations>() == 1);
  }

  TEST_CASE(
      "weights that did not come are asked for twice, because they may have crossed the first question") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.pass(std::chrono::seconds(15));
    CHECK(bench.count<wire::Hello>() == 2);
    bench.welcome(true);
    CHECK(bench.count<wire::Hello>() == 3);
    bench.welcome(true);
    CHECK(bench.count<wire::Hello>() == 3);
    bench.pass(std::chrono::seconds(15));
    CHECK(bench.count<wire::Hello>() == 4);
    bench.begin(1, {4});  // had crossed it
    bench.welcome(true, {{wire::MessageType::kActivations, 1, 0}});
    CHECK(bench.count<wire::Hello>() == 4);
  }

  TEST_CASE("the front is sent once, however often it is asked for, unless it went out before a question") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4});
    bench.answer(1, 0);
    bench.receive(wire::EndRound{}, 1);
    bench.receive(wire::EndRound{}, 1);
    CHECK(bench.count<wire::WeightUpdate>() == 1);
    bench.session->connected();
    bench.welcome(true);
    bench.receive(wire::EndRound{}, 1);  // as the aggregator says after its Welcome
    CHECK(bench.count<wire::WeightUpdate>() == 2);
    bench.session->connected();
    bench.welcome(true, {{wire::MessageType::kWeightUpdate, 1, 0}});
    CHECK(bench.count<wire::WeightUpdate>() == 2);
  }

  TEST_CASE("a device whose checkpoints outlive it pauses where it stands, another one leaves") {
    for (const bool comes_back : {true, false}) {
      CAPTURE(comes_back);
      Bench bench(Bench::HeldOut::kNothing, comes_back);
      bench.session->connected();
      bench.welcome();
      bench.begin(1, {4, 4});
      bench.answer(1, 0);
      bench.session->leave("interrupted");
      CHECK(bench.last<wire::Bye>().text == "interrupted");
      CHECK((bench.last<wire::Bye>().reason ==
             (comes_back ? wire::ByeReason::kPaused : wire::ByeReason::kLeaving)));
      bench.session->repeat_bye();
      CHECK((bench.last<wire::Bye>().reason ==
             (comes_back ? wire::ByeReason::kPaused : wire::ByeReason::kLeaving)));
      const auto kept = bench.checkpoints.positions();
      REQUIRE(kept.size() == (comes_back ? 1 : 0));
      if (comes_back) CHECK((kept[0].round == 1 && kept[0].step == 1));
    }
  }

  TEST_CASE("a device that pauses before its first round has its place and nothing to keep") {
    Bench bench(Bench::HeldOut::kNothing, true);
    bench.session->connected();
    bench.welcome();
    bench.session->leave("interrupted");
    CHECK((bench.last<wire::Bye>().reason == wire::ByeReason::kPaused));
    CHECK(bench.checkpoints.positions().empty());
  }

  TEST_CASE("answers given twice, late or out of the blue change nothing") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4, 4});
    bench.answer(1, 0);
    bench.answer(1, 0);
    bench.receive(wire::Gradients{.gradient = at::zeros({4, 32, 4, 4})}, 1, 77);
    bench.receive(wire::Gradients{.gradient = at::zeros({4, 32, 4, 4})}, 9, 1);
    bench.receive(wire::Gradients{.gradient = at::zeros({4, 32, 4, 4})}, 1, 1, 2);
    CHECK(bench.count<wire::Activations>() == 2);
    CHECK((bench.session->phase() == EdgeSession::Phase::kTraining));
  }

  TEST_CASE("a gradient that does not fit is left out with a note, and training goes on") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4, 4});
    bench.receive(wire::Gradients{.gradient = at::zeros({4, 32, 4, 5})}, 1, 0);
    CHECK(bench.notes.back().find("the gradient has shape 4x32x4x5, expected 4x32x4x4 float32") !=
          std::string::npos);
    CHECK(bench.count<wire::Activations>() == 2);
  }

  TEST_CASE("figures of the aggregator that are not of the batch fail the session") {
    for (const Figures& figures : {Figures{5, 4.0, 1}, Figures{4, 4.0, 5}, Figures{4, std::nan(""), 1}}) {
      Bench bench;
      bench.session->connected();
      bench.welcome();
      bench.begin(1, {4, 4});
      const at::Tensor smashed = bench.activations(1, 0).activations;
      bench.receive(wire::Gradients{.gradient = at::zeros_like(smashed), .figures = figures}, 1, 0);
      REQUIRE(bench.session->failure().has_value());
      CHECK(bench.session->failure()->message.find("the aggregator's figures say ") == 0);
      CHECK(bench.session->failure()->message.find("the batch has 4 examples") != std::string::npos);
    }
  }

  TEST_CASE("a front that does not fit the model fails the session by name") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.receive(wire::BeginRound{.batch_sizes = {4}, .weights = {{"0.0.weight", at::zeros({1})}}}, 1);
    REQUIRE(bench.session->failure().has_value());
    CHECK(bench.session->failure()->message.find("the front of round 1 does not fit") == 0);
  }

  TEST_CASE("a plan for other data, or one that makes no sense, fails the session with the reason") {
    Bench other;
    other.plan.input_shape = {3, 32, 32};
    other.session->connected();
    other.welcome();
    REQUIRE(other.session->failure().has_value());
    CHECK(other.session->failure()->message ==
          "this device's examples have shape 1x8x8, the run trains on 3x32x32");
    Bench cut;
    cut.plan.cut = 9;
    cut.session->connected();
    cut.welcome();
    REQUIRE(cut.session->failure().has_value());
    CHECK(cut.session->failure()->message.find("cut") != std::string::npos);
  }

  TEST_CASE("a fatal refusal and a replaced session end it, a refusal that is not makes it say Hello again") {
    Bench fatal;
    fatal.session->connected();
    fatal.receive(wire::Refuse{ErrorCode::kShapeMismatch, "other classes", true});
    CHECK(fatal.session->failure()->message == "the aggregator refuses this device: other classes");
    Bench replaced;
    replaced.session->connected();
    replaced.receive(wire::Bye{wire::ByeReason::kReplaced, ""});
    CHECK(replaced.session->failure()->message.find("took over") != std::string::npos);
    Bench again;
    again.session->connected();
    again.receive(wire::Refuse{ErrorCode::kProtocol, "say Hello first", false});
    CHECK(again.count<wire::Hello>() == 1);  // at most one a second
    again.now += std::chrono::seconds(2);
    again.receive(wire::Refuse{ErrorCode::kProtocol, "say Hello first", false});
    CHECK(again.count<wire::Hello>() == 2);
  }

  TEST_CASE("an EndRound that overtakes repeated answers waits for them: the front has every gradient") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4, 4});
    bench.answer(1, 0);
    bench.session->connected();
    bench.welcome(true);
    bench.receive(wire::EndRound{}, 1);  // the answer to step 1 got lost with the connection
    CHECK(bench.count<wire::WeightUpdate>() == 0);
    bench.answer(1, 1);
    REQUIRE(bench.count<wire::WeightUpdate>() == 1);
    CHECK(bench.last<wire::WeightUpdate>().examples == 8);
  }

  TEST_CASE("a round that makes no sense fails the session instead of the process") {
    Bench huge;
    huge.session->connected();
    huge.welcome();
    huge.begin(1, {0xFFFFFFFF});
    REQUIRE(huge.session->failure().has_value());
    CHECK(huge.session->failure()->message.find("a batch of 4294967295 examples, this device holds 20") !=
          std::string::npos);
    Bench schedule;
    schedule.session->connected();
    schedule.welcome();
    wire::BeginRound begin{.batch_sizes = {4}};
    begin.lr_schedule = {.kind = LrScheduleKind::kStep, .period_steps = 0};
    schedule.receive(begin, 1);
    REQUIRE(schedule.session->failure().has_value());
    CHECK(schedule.session->failure()->message.find("period_steps") != std::string::npos);
  }

  TEST_CASE(
      "an evaluation answered with what the head cannot take fails the session instead of the process") {
    Bench bench(Bench::HeldOut::kEverything);
    bench.plan.head_blocks = 1;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {2});
    bench.receive(wire::Evaluate{bench.weights()}, 2);
    const int64_t examples = bench.activations(2, 0).activations.size(0);
    bench.receive(wire::Outputs{at::zeros({examples, 128}, at::kLong)}, 2, 0);
    REQUIRE(bench.session->failure().has_value());
    CHECK(bench.session->failure()->message.find("type Long, expected") != std::string::npos);
  }

  TEST_CASE("a second copy of the Welcome, come late, leaves the round as it is") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4, 4});
    bench.welcome();
    CHECK((bench.session->phase() == EdgeSession::Phase::kTraining));
    bench.answer(1, 0);
    CHECK(bench.count<wire::Activations>() == 2);
    // Asked for, it is news: the aggregator knows nothing of this round any more.
    bench.session->connected();
    bench.welcome();
    CHECK((bench.session->phase() == EdgeSession::Phase::kWaiting));
  }

  TEST_CASE("at every moment it can say what it waits for") {
    Bench bench;
    bench.session->connected();
    CHECK(bench.session->waiting_for() == "the aggregator's answer to this device's Hello");
    bench.welcome();
    CHECK(bench.session->waiting_for() == "other clients: the first round has not begun");
    bench.begin(1, {4, 4});
    bench.answer(1, 0);
    bench.now += std::chrono::seconds(16);
    bench.session->tick();  // sends it again, which does not make the wait shorter
    bench.now += std::chrono::seconds(4);
    CHECK(bench.session->waiting_for() == "the answer to step 2 of round 1, asked for 20 s ago");
    bench.answer(1, 1);
    CHECK(bench.session->waiting_for() == "the other clients and the merge of round 1");
    bench.receive(wire::EndRound{}, 1);
    CHECK(bench.session->waiting_for() == "the other clients and the merge of round 1");
    bench.begin(2, {4, 4});
    bench.receive(wire::Skip{.until_next_round = true, .reason = "two steps missed"}, 2, 0);
    CHECK(bench.session->waiting_for() == "the next round: round 2 goes on without this device");
    bench.session->leave("interrupted");
    CHECK(bench.session->waiting_for() == "");
  }

  TEST_CASE("after its goodbye it answers nothing more") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.begin(1, {4, 4});
    bench.session->leave("interrupted");
    const auto sent = bench.sent.size();
    bench.answer(1, 0);
    CHECK(bench.sent.size() == sent);
    CHECK(bench.last<wire::Bye>().text == "interrupted");
  }

  TEST_CASE("the final front is kept and answered with Bye") {
    Bench bench;
    bench.session->connected();
    bench.welcome();
    bench.receive(
        wire::Finish{.eval_loss = 0.3, .eval_accuracy = 0.9, .weights = {{"0.0.weight", at::ones({2})}}}, 2);
    CHECK((bench.session->phase() == EdgeSession::Phase::kFinished));
    CHECK(bench.session->final_front().at(0).name == "0.0.weight");
    CHECK(bench.count<wire::Bye>() == 1);
  }
}
