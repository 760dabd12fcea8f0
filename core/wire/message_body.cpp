// The fields of every message's body, in their order on the wire.
//
// A struct's list below is all that reading and writing need. A message has a line in type_number as well.
// From the first release on, a new field takes the struct's next version: docs/wire_format.md, "Changing
// it".
#include "tandem/core/wire/message_body_detail.h"

#include <new>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

#include "tandem/core/wire/body_fields_detail.h"
#include "tandem/core/wire/message_codec.h"
#include "tandem/core/wire/tensor_codec.h"

namespace tandem::wire::detail {

template <>
struct FieldList<DataDescription> {
  static constexpr const char* kName = "DataDescription";
  static void visit(auto& fields, auto& data) {
    fields.shape("input_shape", data.input_shape);
    fields.numbers(data.num_classes, data.num_examples);
  }
};

template <>
struct FieldList<OptimizerOptions> {
  static constexpr const char* kName = "OptimizerOptions";
  static void visit(auto& fields, auto& options) {
    fields.enumerated("kind", options.kind, OptimizerKind::kSgd, OptimizerKind::kAdamW);
    fields.finite("learning_rate", options.learning_rate);
    fields.finite("momentum", options.momentum);
    fields.finite("weight_decay", options.weight_decay);
    fields.finite("beta1", options.beta1);
    fields.finite("beta2", options.beta2);
    fields.finite("epsilon", options.epsilon);
    fields.finite("clip_norm", options.clip_norm);
  }
};

template <>
struct FieldList<LrScheduleOptions> {
  static constexpr const char* kName = "LrScheduleOptions";
  static void visit(auto& fields, auto& options) {
    fields.enumerated("kind", options.kind, LrScheduleKind::kConstant, LrScheduleKind::kCosine);
    fields.numbers(options.warmup_steps);
    fields.finite("period_steps", options.period_steps);
    fields.finite("step_factor", options.step_factor);
    fields.finite("final_factor", options.final_factor);
  }
};

template <>
struct FieldList<TrainingPlan> {
  static constexpr const char* kName = "TrainingPlan";
  static void visit(auto& fields, auto& plan) {
    fields.text("model", plan.model, kMaxTextBytes);
    fields.numbers(plan.cut, plan.head_blocks);
    fields.shape("input_shape", plan.input_shape);
    fields.numbers(plan.num_classes);
    fields.enumerated("algorithm", plan.algorithm, Algorithm::kParallel, Algorithm::kFederated);
    fields.numbers(plan.seed, plan.rounds);
    fields.structs(plan.optimizer, plan.lr_schedule);
    fields.text("augment", plan.augment, kMaxTextBytes);
    fields.text("normalize", plan.normalize, kMaxTextBytes);
    fields.numbers(plan.window);
    fields.enumerated("objective", plan.objective, EdgeObjective::kEndToEnd, EdgeObjective::kAligned);
    fields.numbers(plan.tail_interval);
    fields.text("auxiliary_head", plan.auxiliary_head, kMaxNameBytes);
    fields.enumerated("batch_norm", plan.batch_norm, BatchNormMode::kAverage, BatchNormMode::kFreeze);
    fields.finite("proximal_mu", plan.proximal_mu);
    fields.flag("control_variates", plan.control_variates);
    fields.numbers(plan.checkpoint_steps);
  }
};

template <>
struct FieldList<Figures> {
  static constexpr const char* kName = "Figures";
  static void visit(auto& fields, auto& figures) {
    fields.numbers(figures.examples, figures.loss_sum, figures.correct);
  }
};

template <>
struct FieldList<DevicePosition> {
  static constexpr const char* kName = "DevicePosition";
  static void visit(auto& fields, auto& position) {
    fields.numbers(position.round, position.step, position.unanswered);
  }
};

template <>
struct FieldList<RequestId> {
  static constexpr const char* kName = "RequestId";
  static void visit(auto& fields, auto& request) {
    fields.enumerated("type", request.type, MessageType::kHello, MessageType::kEvaluated);
    fields.numbers(request.round, request.step);
  }
};

template <>
struct FieldList<Hello> {
  static constexpr const char* kName = "Hello";
  static void visit(auto& fields, auto& hello) {
    fields.text("software_version", hello.software_version, kMaxNameBytes);
    fields.numbers(hello.instance);
    fields.structs(hello.data);
    fields.numbers(hello.held_out_examples);
    fields.list("positions", hello.positions, kMaxPositions, 12);  // three numbers each
  }
};

template <>
struct FieldList<Welcome> {
  static constexpr const char* kName = "Welcome";
  static void visit(auto& fields, auto& welcome) {
    fields.structs(welcome.plan);
    fields.text("client", welcome.client, kMaxNameBytes);
    fields.flag("resumed", welcome.resumed);
    fields.structs(welcome.position);
    fields.list("held", welcome.held, kMaxHeldRequests, 10);  // type, round and step each
    fields.tensors("kept", welcome.kept);
  }
};

template <>
struct FieldList<Refuse> {
  static constexpr const char* kName = "Refuse";
  static void visit(auto& fields, auto& refusal) {
    fields.enumerated("code", refusal.code, ErrorCode::kInvalidArgument, ErrorCode::kClosed);
    fields.prose("reason", refusal.reason);
    fields.flag("fatal", refusal.fatal);
  }
};

template <>
struct FieldList<BeginRound> {
  static constexpr const char* kName = "BeginRound";
  static void visit(auto& fields, auto& begin) {
    fields.numbers(begin.ordinal, begin.first_example);
    fields.array("batch_sizes", begin.batch_sizes);
    fields.numbers(begin.previous_loss, begin.previous_accuracy);
    fields.structs(begin.lr_schedule);
    fields.tensors("weights", begin.weights);
    fields.tensors("control", begin.control);
  }
};

template <>
struct FieldList<Activations> {
  static constexpr const char* kName = "Activations";
  static void visit(auto& fields, auto& message) {
    fields.tensor("activations", message.activations);
    fields.tensor("labels", message.labels);
  }
};

template <>
struct FieldList<Gradients> {
  static constexpr const char* kName = "Gradients";
  static void visit(auto& fields, auto& message) {
    fields.tensor("gradient", message.gradient);
    fields.structs(message.figures);
  }
};

template <>
struct FieldList<Skip> {
  static constexpr const char* kName = "Skip";
  static void visit(auto& fields, auto& skip) {
    fields.flag("until_next_round", skip.until_next_round);
    fields.prose("reason", skip.reason);
  }
};

template <>
struct FieldList<EndRound> {
  static constexpr const char* kName = "EndRound";
  static void visit(auto& fields, auto& end) { fields.flag("now", end.now); }
};

template <>
struct FieldList<WeightUpdate> {
  static constexpr const char* kName = "WeightUpdate";
  static void visit(auto& fields, auto& update) {
    fields.numbers(update.examples, update.steps);
    fields.tensors("weights", update.weights);
    fields.tensors("control_change", update.control_change);
  }
};

template <>
struct FieldList<Heartbeat> {
  static constexpr const char* kName = "Heartbeat";
  static void visit(auto&, auto&) {}
};

template <>
struct FieldList<Finish> {
  static constexpr const char* kName = "Finish";
  static void visit(auto& fields, auto& finish) {
    fields.numbers(finish.eval_loss, finish.eval_accuracy);
    fields.tensors("weights", finish.weights);
  }
};

template <>
struct FieldList<Bye> {
  static constexpr const char* kName = "Bye";
  static void visit(auto& fields, auto& bye) {
    fields.enumerated("reason", bye.reason, ByeReason::kLeaving, ByeReason::kPaused);
    fields.prose("text", bye.text);
  }
};

template <>
struct FieldList<Receipt> {
  static constexpr const char* kName = "Receipt";
  static void visit(auto& fields, auto& receipt) { fields.structs(receipt.figures); }
};

template <>
struct FieldList<Outputs> {
  static constexpr const char* kName = "Outputs";
  static void visit(auto& fields, auto& message) { fields.tensor("outputs", message.outputs); }
};

template <>
struct FieldList<OutputGradients> {
  static constexpr const char* kName = "OutputGradients";
  static void visit(auto& fields, auto& message) {
    fields.tensor("gradient", message.gradient);
    fields.structs(message.figures);
  }
};

template <>
struct FieldList<Trained> {
  static constexpr const char* kName = "Trained";
  static void visit(auto& fields, auto& trained) { fields.structs(trained.figures); }
};

template <>
struct FieldList<Evaluate> {
  static constexpr const char* kName = "Evaluate";
  static void visit(auto& fields, auto& message) { fields.tensors("weights", message.weights); }
};

template <>
struct FieldList<Evaluated> {
  static constexpr const char* kName = "Evaluated";
  static void visit(auto& fields, auto& message) { fields.structs(message.figures); }
};

}  // namespace tandem::wire::detail

