#include "tandem/aggregator/program/training_specifications.h"

#include <string>
#include <utility>

#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

TEST_SUITE("aggregator/program/training_specifications") {
  TEST_CASE("a schedule of the learning rate is parsed") {
    CHECK(parse_lr_schedule("constant")->options.kind == LrScheduleKind::kConstant);
    CHECK(parse_lr_schedule("constant:warmup=50")->options.warmup_steps == 50);
    const auto run = parse_lr_schedule("cosine:warmup=5").value();
    CHECK(run.options.kind == LrScheduleKind::kCosine);
    CHECK(run.options.warmup_steps == 5);
    CHECK(run.spans_run);
    const auto cosine = parse_lr_schedule("cosine:steps=300,warmup=5").value();
    CHECK(cosine.options.period_steps == 300);
    CHECK_FALSE(cosine.spans_run);
    const auto step = parse_lr_schedule("step:factor=0.5,every=100").value();
    CHECK(step.options.kind == LrScheduleKind::kStep);
    CHECK(step.options.period_steps == 100);
    CHECK(step.options.step_factor == 0.5);
    CHECK(step.options.warmup_steps == 0);
    CHECK_FALSE(step.spans_run);
  }

  TEST_CASE("a wrong schedule is refused, an earlier spelling with the present one") {
    for (const auto& [text, message] : {
             std::pair<std::string, std::string>{"cosin",
                                                 "--lr-schedule must be one of constant, cosine, step, got "
                                                 "\"cosin\"; did you mean \"cosine\"?"},
             {"", "--lr-schedule: a specification must not be empty"},
             {"cosine:300", "--lr-schedule cosine:300: write cosine:steps=300"},
             {"step:100:0.5", "--lr-schedule step:100:0.5: write step:every=100,factor=0.5"},
             {"step", "--lr-schedule step:every is missing"},
             {"step:every=3", "--lr-schedule step:factor is missing"},
             {"step:every=0,factor=1",
              "--lr-schedule step:every must be a whole number from 1 to 1099511627776, got \"0\""},
             {"step:every=1,factor=2",
              "--lr-schedule step:factor must be a finite number from 1e-09 to 1, got \"2\""},
             {"cosine:steps=x",
              "--lr-schedule cosine:steps must be a whole number from 1 to 1099511627776, got \"x\""},
             {"constant:warmup=-1",
              "--lr-schedule constant:warmup must be a whole number from 0 to 1099511627776, got \"-1\""},
             {"constant:steps=1",
              "--lr-schedule: unknown parameter \"steps\" of \"constant\"; known are warmup"},
         }) {
      CAPTURE(text);
      const auto parsed = parse_lr_schedule(text);
      REQUIRE_FALSE(parsed.has_value());
      CHECK(parsed.error().code == ErrorCode::kInvalidArgument);
      CHECK(parsed.error().message == message);
    }
  }

  TEST_CASE("an optimiser is parsed") {
    const auto sgd = parse_optimizer("sgd:momentum=0.9,weight-decay=1e-4,clip-norm=1").value();
    CHECK(sgd.kind == OptimizerKind::kSgd);
    CHECK(sgd.momentum == 0.9);
    CHECK(sgd.weight_decay == 1e-4);
    CHECK(sgd.clip_norm == 1);
    const auto plain = parse_optimizer("sgd").value();
    CHECK(plain.momentum == 0);
    CHECK(plain.weight_decay == 0);
    CHECK(plain.clip_norm == 0);
    CHECK(parse_optimizer("adam:clip-norm=2")->kind == OptimizerKind::kAdam);
    CHECK(parse_optimizer("adam:clip-norm=2")->clip_norm == 2);
    CHECK(parse_optimizer("adamw:weight-decay=0.05")->kind == OptimizerKind::kAdamW);
    CHECK(parse_optimizer("adamw:weight-decay=0.05")->weight_decay == 0.05);
  }

  TEST_CASE("a wrong optimiser is refused") {
    for (const auto& [text, message] : {
             std::pair<std::string, std::string>{"sdg",
                                                 "--optimizer must be one of sgd, adam, adamw, got \"sdg\"; "
                                                 "did you mean \"sgd\"?"},
             {"sgd:momentum=1",
              "--optimizer sgd:momentum must be a finite number from 0 to below 1, got \"1\""},
             {"sgd:momentum=-0.1",
              "--optimizer sgd:momentum must be a finite number from 0 to below 1, got \"-0.1\""},
             {"adam:weight-decay=-1",
              "--optimizer adam:weight-decay must be a finite number >= 0, got \"-1\""},
             {"adamw:clip-norm=inf", "--optimizer adamw:clip-norm must be a finite number >= 0, got \"inf\""},
             {"sgd:0.9", "--optimizer: \"0.9\" in \"sgd:0.9\" is not key=value"},
             {"sgd:momentun=0.9",
              "--optimizer: unknown parameter \"momentun\" of \"sgd\"; did you mean \"momentum\"?"},
         }) {
      CAPTURE(text);
      const auto parsed = parse_optimizer(text);
      REQUIRE_FALSE(parsed.has_value());
      CHECK(parsed.error().code == ErrorCode::kInvalidArgument);
      CHECK(parsed.error().message == message);
    }
  }

  TEST_CASE("an algorithm is parsed with its window") {
    CHECK(parse_algorithm("parallel")->algorithm == Algorithm::kParallel);
    CHECK(parse_algorithm("parallel")->window == 1);
    CHECK(parse_algorithm("splitfed-v1:window=64")->algorithm == Algorithm::kSplitFedV1);
    CHECK(parse_algorithm("splitfed-v1:window=64")->window == 64);
    CHECK(parse_algorithm("federated")->algorithm == Algorithm::kFederated);
    CHECK(parse_algorithm("relay:window=65").error().message ==
          "--algorithm relay:window must be a whole number from 1 to 64, got \"65\"");
    CHECK(parse_algorithm("paralel").error().message ==
          "--algorithm must be one of parallel, splitfed-v1, splitfed-v2, relay, federated, got \"paralel\"; "
          "did "
          "you mean \"parallel\"?");
  }

  TEST_CASE(
      "what the front learns on is parsed, and the tail's passes follow the tail interval unless given") {
    CHECK(parse_edge_objective("end-to-end")->objective == EdgeObjective::kEndToEnd);
    const auto local = parse_edge_objective("local:tail-interval=3,head=conv:channels=8").value();
    CHECK(local.objective == EdgeObjective::kLocal);
    CHECK(local.tail_interval == 3);
    CHECK(local.auxiliary_head == "conv:channels=8");
    const auto aligned = parse_edge_objective("aligned:tail-interval=5").value();
    CHECK(aligned.objective == EdgeObjective::kAligned);
    CHECK(aligned.auxiliary_head == "linear");
    CHECK(aligned.alignment.interval == 1);
    CHECK(aligned.alignment.max_bytes == 256LL << 20);
    CHECK(aligned.alignment.tail_epochs == 4);
    CHECK(aligned.alignment.epochs == 1);
    CHECK(aligned.alignment.learning_rate == 1e-4);
    CHECK(parse_edge_objective("aligned:tail-interval=5,tail-epochs=0")->alignment.tail_epochs == 0);
    CHECK(parse_edge_objective("aligned:tail-interval=5,tail-epochs=7")->alignment.tail_epochs == 7);
    for (const auto& [text, part] : {
             std::pair<std::string, std::string>{"aligned:tail-epochs=-1", "from 0 to 1000000, got \"-1\""},
             {"aligned:tail-epochs=2000000", "from 0 to 1000000, got \"2000000\""},
             {"local:tail-interval=0", "from 1 to 1000000, got \"0\""},
             {"aligned:learning-rate=0", "learning-rate must be a finite number > 0, got \"0\""},
         }) {
      CAPTURE(text);
      CHECK(parse_edge_objective(text).error().message.find(part) != std::string::npos);
    }
  }

  TEST_CASE("what happens to stragglers is parsed, and a deadline that is left out is open") {
    const auto drop = parse_stragglers("drop").value();
    CHECK(drop.rule == StragglerRule::kDrop);
    CHECK_FALSE(drop.step_deadline.has_value());
    CHECK_FALSE(drop.update_deadline.has_value());
    CHECK(drop.round_deadline.count() == 0);
    const auto late = parse_stragglers("late:deadline=1500ms,round-deadline=2s,update-deadline=3s").value();
    CHECK(late.rule == StragglerRule::kLate);
    CHECK(late.step_deadline == std::chrono::milliseconds(1500));
    CHECK(late.round_deadline == std::chrono::seconds(2));
    CHECK(late.update_deadline == std::chrono::seconds(3));
    CHECK(parse_stragglers("wait:update-deadline=3s")->rule == StragglerRule::kWait);
    CHECK(
        parse_stragglers("drop:deadline=0s").error().message ==
        "--stragglers drop:deadline must be a time such as 10s or 500ms from 0.001s to 2592000s, got \"0s\"");
    CHECK(parse_stragglers("drop:deadline=10").error().message.find("got \"10\"") != std::string::npos);
  }
}
