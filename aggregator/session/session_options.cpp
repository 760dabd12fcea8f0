#include "tandem/aggregator/session/session_options.h"

#include <stdexcept>
#include <string>

#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator {
namespace {

constexpr int kMostPasses = 1'000'000;

void require(bool holds, const std::string& rule, const std::string& found) {
  if (!holds) throw std::invalid_argument(rule + ", got " + found);
}

void check_participation(const SessionOptions& options) {
  const bool federated = options.plan.algorithm == Algorithm::kFederated;
  if (options.stragglers == StragglerRule::kLate && options.plan.algorithm != Algorithm::kParallel) {
    throw std::invalid_argument(std::string("stragglers late cannot be combined with --algorithm ") +
                                algorithm_name(options.plan.algorithm) +
                                ": a late batch joins others', and only parallel joins batches" +
                                (federated ? "; --strategy fedbuff takes updates whenever they come" : ""));
  }
}

/// What a strategy asks of the rest of the run.
void check_strategy(const SessionOptions& options) {
  const auto traits = strategy_traits(options.strategy);
  if (!traits) throw std::invalid_argument("strategy: " + traits.error().message);
  const auto refuse = [&](const std::string& other, const std::string& reason) {
    throw std::invalid_argument("strategy " + traits->name + " cannot be combined with --" + other + ": " +
                                reason);
  };
  const TrainingPlan& plan = options.plan;
  if (plan.algorithm == Algorithm::kRelay && traits->name != "fedavg") {
    refuse("algorithm relay", "the front passes from device to device, nothing is merged");
  }
  if (traits->buffer > 0 && plan.algorithm != Algorithm::kFederated) {
    refuse(std::string("algorithm ") + algorithm_name(plan.algorithm),
           "updates that come one by one are those of whole models; choose --algorithm federated");
  }
  if (traits->buffer > 0 && options.clients_per_round > 0) {
    refuse("clients-per-round", "there are no rounds: everybody who is there trains all the time");
  }
  if (traits->buffer > 0 && options.round_deadline.count() > 0) {
    refuse("stragglers round-deadline", "there are no rounds, and nobody waits for anybody");
  }
  if (traits->name == "fednova" && plan.optimizer.kind != OptimizerKind::kSgd) {
    refuse("optimizer " + std::string(optimizer_name(plan.optimizer.kind)),
           "it normalises by the steps of sgd, with or without momentum");
  }
  const int of_round = options.clients_per_round > 0 ? options.clients_per_round : options.clients;
  if (traits->minimum_updates > of_round) {
    refuse(options.clients_per_round > 0 ? "clients-per-round" : "clients",
           "it needs the updates of at least " + std::to_string(traits->minimum_updates) +
               " clients in a round, there are " + std::to_string(of_round));
  }
  if (traits->proximal_mu != plan.proximal_mu || traits->control_variates != plan.control_variates) {
    throw std::invalid_argument("strategy " + options.strategy +
                                " does not agree with the plan's proximal_mu and control_variates");
  }
}

/// What is not defined for clients of different cuts.
void check_cuts(const SessionOptions& options) {
  if (!options.cuts || options.cuts->equal()) return;
  const TrainingPlan& plan = options.plan;
  const auto refuse = [](const std::string& setting, const std::string& reason) {
    throw std::invalid_argument("different cuts (--cut) cannot be combined with " + setting + ": " + reason);
  };
  if (plan.algorithm == Algorithm::kRelay) {
    refuse("--algorithm relay", "the front passes from device to device, so all need the same one");
  }
  if (plan.algorithm == Algorithm::kFederated) {
    refuse("--algorithm federated", "the whole model is on every device");
  }
  if (plan.objective != EdgeObjective::kEndToEnd) {
    refuse("--edge-objective local or aligned", "the auxiliary heads would differ and could not be merged");
  }
  if (plan.u_shaped()) {
    refuse("--head-blocks", "a U-shaped step joins clients between the same two cuts");
  }
  if (plan.window > 1) {
    refuse("--window " + std::to_string(plan.window),
           "a stage that sits steps out has other stale gradients");
  }
  if (plan.batch_norm == BatchNormMode::kLocal) {
    refuse("--batch-norm local", "a block's copy on the aggregator belongs to no device");
  }
  const std::string name = strategy_traits(options.strategy)->name;
  if (name != "fedavg" && name != "fedprox") {
    refuse("--strategy " + name,
           "its merge of blocks that only some devices hold is not defined; choose fedavg or fedprox");
  }
}

}  // namespace

