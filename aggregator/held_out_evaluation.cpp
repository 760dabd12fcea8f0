#include "tandem/aggregator/held_out_evaluation.h"

#include <cmath>
#include <string>
#include <utility>

namespace tandem::aggregator {

HeldOutEvaluation::HeldOutEvaluation(uint32_t round, std::map<ClientId, uint64_t> examples)
    : round_(round), outstanding_(std::move(examples)) {}

std::vector<ClientId> HeldOutEvaluation::outstanding() const {
  std::vector<ClientId> clients;
  for (const auto& [client, examples] : outstanding_) clients.push_back(client);
  return clients;
}

Result<void> HeldOutEvaluation::record(const ClientId& client, const wire::Evaluated& result) {
  const auto expected = outstanding_.extract(client);
  if (!expected) return {};
  if (result.examples != expected.mapped() || result.correct > result.examples ||
      !std::isfinite(result.loss_sum)) {
    return Error{ErrorCode::kInvalidArgument,
                 "its evaluation says " + std::to_string(result.correct) + " of " +
                     std::to_string(result.examples) + " right and a loss of " +
                     std::to_string(result.loss_sum) + ", expected finite figures of the " +
                     std::to_string(expected.mapped()) + " examples it holds back"};
  }
  results_[client] = result;
  return {};
}

wire::Evaluated HeldOutEvaluation::totals() const {
  wire::Evaluated sum;
  for (const auto& [client, result] : results_) {
    sum.examples += result.examples;
    sum.loss_sum += result.loss_sum;
    sum.correct += result.correct;
  }
  return sum;
}

std::optional<double> HeldOutEvaluation::loss() const {
  const wire::Evaluated sum = totals();
  if (sum.examples == 0) return std::nullopt;
  return sum.loss_sum / static_cast<double>(sum.examples);
}

std::optional<double> HeldOutEvaluation::accuracy() const {
  const wire::Evaluated sum = totals();
  if (sum.examples == 0) return std::nullopt;
  return static_cast<double>(sum.correct) / static_cast<double>(sum.examples);
}

}  // namespace tandem::aggregator
