#include "tandem/aggregator/rounds/divergence.h"

#include <cmath>
#include <limits>
#include <string>

//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};
const ClientId kEve{"eve"};

SessionOptions options_of(const std::string& strategy = "fedavg") {
  SessionOptions options;
  options.plan.num_classes = 10;
  options.plan.optimizer.learning_rate = 1000;
  options.strategy = strategy;
  return options;
}

/// Of `steps` batches of 4 examples for each client, all of which go up.
Round round_of(const std::vector<ClientId>& clients, uint32_t steps) {
  RoundPlan plan;
  for (const ClientId& client : clients) plan.batch_sizes[client] = std::vector<uint32_t>(steps, 4);
  return Round({1}, std::move(plan));
}

}  // namespace

TEST_SUITE("aggregator/rounds/divergence") {
  TEST_CASE("a mean loss is beyond reason from 100 times that of guessing on") {
    const SessionOptions options = options_of();
    const Divergence divergence(options);
    CHECK(divergence.loss_limit() == doctest::Approx(230.2585));
    CHECK(divergence.check_loss({10, 2302.5}).has_value());
    CHECK(divergence.check_loss({}).has_value());
    for (const double sum :
         {2303.0, 1e30, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
      const auto checked = divergence.check_loss({10, sum});
      REQUIRE_FALSE(checked.has_value());
      CHECK((checked.error().code == ErrorCode::kNonFinite));
      CHECK(checked.error().message.find("expected at most 230.259") != std::string::npos);
    }
  }

  TEST_CASE(
      "more than half of the trainings have to be useless, of two clients or of the only one there is") {
    const SessionOptions options = options_of();
    Divergence divergence(options);
    CHECK_FALSE(divergence.verdict(0, 1).has_value());
    divergence.useless(kAnn, "it is NaN");
    CHECK_FALSE(divergence.verdict(0, 3).has_value());  // drawn alone among others
    CHECK(divergence.verdict(0, 1).has_value());
    CHECK_FALSE(divergence.verdict(1, 1).has_value());
    divergence.useless(kBob, "it is infinite");
    CHECK_FALSE(divergence.verdict(2, 3).has_value());
    const auto verdict = divergence.verdict(1, 3);
    REQUIRE(verdict.has_value());
    CHECK((verdict->code == ErrorCode::kNonFinite));
    CHECK(verdict->message ==
          "the training diverges: what 2 of 3 client(s) learned is of no use (ann: it is NaN); lower "
          "--learning-rate (now 1000)");
    divergence.useful(kBob);
    divergence.useful(kEve);
    CHECK_FALSE(divergence.verdict(0, 3).has_value());
    divergence.useless(kBob, "again");
    CHECK(divergence.verdict(0, 3).has_value());
    divergence.merged();
    CHECK_FALSE(divergence.verdict(0, 1).has_value());
  }

  TEST_CASE("the rates that can be lowered are named") {
    SessionOptions options = options_of("fedadam:eta=5");
    options.plan.objective = EdgeObjective::kAligned;
    options.alignment.learning_rate = 7;
    CHECK(
        Divergence(options).error("x").message ==
        "the training diverges: x; lower --learning-rate (now 1000), or eta of --strategy fedadam:eta=5, or "
        "learning-rate of --edge-objective aligned (now 7)");
  }

  TEST_CASE(
      "a round's client is useless by its loss, or when half of its batches were refused for their values") {
    const SessionOptions options = options_of();
    const auto judged = [&](uint32_t refused, double loss, bool active,
                            ErrorCode code = ErrorCode::kNonFinite) {
      Divergence divergence(options);
      Round round = round_of({kAnn}, 5);
      Participant& part = round.participants().at(kAnn);
      for (uint32_t i = 0; i < refused; ++i) part.count_beyond_limits({code, "NaN"});
      part.figures.examples = 4;
      part.figures.loss_sum = 4 * loss;
      part.active = active;
      divergence.judge(round);
      return divergence.knows(kAnn);
    };
    CHECK_FALSE(judged(0, 1, true));
    CHECK_FALSE(judged(2, 1, true));
    CHECK(judged(3, 1, true));
    CHECK(judged(1, 1, false));        // it is out of the round
    CHECK_FALSE(judged(0, 1, false));  // for another reason: it fell silent
    CHECK_FALSE(judged(5, 1, false, ErrorCode::kShapeMismatch));
    CHECK(judged(0, 1e30, true));
    CHECK(judged(0, std::nan(""), true));
  }

  TEST_CASE("weights that are not finite, and a final loss beyond reason, are divergence") {
    const SessionOptions options = options_of();
    const Divergence divergence(options);
    CHECK(divergence.check_weights("the model", {{"0.bias", at::ones({2})}}).has_value());
    const auto weights = divergence.check_weights("the model", {{"0.bias", at::full({2}, INFINITY)}});
    REQUIRE_FALSE(weights.has_value());
    CHECK(weights.error().message.find(
              "the training diverges: the model: tensor 0.bias holds NaN or infinity") == 0);
    CHECK(divergence.check_evaluation(std::nullopt).has_value());
    CHECK(divergence.check_evaluation(std::optional<double>(9999.0)).has_value());
    for (const double loss : {1e5, std::nan(""), static_cast<double>(INFINITY)}) {
      const auto checked = divergence.check_evaluation(std::optional<double>(loss));
      REQUIRE_FALSE(checked.has_value());
      CHECK(checked.error().message.find("--learning-rate") != std::string::npos);
    }
  }
}