RoundPlannerOptions planner_options(const SessionOptions& options, uint32_t minimum_batch) {
  return {.seed = options.plan.seed,
          .algorithm = options.plan.algorithm,
          .objective = options.plan.objective,
          .tail_interval = options.plan.tail_interval,
          .batch_size = options.batch_size,
          .local_steps = options.local_steps,
          .local_epochs = options.local_epochs,
          .minimum_batch = minimum_batch};
}

SessionOptions SessionOptions::validated() const {
  require(clients >= 1, "clients must be >= 1", std::to_string(clients));
  require(min_clients >= 1 && min_clients <= clients,
          "min-clients must be between 1 and clients (" + std::to_string(clients) + ")",
          std::to_string(min_clients));
  require(clients_per_round >= 0 && clients_per_round <= clients,
          "clients-per-round must be between 0 (all) and clients (" + std::to_string(clients) + ")",
          std::to_string(clients_per_round));
  require(batch_size >= 1, "batch-size must be >= 1", std::to_string(batch_size));
  require(local_steps > 0 || local_epochs >= 1, "local-epochs must be >= 1", std::to_string(local_epochs));
  require(local_steps <= kMaxStepsOfRound, "local-steps must be 0.." + std::to_string(kMaxStepsOfRound),
          std::to_string(local_steps));
  require(local_steps > 0 || local_epochs <= kMaxStepsOfRound,
          "local-epochs must be 1.." + std::to_string(kMaxStepsOfRound), std::to_string(local_epochs));
  require(step_deadline.count() > 0, "stragglers deadline must be > 0",
          std::to_string(step_deadline.count()));
  require(update_deadline.count() > 0, "stragglers update-deadline must be > 0",
          std::to_string(update_deadline.count()));
  require(client_timeout.count() > 0, "client-timeout must be > 0", std::to_string(client_timeout.count()));
  require(round_deadline.count() >= 0, "stragglers round-deadline must be >= 0",
          std::to_string(round_deadline.count()));
  require(alignment.interval >= 1, "edge-objective aligned:every must be >= 1",
          std::to_string(alignment.interval));
  require(alignment.max_bytes >= 1, "edge-objective aligned:memory-mib must be >= 1",
          std::to_string(alignment.max_bytes >> 20));
  require(alignment.tail_epochs >= 0 && alignment.tail_epochs <= kMostPasses,
          "edge-objective aligned:tail-epochs must be 0.." + std::to_string(kMostPasses),
          std::to_string(alignment.tail_epochs));
  require(alignment.epochs >= 0 && alignment.epochs <= kMostPasses,
          "edge-objective aligned:epochs must be 0.." + std::to_string(kMostPasses),
          std::to_string(alignment.epochs));
  require(plan.objective != EdgeObjective::kAligned || alignment.tail_epochs > 0 || alignment.epochs > 0,
          "edge-objective aligned:epochs must be >= 1 where the tail goes over no smashed data either "
          "(tail-epochs, by default the tail-interval less one), or nothing is aligned; else choose "
          "--edge-objective local",
          "0");
  require(alignment.learning_rate > 0, "edge-objective aligned:learning-rate must be > 0",
          std::to_string(alignment.learning_rate));
  require(activation_limit > 0, "activation-limit must be > 0", std::to_string(activation_limit));
  require(loss_limit > 0, "loss-limit must be > 0", std::to_string(loss_limit));
  require(gradient_limit > 0, "gradient-limit must be > 0", std::to_string(gradient_limit));
  require(plan.checkpoint_steps <= 1'000'000, "checkpoint-steps must be between 0 and 1000000",
          std::to_string(plan.checkpoint_steps));
  require(quarantine_after >= 0, "limits mistakes must be >= 0", std::to_string(quarantine_after));
  require(eval_batch_size >= 1, "eval-batch-size must be >= 1", std::to_string(eval_batch_size));
  check_participation(*this);
  check_strategy(*this);
  check_cuts(*this);
  SessionOptions checked = *this;
  if (cuts) checked.plan.cut = cuts->highest();
  checked.plan.optimizer = plan.optimizer.validated();
  checked.plan.lr_schedule = plan.lr_schedule.validated();
  return checked;
}

TrainingPlan SessionOptions::plan_of(const ClientId& client) const {
  TrainingPlan own = plan;
  if (cuts) own.cut = cuts->of(client);
  return own;
}

}  // namespace tandem::aggregator
