#include "tandem/core/wire/message_codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <istream>
#include <memory>
#include <new>
#include <optional>
#include <ostream>
#include <span>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <type_traits>
#include <utility>

// Several threads encode and decode; cereal's table of class versions is shared between them.
#define CEREAL_THREAD_SAFE 1
#include <cereal/archives/portable_binary.hpp>
#include <cereal/cereal.hpp>

#include <xxhash.h>

#include "tandem/core/wire/tensor_codec.h"

// A struct whose fields change gets the next number, its `load` reads every number it ever had, and
// tests/golden keeps a message of each.
CEREAL_CLASS_VERSION(tandem::DataDescription, 1)
CEREAL_CLASS_VERSION(tandem::OptimizerOptions, 1)
CEREAL_CLASS_VERSION(tandem::LrScheduleOptions, 1)
CEREAL_CLASS_VERSION(tandem::TrainingPlan, 3)
CEREAL_CLASS_VERSION(tandem::wire::TensorDescriptor, 1)
CEREAL_CLASS_VERSION(tandem::wire::DevicePosition, 1)
CEREAL_CLASS_VERSION(tandem::wire::Hello, 3)
CEREAL_CLASS_VERSION(tandem::wire::Welcome, 2)
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

namespace tandem::wire {
namespace {

using Writer = cereal::PortableBinaryOutputArchive;
using Reader = cereal::PortableBinaryInputArchive;

/// Carries an Error through cereal's calls, from the field that is wrong to decode().
struct BodyError : cereal::Exception {
  BodyError(ErrorCode error_code, const std::string& text) : cereal::Exception(text), code(error_code) {}
  ErrorCode code;
};

/// Appends what cereal writes to a string.
class AppendBuffer : public std::streambuf {
 public:
  explicit AppendBuffer(std::string& out) : out_(out) {}

 protected:
  std::streamsize xsputn(const char* data, std::streamsize size) override {
    out_.append(data, static_cast<size_t>(size));
    return size;
  }
  int_type overflow(int_type value) override {
    if (value != traits_type::eof()) out_.push_back(traits_type::to_char_type(value));
    return value;
  }

 private:
  std::string& out_;
};

/// Lets cereal read bytes where they lie.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::span<const std::byte> bytes) {
    // streambuf has no read-only interface; the get area is never written.
    auto* begin = const_cast<char*>(reinterpret_cast<const char*>(bytes.data()));
    setg(begin, begin, begin + bytes.size());
  }
  uint64_t remaining() const { return static_cast<uint64_t>(egptr() - gptr()); }

 protected:
  std::streamsize xsgetn(char* out, std::streamsize size) override {
    if (static_cast<uint64_t>(size) > remaining()) {
      throw BodyError(ErrorCode::kCorrupt, "bytes left in the body: expected at least " +
                                               std::to_string(size) + ", found " +
                                               std::to_string(remaining()));
    }
    return std::streambuf::xsgetn(out, size);
  }
};

/// What `save` functions add to besides the body.
struct WriteContext {
  Frames& frames;
};

/// What `load` functions check against besides the body.
struct ReadContext {
  const ViewBuffer& body;
  std::span<const Frame> tensor_frames;
  size_t next_frame = 0;
  uint64_t max_tensor_bytes = 0;
};

/// The archives of this file, with their context for the functions that cereal calls.
class WriteArchive : public Writer {
 public:
  WriteArchive(WriteContext& context, std::ostream& stream)
      : Writer(stream, Options::LittleEndian()), context_(context) {}
  static WriteContext& context_of(Writer& archive) { return static_cast<WriteArchive&>(archive).context_; }

 private:
  WriteContext& context_;
};

class ReadArchive : public Reader {
 public:
  ReadArchive(ReadContext& context, std::istream& stream) : Reader(stream), context_(context) {}
  static ReadContext& context_of(Reader& archive) { return static_cast<ReadArchive&>(archive).context_; }

 private:
  ReadContext& context_;
};

[[noreturn]] void refuse(ErrorCode code, const std::string& field, const std::string& expected,
                         const std::string& found) {
  throw BodyError(code, field + ": expected " + expected + ", found " + found);
}

