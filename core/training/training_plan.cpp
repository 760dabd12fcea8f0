#include "tandem/core/training/training_plan.h"

#include <array>
#include <stdexcept>
#include <utility>

namespace tandem {
namespace {

constexpr std::array<std::pair<Algorithm, const char*>, 5> kAlgorithms{{
    {Algorithm::kParallel, "parallel"},
    {Algorithm::kSplitFedV1, "splitfed-v1"},
    {Algorithm::kSplitFedV2, "splitfed-v2"},
    {Algorithm::kRelay, "relay"},
    {Algorithm::kFederated, "federated"},
}};

/// Fields are named like the flags that give them.
Error bad_field(const std::string& flag, const std::string& rule, const std::string& found) {
  return {ErrorCode::kInvalidArgument, "--" + flag + " must be " + rule + ", got " + found};
}

Error no_sense(const std::string& pair, const std::string& reason) {
  return {ErrorCode::kInvalidArgument, pair + " cannot be combined: " + reason};
}

Result<void> check_fields(const TrainingPlan& plan) {
  if (plan.model.empty()) return bad_field("model", "a model's name", "nothing");
  if (plan.cut < 1) return bad_field("cut", ">= 1", std::to_string(plan.cut));
  if (plan.head_blocks < 0) return bad_field("head-blocks", ">= 0", std::to_string(plan.head_blocks));
  if (plan.input_shape.empty()) return bad_field("input-shape", "known", "nothing");
  for (const int64_t size : plan.input_shape) {
    if (size < 1 || size > 65536)
      return bad_field("input-shape", "1..65536 in each dimension", std::to_string(size));
  }
  if (plan.num_classes < 2 || plan.num_classes > 1'000'000) {
    return bad_field("num-classes", "2..1000000", std::to_string(plan.num_classes));
  }
  if (plan.rounds < 1) return bad_field("rounds", ">= 1", std::to_string(plan.rounds));
  if (plan.window < 1 || plan.window > 64) return bad_field("window", "1..64", std::to_string(plan.window));
  if (plan.tail_interval < 1 || plan.tail_interval > 1'000'000) {
    return bad_field("tail-interval", "1..1000000", std::to_string(plan.tail_interval));
  }
  if (!(plan.proximal_mu >= 0 && plan.proximal_mu <= 1e6)) {
    return bad_field("strategy fedprox:mu", "0..1000000", std::to_string(plan.proximal_mu));
  }
  return {};
}

Result<void> check_combination(const TrainingPlan& plan) {
  const bool local = plan.objective != EdgeObjective::kEndToEnd;
  const bool federated = plan.algorithm == Algorithm::kFederated;
  if (federated && plan.u_shaped()) {
    return no_sense("--algorithm federated and --head-blocks",
                    "the whole model is on the device already, labels do not leave it anyway");
  }
  if (federated && local) {
    return no_sense("--algorithm federated and --edge-objective",
                    "there is no tail whose gradient an auxiliary head could replace");
  }
  if (local && plan.u_shaped()) {
    return no_sense(
        "--edge-objective and --head-blocks",
        "the tail trains on labels at the aggregator, with --head-blocks they stay on the device");
  }
  if (!local && plan.tail_interval > 1) {
    return no_sense("--edge-objective end-to-end and a tail-interval",
                    "every batch needs the tail's gradient; choose local or aligned");
  }
  if (plan.u_shaped() && plan.window > 1) {
    return no_sense("--head-blocks and a window of --algorithm",
                    "a U-shaped step crosses the network twice each way, and the head moves in between");
  }
  if (plan.algorithm == Algorithm::kRelay && plan.batch_norm == BatchNormMode::kLocal) {
    return no_sense("--algorithm relay and --batch-norm local",
                    "the front passes whole from device to device");
  }
  if (plan.control_variates && (plan.optimizer.kind != OptimizerKind::kSgd || plan.optimizer.momentum != 0)) {
    return no_sense("--strategy scaffold and --optimizer " +
                        std::string(optimizer_name(plan.optimizer.kind)) +
                        (plan.optimizer.momentum != 0 ? " with momentum" : ""),
                    "control variates are read off the path of plain sgd");
  }
  if (plan.control_variates && plan.batch_norm == BatchNormMode::kLocal) {
    return no_sense(
        "--strategy scaffold and --batch-norm local",
        "it keeps a control variate for everything that is trained, and batch norm is not merged");
  }
  if (plan.control_variates && plan.window > 1) {
    return no_sense("--strategy scaffold and a window of --algorithm",
                    "it corrects each step at the weights of that step");
  }
  return {};
}

}  // namespace

const char* algorithm_name(Algorithm algorithm) {
  for (const auto& [value, name] : kAlgorithms) {
    if (value == algorithm) return name;
  }
  return "unknown";
}

std::optional<Algorithm> find_algorithm(const std::string& name) {
  for (const auto& [value, known] : kAlgorithms) {
    if (name == known) return value;
  }
  return std::nullopt;
}

Result<void> TrainingPlan::check() const {
  if (auto checked = check_fields(*this); !checked) return checked;
  if (auto checked = check_combination(*this); !checked) return checked;
  try {
    (void)optimizer.validated();
    (void)lr_schedule.validated();
  } catch (const std::invalid_argument& mistake) {
    return Error{ErrorCode::kInvalidArgument, mistake.what()};
  }
  return {};
}

}  // namespace tandem
