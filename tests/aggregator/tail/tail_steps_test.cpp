#include "tandem/aggregator/tail/tail_steps.h"

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tandem/core/training/device_model.h"
//
#include "support/recording_messenger.h"
#include "support/small_model.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};

/// Three joined steps of ann and bob, two examples each.
Round joined_steps() {
  RoundPlan plan{.batch_sizes = {{kAnn, {2, 2, 2}}, {kBob, {2, 2, 2}}}};
  plan.lanes.emplace_back();
  for (uint32_t step = 0; step < 3; ++step) plan.lanes[0].push_back({{kAnn, step}, {kBob, step}});
  return Round(RoundId{7}, std::move(plan));
}

struct Bench {
  explicit Bench(SessionOptions wanted = {}) : options(std::move(wanted)) {}

  wire::Message message(wire::Body body, uint32_t step, uint64_t payload_hash) {
    return {
        .key = messenger.key(round.id().value, step), .body = std::move(body), .payload_hash = payload_hash};
  }
  bool send(const ClientId& client, uint32_t step, double value = 0.5) {
    const std::vector<int64_t> shape =
        model->partitions.longest_front().activation_shape(model->definition, 2);
    const at::Tensor labels = options.plan.u_shaped() ? at::zeros({0}, at::kLong) : at::ones({2}, at::kLong);
    return steps.take_activations(
        client, message(wire::Activations{at::full(shape, value), labels}, step, 100 + step));
  }
  bool send_gradient(const ClientId& client, uint32_t step, double value = 0.1) {
    const std::vector<int64_t> shape = model->partitions.longest_front().output_shape(model->definition, 2);
    return steps.take_output_gradients(
        client, message(wire::OutputGradients{.gradient = at::full(shape, value),
                                              .figures = {static_cast<uint64_t>(shape.at(0)),
                                                          1.0 * static_cast<double>(shape.at(0)), 1}},
                        step, 200 + step));
  }

  std::vector<std::string> answers(const ClientId& client) { return network.answers_to(client); }

  SessionOptions options;
  testing::RecordingMessenger network{{kAnn, kBob}};
  Messenger& messenger = network.messenger;
  testing::RecordingObserver& observer = network.observer;
  std::unique_ptr<TrainedModel> model = testing::small_model(options.plan);
  Tails tails{*model->tail, model->partitions, {}, options.plan.algorithm, options.plan.batch_norm};
  Round round = joined_steps();
  TrainingFigures figures;
  TailSteps steps{
      options, messenger, *model, &tails, round, figures, options.plan.objective == EdgeObjective::kAligned};
};

SessionOptions u_shaped() {
  SessionOptions options;
  options.plan.head_blocks = 1;
  return options;
}

using Answers = std::vector<std::string>;

}  // namespace

