#pragma once

#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/training/lr_schedule.h"
#include "tandem/core/training/optimizer.h"

namespace tandem::aggregator {

/// What --lr-schedule says.
struct LrScheduleChoice {
  LrScheduleOptions options;
  /// The cosine ends with the run: `options.period_steps` is left open.
  bool spans_run = false;
};

/// Parses --lr-schedule:
///   constant:warmup=0
///   cosine:steps=N,warmup=0      without steps it ends with the run
///   step:every=N,factor=F,warmup=0
/// kInvalidArgument names an unknown schedule, an unknown or missing parameter, or a value and its range.
Result<LrScheduleChoice> parse_lr_schedule(const std::string& text);

/// Parses --optimizer:
///   sgd:momentum=0,weight-decay=0,clip-norm=0
///   adam:weight-decay=0,clip-norm=0
///   adamw:weight-decay=0,clip-norm=0
/// The learning rate keeps its default. kInvalidArgument names an unknown optimiser or parameter, or a value
/// and its range.
Result<OptimizerOptions> parse_optimizer(const std::string& text);

}  // namespace tandem::aggregator
