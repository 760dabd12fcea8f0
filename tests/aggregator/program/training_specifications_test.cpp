#include "tandem/aggregator/program/training_specifications.h"

#include <string>
#include <utility>

#include "support/test.h"

using namespace tandem;
using aggregator::parse_lr_schedule;
using aggregator::parse_optimizer;

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
             std::pair<std::string, std::string>{
                 "cosin",
                 "--lr-schedule is \"cosin\", expected constant, cosine, cosine:steps=N or "
                 "step:every=N,factor=F"},
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
                                                 "--optimizer is \"sdg\", expected sgd, adam or adamw"},
             {"sgd:momentum=1", "--optimizer sgd:momentum must be below 1, got 1"},
             {"sgd:momentum=-0.1",
              "--optimizer sgd:momentum must be a finite number from 0 to 1, got \"-0.1\""},
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
}
