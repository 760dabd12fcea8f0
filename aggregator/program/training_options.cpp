// What the flags of training mean for a session.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tandem/aggregator/program/aggregator_flags.h"
#include "tandem/aggregator/program/training_specifications.h"
#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/storage/safetensors.h"
#include "tandem/core/training/compute_device.h"

namespace tandem::aggregator {
namespace {

/// "OptimizerOptions.learning_rate must be ..." in the words of whoever gave it: "--learning-rate must be
/// ...".
std::string naming_the_flag(const std::string& mistake) {
  const size_t end = std::min(mistake.find(' '), mistake.size());
  std::string name = mistake.substr(0, end);
  name.erase(0, name.find('.') + 1);
  std::replace(name.begin(), name.end(), '_', '-');
  return "--" + name + mistake.substr(end);
}

uint64_t random_run_id() {
  std::random_device device;
  uint64_t id = 0;
  while (id == 0) id = (static_cast<uint64_t>(device()) << 32) | device();
  return id;
}

}  // namespace

Result<void> TrainingFlags::set_plan(SessionOptions& options) const {
  TrainingPlan& plan = options.plan;
  plan.model = model;
  const auto cuts = ClientCuts::parse(cut);
  if (!cuts) return Error{cuts.error().code, "--cut: " + cuts.error().message};
  plan.cut = cuts->highest();
  if (!cuts->equal()) options.cuts = *cuts;
  plan.head_blocks = head_blocks;
  plan.batch_norm = batch_norm == "local"    ? BatchNormMode::kLocal
                    : batch_norm == "freeze" ? BatchNormMode::kFreeze
                                             : BatchNormMode::kAverage;
  plan.num_classes = num_classes;
  if (!input_shape.empty()) {
    const auto shape = parse_shape("--input-shape CxHxW", input_shape);
    if (!shape) return shape.error();
    plan.input_shape = *shape;
  }
  plan.seed = seed;
  plan.rounds = rounds;
  plan.augment = augment;
  plan.normalize = normalize;
  plan.checkpoint_steps = checkpoint_steps;

  const auto schedule = parse_algorithm(algorithm);
  if (!schedule) return schedule.error();
  plan.algorithm = schedule->algorithm;
  plan.window = schedule->window;
  const auto objective = parse_edge_objective(edge_objective);
  if (!objective) return objective.error();
  plan.objective = objective->objective;
  plan.tail_interval = objective->tail_interval;
  plan.auxiliary_head = objective->auxiliary_head;
  options.alignment = objective->alignment;
  const auto chosen_optimizer = parse_optimizer(optimizer);
  if (!chosen_optimizer) return chosen_optimizer.error();
  plan.optimizer = *chosen_optimizer;
  plan.optimizer.learning_rate = learning_rate;
  const auto rate = parse_lr_schedule(lr_schedule);
  if (!rate) return rate.error();
  plan.lr_schedule = rate->options;
  options.schedule_spans_run = rate->spans_run;
  return {};
}

Result<void> TrainingFlags::set_strategy(SessionOptions& options) const {
  options.strategy = strategy;
  const auto traits = strategy_traits(strategy);
  if (!traits) return Error{traits.error().code, "--strategy: " + traits.error().message};
  options.plan.proximal_mu = traits->proximal_mu;
  options.plan.control_variates = traits->control_variates;
  options.update_order = traits->planned_order ? UpdateOrder::kPlanned : UpdateOrder::kArrival;
  return {};
}

Result<void> TrainingFlags::set_participation(SessionOptions& options) const {
  options.clients = clients;
  options.min_clients = min_clients;
  options.clients_per_round = clients_per_round;
  options.batch_size = batch_size;
  options.local_steps = local_steps;
  options.local_epochs = local_epochs;
  const auto late = parse_stragglers(stragglers);
  if (!late) return late.error();
  options.stragglers = late->rule;
  options.round_deadline = late->round_deadline;
  options.step_waits_for_transfers = !late->step_deadline;
  options.update_waits_for_transfers = !late->update_deadline;
  options.step_deadline = late->step_deadline.value_or(options.step_deadline);
  options.update_deadline = late->update_deadline.value_or(options.update_deadline);
  options.client_timeout = std::chrono::milliseconds(std::llround(client_timeout * 1000));
  return {};
}

Result<SessionOptions> TrainingFlags::session_options() const {
  SessionOptions options;
  if (auto set = set_plan(options); !set) return set.error();
  if (auto set = set_strategy(options); !set) return set.error();
  if (auto set = set_participation(options); !set) return set.error();
  options.run_id = random_run_id();
  const auto compute_device = parse_device(device);
  if (!compute_device) return compute_device.error();
  options.compute = *compute_device;
  try {
    return options.validated();
  } catch (const std::invalid_argument& mistake) {
    return Error{ErrorCode::kInvalidArgument, naming_the_flag(mistake.what())};
  }
}

Result<std::optional<InitialWeights>> TrainingFlags::load_initial_weights() const {
  if (init.empty()) return std::optional<InitialWeights>();
  auto loaded = load_safetensors(init);
  if (!loaded) return Error{loaded.error().code, "--init: " + loaded.error().message};
  return std::optional(InitialWeights{.tensors = std::move(loaded->tensors),
                                      .source = "--init " + init.string(),
                                      .model = loaded->metadata["model"]});
}

}  // namespace tandem::aggregator
