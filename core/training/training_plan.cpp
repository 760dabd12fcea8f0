#include "tandem/core/training/training_plan.h"

#include <stdexcept>

namespace tandem {
namespace {

Error bad_field(const std::string& field, const std::string& rule, const std::string& found) {
  return {ErrorCode::kInvalidArgument, field + " must be " + rule + ", got " + found};
}

}  // namespace

Result<void> TrainingPlan::check() const {
  if (model.empty()) return bad_field("model", "a model's name", "nothing");
  if (cut < 1) return bad_field("cut", ">= 1", std::to_string(cut));
  if (input_shape.empty()) return bad_field("input_shape", "known", "nothing");
  for (const int64_t size : input_shape) {
    if (size < 1 || size > 65536)
      return bad_field("input_shape", "1..65536 in each dimension", std::to_string(size));
  }
  if (num_classes < 2 || num_classes > 1'000'000) {
    return bad_field("num_classes", "2..1000000", std::to_string(num_classes));
  }
  if (algorithm != "parallel") return bad_field("algorithm", "parallel", "\"" + algorithm + "\"");
  if (rounds < 1) return bad_field("rounds", ">= 1", std::to_string(rounds));
  if (window < 1 || window > 64) return bad_field("window", "1..64", std::to_string(window));
  try {
    (void)optimizer.validated();
    (void)lr_schedule.validated();
  } catch (const std::invalid_argument& mistake) {
    return Error{ErrorCode::kInvalidArgument, mistake.what()};
  }
  return {};
}

}  // namespace tandem
