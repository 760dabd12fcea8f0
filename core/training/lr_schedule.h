#pragma once

#include <cstdint>
#include <string>

namespace tandem {

enum class LrScheduleKind : uint8_t { kConstant = 0, kStep = 1, kCosine = 2 };

/// How the learning rate changes with the owner's applied steps.
struct LrScheduleOptions {
  LrScheduleKind kind = LrScheduleKind::kConstant;
  /// Linear warm-up over this many steps, before the schedule proper: the i-th of w has the factor
  /// i / (w + 1), so none is wasted on a zero rate and the first step after it has factor 1. >= 0.
  int64_t warmup_steps = 0;
  /// kCosine: steps until the factor reaches `final_factor`, a fraction where it is the number of steps that
  /// an owner is expected to make; kStep: steps between two drops. >= 1.
  double period_steps = 1;
  /// kStep: factor of each drop, in (0, 1].
  double step_factor = 0.1;
  /// kCosine: factor at the end, in [0, 1].
  double final_factor = 0.0;

  /// Throws std::invalid_argument naming the first bad field.
  LrScheduleOptions validated() const;
};

/// The factor on the base learning rate for the step after `applied_steps` steps.
/// Constant: 1. Step: step_factor^(t / period). Cosine (Loshchilov and Hutter 2017, eq. 5, one period):
/// final + (1 - final) (1 + cos(pi t / period)) / 2, and `final` afterwards; t counts after the warm-up.
double lr_factor(const LrScheduleOptions& schedule, int64_t applied_steps);

}  // namespace tandem
