#pragma once

#include <cstdint>
#include <vector>

#include <c10/core/Device.h>

#include "tandem/aggregator/tail/smashed_batch.h"
#include "tandem/core/model/model.h"

namespace tandem::aggregator {

struct AlignmentOptions {
  /// Passes over the smashed data; >= 1.
  int epochs = 5;
  /// Examples a step; >= 1.
  int64_t batch_size = 64;
  /// Of Adam; > 0. The objective is relative, so its meaning depends neither on the batch size nor on how
  /// large the tail's gradients are.
  double learning_rate = 1e-3;
  /// Where both parts are.
  at::Device compute = at::kCPU;
  /// Of the order of the examples.
  uint64_t seed = 1;
};

/// Over all smashed data: sum |g_aux - g_tail|^2 / sum |g_tail|^2, where g are the gradients at the cut. 1 is
/// what a zero gradient reaches; 0 is a perfect match.
struct AlignmentReport {
  double error_before = 0;
  double error_after = 0;
};

/// FSL-SAGE's "smashed activation gradient estimation" (ICML 2025): fits the auxiliary head so that its
/// gradient at the cut matches the tail's. Minimises over the auxiliary's parameters
/// mean_i |grad_z L_aux(z_i, y_i) - grad_z L_tail(z_i, y_i)|^2, divided by the mean of |grad_z L_tail|^2,
/// with L the cross-entropy of one example; double backward, Adam.
///
/// The tail's gradients are computed once, in evaluation mode; its statistics, parameters and `.grad()` are
/// untouched, and it is left in training mode. The auxiliary's gradients are dropped. The same arguments
/// give the same bits. If the tail's gradients are not finite the auxiliary stays as it is and both
/// errors are NaN. Throws std::invalid_argument naming the option out of range, without examples, or for a
/// batch with another number of labels than of activations.
AlignmentReport align_auxiliary_head(ModelPart auxiliary, ModelPart tail,
                                     const std::vector<SmashedBatch>& smashed,
                                     const AlignmentOptions& options);

}  // namespace tandem::aggregator
