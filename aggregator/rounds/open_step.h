#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/aggregator/rounds/round_planner.h"
#include "tandem/aggregator/tail/tail_trainer.h"
#include "tandem/core/base/ids.h"

namespace tandem::aggregator {

/// The half of a U-shaped step that waits for the devices: the tail's outputs went out to the step's clients,
/// and from each the gradient of its loss with respect to them comes back. Of each client the first answer
/// stands, or that it was given up. Knows nothing of messages or time. Not thread-safe.
class OpenStep {
 public:
  struct Answer {
    at::Tensor gradient;  ///< undefined: not usable, the step goes on without this client
    Figures figures;
    /// Of the message it came in, part of the key under which its reply is kept.
    uint64_t payload_hash = 0;
  };
  enum class AnswerState { kAwaited, kAnswered, kGivenUp };

  /// `clients`: what the outputs were computed from, each client once.
  explicit OpenStep(std::vector<ClientActivations> clients) : clients_(std::move(clients)) {}

  const std::vector<ClientActivations>& clients() const { return clients_; }
  /// What the client brought, as its own step `step`; null when it takes no part with that one.
  const ClientActivations* find(const ClientId& client, uint32_t step) const;

  AnswerState state_of(const ClientId& client) const;
  /// Of a client that is awaited, like `give_up`; otherwise nothing changes.
  void answer(const ClientId& client, Answer answer);
  /// Nothing came in time: the step goes on without this client.
  void give_up(const ClientId& client);

  /// Those from whom an answer is awaited.
  std::vector<TailEntry> missing() const;
  /// Null when none came.
  const Answer* answer_of(const ClientId& client) const;
  /// In the clients' order, for TailTrainer::backward; undefined of those the step goes on without.
  std::vector<at::Tensor> gradients() const;

 private:
  std::vector<ClientActivations> clients_;
  std::map<ClientId, std::optional<Answer>> answers_;  // none: given up
};

}  // namespace tandem::aggregator