TEST_SUITE("aggregator/tail/tail_steps") {
  TEST_CASE("a step is finished with everybody's batch, and each gets its gradients") {
    Bench bench;
    CHECK(bench.send(kBob, 0));
    CHECK_FALSE(bench.steps.ready(0));
    CHECK_FALSE(bench.send(kBob, 0));  // a repeat of what is waiting changes nothing
    CHECK(bench.send(kAnn, 0));
    REQUIRE(bench.steps.ready(0));
    CHECK_FALSE(bench.steps.open(0));  // it has no second half
    const at::Tensor before = bench.model->tail->parameters()[0].tensor.detach().clone();
    CHECK(bench.steps.finish(0));
    CHECK_FALSE(bench.model->tail->parameters()[0].tensor.equal(before));
    CHECK(bench.answers(kAnn) == Answers{"Gradients 0"});
    CHECK(bench.answers(kBob) == Answers{"Gradients 0"});
    CHECK(bench.round.applied(0) == 1);
    CHECK(bench.figures.applied_examples == 4);
    CHECK(bench.round.participants().at(kAnn).figures.examples == 2);
  }

  TEST_CASE("a batch out of turn is refused, one that comes too late skipped, and neither is kept") {
    Bench bench;
    CHECK_FALSE(bench.send(kAnn, 1));
    CHECK(bench.answers(kAnn) == Answers{"Refuse 1"});
    CHECK_FALSE(bench.send(kAnn, 5));
    CHECK(bench.answers(kAnn) == Answers{"Refuse 5"});
    bench.steps.expire(0);
    (void)bench.answers(kAnn);
    CHECK_FALSE(bench.steps.finish(0));
    CHECK_FALSE(bench.send(kAnn, 0));
    CHECK(bench.answers(kAnn) == Answers{"Skip, the step went on without this client: 0"});
    CHECK(bench.messenger.roster().find(kAnn)->replies.empty());
  }

  TEST_CASE("a batch that is of no use is answered at once, and the step goes on without it") {
    Bench bench;
    CHECK(bench.send(kAnn, 0));
    CHECK(bench.send(kBob, 0, std::numeric_limits<double>::quiet_NaN()));
    CHECK(bench.observer.find("bad-activations", "bob") != nullptr);
    CHECK(bench.answers(kBob).size() == 1);
    CHECK(bench.messenger.roster().find(kBob)->replies.size() == 1);
    REQUIRE(bench.steps.ready(0));
    CHECK(bench.steps.finish(0));
    CHECK(bench.answers(kAnn) == Answers{"Gradients 0"});
    CHECK(bench.answers(kBob).empty());
    CHECK(bench.figures.applied_examples == 2);
  }

  TEST_CASE("whoever is late gets Skip, and after two steps is out") {
    Bench bench;
    const std::string reason = "nothing came within the step deadline of 30000 ms:";
    for (const uint32_t step : {0u, 1u}) {
      CHECK(bench.send(kAnn, step));
      bench.steps.expire(0);
      REQUIRE(bench.steps.ready(0));
      CHECK(bench.steps.finish(0));
      CHECK(bench.answers(kAnn) == Answers{"Gradients " + std::to_string(step)});
    }
    CHECK(bench.answers(kBob) == Answers{"Skip, " + reason + " 0", "Out, " + reason + " 1"});
    CHECK(bench.observer.count("missed-step") == 2);
    CHECK(bench.observer.count("excluded") == 1);
    CHECK(bench.round.active(kBob) == nullptr);
  }

  TEST_CASE("U-shaped: outputs go out, and the step is finished when their gradients are back") {
    Bench bench(u_shaped());
    CHECK_FALSE(bench.send_gradient(kAnn, 0));
    CHECK(bench.answers(kAnn) == Answers{"Skip, the step went on without this client: 0"});
    CHECK(bench.send(kAnn, 0));
    CHECK(bench.send(kBob, 0));
    REQUIRE(bench.steps.ready(0));
    REQUIRE(bench.steps.open(0));
    CHECK(bench.answers(kAnn) == Answers{"Outputs 0"});
    CHECK(bench.answers(kBob) == Answers{"Outputs 0"});
    CHECK(bench.round.applied(0) == 0);
    CHECK(bench.send_gradient(kAnn, 0));
    CHECK_FALSE(bench.send_gradient(kAnn, 0));
    CHECK_FALSE(bench.steps.ready(0));
    CHECK(bench.send_gradient(kBob, 0));
    REQUIRE(bench.steps.ready(0));
    CHECK_FALSE(bench.steps.open(0));
    CHECK(bench.steps.finish(0));
    CHECK(bench.answers(kAnn) == Answers{"Gradients 0"});
    CHECK(bench.answers(kBob) == Answers{"Gradients 0"});
    CHECK(bench.round.applied(0) == 1);
    CHECK(bench.figures.applied_examples == 4);
  }

  TEST_CASE("U-shaped: a step goes on without gradients that are late, of no use, or of one that left") {
    Bench bench(u_shaped());
    const auto open = [&](uint32_t step) {
      CHECK(bench.send(kAnn, step));
      if (bench.round.active(kBob) != nullptr) CHECK(bench.send(kBob, step));
      REQUIRE(bench.steps.open(0));
      (void)bench.answers(kAnn);
      (void)bench.answers(kBob);
      CHECK(bench.send_gradient(kAnn, step));
    };
    open(0);
    bench.steps.expire(0);
    CHECK(bench.answers(kBob) == Answers{"Skip, nothing came within the step deadline of 30000 ms: 0"});
    CHECK_FALSE(bench.send_gradient(kBob, 0));
    CHECK(bench.answers(kBob) == Answers{"Skip, the step went on without this client: 0"});
    REQUIRE(bench.steps.ready(0));
    CHECK(bench.steps.finish(0));
    CHECK(bench.answers(kAnn) == Answers{"Gradients 0"});
    CHECK(bench.answers(kBob).empty());

    open(1);
    bench.round.deactivate(kBob);
    bench.steps.expire(0);  // it has left: it is not late
    CHECK(bench.observer.count("missed-step") == 1);
    REQUIRE(bench.steps.ready(0));
    CHECK(bench.steps.finish(0));
    CHECK(bench.answers(kAnn) == Answers{"Gradients 1"});
    CHECK(bench.answers(kBob).empty());

    CHECK(bench.send(kAnn, 2));
    REQUIRE(bench.steps.open(0));
    (void)bench.answers(kAnn);
    CHECK(bench.send_gradient(kAnn, 2, 1e30));
    CHECK(bench.observer.find("bad-gradient", "ann") != nullptr);
    REQUIRE(bench.steps.ready(0));
    CHECK(bench.steps.finish(0));
    CHECK(bench.answers(kAnn) == Answers{"Skip, its output gradients were not usable: 2"});
    CHECK(bench.figures.applied_examples == 4);
  }

  TEST_CASE("aligned: batches that were learned from are kept, and answered with a receipt") {
    SessionOptions options;
    options.plan.objective = EdgeObjective::kAligned;
    Bench bench(options);
    CHECK(bench.send(kAnn, 0));
    CHECK(bench.send(kBob, 0, std::numeric_limits<double>::infinity()));
    CHECK(bench.steps.smashed().empty());
    CHECK(bench.steps.finish(0));
    CHECK(bench.answers(kAnn) == Answers{"Receipt 0"});
    CHECK(bench.steps.smashed().batches({kAnn, kBob}).size() == 1);
    // A device that learns on its own loss counts its steps itself.
    CHECK(bench.figures.applied_examples == 0);
  }
}