void require_version(const char* name, uint32_t version, uint32_t newest = 1) {
  if (version >= 1 && version <= newest) return;
  const std::string known = newest == 1 ? "1" : "1 to " + std::to_string(newest);
  refuse(ErrorCode::kProtocol, std::string("version of ") + name, known, std::to_string(version));
}

// Numbers and enumerations.

void save_finite(Writer& archive, double value, const char* field) {
  if (!std::isfinite(value)) {
    throw std::invalid_argument(std::string(field) + " must be finite, got " + std::to_string(value));
  }
  archive(value);
}

void load_finite(Reader& archive, double& value, const char* field) {
  archive(value);
  if (!std::isfinite(value)) {
    refuse(ErrorCode::kNonFinite, field, "a finite number", std::to_string(value));
  }
}

/// A bool travels as a byte: any other value than 0 and 1 in a bool is undefined behaviour.
void load_bool(Reader& archive, bool& value, const char* field) {
  uint8_t raw = 0;
  archive(raw);
  if (raw > 1) refuse(ErrorCode::kCorrupt, field, "0 or 1", std::to_string(raw));
  value = raw == 1;
}

template <class Enum>
void save_enum(Writer& archive, Enum value, Enum first, Enum last, const char* field) {
  if (value < first || value > last) {
    throw std::invalid_argument(std::string(field) + " has no value " +
                                std::to_string(static_cast<int64_t>(value)));
  }
  archive(static_cast<std::underlying_type_t<Enum>>(value));
}

template <class Enum>
void load_enum(Reader& archive, Enum& value, Enum first, Enum last, const char* field) {
  std::underlying_type_t<Enum> raw = 0;
  archive(raw);
  const auto lowest = static_cast<int64_t>(first), highest = static_cast<int64_t>(last);
  if (raw < lowest || raw > highest) {
    refuse(ErrorCode::kCorrupt, field, std::to_string(lowest) + " to " + std::to_string(highest),
           std::to_string(static_cast<int64_t>(raw)));
  }
  value = static_cast<Enum>(raw);
}

// Everything with a length. Lengths are checked against what is there before memory is taken for them.

uint64_t load_count(Reader& archive, uint64_t element_bytes, uint64_t most, const std::string& field) {
  uint64_t count = 0;
  archive(count);
  if (count > most) {
    refuse(ErrorCode::kTooLarge, "length of " + field, "at most " + std::to_string(most),
           std::to_string(count));
  }
  const uint64_t present = ReadArchive::context_of(archive).body.remaining() / element_bytes;
  if (count > present) {
    refuse(ErrorCode::kCorrupt, "length of " + field,
           "at most " + std::to_string(present) + " in the bytes that are left", std::to_string(count));
  }
  return count;
}

template <class T>
void save_numbers(Writer& archive, const std::vector<T>& values) {
  archive(static_cast<uint64_t>(values.size()));
  archive(cereal::binary_data(values.data(), values.size() * sizeof(T)));
}

template <class T>
void load_numbers(Reader& archive, std::vector<T>& values, uint64_t most, const std::string& field) {
  values.resize(load_count(archive, sizeof(T), most, field));
  archive(cereal::binary_data(values.data(), values.size() * sizeof(T)));
}

void save_shape(Writer& archive, const std::vector<int64_t>& shape, const char* field) {
  if (shape.size() > kMaxDims) {
    throw std::invalid_argument(std::string(field) + " has at most " + std::to_string(kMaxDims) +
                                " dimensions, got " + std::to_string(shape.size()));
  }
  save_numbers(archive, shape);
}

void save_bytes(Writer& archive, const char* data, size_t size) {
  archive(static_cast<uint64_t>(size));
  archive(cereal::binary_data(data, size));
}

void save_string(Writer& archive, const std::string& value, size_t most, const std::string& field) {
  if (value.size() > most) {
    throw std::invalid_argument(field + " has at most " + std::to_string(most) + " bytes, got " +
                                std::to_string(value.size()));
  }
  save_bytes(archive, value.data(), value.size());
}

