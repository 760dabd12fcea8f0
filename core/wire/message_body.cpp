// The body of every message, field by field.
//
// A new field takes the struct's next number below, a line each in its `save` and `load`, and a golden file;
// a new message its `save` and `load`, and a line each below and in type_number.
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

// A struct whose fields change gets the next number, its `load` reads every number it ever had, and
// tests/golden keeps a message of each.
CEREAL_CLASS_VERSION(tandem::DataDescription, 1)
CEREAL_CLASS_VERSION(tandem::OptimizerOptions, 1)
CEREAL_CLASS_VERSION(tandem::LrScheduleOptions, 2)
CEREAL_CLASS_VERSION(tandem::TrainingPlan, 3)
CEREAL_CLASS_VERSION(tandem::wire::DevicePosition, 1)
CEREAL_CLASS_VERSION(tandem::wire::Hello, 3)
CEREAL_CLASS_VERSION(tandem::wire::RequestId, 1)
CEREAL_CLASS_VERSION(tandem::wire::Welcome, 3)
CEREAL_CLASS_VERSION(tandem::wire::Refuse, 1)
CEREAL_CLASS_VERSION(tandem::wire::BeginRound, 2)
CEREAL_CLASS_VERSION(tandem::wire::Activations, 1)
CEREAL_CLASS_VERSION(tandem::wire::Gradients, 1)
CEREAL_CLASS_VERSION(tandem::wire::Skip, 1)
CEREAL_CLASS_VERSION(tandem::wire::EndRound, 2)
CEREAL_CLASS_VERSION(tandem::wire::FrontUpdate, 2)
CEREAL_CLASS_VERSION(tandem::wire::Heartbeat, 1)
CEREAL_CLASS_VERSION(tandem::wire::Finish, 1)
CEREAL_CLASS_VERSION(tandem::wire::Bye, 1)
CEREAL_CLASS_VERSION(tandem::wire::Receipt, 1)
CEREAL_CLASS_VERSION(tandem::wire::Outputs, 1)
CEREAL_CLASS_VERSION(tandem::wire::OutputGradients, 1)
CEREAL_CLASS_VERSION(tandem::wire::Trained, 1)
CEREAL_CLASS_VERSION(tandem::wire::Evaluate, 1)
CEREAL_CLASS_VERSION(tandem::wire::Evaluated, 1)

// cereal finds `save` and `load` by the namespace of their argument, so they are static instead of unnamed.

