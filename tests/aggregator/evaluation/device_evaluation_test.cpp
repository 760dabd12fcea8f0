#include "tandem/aggregator/evaluation/device_evaluation.h"

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tandem/core/training/device_model.h"
//
#include "support/recording_messenger.h"
#include "support/small_model.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using std::chrono::seconds;
using tandem::testing::RecordingMessenger;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};
using Answers = std::vector<std::string>;

/// Ann holds back one batch and three examples, bob five.
struct Bench {
  explicit Bench(int head_blocks = 0, bool has_tail = true) {
    options.plan.head_blocks = head_blocks;
    options.update_deadline = seconds(60);
    model = testing::small_model(options.plan);
    batch = model->partitions.longest_front().evaluation_batch_size(model->definition);
    if (has_tail)
      tails.emplace(*model->tail, model->partitions, TailTrainerOptions{}, options.plan.algorithm,
                    options.plan.batch_norm);
    evaluation.emplace(
        options, network.messenger, *model, tails ? &*tails : nullptr, [this] { return now; },
        EvaluationRequest{.round = 9,
                          .examples = {{kAnn, static_cast<uint64_t>(batch) + 3}, {kBob, 5}},
                          .weights = {{"0.weight", at::ones({2})}}});
  }

  static TimePoint at(int second) { return TimePoint{} + seconds(1000 + second); }

  void send_batch(const ClientId& client, uint32_t step, int64_t examples, double value = 0.5) {
    const at::Tensor labels =
        options.plan.u_shaped() ? at::zeros({0}, at::kLong) : at::ones({examples}, at::kLong);
    const std::vector<int64_t> shape =
        model->partitions.longest_front().activation_shape(model->definition, examples);
    evaluation->receive(client, {.key = network.messenger.key(9, step),
                                 .body = wire::Activations{at::full(shape, value), labels}});
  }
  void send_figures(const ClientId& client, const Figures& figures) {
    evaluation->receive(client, {.key = network.messenger.key(9), .body = wire::Evaluated{figures}});
  }

  SessionOptions options;
  RecordingMessenger network{{kAnn, kBob}};
  TimePoint now = at(0);
  std::unique_ptr<TrainedModel> model;
  std::optional<Tails> tails;
  int64_t batch = 0;
  std::optional<DeviceEvaluation> evaluation;
};

}  // namespace