/// Text for people is cut rather than refused: a long reason must not stop the message that carries it.
void save_prose(Writer& archive, const std::string& value) {
  size_t size = std::min(value.size(), kMaxTextBytes);
  const auto inside_character = [&](size_t at) {
    return at < value.size() && (static_cast<unsigned char>(value[at]) & 0xC0) == 0x80;
  };
  for (int i = 0; i < 3 && size > 0 && inside_character(size); ++i) --size;
  save_bytes(archive, value.data(), size);
}

void load_string(Reader& archive, std::string& value, size_t most, const std::string& field) {
  value.resize(load_count(archive, 1, most, field));
  archive(cereal::binary_data(value.data(), value.size()));
}

// Tensors: a descriptor in the body, the elements in a frame.

void save_tensor(Writer& archive, const at::Tensor& tensor, const std::string& field) {
  try {
    EncodedTensor encoded = encode_tensor(tensor);
    archive(encoded.descriptor);
    WriteArchive::context_of(archive).frames.push_back(std::move(encoded.frame));
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(field + ": " + error.what());
  }
}

void load_tensor(Reader& archive, at::Tensor& tensor, const std::string& field) {
  auto& context = ReadArchive::context_of(archive);
  TensorDescriptor descriptor;
  archive(descriptor);
  if (context.next_frame == context.tensor_frames.size()) {
    refuse(ErrorCode::kCorrupt, field, "a frame for it",
           "only " + std::to_string(context.tensor_frames.size()) + " tensor frames");
  }
  const Frame& frame = context.tensor_frames[context.next_frame++];
  Result<at::Tensor> decoded = decode_tensor(descriptor, frame, context.max_tensor_bytes);
  if (!decoded) throw BodyError(decoded.error().code, field + ": " + decoded.error().message);
  tensor = std::move(decoded).value();
}

void save_tensors(Writer& archive, const NamedTensors& tensors, const char* field) {
  archive(static_cast<uint64_t>(tensors.size()));
  for (const auto& [name, tensor] : tensors) {
    save_string(archive, name, kMaxNameBytes, std::string("name of a tensor of ") + field);
    save_tensor(archive, tensor, std::string(field) + " tensor \"" + name + "\"");
  }
}

void load_tensors(Reader& archive, NamedTensors& tensors, const char* field) {
  // A name's length alone takes eight bytes.
  const uint64_t count = load_count(archive, 8, UINT64_MAX, field);
  const auto& context = ReadArchive::context_of(archive);
  const uint64_t frames_left = context.tensor_frames.size() - context.next_frame;
  if (count > frames_left) {
    refuse(ErrorCode::kCorrupt, std::string("tensors of ") + field,
           "at most " + std::to_string(frames_left) + " as there are frames", std::to_string(count));
  }
  tensors.resize(count);
  for (NamedTensor& entry : tensors) {
    load_string(archive, entry.name, kMaxNameBytes, std::string("name of a tensor of ") + field);
    load_tensor(archive, entry.tensor, std::string(field) + " tensor \"" + entry.name + "\"");
  }
}

}  // namespace

// cereal finds these by the namespace of their argument, so they are static instead of unnamed.

static void save(Writer& archive, const TensorDescriptor& descriptor, const uint32_t) {
  archive(static_cast<uint8_t>(descriptor.dtype), static_cast<uint8_t>(descriptor.codec),
          static_cast<uint8_t>(descriptor.format));
  save_shape(archive, descriptor.dims, "tensor shape");
  archive(descriptor.bytes);
}

static void load(Reader& archive, TensorDescriptor& descriptor, const uint32_t version) {
  require_version("TensorDescriptor", version);
  uint8_t dtype = 0, codec = 0, format = 0;
  archive(dtype, codec, format);
  // decode_tensor refuses the values that these enumerations lack.
  descriptor.dtype = static_cast<TensorDtype>(dtype);
  descriptor.codec = static_cast<TensorCodec>(codec);
  descriptor.format = static_cast<TensorFormat>(format);
  load_numbers(archive, descriptor.dims, kMaxDims, "tensor shape");
  archive(descriptor.bytes);
}

}  // namespace tandem::wire