namespace tandem::wire {

using namespace detail;

namespace {

/// The number of each struct.
template <class Struct>
constexpr MessageType type_number() {
  if constexpr (std::is_same_v<Struct, Hello>) return MessageType::kHello;
  if constexpr (std::is_same_v<Struct, Welcome>) return MessageType::kWelcome;
  if constexpr (std::is_same_v<Struct, Refuse>) return MessageType::kRefuse;
  if constexpr (std::is_same_v<Struct, BeginRound>) return MessageType::kBeginRound;
  if constexpr (std::is_same_v<Struct, Activations>) return MessageType::kActivations;
  if constexpr (std::is_same_v<Struct, Gradients>) return MessageType::kGradients;
  if constexpr (std::is_same_v<Struct, Skip>) return MessageType::kSkip;
  if constexpr (std::is_same_v<Struct, EndRound>) return MessageType::kEndRound;
  if constexpr (std::is_same_v<Struct, WeightUpdate>) return MessageType::kWeightUpdate;
  if constexpr (std::is_same_v<Struct, Heartbeat>) return MessageType::kHeartbeat;
  if constexpr (std::is_same_v<Struct, Finish>) return MessageType::kFinish;
  if constexpr (std::is_same_v<Struct, Bye>) return MessageType::kBye;
  if constexpr (std::is_same_v<Struct, Receipt>) return MessageType::kReceipt;
  if constexpr (std::is_same_v<Struct, Outputs>) return MessageType::kOutputs;
  if constexpr (std::is_same_v<Struct, OutputGradients>) return MessageType::kOutputGradients;
  if constexpr (std::is_same_v<Struct, Trained>) return MessageType::kTrained;
  if constexpr (std::is_same_v<Struct, Evaluate>) return MessageType::kEvaluate;
  if constexpr (std::is_same_v<Struct, Evaluated>) return MessageType::kEvaluated;
}

template <class Struct>
constexpr MessageType kTypeOf = type_number<Struct>();

/// The struct of that type, with default values.
template <class... Structs>
std::optional<Body> empty_body(MessageType type, std::type_identity<std::variant<Structs...>>) {
  std::optional<Body> body;
  ((kTypeOf<Structs> == type ? void(body = Structs{}) : void()), ...);
  return body;
}

Body read_all(MessageType type, ReadContext& context, ViewBuffer& buffer) {
  Body body = empty_body(type, std::type_identity<Body>{}).value();
  // cereal's archives begin with their byte order and would swap for a sender that claims the other one.
  if (buffer.sgetc() != 1) {
    refuse(ErrorCode::kCorrupt, "byte order mark", "1 (little-endian)", std::to_string(buffer.sgetc()));
  }
  std::istream stream(&buffer);
  ReadArchive archive(context, stream);
  std::visit([&](auto& value) { archive(value); }, body);
  if (buffer.remaining() > 0) {
    refuse(ErrorCode::kCorrupt, "bytes behind the last field", "0", std::to_string(buffer.remaining()));
  }
  if (context.next_frame != context.tensor_frames.size()) {
    refuse(ErrorCode::kCorrupt, "tensors in the body",
           std::to_string(context.tensor_frames.size()) + " as there are frames",
           std::to_string(context.next_frame));
  }
  return body;
}

}  // namespace

MessageType type_of(const Body& body) {
  return std::visit([](const auto& value) { return kTypeOf<std::decay_t<decltype(value)>>; }, body);
}

namespace detail {

void write_body(const Body& body, std::string& out, Frames& frames) {
  AppendBuffer buffer(out);
  std::ostream stream(&buffer);
  WriteContext context{frames};
  WriteArchive archive(context, stream);
  std::visit([&](const auto& value) { archive(value); }, body);
}

Result<Body> read_body(MessageType type, std::span<const std::byte> bytes,
                       std::span<const Frame> tensor_frames, uint64_t max_tensor_bytes) {
  ViewBuffer buffer(bytes);
  ReadContext context{buffer, tensor_frames, 0, max_tensor_bytes};
  try {
    return read_all(type, context, buffer);
  } catch (const BodyError& error) {
    return Error{error.code, error.what()};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kTooLarge, "no memory to read it"};
  } catch (const std::exception& error) {  // cereal::Exception and c10::Error too
    return Error{ErrorCode::kCorrupt, error.what()};
  }
}

}  // namespace detail
}  // namespace tandem::wire
