#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/model/named_tensors.h"
#include "tandem/core/training/figures.h"
#include "tandem/core/training/training_plan.h"
#include "tandem/core/wire/header.h"

namespace tandem::wire {

/// A moment of a run at which a device can go on.
struct DevicePosition {
  uint32_t round = 0;  ///< the round in the keys of its messages; 0 is before the first
  uint32_t step = 0;   ///< steps of its own that are done
  /// The first step that went up, or would have, whose answer the device does not have there.
  uint32_t unanswered = 0;
  bool operator==(const DevicePosition&) const = default;
};

/// One of a device's requests: what the key of its message says, and the kind.
struct RequestId {
  MessageType type = MessageType::kActivations;
  uint32_t round = 0;
  uint32_t step = 0;
  bool operator==(const RequestId&) const = default;
};

/// Edge -> aggregator, first on every connection: who I am beyond my key, and what data I hold.
struct Hello {
  /// Version of the program, for the log.
  std::string software_version;
  /// Random for each start of the program: tells a reconnection from a restart.
  uint64_t instance = 0;
  /// What it trains on.
  DataDescription data;
  /// Examples it holds back, on which it can evaluate.
  uint64_t held_out_examples = 0;
  /// Where it can go on in the run of the key, newest first: where it stands and its checkpoints.
  std::vector<DevicePosition> positions;
};

/// Aggregator -> edge: you are in; this is the run.
struct Welcome {
  TrainingPlan plan;
  /// The name under which this device's key is listed: seeds its order of examples and augmentation.
  std::string client;
  /// True when the same program instance is back and its round goes on.
  bool resumed = false;
  /// Where it goes on: one of Hello's positions. Only when resumed.
  DevicePosition position;
  /// Requests of this device that have arrived and wait for their answer: it does not send them again.
  std::vector<RequestId> held;
  /// What a device begins with of what stays on it (local batch norm); empty where nothing does.
  NamedTensors kept;
};

/// Either way: that message was not accepted. `fatal` ends the session, the sender should not retry.
struct Refuse {
  ErrorCode code = ErrorCode::kProtocol;
  std::string reason;
  bool fatal = false;
};

/// Aggregator -> edge: the merged front and this client's part of the round.
struct BeginRound {
  /// The round as people count, from 1; the round in the key counts whatever was begun. 0 where unknown.
  uint32_t ordinal = 0;
  /// Position of the round's first example in the client's endless sequence of epochs.
  uint64_t first_example = 0;
  /// Examples this client brings to each step of the round; 0 sits the step out.
  std::vector<uint32_t> batch_sizes;
  /// Loss and accuracy (0..1) of the previous round's merged model on evaluation data; NaN where unknown.
  double previous_loss = 0;
  double previous_accuracy = 0;
  /// As in the plan, with a length that may have been left open until the first round was planned.
  LrScheduleOptions lr_schedule;
  /// What the devices train and exchange: parameters and buffers of the front, of a head and an auxiliary
  /// head.
  NamedTensors weights;
  /// SCAFFOLD: the server's control variate for each trained tensor; empty without.
  NamedTensors control;
};

/// Edge -> aggregator: smashed data of one step.
struct Activations {
  at::Tensor activations;  ///< float32 [B_k, ...]
  at::Tensor labels;       ///< int64 [B_k], values in [0, classes); [0] where labels stay (U-shaped)
};

/// Aggregator -> edge: the gradient of this client's own mean loss with respect to its activations.
struct Gradients {
  at::Tensor gradient;  ///< float32, the shape and memory format of the activations
  Figures figures;      ///< of this client's examples
};

/// Aggregator -> edge: that step went on without you; do not apply a gradient for it.
struct Skip {
  /// True when the client takes no further part in this round.
  bool until_next_round = false;
  std::string reason;
};

/// Aggregator -> edge: the round's steps are over, send your front.
struct EndRound {
  /// The round's time is up: leave the steps that have no answer and send the front as it stands.
  bool now = false;
};

/// Edge -> aggregator: the front's parameters and buffers after the round, with those of what else is
/// trained on the device (the head of a U-shaped model, an auxiliary head).
struct WeightUpdate {
  /// Examples whose gradients were applied in this round; the weight in the average.
  uint64_t examples = 0;
  /// Optimiser steps made in this round.
  uint32_t steps = 0;
  NamedTensors weights;
  /// SCAFFOLD: change of this client's control variates; empty without.
  NamedTensors control_change;
};

/// Either way, at intervals: I am alive.
struct Heartbeat {};

/// Aggregator -> edge: training is complete; the final merged front.
struct Finish {
  double eval_loss = 0;      ///< NaN where unknown
  double eval_accuracy = 0;  ///< 0..1, NaN where unknown
  NamedTensors weights;
};

enum class ByeReason : uint8_t {
  kLeaving = 1,       ///< the sender stops; also the answer to Finish and to a Bye
  kReplaced = 2,      ///< a newer connection with the same key took over
  kShuttingDown = 3,  ///< the aggregator stops for good before the run is complete
  kPaused = 4,        ///< the aggregator stops and may come back to go on with the run
};

/// Either way: this session ends.
struct Bye {
  ByeReason reason = ByeReason::kLeaving;
  std::string text;
};

/// Aggregator -> edge: those activations trained the tail (or were evaluated); no gradient comes back.
struct Receipt {
  Figures figures;  ///< of this client's examples in the tail
};

/// Aggregator -> edge, U-shaped: the tail's output for this client's activations of that step.
struct Outputs {
  at::Tensor outputs;  ///< float32 [B_k, ...]
};

/// Edge -> aggregator, U-shaped: the gradient of this client's own mean loss with respect to the outputs.
struct OutputGradients {
  at::Tensor gradient;  ///< float32, the shape and memory format of the outputs
  Figures figures;      ///< of this client's examples
};

/// Edge -> aggregator, where the edge trains without asking: the steps of the round are done.
struct Trained {
  Figures figures;  ///< of the examples it trained on in this round
};

/// Aggregator -> edge: evaluate these weights on the examples held back. Activations of each batch and an
/// Evaluated follow; where the whole model is on the edge, Evaluated alone.
struct Evaluate {
  NamedTensors weights;
};

/// Edge -> aggregator: what the evaluation of its held-out examples gave.
struct Evaluated {
  Figures figures;
};

using Body =
    std::variant<Hello, Welcome, Refuse, BeginRound, Activations, Gradients, Skip, EndRound, WeightUpdate,
                 Heartbeat, Finish, Bye, Receipt, Outputs, OutputGradients, Trained, Evaluate, Evaluated>;

/// Names a request and its answer: a resend repeats the key, an answer carries the key it answers.
struct MessageKey {
  uint64_t run_id = 0;
  uint32_t incarnation = 0;
  uint32_t round = 0;
  uint32_t step = 0;
  uint32_t micro_batch = 0;  ///< part of a step, where a step goes through a chain in several; else 0
  bool operator==(const MessageKey&) const = default;
};

struct Message {
  MessageKey key;
  Body body;
  /// XXH3-64 of body and tensor frames, without the header: the payload hash of a request's key, the same
  /// under every incarnation. Set by decode, ignored by encode.
  uint64_t payload_hash = 0;
};

MessageType type_of(const Body& body);

}  // namespace tandem::wire
