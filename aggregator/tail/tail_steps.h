#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tandem/aggregator/rounds/open_step.h"
#include "tandem/aggregator/rounds/round.h"
#include "tandem/aggregator/rounds/training.h"
#include "tandem/aggregator/session/messenger.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/aggregator/tail/smashed_data.h"
#include "tandem/aggregator/tail/tails.h"
#include "tandem/aggregator/tail/trained_model.h"

namespace tandem::aggregator {

/// Why a client gets Skip for a step that it is too late for.
inline constexpr const char* kStepWentOn = "the step went on without this client";

/// The tails' steps of one round: takes what clients send across the cut, lets the tails learn from it lane
/// by lane, and answers. A tail learns only from what passed the checks, came from clients that take part,
/// and once from each batch; the answers are kept for a repeat of the request.
///
/// When a lane goes on is for the owner to say: time, and what is before and after the steps, are not known
/// here. Not thread-safe.
class TailSteps {
 public:
  /// `tails`: null where nothing goes up. `figures`: gets the examples that were applied. `keeps_smashed`:
  /// whether the round ends with an alignment. All must outlive this.
  TailSteps(const SessionOptions& options, Messenger& messenger, const TrainedModel& model, Tails* tails,
            Round& round, TrainingFigures& figures, bool keeps_smashed);

  /// A batch for a step of this round, from an active client, that was not answered before. True when a lane
  /// may be ready for it.
  bool take_activations(const ClientId& client, const wire::Message& message);
  /// The same of the gradients that answer a U-shaped step's outputs.
  bool take_output_gradients(const ClientId& client, const wire::Message& message);

  /// Requests of this client that are here and are not answered yet.
  std::vector<wire::RequestId> held_requests(const ClientId& client) const;

  /// Whether nobody is waited for: in the lane's current step, or for the gradients of its outputs.
  bool ready(size_t lane) const;
  /// U-shaped, of a lane that is ready: opens its step and sends the tail's outputs. False, and nothing is
  /// done, where the gradients are there already, nobody brought a batch, or it is not U-shaped.
  bool open(size_t lane);
  /// Of a lane that is ready and was not opened: the tail learns, clients get their answers, and the lane is
  /// at its next step. False when nobody brought a batch.
  bool finish(size_t lane);
  /// The lane's current step goes on without whoever is waited for.
  void expire(size_t lane);

  /// What the clients sent; empty where it is not to be kept.
  SmashedData& smashed() { return smashed_; }
  const SmashedData& smashed() const { return smashed_; }

 private:
  /// Whom the lane's current step, or its second half, still needs.
  std::vector<TailEntry> awaited(size_t lane) const;
  void refuse_batch(const ClientActivations& request, const wire::Message& message, const Error& error);
  bool is_current(size_t lane, const ClientActivations& request) const;
  void learn(size_t lane, const std::vector<ClientActivations>& clients);
  void finish_open(size_t lane, const OpenStep& step);
  void answer(const ClientActivations& request, ClientGradient result);
  void answer_half(size_t lane, const ClientActivations& request, const OpenStep::Answer& answer,
                   const at::Tensor& gradient);
  void count(const ClientId& client, const Figures& figures);
  void take_out(size_t lane, const ClientActivations& request, const std::string& reason);
  void skip(const ClientId& client, const wire::MessageKey& key);

  const SessionOptions& options_;
  Messenger& messenger_;
  const TrainedModel& model_;
  Tails* tails_;
  Round& round_;
  TrainingFigures& figures_;
  std::vector<std::optional<OpenStep>> open_;  // by lane
  bool keeps_smashed_;
  SmashedData smashed_;
};

}  // namespace tandem::aggregator