namespace tandem {

using wire::Reader;
using wire::Writer;

static void save(Writer& archive, const DataDescription& data, const uint32_t) {
  wire::save_shape(archive, data.input_shape, "DataDescription.input_shape");
  archive(data.num_classes, data.num_examples);
}

static void load(Reader& archive, DataDescription& data, const uint32_t version) {
  wire::require_version("DataDescription", version);
  wire::load_numbers(archive, data.input_shape, wire::kMaxDims, "DataDescription.input_shape");
  archive(data.num_classes, data.num_examples);
}

static void save(Writer& archive, const OptimizerOptions& options, const uint32_t) {
  wire::save_enum(archive, options.kind, OptimizerKind::kSgd, OptimizerKind::kAdamW, "OptimizerOptions.kind");
  wire::save_finite(archive, options.learning_rate, "OptimizerOptions.learning_rate");
  wire::save_finite(archive, options.momentum, "OptimizerOptions.momentum");
  wire::save_finite(archive, options.weight_decay, "OptimizerOptions.weight_decay");
  wire::save_finite(archive, options.beta1, "OptimizerOptions.beta1");
  wire::save_finite(archive, options.beta2, "OptimizerOptions.beta2");
  wire::save_finite(archive, options.epsilon, "OptimizerOptions.epsilon");
  wire::save_finite(archive, options.clip_norm, "OptimizerOptions.clip_norm");
}

static void load(Reader& archive, OptimizerOptions& options, const uint32_t version) {
  wire::require_version("OptimizerOptions", version);
  wire::load_enum(archive, options.kind, OptimizerKind::kSgd, OptimizerKind::kAdamW, "OptimizerOptions.kind");
  wire::load_finite(archive, options.learning_rate, "OptimizerOptions.learning_rate");
  wire::load_finite(archive, options.momentum, "OptimizerOptions.momentum");
  wire::load_finite(archive, options.weight_decay, "OptimizerOptions.weight_decay");
  wire::load_finite(archive, options.beta1, "OptimizerOptions.beta1");
  wire::load_finite(archive, options.beta2, "OptimizerOptions.beta2");
  wire::load_finite(archive, options.epsilon, "OptimizerOptions.epsilon");
  wire::load_finite(archive, options.clip_norm, "OptimizerOptions.clip_norm");
}

static void save(Writer& archive, const LrScheduleOptions& options, const uint32_t) {
  wire::save_enum(archive, options.kind, LrScheduleKind::kConstant, LrScheduleKind::kCosine,
                  "LrScheduleOptions.kind");
  archive(options.warmup_steps, options.period_steps);
  wire::save_finite(archive, options.step_factor, "LrScheduleOptions.step_factor");
  wire::save_finite(archive, options.final_factor, "LrScheduleOptions.final_factor");
}

static void load(Reader& archive, LrScheduleOptions& options, const uint32_t version) {
  wire::require_version("LrScheduleOptions", version);
  wire::load_enum(archive, options.kind, LrScheduleKind::kConstant, LrScheduleKind::kCosine,
                  "LrScheduleOptions.kind");
  archive(options.warmup_steps, options.period_steps);
  wire::load_finite(archive, options.step_factor, "LrScheduleOptions.step_factor");
  wire::load_finite(archive, options.final_factor, "LrScheduleOptions.final_factor");
}

static void save(Writer& archive, const TrainingPlan& plan, const uint32_t) {
  wire::save_string(archive, plan.model, wire::kMaxTextBytes, "TrainingPlan.model");
  archive(plan.cut);
  wire::save_shape(archive, plan.input_shape, "TrainingPlan.input_shape");
  archive(plan.num_classes);
  wire::save_string(archive, plan.algorithm, wire::kMaxNameBytes, "TrainingPlan.algorithm");
  archive(plan.seed, plan.rounds, plan.optimizer, plan.lr_schedule);
  wire::save_string(archive, plan.augment, wire::kMaxTextBytes, "TrainingPlan.augment");
  wire::save_string(archive, plan.normalize, wire::kMaxTextBytes, "TrainingPlan.normalize");
  archive(plan.window, plan.head_blocks);
  wire::save_enum(archive, plan.objective, EdgeObjective::kEndToEnd, EdgeObjective::kAligned,
                  "TrainingPlan.objective");
  archive(plan.tail_interval);
  wire::save_string(archive, plan.auxiliary_head, wire::kMaxNameBytes, "TrainingPlan.auxiliary_head");
  wire::save_enum(archive, plan.batch_norm, BatchNormMode::kAverage, BatchNormMode::kFreeze,
                  "TrainingPlan.batch_norm");
  wire::save_finite(archive, plan.proximal_mu, "TrainingPlan.proximal_mu");
  archive(static_cast<uint8_t>(plan.control_variates), plan.checkpoint_steps);
}

static void load(Reader& archive, TrainingPlan& plan, const uint32_t version) {
  wire::require_version("TrainingPlan", version, 3);
  wire::load_string(archive, plan.model, wire::kMaxTextBytes, "TrainingPlan.model");
  archive(plan.cut);
  wire::load_numbers(archive, plan.input_shape, wire::kMaxDims, "TrainingPlan.input_shape");
  archive(plan.num_classes);
  wire::load_string(archive, plan.algorithm, wire::kMaxNameBytes, "TrainingPlan.algorithm");
  archive(plan.seed, plan.rounds, plan.optimizer, plan.lr_schedule);
  wire::load_string(archive, plan.augment, wire::kMaxTextBytes, "TrainingPlan.augment");
  wire::load_string(archive, plan.normalize, wire::kMaxTextBytes, "TrainingPlan.normalize");
  archive(plan.window);
  if (version < 2) return;
  archive(plan.head_blocks);
  wire::load_enum(archive, plan.objective, EdgeObjective::kEndToEnd, EdgeObjective::kAligned,
                  "TrainingPlan.objective");
  archive(plan.tail_interval);
  wire::load_string(archive, plan.auxiliary_head, wire::kMaxNameBytes, "TrainingPlan.auxiliary_head");
  wire::load_enum(archive, plan.batch_norm, BatchNormMode::kAverage, BatchNormMode::kFreeze,
                  "TrainingPlan.batch_norm");
  wire::load_finite(archive, plan.proximal_mu, "TrainingPlan.proximal_mu");
  wire::load_bool(archive, plan.control_variates, "TrainingPlan.control_variates");
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

static void save(Writer& archive, const Welcome& welcome, const uint32_t) {
  archive(welcome.plan);
  save_string(archive, welcome.client, kMaxNameBytes, "Welcome.client");
  archive(static_cast<uint8_t>(welcome.resumed), welcome.position);
}

static void load(Reader& archive, Welcome& welcome, const uint32_t version) {
  require_version("Welcome", version, 2);
  archive(welcome.plan);
  load_string(archive, welcome.client, kMaxNameBytes, "Welcome.client");
  load_bool(archive, welcome.resumed, "Welcome.resumed");
  if (version >= 2) archive(welcome.position);
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

/// The body of that type with default values.
std::optional<Body> empty_body(MessageType type) {
  switch (type) {
    case MessageType::kHello:
      return Hello{};
    case MessageType::kWelcome:
      return Welcome{};
    case MessageType::kRefuse:
      return Refuse{};
    case MessageType::kBeginRound:
      return BeginRound{};
    case MessageType::kActivations:
      return Activations{};
    case MessageType::kGradients:
      return Gradients{};
    case MessageType::kSkip:
      return Skip{};
    case MessageType::kEndRound:
      return EndRound{};
    case MessageType::kFrontUpdate:
      return FrontUpdate{};
    case MessageType::kHeartbeat:
      return Heartbeat{};
    case MessageType::kFinish:
      return Finish{};
    case MessageType::kBye:
      return Bye{};
    case MessageType::kReceipt:
      return Receipt{};
    case MessageType::kOutputs:
      return Outputs{};
    case MessageType::kOutputGradients:
      return OutputGradients{};
    case MessageType::kTrained:
      return Trained{};
    case MessageType::kEvaluate:
      return Evaluate{};
    case MessageType::kEvaluated:
      return Evaluated{};
  }
  return std::nullopt;
}

uint64_t tensor_bytes(const Frames& frames) {
  return total_bytes(frames) - frames.front().size();
}

std::span<const std::byte> bytes_of(const Frame& frame) {
  return {frame.data(), frame.size()};
}

Error too_large(const std::string& what, uint64_t limit, uint64_t found) {
  return Error{ErrorCode::kTooLarge,
               what + ": expected at most " + std::to_string(limit) + ", found " + std::to_string(found)};
}

Error corrupt(const std::string& what, uint64_t expected, uint64_t found) {
  return Error{ErrorCode::kCorrupt,
               what + ": expected " + std::to_string(expected) + ", found " + std::to_string(found)};
}

std::optional<Error> check_limits(const Header& header, const Frames& frames, const Limits& limits) {
  const uint64_t body_bytes = std::max<uint64_t>(header.body_bytes, frames[0].size() - kHeaderBytes);
  if (body_bytes > limits.max_body_bytes) return too_large("body bytes", limits.max_body_bytes, body_bytes);
  const uint64_t count = std::max<uint64_t>(header.tensor_frames, frames.size() - 1);
  if (count > limits.max_tensor_frames) return too_large("tensor frames", limits.max_tensor_frames, count);
  for (size_t i = 1; i < frames.size(); ++i) {
    if (frames[i].size() > limits.max_tensor_bytes) {
      return too_large("bytes of tensor frame " + std::to_string(i), limits.max_tensor_bytes,
                       frames[i].size());
    }
  }
  const uint64_t all = std::max<uint64_t>(header.tensor_bytes, tensor_bytes(frames));
  if (all > limits.max_message_bytes) return too_large("tensor bytes", limits.max_message_bytes, all);
  return std::nullopt;
}

std::optional<Error> check_presence(const Header& header, const Frames& frames) {
  if (header.body_bytes != frames[0].size() - kHeaderBytes) {
    return corrupt("body bytes in the first frame", header.body_bytes, frames[0].size() - kHeaderBytes);
  }
  if (header.tensor_frames != frames.size() - 1) {
    return corrupt("tensor frames", header.tensor_frames, frames.size() - 1);
  }
  if (header.tensor_bytes != tensor_bytes(frames)) {
    return corrupt("bytes in the tensor frames", header.tensor_bytes, tensor_bytes(frames));
  }
  return std::nullopt;
}

void read_body(Body& body, ReadContext& context, ViewBuffer& buffer) {
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
}

/// read_body without exceptions.
std::optional<Error> try_read_body(Body& body, const Frames& frames, const Limits& limits) {
  ViewBuffer buffer(bytes_of(frames[0]).subspan(kHeaderBytes));
  ReadContext context{buffer, std::span(frames).subspan(1), 0, limits.max_tensor_bytes};
  try {
    read_body(body, context, buffer);
  } catch (const BodyError& error) {
    return Error{error.code, error.what()};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kTooLarge, "no memory to read it"};
  } catch (const std::exception& error) {  // cereal::Exception and c10::Error too
    return Error{ErrorCode::kCorrupt, error.what()};
  }
  return std::nullopt;
}

}  // namespace

MessageType type_of(const Body& body) {
  return std::visit(
      [](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, Hello>) return MessageType::kHello;
        if constexpr (std::is_same_v<T, Welcome>) return MessageType::kWelcome;
        if constexpr (std::is_same_v<T, Refuse>) return MessageType::kRefuse;
        if constexpr (std::is_same_v<T, BeginRound>) return MessageType::kBeginRound;
        if constexpr (std::is_same_v<T, Activations>) return MessageType::kActivations;
        if constexpr (std::is_same_v<T, Gradients>) return MessageType::kGradients;
        if constexpr (std::is_same_v<T, Skip>) return MessageType::kSkip;
        if constexpr (std::is_same_v<T, EndRound>) return MessageType::kEndRound;
        if constexpr (std::is_same_v<T, FrontUpdate>) return MessageType::kFrontUpdate;
        if constexpr (std::is_same_v<T, Heartbeat>) return MessageType::kHeartbeat;
        if constexpr (std::is_same_v<T, Finish>) return MessageType::kFinish;
        if constexpr (std::is_same_v<T, Bye>) return MessageType::kBye;
        if constexpr (std::is_same_v<T, Receipt>) return MessageType::kReceipt;
        if constexpr (std::is_same_v<T, Outputs>) return MessageType::kOutputs;
        if constexpr (std::is_same_v<T, OutputGradients>) return MessageType::kOutputGradients;
        if constexpr (std::is_same_v<T, Trained>) return MessageType::kTrained;
        if constexpr (std::is_same_v<T, Evaluate>) return MessageType::kEvaluate;
        if constexpr (std::is_same_v<T, Evaluated>) return MessageType::kEvaluated;
      },
      body);
}

