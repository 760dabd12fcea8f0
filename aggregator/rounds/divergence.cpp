#include "tandem/aggregator/rounds/divergence.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator {
namespace {

constexpr double kTimesGuessing = 100;

std::string text_of(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

/// Batches of the client that go up to a tail.
uint32_t uploads(const Participant& part, uint32_t tail_interval) {
  uint32_t count = 0;
  for (size_t step = 0; step < part.batch_sizes.size(); ++step) {
    count += part.batch_sizes[step] > 0 && (step + 1) % tail_interval == 0;
  }
  return count;
}

}  // namespace

double Divergence::loss_limit() const {
  return kTimesGuessing * std::log(static_cast<double>(options_.plan.num_classes));
}

Result<void> Divergence::check_loss(const Figures& figures) const {
  const double mean = figures.examples > 0 ? figures.mean_loss() : figures.loss_sum;
  if (std::isfinite(mean) && mean <= loss_limit()) return {};
  return Error{ErrorCode::kNonFinite, "its mean loss is " + text_of(mean) + ", expected at most " +
                                          text_of(loss_limit()) + " (100 times what guessing costs among " +
                                          std::to_string(options_.plan.num_classes) + " classes)"};
}

std::optional<std::string> Divergence::uselessness(const Participant& part) const {
  if (part.figures.examples > 0) {
    if (const auto checked = check_loss(part.figures); !checked) return checked.error().message;
  }
  if (part.beyond_limits == 0) return std::nullopt;
  if (part.active && 2 * part.beyond_limits < uploads(part, options_.plan.tail_interval)) return std::nullopt;
  return part.beyond_limits_reason;
}

void Divergence::judge(const Round& round) {
  for (const auto& [client, part] : round.participants()) {
    if (const auto reason = uselessness(part)) useless(client, *reason);
  }
}

std::optional<Error> Divergence::verdict(size_t others, size_t present) const {
  size_t bad = 0;
  std::string example;
  for (const auto& [client, reason] : outcomes_) {
    if (!reason) continue;
    if (++bad == 1) example = client.name + ": " + *reason;
  }
  const size_t all = outcomes_.size() + others;
  if (bad == 0 || 2 * bad <= all || (bad < 2 && present > 1)) return std::nullopt;
  return error("what " + std::to_string(bad) + " of " + std::to_string(all) +
               " client(s) learned is of no use (" + example + ")");
}

Result<void> Divergence::check_weights(const std::string& what, const NamedTensors& weights) const {
  const auto finite = check_finite(weights);
  return finite ? Result<void>() : error(what + ": " + finite.error().message);
}

Result<void> Divergence::check_evaluation(const std::optional<double>& loss) const {
  if (!loss || *loss <= options_.loss_limit) return {};
  return error("the evaluation of the final weights gives a loss of " + text_of(*loss));
}

Result<void> Divergence::check_evaluation(const DeviceEvaluation& evaluation) const {
  const auto& results = evaluation.progress().results();
  const auto above = std::count_if(results.begin(), results.end(), [&](const auto& entry) {
    return entry.second.loss_sum > options_.loss_limit * static_cast<double>(entry.second.examples);
  });
  const size_t all = results.size() + evaluation.beyond_limits();
  const size_t bad = static_cast<size_t>(above) + evaluation.beyond_limits();
  if (2 * bad <= all) return {};
  return error("the loss of the final weights is not finite or above " + text_of(options_.loss_limit) +
               " on " + std::to_string(bad) + " of " + std::to_string(all) + " devices that evaluate");
}

Error Divergence::error(const std::string& what) const {
  std::string remedy = "lower --learning-rate (now " + text_of(options_.plan.optimizer.learning_rate) + ")";
  if (const auto traits = strategy_traits(options_.strategy); traits && traits->server_rate) {
    remedy += ", or eta of --strategy " + options_.strategy;
  }
  if (options_.plan.objective == EdgeObjective::kAligned) {
    remedy += ", or learning-rate of --edge-objective aligned (now " +
              text_of(options_.alignment.learning_rate) + ")";
  }
  return {ErrorCode::kNonFinite, "the training diverges: " + what + "; " + remedy};
}

void fail_unless(Messenger& messenger, const Result<void>& checked) {
  if (checked) return;
  messenger.event("diverged", "", checked.error().message);
  messenger.fail(checked.error());
}

}  // namespace tandem::aggregator
