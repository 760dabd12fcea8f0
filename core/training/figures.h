#pragma once

#include <cstdint>
#include <limits>

namespace tandem {

/// How a model did on a number of examples. Batches, clients and rounds add up.
struct Figures {
  uint64_t examples = 0;
  double loss_sum = 0;   ///< sum over examples of each one's loss
  uint64_t correct = 0;  ///< how many the model classified correctly

  Figures& operator+=(const Figures& other) {
    examples += other.examples;
    loss_sum += other.loss_sum;
    correct += other.correct;
    return *this;
  }
  /// Returns the loss of an example on average; NaN of none.
  double mean_loss() const { return mean(loss_sum); }
  /// Returns the share of the examples that is correct, 0 to 1; NaN of none.
  double accuracy() const { return mean(static_cast<double>(correct)); }
  bool operator==(const Figures&) const = default;

 private:
  double mean(double sum) const {
    return examples > 0 ? sum / static_cast<double>(examples) : std::numeric_limits<double>::quiet_NaN();
  }
};

}  // namespace tandem
