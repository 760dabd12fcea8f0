#include "tandem/aggregator/session/run_data.h"

#include <algorithm>

#include "tandem/aggregator/rounds/round_planner.h"

namespace tandem::aggregator {
namespace {

/// For which a device may make the aggregator build a model.
constexpr int64_t kMaxAnnouncedValues = int64_t{1} << 18;
constexpr int64_t kMaxAnnouncedClasses = 65'536;

std::string classes_text(int64_t classes) {
  return std::to_string(classes) + " classes";
}

/// Of a shape that a stranger says; beyond the limit where a size is not positive or too large.
int64_t bounded_values(const std::vector<int64_t>& shape) {
  int64_t values = 1;
  for (const int64_t size : shape) {
    if (size < 1 || size > kMaxAnnouncedValues) return kMaxAnnouncedValues + 1;
    values *= size;
    if (values > kMaxAnnouncedValues) break;
  }
  return values;
}

}  // namespace

bool is_ordinary(const std::vector<int64_t>& shape) {
  constexpr int64_t kMostChannels = 16;
  constexpr int64_t kSmallestSide = 4;
  if (shape.size() == 1) return true;
  return shape.size() == 3 && shape[0] <= kMostChannels && std::min(shape[1], shape[2]) >= kSmallestSide;
}

Result<void> check_given(const TrainingPlan& plan, const DataDescription& data, const std::string& flag) {
  if (!plan.input_shape.empty() && plan.input_shape != data.input_shape) {
    return Error{ErrorCode::kInvalidArgument,
                 "--input-shape is " + shape_to_string(plan.input_shape) + ", the examples of " + flag +
                     " have " + shape_to_string(data.input_shape) + "; leave out --input-shape or give " +
                     flag + " of that shape"};
  }
  if (plan.num_classes > 0 && plan.num_classes < data.num_classes) {
    return Error{ErrorCode::kInvalidArgument, "--num-classes is " + std::to_string(plan.num_classes) +
                                                  ", the labels of " + flag + " need " +
                                                  classes_text(data.num_classes) + "; give --num-classes " +
                                                  std::to_string(data.num_classes) + " or mend the labels"};
  }
  return {};
}

Result<RunData> RunData::given_by(const SessionOptions& options, const Dataset* eval_data,
                                  std::optional<int64_t> classes_of_weights) {
  const TrainingPlan& plan = options.plan;
  RunData data;
  if (!plan.input_shape.empty()) data.shape_ = {plan.input_shape, "--input-shape", true};
  if (plan.num_classes > 0) {
    data.classes_ = {plan.num_classes, "--num-classes", true};
  } else if (classes_of_weights) {
    data.classes_ = {*classes_of_weights, "--init", true};
  }
  if (eval_data == nullptr) return data;
  const DataDescription evaluated = eval_data->describe();
  if (auto checked = check_given(plan, evaluated, "--eval-data"); !checked) return checked.error();
  if (plan.input_shape.empty()) data.shape_ = {evaluated.input_shape, "--eval-data", true};
  if (!data.classes_.is_fixed) data.classes_ = {evaluated.num_classes, "--eval-data", true};
  if (evaluated.num_classes > data.classes_.value) {
    return Error{ErrorCode::kInvalidArgument,
                 "the weights of --init are for " + classes_text(data.classes_.value) +
                     ", the labels of --eval-data need " + classes_text(evaluated.num_classes)};
  }
  return data;
}

void RunData::take(const DataDescription& data, const std::string& device) {
  if (!shape_.is_fixed) shape_ = {data.input_shape, "device " + device, false};
  take_classes(data.num_classes, device);
}

void RunData::take_classes(int64_t classes, const std::string& device) {
  if (!classes_.is_fixed) classes_ = {classes, "device " + device, false};
}

void RunData::fix() {
  shape_.is_fixed = classes_.is_fixed = true;
}

void RunData::restore(const DataDescription& data, const std::string& shape_by,
                      const std::string& classes_by) {
  shape_ = {data.input_shape, shape_by, true};
  classes_ = {data.num_classes, classes_by, true};
}

Result<void> RunData::check_possible(const DataDescription& data) const {
  const std::vector<int64_t>& shape = data.input_shape;
  const bool shape_fits = has_fixed_shape() || ((shape.size() == 1 || shape.size() == 3) &&
                                                bounded_values(shape) <= kMaxAnnouncedValues);
  const bool classes_fit =
      has_fixed_classes() || (data.num_classes >= 2 && data.num_classes <= kMaxAnnouncedClasses);
  if (shape_fits && classes_fit) return {};
  return Error{ErrorCode::kTooLarge,
               "its examples have shape " + shape_to_string(shape) + " and " +
                   classes_text(data.num_classes) + "; beyond CxHxW or F of " +
                   std::to_string(kMaxAnnouncedValues) + " values or 2 to " +
                   std::to_string(kMaxAnnouncedClasses) +
                   " classes start the aggregator with --input-shape and --num-classes"};
}

Result<void> RunData::check(const DataDescription& data) const {
  if (data.input_shape != shape_.value) {
    return Error{ErrorCode::kShapeMismatch, "its examples have shape " + shape_to_string(data.input_shape) +
                                                ", this run trains on " + shape_to_string(shape_.value) +
                                                " (from " + shape_.by + ")"};
  }
  if (classes_.is_fixed && data.num_classes > classes_.value) {
    return Error{ErrorCode::kShapeMismatch, "its labels need " + classes_text(data.num_classes) +
                                                ", this run has " + std::to_string(classes_.value) +
                                                " (from " + classes_.by +
                                                "); mend its labels, or start the run anew with " +
                                                "--num-classes " + std::to_string(data.num_classes)};
  }
  return {};
}

std::string RunData::shape_origin() const {
  return "the shape " + shape_to_string(shape_.value) + " comes from " + shape_.by;
}

Result<void> check_amount(const SessionOptions& options, const DataDescription& data, int64_t fewest) {
  if (data.num_examples < fewest || data.num_examples > kMaxExamples) {
    return Error{ErrorCode::kInvalidArgument,
                 "it has " + std::to_string(data.num_examples) + " examples, this run takes devices with " +
                     std::to_string(fewest) + " to " + std::to_string(kMaxExamples)};
  }
  const uint64_t batches =
      options.local_steps > 0
          ? options.local_steps
          : (static_cast<uint64_t>(data.num_examples) / options.batch_size + 1) * options.local_epochs;
  if (batches <= kMaxStepsOfRound) return {};
  return Error{ErrorCode::kTooLarge,
               "its " + std::to_string(data.num_examples) + " examples alone make more than " +
                   std::to_string(kMaxStepsOfRound) +
                   " steps in a round; use a larger --batch-size, fewer --local-epochs or --local-steps"};
}

}  // namespace tandem::aggregator