namespace {

/// XXH3-64 of `first` and of what follows the header in the frames.
uint64_t hash_of(std::span<const std::byte> first, const Frames& frames) {
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  if (!state) throw std::bad_alloc();
  XXH3_64bits_reset(state.get());
  XXH3_64bits_update(state.get(), first.data(), first.size());
  XXH3_64bits_update(state.get(), frames.at(0).data() + kHeaderBytes, frames[0].size() - kHeaderBytes);
  for (size_t i = 1; i < frames.size(); ++i) {
    XXH3_64bits_update(state.get(), frames[i].data(), frames[i].size());
  }
  return XXH3_64bits_digest(state.get());
}

}  // namespace

uint64_t message_checksum(const Frames& frames) {
  std::byte header[kHeaderBytes];
  std::memcpy(header, frames.at(0).data(), kHeaderBytes);
  std::memset(header + kChecksumOffset, 0, sizeof(uint64_t));
  return hash_of(header, frames);
}

namespace {

/// Whatever the version: the checksum is of the same kind and in the same place in all of them.
bool has_right_checksum(const Frames& frames) {
  uint64_t claimed = 0;
  for (size_t i = sizeof claimed; i-- > 0;) {
    claimed = claimed << 8 | std::to_integer<uint64_t>(frames[0].data()[kChecksumOffset + i]);
  }
  return message_checksum(frames) == claimed;
}

}  // namespace

