#include "tandem/aggregator/rounds/open_step.h"

#include <algorithm>

namespace tandem::aggregator {

const ClientActivations* OpenStep::find(const ClientId& client, uint32_t step) const {
  const auto found = std::find_if(clients_.begin(), clients_.end(), [&](const ClientActivations& entry) {
    return entry.client == client && entry.step == step;
  });
  return found == clients_.end() ? nullptr : &*found;
}

OpenStep::AnswerState OpenStep::state_of(const ClientId& client) const {
  const auto found = answers_.find(client);
  if (found == answers_.end()) return AnswerState::kAwaited;
  return found->second ? AnswerState::kAnswered : AnswerState::kGivenUp;
}

void OpenStep::answer(const ClientId& client, Answer answer) {
  answers_.emplace(client, std::move(answer));
}

void OpenStep::give_up(const ClientId& client) {
  answers_.emplace(client, std::nullopt);
}

std::vector<TailEntry> OpenStep::missing() const {
  std::vector<TailEntry> missing;
  for (const ClientActivations& entry : clients_) {
    if (!answers_.contains(entry.client)) missing.push_back({entry.client, entry.step});
  }
  return missing;
}

const OpenStep::Answer* OpenStep::answer_of(const ClientId& client) const {
  const auto found = answers_.find(client);
  return found == answers_.end() || !found->second ? nullptr : &*found->second;
}

std::vector<at::Tensor> OpenStep::gradients() const {
  std::vector<at::Tensor> gradients;
  for (const ClientActivations& entry : clients_) {
    const Answer* answer = answer_of(entry.client);
    gradients.push_back(answer == nullptr ? at::Tensor() : answer->gradient);
  }
  return gradients;
}

}  // namespace tandem::aggregator
