#include "tandem/core/training/lr_schedule.h"

#include <cmath>
#include <numbers>
#include <sstream>
#include <stdexcept>

namespace tandem {
namespace {

template <class T>
void require(bool holds, const char* field, const char* rule, T value) {
  if (holds) return;
  std::ostringstream message;
  message << "LrScheduleOptions." << field << " must be " << rule << ", got " << value;
  throw std::invalid_argument(message.str());
}

double cosine_factor(const LrScheduleOptions& schedule, double t) {
  if (t >= schedule.period_steps) return schedule.final_factor;
  const double progress = t / schedule.period_steps;
  return schedule.final_factor +
         (1.0 - schedule.final_factor) * (1.0 + std::cos(std::numbers::pi * progress)) / 2.0;
}

}  // namespace

LrScheduleOptions LrScheduleOptions::validated() const {
  require(kind <= LrScheduleKind::kCosine, "kind", "0 (constant), 1 (step) or 2 (cosine)",
          static_cast<int>(kind));
  require(warmup_steps >= 0, "warmup_steps", ">= 0", warmup_steps);
  require(period_steps >= 1 && std::isfinite(period_steps), "period_steps", ">= 1 and finite", period_steps);
  require(step_factor > 0.0 && step_factor <= 1.0, "step_factor", "in (0, 1]", step_factor);
  require(final_factor >= 0.0 && final_factor <= 1.0, "final_factor", "in [0, 1]", final_factor);
  return *this;
}

double lr_factor(const LrScheduleOptions& schedule, int64_t applied_steps) {
  if (applied_steps < schedule.warmup_steps) {
    return static_cast<double>(applied_steps + 1) / (static_cast<double>(schedule.warmup_steps) + 1.0);
  }
  const auto t = static_cast<double>(applied_steps - schedule.warmup_steps);
  switch (schedule.kind) {
    case LrScheduleKind::kConstant:
      return 1.0;
    case LrScheduleKind::kStep:
      return std::pow(schedule.step_factor, std::floor(t / schedule.period_steps));
    case LrScheduleKind::kCosine:
      return cosine_factor(schedule, t);
  }
  throw std::invalid_argument("lr_factor: unknown schedule kind");
}

}  // namespace tandem