Frames encode(const Message& message) {
  std::string bytes(kHeaderBytes, '\0');
  Frames frames(1);
  {
    AppendBuffer buffer(bytes);
    std::ostream stream(&buffer);
    WriteContext context{frames};
    WriteArchive archive(context, stream);
    std::visit([&](const auto& value) { archive(value); }, message.body);
  }
  Header header;
  header.type = type_of(message.body);
  header.tensor_frames = static_cast<uint32_t>(frames.size() - 1);
  header.body_bytes = bytes.size() - kHeaderBytes;
  header.tensor_bytes = total_bytes(frames);  // the first frame is still empty
  header.run_id = message.key.run_id;
  header.incarnation = message.key.incarnation;
  header.round = message.key.round;
  header.step = message.key.step;
  const std::span<std::byte, kHeaderBytes> out(reinterpret_cast<std::byte*>(bytes.data()), kHeaderBytes);
  write_header(header, out);
  frames[0] = Frame::borrow(nullptr, bytes.data(), bytes.size());
  header.checksum = message_checksum(frames);
  write_header(header, out);
  frames[0] = Frame::own(std::move(bytes));
  return frames;
}

Result<Message> decode(const Frames& frames, const Limits& limits) {
  if (frames.empty())
    return Error{ErrorCode::kCorrupt, "a message without frames: expected at least 1, found 0"};
  const Result<Header> header = read_header(bytes_of(frames[0]));
  if (!header && header.error().code == ErrorCode::kUnsupported && !has_right_checksum(frames)) {
    return Error{ErrorCode::kCorrupt, header.error().message + ", or the message is damaged"};
  }
  if (!header) return header.error();
  const auto in_message = [&](const Error& error) {
    return Error{error.code, std::string(message_type_name(header->type)) + " message: " + error.message};
  };
  if (auto error = check_limits(*header, frames, limits)) return in_message(*error);
  if (auto error = check_presence(*header, frames)) return in_message(*error);
  if (const uint64_t found = message_checksum(frames); found != header->checksum) {
    return in_message(corrupt("checksum", header->checksum, found));
  }
  Message message;
  message.key = {header->run_id, header->incarnation, header->round, header->step};
  message.payload_hash = hash_of({}, frames);
  message.body = *empty_body(header->type);  // read_header has checked the type
  if (auto error = try_read_body(message.body, frames, limits)) return in_message(*error);
  return message;
}

}  // namespace tandem::wire
