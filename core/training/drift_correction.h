#pragma once

#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem {

struct DriftCorrectionOptions {
  /// mu of FedProx (Li et al. 2020), >= 0; 0 adds nothing.
  double proximal_mu = 0;
  /// SCAFFOLD (Karimireddy et al. 2020): steps are corrected by c - c_k.
  bool control_variates = false;

  /// Throws std::invalid_argument naming the first bad field.
  DriftCorrectionOptions validated() const;
};

/// What FedProx and SCAFFOLD ask of one owner that trains locally between merges: a front on the edge, or a
/// tail's replica on the aggregator. In each round `begin_round`, then `correct` before every step of the
/// optimiser, then `end_round`. Without either option all of them do nothing.
/// Not thread-safe; used on the owner's compute thread.
class DriftCorrection {
 public:
  /// `parameters` alias the trained ones, those that are merged. c_k starts at zero. A model moves to its
  /// device first. Throws std::invalid_argument as `validated` does.
  DriftCorrection(DriftCorrectionOptions options, NamedTensors parameters);

  /// The merged weights were just loaded: they are the anchor w_global. `server_control` is SCAFFOLD's c by
  /// parameter name, copied; it may hold further names, and empty means zeros. Not read without control
  /// variates. kShapeMismatch names what is missing or does not fit, kNonFinite what is not finite; then
  /// nothing has changed.
  Result<void> begin_round(const NamedTensors& server_control);

  /// Adds mu (w - w_global), the gradient of (mu/2) |w - w_global|^2, and c - c_k to each parameter's
  /// `.grad()`, in place; a parameter without one is left alone. `learning_rate` is that of the step that
  /// follows, finite and >= 0. Throws std::logic_error outside a round.
  void correct(double learning_rate);

  /// SCAFFOLD's option II: c_k' = c_k - c + (w_global - w) / (sum of learning rates), which assumes plain
  /// SGD. Keeps c_k' and returns c_k' - c_k by parameter name, in storage of its own. Empty, and c_k stays,
  /// without control variates and when no step was made. The round is over.
  NamedTensors end_round();

  bool active() const { return options_.proximal_mu > 0 || options_.control_variates; }

  /// c_k as "control.<name>" and, inside a round, w_global as "anchor.<name>", c as "server_control.<name>"
  /// and the sum of learning rates as "learning_rates", in the order of the parameters; nothing writes to
  /// these tensors later. Empty when the correction does nothing.
  NamedTensors state() const;
  /// The reverse, which copies; kShapeMismatch or kNonFinite name what does not fit, and then nothing has
  /// changed.
  Result<void> load_state(const NamedTensors& state);
  /// Whether an entry of a joint state is of this kind.
  static bool owns(const std::string& state_name);

 private:
  DriftCorrectionOptions options_;
  NamedTensors parameters_;
  NamedTensors control_;         ///< c_k
  NamedTensors anchor_;          ///< w_global; empty outside a round
  NamedTensors server_control_;  ///< c, in the order of the parameters; empty stands for zeros
  double learning_rates_ = 0;    ///< summed since begin_round
};

}  // namespace tandem
