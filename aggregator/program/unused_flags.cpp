#include "tandem/aggregator/program/unused_flags.h"

#include <algorithm>
#include <sstream>

#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/core/training/training_plan.h"

namespace tandem::aggregator {
namespace {

/// Collects the first flag that differs from its default and does not count.
class SetFlags {
 public:
  explicit SetFlags(const TrainingFlags& flags) : flags_(flags) {}

  /// `field` counts only if `counts`; otherwise `why` stands between the flag's value and "leave it out".
  template <class T>
  void need(bool counts, const char* name, T TrainingFlags::*field, const std::string& why,
            const std::string& remedy = "") {
    if (counts || first_ || flags_.*field == defaults_.*field) return;
    std::ostringstream text;
    text << "--" << name << " " << flags_.*field << " " << why << "; leave it out"
         << (remedy.empty() ? "" : " or ") << remedy;
    first_ = Error{ErrorCode::kInvalidArgument, text.str()};
  }

  Result<void> result() const { return first_ ? Result<void>(*first_) : Result<void>(); }

 private:
  const TrainingFlags& flags_;
  const TrainingFlags defaults_;
  std::optional<Error> first_;
};

std::string with(const char* flag, const std::string& value) {
  return "does nothing with --" + std::string(flag) + " " + value + ": ";
}

void check_algorithm(const TrainingFlags& flags, SetFlags& set) {
  const bool federated = flags.algorithm == algorithm_name(Algorithm::kFederated);
  set.need(
      !federated, "window", &TrainingFlags::window,
      with("algorithm", flags.algorithm) + "no step crosses the network, the whole model is on the device",
      "choose another algorithm");
}

void check_objective(const TrainingFlags& flags, SetFlags& set) {
  const std::string objective = with("edge-objective", flags.edge_objective);
  set.need(flags.edge_objective != "end-to-end", "auxiliary-head", &TrainingFlags::auxiliary_head,
           objective + "the front learns on the tail's gradient", "choose local or aligned");
  const bool aligned = flags.edge_objective == "aligned";
  const std::string why = objective + "no auxiliary head is fitted to the tail's gradients";
  const char* remedy = "choose aligned";
  const std::string unkept = objective + "the aggregator keeps no smashed data";
  set.need(aligned, "align-interval", &TrainingFlags::align_interval, why, remedy);
  set.need(aligned, "align-memory-mib", &TrainingFlags::align_memory_mib, unkept, remedy);
  set.need(aligned, "align-tail-epochs", &TrainingFlags::align_tail_epochs, unkept, remedy);
  set.need(aligned, "align-epochs", &TrainingFlags::align_epochs, why, remedy);
  set.need(aligned, "align-learning-rate", &TrainingFlags::align_learning_rate, why, remedy);
  set.need(flags.align_epochs > 0, "align-learning-rate", &TrainingFlags::align_learning_rate,
           with("align-epochs", "0") + "the auxiliary head is not fitted", "give --align-epochs 1 or more");
}

void check_strategy(const TrainingFlags& flags, SetFlags& set) {
  const StrategyTraits traits = strategy_traits(flags.strategy).value();
  const bool asynchronous = traits.buffer > 0;
  set.need(asynchronous, "update-order", &TrainingFlags::update_order,
           with("strategy", traits.name) + "updates are merged once a round, in the order of names",
           "choose fedbuff");
  const int fewest = traits.minimum_updates;
  set.need(flags.min_clients >= fewest, "min-clients", &TrainingFlags::min_clients,
           "is below what --strategy " + traits.name + " needs, the updates of " + std::to_string(fewest) +
               " clients in a round",
           "give at least " + std::to_string(fewest));
}

void check_training(const TrainingFlags& flags, SetFlags& set) {
  set.need(flags.local_steps == 0, "local-epochs", &TrainingFlags::local_epochs,
           with("local-steps", std::to_string(flags.local_steps)) + "a round is so many steps, not passes",
           "leave out --local-steps");
  set.need(flags.stragglers != "wait", "step-deadline", &TrainingFlags::step_deadline,
           with("stragglers", flags.stragglers) + "no step goes on without a client", "choose drop");
}

}  // namespace

Result<void> check_no_flag_is_unused(const TrainingFlags& flags) {
  SetFlags set(flags);
  check_algorithm(flags, set);
  check_objective(flags, set);
  check_strategy(flags, set);
  check_training(flags, set);
  return set.result();
}

std::optional<std::string> harmless_unused_flag(const TrainingFlags& flags) {
  SetFlags set(flags);
  set.need(flags.algorithm != algorithm_name(Algorithm::kFederated), "cut", &TrainingFlags::cut,
           with("algorithm", flags.algorithm) + "the whole model is on the device");
  const auto unused = set.result();
  if (unused) return std::nullopt;
  return unused.error().message;
}

}  // namespace tandem::aggregator
