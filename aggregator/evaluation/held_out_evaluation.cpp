#include "tandem/aggregator/evaluation/held_out_evaluation.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace tandem::aggregator {

HeldOutEvaluation::HeldOutEvaluation(uint32_t round, const std::map<ClientId, uint64_t>& examples,
                                     const std::function<int64_t(const ClientId&)>& batch_size_of)
    : round_(round) {
  for (const auto& [client, count] : examples) {
    outstanding_[client] = {.examples = count, .batch_size = batch_size_of(client)};
  }
}

bool HeldOutEvaluation::waits_for_any(const std::vector<ClientId>& clients) const {
  return std::any_of(clients.begin(), clients.end(),
                     [this](const ClientId& client) { return waits_for(client); });
}

std::vector<ClientId> HeldOutEvaluation::outstanding() const {
  std::vector<ClientId> clients;
  for (const auto& [client, progress] : outstanding_) clients.push_back(client);
  return clients;
}

std::optional<int64_t> HeldOutEvaluation::expected_batch(const ClientId& client, uint32_t step) const {
  const auto found = outstanding_.find(client);
  if (found == outstanding_.end() || found->second.batch_size == 0) return std::nullopt;
  const Progress& progress = found->second;
  const int64_t left = static_cast<int64_t>(progress.examples) - int64_t{step} * progress.batch_size;
  const bool is_near = step == progress.batches || uint64_t{step} + 1 == progress.batches;
  if (!is_near || left <= 0) return std::nullopt;
  return std::min(left, progress.batch_size);
}

bool HeldOutEvaluation::count_batch(const ClientId& client, uint32_t step) {
  Progress& progress = outstanding_.at(client);
  if (step != progress.batches) return false;
  ++progress.batches;
  return true;
}

Result<void> HeldOutEvaluation::record(const ClientId& client, const Figures& result) {
  const auto found = outstanding_.find(client);
  if (found == outstanding_.end()) return {};
  const Progress progress = found->second;
  outstanding_.erase(found);
  const bool saw_all =
      progress.batch_size == 0 ||
      uint64_t{progress.batches} * static_cast<uint64_t>(progress.batch_size) >= progress.examples;
  const bool counts_fit =
      saw_all && result.examples == progress.examples && result.correct <= result.examples;
  if (!counts_fit || !std::isfinite(result.loss_sum)) {
    return Error{counts_fit ? ErrorCode::kNonFinite : ErrorCode::kInvalidArgument,
                 "its evaluation says " + std::to_string(result.correct) + " of " +
                     std::to_string(result.examples) + " right and a loss of " +
                     std::to_string(result.loss_sum) + ", expected finite figures of the " +
                     std::to_string(progress.examples) + " examples it holds back, after all of them"};
  }
  results_[client] = result;
  return {};
}

Figures HeldOutEvaluation::totals() const {
  Figures sum;
  for (const auto& [client, result] : results_) sum += result;
  return sum;
}

std::optional<double> HeldOutEvaluation::loss() const {
  const Figures sum = totals();
  return sum.examples > 0 ? std::optional(sum.mean_loss()) : std::nullopt;
}

std::optional<double> HeldOutEvaluation::accuracy() const {
  const Figures sum = totals();
  return sum.examples > 0 ? std::optional(sum.accuracy()) : std::nullopt;
}

}  // namespace tandem::aggregator