namespace tandem {

using namespace wire::detail;

static void save(Writer& archive, const DataDescription& data, const uint32_t) {
  save_shape(archive, data.input_shape, "DataDescription.input_shape");
  archive(data.num_classes, data.num_examples);
}

static void load(Reader& archive, DataDescription& data, const uint32_t version) {
  require_version("DataDescription", version);
  load_numbers(archive, data.input_shape, wire::kMaxDims, "DataDescription.input_shape");
  archive(data.num_classes, data.num_examples);
}

static void save(Writer& archive, const OptimizerOptions& options, const uint32_t) {
  save_enum(archive, options.kind, OptimizerKind::kSgd, OptimizerKind::kAdamW, "OptimizerOptions.kind");
  save_finite(archive, options.learning_rate, "OptimizerOptions.learning_rate");
  save_finite(archive, options.momentum, "OptimizerOptions.momentum");
  save_finite(archive, options.weight_decay, "OptimizerOptions.weight_decay");
  save_finite(archive, options.beta1, "OptimizerOptions.beta1");
  save_finite(archive, options.beta2, "OptimizerOptions.beta2");
  save_finite(archive, options.epsilon, "OptimizerOptions.epsilon");
  save_finite(archive, options.clip_norm, "OptimizerOptions.clip_norm");
}

static void load(Reader& archive, OptimizerOptions& options, const uint32_t version) {
  require_version("OptimizerOptions", version);
  load_enum(archive, options.kind, OptimizerKind::kSgd, OptimizerKind::kAdamW, "OptimizerOptions.kind");
  load_finite(archive, options.learning_rate, "OptimizerOptions.learning_rate");
  load_finite(archive, options.momentum, "OptimizerOptions.momentum");
  load_finite(archive, options.weight_decay, "OptimizerOptions.weight_decay");
  load_finite(archive, options.beta1, "OptimizerOptions.beta1");
  load_finite(archive, options.beta2, "OptimizerOptions.beta2");
  load_finite(archive, options.epsilon, "OptimizerOptions.epsilon");
  load_finite(archive, options.clip_norm, "OptimizerOptions.clip_norm");
}

static void save(Writer& archive, const LrScheduleOptions& options, const uint32_t) {
  save_enum(archive, options.kind, LrScheduleKind::kConstant, LrScheduleKind::kCosine,
            "LrScheduleOptions.kind");
  archive(options.warmup_steps);
  save_finite(archive, options.period_steps, "LrScheduleOptions.period_steps");
  save_finite(archive, options.step_factor, "LrScheduleOptions.step_factor");
  save_finite(archive, options.final_factor, "LrScheduleOptions.final_factor");
}

static void load(Reader& archive, LrScheduleOptions& options, const uint32_t version) {
  require_version("LrScheduleOptions", version, 2);
  load_enum(archive, options.kind, LrScheduleKind::kConstant, LrScheduleKind::kCosine,
            "LrScheduleOptions.kind");
  archive(options.warmup_steps);
  if (version >= 2) {
    load_finite(archive, options.period_steps, "LrScheduleOptions.period_steps");
  } else {
    int64_t whole_steps = 0;
    archive(whole_steps);
    options.period_steps = static_cast<double>(whole_steps);
  }
  load_finite(archive, options.step_factor, "LrScheduleOptions.step_factor");
  load_finite(archive, options.final_factor, "LrScheduleOptions.final_factor");
}

static void save(Writer& archive, const TrainingPlan& plan, const uint32_t) {
  save_string(archive, plan.model, wire::kMaxTextBytes, "TrainingPlan.model");
  archive(plan.cut);
  save_shape(archive, plan.input_shape, "TrainingPlan.input_shape");
  archive(plan.num_classes);
  save_string(archive, plan.algorithm, wire::kMaxNameBytes, "TrainingPlan.algorithm");
  archive(plan.seed, plan.rounds, plan.optimizer, plan.lr_schedule);
  save_string(archive, plan.augment, wire::kMaxTextBytes, "TrainingPlan.augment");
  save_string(archive, plan.normalize, wire::kMaxTextBytes, "TrainingPlan.normalize");
  archive(plan.window, plan.head_blocks);
  save_enum(archive, plan.objective, EdgeObjective::kEndToEnd, EdgeObjective::kAligned,
            "TrainingPlan.objective");
  archive(plan.tail_interval);
  save_string(archive, plan.auxiliary_head, wire::kMaxNameBytes, "TrainingPlan.auxiliary_head");
  save_enum(archive, plan.batch_norm, BatchNormMode::kAverage, BatchNormMode::kFreeze,
            "TrainingPlan.batch_norm");
  save_finite(archive, plan.proximal_mu, "TrainingPlan.proximal_mu");
  archive(static_cast<uint8_t>(plan.control_variates), plan.checkpoint_steps);
}

static void load(Reader& archive, TrainingPlan& plan, const uint32_t version) {
  require_version("TrainingPlan", version, 3);
  load_string(archive, plan.model, wire::kMaxTextBytes, "TrainingPlan.model");
  archive(plan.cut);
  load_numbers(archive, plan.input_shape, wire::kMaxDims, "TrainingPlan.input_shape");
  archive(plan.num_classes);
  load_string(archive, plan.algorithm, wire::kMaxNameBytes, "TrainingPlan.algorithm");
  archive(plan.seed, plan.rounds, plan.optimizer, plan.lr_schedule);
  load_string(archive, plan.augment, wire::kMaxTextBytes, "TrainingPlan.augment");
  load_string(archive, plan.normalize, wire::kMaxTextBytes, "TrainingPlan.normalize");
  archive(plan.window);
  if (version < 2) return;
  archive(plan.head_blocks);
  load_enum(archive, plan.objective, EdgeObjective::kEndToEnd, EdgeObjective::kAligned,
            "TrainingPlan.objective");
  archive(plan.tail_interval);
  load_string(archive, plan.auxiliary_head, wire::kMaxNameBytes, "TrainingPlan.auxiliary_head");
  load_enum(archive, plan.batch_norm, BatchNormMode::kAverage, BatchNormMode::kFreeze,
            "TrainingPlan.batch_norm");
  load_finite(archive, plan.proximal_mu, "TrainingPlan.proximal_mu");
  load_bool(archive, plan.control_variates, "TrainingPlan.control_variates");
  if (version >= 3) archive(plan.checkpoint_steps);
}

}  // namespace tandem

