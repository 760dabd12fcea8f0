#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tandem/aggregator/session/session_options.h"
#include "tandem/core/base/result.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/data/dataset.h"

namespace tandem::aggregator {

/// The shape of the examples and the class count of a run, and who decided each of them.
///
/// What the operator gives stands: the shape by --input-shape or --eval-data, the class count by
/// --num-classes,
/// --eval-data or --init. A device whose data do not fit it is refused, and can do no more harm than that.
/// What the operator leaves open the devices decide until the first round begins: the first device the shape,
/// the device with most classes the class count. Whoever decided is named wherever data do not fit.
class RunData {
 public:
  /// With nothing given.
  RunData() = default;
  /// What the options and the evaluation data (null for none) give. kInvalidArgument where they contradict
  /// each other. `classes_of_weights`: of the weights that the run starts from, where they tell.
  static Result<RunData> given_by(const SessionOptions& options, const Dataset* eval_data,
                                  std::optional<int64_t> classes_of_weights);

  /// Empty, or 0, while nobody has decided.
  const std::vector<int64_t>& shape() const { return shape_.value; }
  int64_t classes() const { return classes_.value; }
  bool has_fixed_shape() const { return shape_.is_fixed; }
  bool has_fixed_classes() const { return classes_.is_fixed; }
  bool is_fixed() const { return shape_.is_fixed && classes_.is_fixed; }
  const std::string& shape_by() const { return shape_.by; }
  const std::string& classes_by() const { return classes_.by; }

  /// What is open becomes that of a device.
  void take(const DataDescription& data, const std::string& device);
  void take_classes(int64_t classes, const std::string& device);
  /// The first round begins, or the run goes on from a checkpoint: nothing is open any more.
  void fix();
  void restore(const DataDescription& data, const std::string& shape_by, const std::string& classes_by);

  /// kTooLarge for data that must not decide what is open: more than 2^18 values, more than 65,536 classes or
  /// fewer than 2, neither rank 1 nor 3. What the operator gives has no such limit.
  Result<void> check_possible(const DataDescription& data) const;
  /// kShapeMismatch when a device's data are not the run's, as far as that is decided.
  Result<void> check(const DataDescription& data) const;

  /// "the shape 1x28x28 comes from device cam-1", for an error that the shape brings about.
  std::string shape_origin() const;

 private:
  template <class T>
  struct Decided {
    T value{};
    std::string by;
    bool is_fixed = false;
  };
  Decided<std::vector<int64_t>> shape_;
  Decided<int64_t> classes_;
};

/// Whether a shape is what people train on: a row of features, or an image of 1 to 16 channels and at least
/// 4x4 pixels. Where settings do not fit such data they are taken for the operator's mistake.
bool is_ordinary(const std::vector<int64_t>& shape);

/// kInvalidArgument when a flag's data (`flag`: "--data", for example) contradict what the options give.
Result<void> check_given(const TrainingPlan& plan, const DataDescription& data, const std::string& flag);

/// kInvalidArgument or kTooLarge when a device has too few or too many examples for the run.
Result<void> check_amount(const SessionOptions& options, const DataDescription& data, int64_t fewest);

/// The most examples that a device may hold.
constexpr int64_t kMaxExamples = int64_t{1} << 26;

}  // namespace tandem::aggregator