TEST_SUITE("aggregator/evaluation/device_evaluation") {
  TEST_CASE("devices are asked with the weights, and their figures averaged by examples") {
    Bench bench(0, false);
    bench.evaluation->ask(kAnn);
    const std::vector<wire::Message> asked = bench.network.sent_to(kAnn);
    REQUIRE(asked.size() == 1);
    CHECK(bench.evaluation->is_of(asked[0].key));
    CHECK(std::get<wire::Evaluate>(asked[0].body).weights.at(0).tensor.equal(at::ones({2})));
    const auto many = static_cast<uint64_t>(bench.batch) + 3;
    bench.send_figures(kBob, {.examples = 5, .loss_sum = 10, .correct = 2});
    CHECK_FALSE(bench.evaluation->complete());
    bench.send_figures(kAnn, {.examples = many, .loss_sum = 20, .correct = many});
    REQUIRE(bench.evaluation->complete());
    const auto all = static_cast<double>(many + 5);
    CHECK(*bench.evaluation->progress().loss() == doctest::Approx(30 / all));
    CHECK(*bench.evaluation->progress().accuracy() == doctest::Approx(static_cast<double>(many + 2) / all));
    CHECK(bench.network.observer.events.empty());
  }

  TEST_CASE("batches are answered with the tail's loss in the order they are due, and may be repeated") {
    Bench bench;
    bench.send_batch(kAnn, 1, 3);  // not yet
    CHECK(bench.network.sent_to(kAnn).empty());
    bench.send_batch(kAnn, 0, bench.batch);
    bench.send_batch(kAnn, 0, bench.batch);
    bench.send_batch(kAnn, 1, 3);
    bench.send_batch(kAnn, 2, 3);  // there are no more
    const std::vector<wire::Message> answers = bench.network.sent_to(kAnn);
    REQUIRE(answers.size() == 3);
    const std::vector<int64_t> shape =
        bench.model->partitions.longest_front().activation_shape(bench.model->definition, 3);
    ModelPart tail = *bench.model->tail;
    tail.set_training(false);
    const at::Tensor loss =
        torch::cross_entropy_loss(tail.forward(at::full(shape, 0.5)), at::ones({3}, at::kLong));
    CHECK(std::get<wire::Receipt>(answers[2].body).figures.mean_loss() ==
          doctest::Approx(loss.item<double>()));
    bench.send_figures(kAnn,
                       {.examples = static_cast<uint64_t>(bench.batch) + 3, .loss_sum = 4, .correct = 1});
    CHECK(bench.network.observer.events.empty());
    CHECK(bench.evaluation->progress().results().contains(kAnn));
  }

  TEST_CASE("U-shaped: batches are answered with the tail's outputs") {
    Bench bench(1);
    bench.send_batch(kBob, 0, 5);
    CHECK(bench.network.answers_to(kBob) == Answers{"Outputs 0"});
  }

  TEST_CASE("a device that sends what cannot be is left out, and the record says why") {
    Bench bench;
    bench.send_batch(kAnn, 0, bench.batch, std::numeric_limits<double>::quiet_NaN());
    REQUIRE(bench.network.observer.find("bad-evaluation", "ann") != nullptr);
    CHECK(bench.network.observer.find("bad-evaluation", "ann")
              ->detail.find("activations reach a magnitude of") != std::string::npos);
    CHECK_FALSE(bench.evaluation->waits_for(kAnn));
    // Figures of batches that the tail has not seen.
    bench.send_figures(kBob, {.examples = 5, .loss_sum = 1, .correct = 5});
    REQUIRE(bench.network.observer.find("bad-evaluation", "bob") != nullptr);
    CHECK(bench.network.observer.find("bad-evaluation", "bob")->detail.find("after all of them") !=
          std::string::npos);
    CHECK(bench.evaluation->complete());
    CHECK_FALSE(bench.evaluation->progress().loss().has_value());
    bench.send_batch(kAnn, 0, bench.batch);
    CHECK(bench.network.sent_to(kAnn).empty());
  }

  TEST_CASE("a device that gets on has its time anew, one that repeats itself has not") {
    Bench bench;
    CHECK(bench.evaluation->deadline() == Bench::at(60));
    bench.now = Bench::at(10);
    bench.send_batch(kAnn, 0, bench.batch);
    CHECK(bench.evaluation->deadline() == Bench::at(70));
    bench.now = Bench::at(20);
    bench.send_batch(kAnn, 0, bench.batch);
    CHECK(bench.evaluation->deadline() == Bench::at(70));
    bench.evaluation->extend_deadline(Bench::at(65));
    CHECK(bench.evaluation->deadline() == Bench::at(70));
    bench.evaluation->extend_deadline(Bench::at(90));
    CHECK(bench.evaluation->deadline() == Bench::at(90));
    bench.evaluation->restart_deadline();
    CHECK(bench.evaluation->deadline() == Bench::at(80));
  }

  TEST_CASE("after the deadline it goes on without those that are waited for, and names them") {
    Bench bench(0, false);
    bench.send_figures(kBob, {.examples = 5, .loss_sum = 10, .correct = 2});
    bench.evaluation->expire();
    CHECK(bench.evaluation->complete());
    CHECK(bench.network.observer.count("missed-evaluation") == 1);
    CHECK(bench.network.observer.find("missed-evaluation", "ann") != nullptr);
    CHECK(*bench.evaluation->progress().loss() == 2);
  }

  TEST_CASE("a device that is back goes on where it was, or begins again when it went back") {
    Bench bench;
    bench.send_batch(kAnn, 0, bench.batch);
    (void)bench.network.sent_to(kAnn);
    bench.evaluation->ask_again(kAnn, false);
    bench.send_batch(kAnn, 1, 3);
    CHECK(bench.network.answers_to(kAnn) == Answers{"Evaluate 0", "Receipt 1"});
    bench.evaluation->ask_again(kAnn, true);
    bench.send_batch(kAnn, 1, 3);
    bench.send_batch(kAnn, 0, bench.batch);
    CHECK(bench.network.answers_to(kAnn) == Answers{"Evaluate 0", "Receipt 0"});
  }
}