namespace tandem::wire {

static void save(Writer& archive, const DevicePosition& position, const uint32_t) {
  archive(position.round, position.step, position.unanswered);
}

static void load(Reader& archive, DevicePosition& position, const uint32_t version) {
  require_version("DevicePosition", version);
  archive(position.round, position.step, position.unanswered);
}

static void save(Writer& archive, const Hello& hello, const uint32_t) {
  save_string(archive, hello.software_version, kMaxNameBytes, "Hello.software_version");
  archive(hello.instance, hello.data, hello.held_out_examples);
  if (hello.positions.size() > kMaxPositions) {
    throw std::invalid_argument("Hello.positions has at most " + std::to_string(kMaxPositions) + ", got " +
                                std::to_string(hello.positions.size()));
  }
  archive(static_cast<uint64_t>(hello.positions.size()));
  for (const DevicePosition& position : hello.positions) archive(position);
}

static void load(Reader& archive, Hello& hello, const uint32_t version) {
  require_version("Hello", version, 3);
  load_string(archive, hello.software_version, kMaxNameBytes, "Hello.software_version");
  archive(hello.instance, hello.data);
  if (version >= 2) archive(hello.held_out_examples);
  if (version < 3) return;
  // Three numbers each; the first also brings the struct's version.
  hello.positions.resize(load_count(archive, 12, kMaxPositions, "Hello.positions"));
  for (DevicePosition& position : hello.positions) archive(position);
}

static void save(Writer& archive, const RequestId& request, const uint32_t) {
  save_enum(archive, request.type, MessageType::kHello, MessageType::kEvaluated, "RequestId.type");
  archive(request.round, request.step);
}

static void load(Reader& archive, RequestId& request, const uint32_t version) {
  require_version("RequestId", version);
  load_enum(archive, request.type, MessageType::kHello, MessageType::kEvaluated, "RequestId.type");
  archive(request.round, request.step);
}

static void save(Writer& archive, const Welcome& welcome, const uint32_t) {
  archive(welcome.plan);
  save_string(archive, welcome.client, kMaxNameBytes, "Welcome.client");
  archive(static_cast<uint8_t>(welcome.resumed), welcome.position);
  if (welcome.held.size() > kMaxHeldRequests) {
    throw std::invalid_argument("Welcome.held has at most " + std::to_string(kMaxHeldRequests) + ", got " +
                                std::to_string(welcome.held.size()));
  }
  archive(static_cast<uint64_t>(welcome.held.size()));
  for (const RequestId& request : welcome.held) archive(request);
  save_tensors(archive, welcome.kept, "Welcome.kept");
}

static void load(Reader& archive, Welcome& welcome, const uint32_t version) {
  require_version("Welcome", version, 3);
  archive(welcome.plan);
  load_string(archive, welcome.client, kMaxNameBytes, "Welcome.client");
  load_bool(archive, welcome.resumed, "Welcome.resumed");
  if (version >= 2) archive(welcome.position);
  if (version < 3) return;
  // Ten bytes each; the first also brings the struct's version.
  welcome.held.resize(load_count(archive, 10, kMaxHeldRequests, "Welcome.held"));
  for (RequestId& request : welcome.held) archive(request);
  load_tensors(archive, welcome.kept, "Welcome.kept");
}

static void save(Writer& archive, const Refuse& message, const uint32_t) {
  save_enum(archive, message.code, ErrorCode::kInvalidArgument, ErrorCode::kClosed, "Refuse.code");
  save_prose(archive, message.reason);
  archive(static_cast<uint8_t>(message.fatal));
}

static void load(Reader& archive, Refuse& message, const uint32_t version) {
  require_version("Refuse", version);
  load_enum(archive, message.code, ErrorCode::kInvalidArgument, ErrorCode::kClosed, "Refuse.code");
  load_string(archive, message.reason, kMaxTextBytes, "Refuse.reason");
  load_bool(archive, message.fatal, "Refuse.fatal");
}

static void save(Writer& archive, const BeginRound& begin, const uint32_t) {
  archive(begin.first_example);
  save_numbers(archive, begin.batch_sizes);
  archive(begin.previous_loss, begin.previous_accuracy);
  save_tensors(archive, begin.front, "BeginRound.front");
  archive(begin.lr_schedule);
  save_tensors(archive, begin.control, "BeginRound.control");
  archive(begin.ordinal);
}

static void load(Reader& archive, BeginRound& begin, const uint32_t version) {
  require_version("BeginRound", version, 2);
  archive(begin.first_example);
  load_numbers(archive, begin.batch_sizes, UINT64_MAX, "BeginRound.batch_sizes");
  archive(begin.previous_loss, begin.previous_accuracy);
  load_tensors(archive, begin.front, "BeginRound.front");
  archive(begin.lr_schedule);
  if (version < 2) return;
  load_tensors(archive, begin.control, "BeginRound.control");
  archive(begin.ordinal);
}

static void save(Writer& archive, const Activations& message, const uint32_t) {
  save_tensor(archive, message.activations, "Activations.activations");
  save_tensor(archive, message.labels, "Activations.labels");
}

static void load(Reader& archive, Activations& message, const uint32_t version) {
  require_version("Activations", version);
  load_tensor(archive, message.activations, "Activations.activations");
  load_tensor(archive, message.labels, "Activations.labels");
}

static void save(Writer& archive, const Gradients& message, const uint32_t) {
  save_tensor(archive, message.gradient, "Gradients.gradient");
  save_finite(archive, message.loss, "Gradients.loss");
  archive(message.correct);
}

static void load(Reader& archive, Gradients& message, const uint32_t version) {
  require_version("Gradients", version);
  load_tensor(archive, message.gradient, "Gradients.gradient");
  load_finite(archive, message.loss, "Gradients.loss");
  archive(message.correct);
}

static void save(Writer& archive, const Skip& skip, const uint32_t) {
  archive(static_cast<uint8_t>(skip.until_next_round));
  save_prose(archive, skip.reason);
}

static void load(Reader& archive, Skip& skip, const uint32_t version) {
  require_version("Skip", version);
  load_bool(archive, skip.until_next_round, "Skip.until_next_round");
  load_string(archive, skip.reason, kMaxTextBytes, "Skip.reason");
}

static void save(Writer& archive, const EndRound& end, const uint32_t) {
  archive(static_cast<uint8_t>(end.now));
}

static void load(Reader& archive, EndRound& end, const uint32_t version) {
  require_version("EndRound", version, 2);
  if (version >= 2) load_bool(archive, end.now, "EndRound.now");
}

static void save(Writer& archive, const FrontUpdate& update, const uint32_t) {
  archive(update.examples);
  save_tensors(archive, update.front, "FrontUpdate.front");
  archive(update.steps);
  save_tensors(archive, update.control_change, "FrontUpdate.control_change");
}

static void load(Reader& archive, FrontUpdate& update, const uint32_t version) {
  require_version("FrontUpdate", version, 2);
  archive(update.examples);
  load_tensors(archive, update.front, "FrontUpdate.front");
  if (version < 2) return;
  archive(update.steps);
  load_tensors(archive, update.control_change, "FrontUpdate.control_change");
}

static void save(Writer&, const Heartbeat&, const uint32_t) {}

static void load(Reader&, Heartbeat&, const uint32_t version) {
  require_version("Heartbeat", version);
}

static void save(Writer& archive, const Finish& finish, const uint32_t) {
  archive(finish.eval_loss, finish.eval_accuracy);
  save_tensors(archive, finish.front, "Finish.front");
}

static void load(Reader& archive, Finish& finish, const uint32_t version) {
  require_version("Finish", version);
  archive(finish.eval_loss, finish.eval_accuracy);
  load_tensors(archive, finish.front, "Finish.front");
}

static void save(Writer& archive, const Bye& bye, const uint32_t) {
  save_enum(archive, bye.reason, ByeReason::kLeaving, ByeReason::kPaused, "Bye.reason");
  save_prose(archive, bye.text);
}

static void load(Reader& archive, Bye& bye, const uint32_t version) {
  require_version("Bye", version);
  load_enum(archive, bye.reason, ByeReason::kLeaving, ByeReason::kPaused, "Bye.reason");
  load_string(archive, bye.text, kMaxTextBytes, "Bye.text");
}

static void save(Writer& archive, const Receipt& message, const uint32_t) {
  save_finite(archive, message.loss, "Receipt.loss");
  archive(message.correct);
}

static void load(Reader& archive, Receipt& message, const uint32_t version) {
  require_version("Receipt", version);
  load_finite(archive, message.loss, "Receipt.loss");
  archive(message.correct);
}

static void save(Writer& archive, const Outputs& message, const uint32_t) {
  save_tensor(archive, message.outputs, "Outputs.outputs");
}

static void load(Reader& archive, Outputs& message, const uint32_t version) {
  require_version("Outputs", version);
  load_tensor(archive, message.outputs, "Outputs.outputs");
}

static void save(Writer& archive, const OutputGradients& message, const uint32_t) {
  save_tensor(archive, message.gradient, "OutputGradients.gradient");
  archive(message.loss);
  archive(message.correct);
}

static void load(Reader& archive, OutputGradients& message, const uint32_t version) {
  require_version("OutputGradients", version);
  load_tensor(archive, message.gradient, "OutputGradients.gradient");
  archive(message.loss);
  archive(message.correct);
}

static void save(Writer& archive, const Trained& message, const uint32_t) {
  archive(message.examples);
  archive(message.loss_sum);
  archive(message.correct);
}

static void load(Reader& archive, Trained& message, const uint32_t version) {
  require_version("Trained", version);
  archive(message.examples);
  archive(message.loss_sum);
  archive(message.correct);
}

static void save(Writer& archive, const Evaluate& message, const uint32_t) {
  save_tensors(archive, message.front, "Evaluate.front");
}

static void load(Reader& archive, Evaluate& message, const uint32_t version) {
  require_version("Evaluate", version);
  load_tensors(archive, message.front, "Evaluate.front");
}

static void save(Writer& archive, const Evaluated& message, const uint32_t) {
  archive(message.examples);
  archive(message.loss_sum);
  archive(message.correct);
}

static void load(Reader& archive, Evaluated& message, const uint32_t version) {
  require_version("Evaluated", version);
  archive(message.examples);
  archive(message.loss_sum);
  archive(message.correct);
}

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
  if constexpr (std::is_same_v<Struct, FrontUpdate>) return MessageType::kFrontUpdate;
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
