#include "core/wire/sample_messages.h"

#include <bit>
#include <cstring>
#include <limits>

#include "support/test.h"

namespace tandem::wire {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void check_same_bits(double expected, double found) {
  CHECK(std::bit_cast<uint64_t>(expected) == std::bit_cast<uint64_t>(found));
}

void check_same_tensors(const NamedTensors& expected, const NamedTensors& found) {
  REQUIRE(expected.size() == found.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(expected[i].name);
    CHECK(expected[i].name == found[i].name);
    check_same_tensor(expected[i].tensor, found[i].tensor);
  }
}

void check_same_schedule(const LrScheduleOptions& expected, const LrScheduleOptions& found) {
  CHECK((expected.kind == found.kind));
  CHECK(expected.warmup_steps == found.warmup_steps);
  CHECK(expected.period_steps == found.period_steps);
  check_same_bits(expected.step_factor, found.step_factor);
  check_same_bits(expected.final_factor, found.final_factor);
}

void check_same_figures(const Figures& expected, const Figures& found) {
  CHECK(expected.examples == found.examples);
  check_same_bits(expected.loss_sum, found.loss_sum);
  CHECK(expected.correct == found.correct);
}

struct Comparison {
  const Body& other;

  void operator()(const Hello& a) const {
    const auto& b = std::get<Hello>(other);
    CHECK(a.software_version == b.software_version);
    CHECK(a.instance == b.instance);
    CHECK(a.data.input_shape == b.data.input_shape);
    CHECK(a.data.num_classes == b.data.num_classes);
    CHECK(a.data.num_examples == b.data.num_examples);
    CHECK(a.held_out_examples == b.held_out_examples);
    CHECK((a.positions == b.positions));
  }
  void operator()(const Welcome& a) const {
    const auto& b = std::get<Welcome>(other);
    CHECK(a.client == b.client);
    CHECK(a.resumed == b.resumed);
    CHECK((a.position == b.position));
    check_same_tensors(a.kept, b.kept);
    CHECK(a.plan.model == b.plan.model);
    CHECK(a.plan.cut == b.plan.cut);
    CHECK(a.plan.input_shape == b.plan.input_shape);
    CHECK(a.plan.num_classes == b.plan.num_classes);
    CHECK((a.plan.algorithm == b.plan.algorithm));
    CHECK(a.plan.seed == b.plan.seed);
    CHECK(a.plan.rounds == b.plan.rounds);
    CHECK(a.plan.augment == b.plan.augment);
    CHECK(a.plan.normalize == b.plan.normalize);
    CHECK(a.plan.window == b.plan.window);
    CHECK(a.plan.head_blocks == b.plan.head_blocks);
    CHECK((a.plan.objective == b.plan.objective));
    CHECK(a.plan.tail_interval == b.plan.tail_interval);
    CHECK(a.plan.auxiliary_head == b.plan.auxiliary_head);
    CHECK((a.plan.batch_norm == b.plan.batch_norm));
    check_same_bits(a.plan.proximal_mu, b.plan.proximal_mu);
    CHECK(a.plan.control_variates == b.plan.control_variates);
    CHECK(a.plan.checkpoint_steps == b.plan.checkpoint_steps);
    CHECK((a.plan.optimizer.kind == b.plan.optimizer.kind));
    check_same_bits(a.plan.optimizer.learning_rate, b.plan.optimizer.learning_rate);
    check_same_bits(a.plan.optimizer.momentum, b.plan.optimizer.momentum);
    check_same_bits(a.plan.optimizer.weight_decay, b.plan.optimizer.weight_decay);
    check_same_bits(a.plan.optimizer.beta1, b.plan.optimizer.beta1);
    check_same_bits(a.plan.optimizer.beta2, b.plan.optimizer.beta2);
    check_same_bits(a.plan.optimizer.epsilon, b.plan.optimizer.epsilon);
    check_same_bits(a.plan.optimizer.clip_norm, b.plan.optimizer.clip_norm);
    check_same_schedule(a.plan.lr_schedule, b.plan.lr_schedule);
  }
  void operator()(const Refuse& a) const {
    const auto& b = std::get<Refuse>(other);
    CHECK((a.code == b.code));
    CHECK(a.reason == b.reason);
    CHECK(a.fatal == b.fatal);
  }
  void operator()(const BeginRound& a) const {
    const auto& b = std::get<BeginRound>(other);
    CHECK(a.first_example == b.first_example);
    CHECK(a.batch_sizes == b.batch_sizes);
    check_same_bits(a.previous_loss, b.previous_loss);
    check_same_bits(a.previous_accuracy, b.previous_accuracy);
    check_same_tensors(a.weights, b.weights);
    check_same_schedule(a.lr_schedule, b.lr_schedule);
    check_same_tensors(a.control, b.control);
    CHECK(a.ordinal == b.ordinal);
  }
  void operator()(const Activations& a) const {
    const auto& b = std::get<Activations>(other);
    check_same_tensor(a.activations, b.activations);
    check_same_tensor(a.labels, b.labels);
  }
  void operator()(const Gradients& a) const {
    const auto& b = std::get<Gradients>(other);
    check_same_tensor(a.gradient, b.gradient);
    check_same_figures(a.figures, b.figures);
  }
  void operator()(const Skip& a) const {
    const auto& b = std::get<Skip>(other);
    CHECK(a.until_next_round == b.until_next_round);
    CHECK(a.reason == b.reason);
  }
  void operator()(const EndRound& a) const { CHECK(a.now == std::get<EndRound>(other).now); }
  void operator()(const WeightUpdate& a) const {
    const auto& b = std::get<WeightUpdate>(other);
    CHECK(a.examples == b.examples);
    check_same_tensors(a.weights, b.weights);
    CHECK(a.steps == b.steps);
    check_same_tensors(a.control_change, b.control_change);
  }
  void operator()(const Heartbeat&) const {}
  void operator()(const Finish& a) const {
    const auto& b = std::get<Finish>(other);
    check_same_bits(a.eval_loss, b.eval_loss);
    check_same_bits(a.eval_accuracy, b.eval_accuracy);
    check_same_tensors(a.weights, b.weights);
  }
  void operator()(const Bye& a) const {
    const auto& b = std::get<Bye>(other);
    CHECK((a.reason == b.reason));
    CHECK(a.text == b.text);
  }
  void operator()(const Receipt& a) const {
    const auto& b = std::get<Receipt>(other);
    check_same_figures(a.figures, b.figures);
  }
  void operator()(const Outputs& a) const { check_same_tensor(a.outputs, std::get<Outputs>(other).outputs); }
  void operator()(const OutputGradients& a) const {
    const auto& b = std::get<OutputGradients>(other);
    check_same_tensor(a.gradient, b.gradient);
    check_same_figures(a.figures, b.figures);
  }
  void operator()(const Trained& a) const {
    const auto& b = std::get<Trained>(other);
    check_same_figures(a.figures, b.figures);
  }
  void operator()(const Evaluate& a) const {
    check_same_tensors(a.weights, std::get<Evaluate>(other).weights);
  }
  void operator()(const Evaluated& a) const {
    const auto& b = std::get<Evaluated>(other);
    check_same_figures(a.figures, b.figures);
  }
};

TrainingPlan sample_plan() {
  TrainingPlan plan;
  plan.model = "resnet18:norm=group";
  plan.cut = 3;
  plan.head_blocks = 2;
  plan.input_shape = {3, 32, 32};
  plan.num_classes = 100;
  plan.algorithm = Algorithm::kSplitFedV2;
  plan.seed = 0xFEDCBA9876543210u;
  plan.rounds = 17;
  plan.optimizer = {.kind = OptimizerKind::kAdamW,
                    .learning_rate = 0.001,
                    .momentum = 0.25,
                    .weight_decay = 0.0005,
                    .beta1 = 0.875,
                    .beta2 = 0.9921875,
                    .epsilon = 1e-9,
                    .clip_norm = 1.5};
  plan.lr_schedule = {.kind = LrScheduleKind::kCosine,
                      .warmup_steps = 50,
                      .period_steps = 1000.75,
                      .step_factor = 0.5,
                      .final_factor = 0.0625};
  plan.augment = "crop:2,flip,cutout:8";
  plan.normalize = "0.5/0.25,0.4375/0.25,0.375/0.25";
  plan.window = 4;
  plan.objective = EdgeObjective::kAligned;
  plan.tail_interval = 5;
  plan.auxiliary_head = "mlp:hidden=32";
  plan.batch_norm = BatchNormMode::kLocal;
  plan.proximal_mu = 0.0078125;
  plan.control_variates = true;
  plan.checkpoint_steps = 25;
  return plan;
}

NamedTensors all_dtypes() {
  return {{"0.0.weight", counting({2, 3, 2, 2}, at::kFloat, true)},
          {"0.0.bias", counting({2}, at::kDouble)},
          {"0.1.half", counting({3}, at::kHalf)},
          {"0.1.brain", counting({2, 2}, at::kBFloat16)},
          {"0.1.num_batches_tracked", at::scalar_tensor(1234567890123, at::kLong)},
          {"1.0.counts", counting({5}, at::kInt)},
          {"1.0.pixels", counting({7}, at::kByte)},
          {"1.0.mask", counting({3}, at::kFloat).gt(0.0)},
          {"1.0.empty", at::empty({0, 4})}};
}

}  // namespace

at::Tensor counting(std::vector<int64_t> dims, at::ScalarType dtype, bool channels_last) {
  int64_t count = 1;
  for (const int64_t size : dims) count *= size;
  at::Tensor values = at::arange(count, at::TensorOptions().dtype(at::kFloat));
  if (at::isFloatingType(dtype)) values = values / 4;
  values = values.to(dtype).reshape(dims);
  return channels_last ? values.contiguous(at::MemoryFormat::ChannelsLast) : values;
}

std::vector<SampleMessage> sample_messages() {
  const MessageKey key{0x0123456789ABCDEFu, 0x11223344u, 0x55667788u, 0x99AABBCCu, 0xDDEEFF01u};
  const NamedTensors two{{"0.weight", counting({2, 2})}, {"0.bias", counting({2})}};
  const NamedTensors one{{"0.weight", counting({1, 2, 1, 1}, at::kFloat, true)}};
  return {
      {"hello",
       {key,
        Hello{"0.1.0", 0xA1A2A3A4A5A6A7A8u, {{1, 28, 28}, 10, 15000}, 1500, {{7, 12, 11}, {6, 938, 938}}}}},
      {"welcome",
       {key, Welcome{sample_plan(),
                     "cam-1",
                     true,
                     {7, 12, 11},
                     {{MessageType::kActivations, 7, 11}, {MessageType::kTrained, 7, 0}},
                     {{"0.1.weight", counting({3})},
                      {"0.1.num_batches_tracked", at::scalar_tensor(7, at::kLong)}}}}},
      {"refuse", {key, Refuse{ErrorCode::kShapeMismatch, "expected 1x28x28, found 3x32x32", true}}},
      {"begin_round",
       {key,
        BeginRound{
            3, 40000, {16, 0, 4294967295u}, 0.75, kNan, sample_plan().lr_schedule, all_dtypes(), two}}},
      {"activations", {key, Activations{counting({2, 3, 1, 2}, at::kFloat, true), counting({2}, at::kLong)}}},
      {"gradients", {key, Gradients{counting({2, 3}), {16, 36.841361487904734, 7}}}},
      {"skip", {key, Skip{true, "late by 250 ms"}}},
      {"end_round", {key, EndRound{true}}},
      {"weight_update", {key, WeightUpdate{59999, 938, two, {{"0.weight", counting({2, 2})}}}}},
      {"heartbeat", {key, Heartbeat{}}},
      {"finish", {key, Finish{kNan, 0.90625, one}}},
      {"bye", {key, Bye{ByeReason::kReplaced, "a newer connection took over \xE2\x80\x93 bye"}}},
      {"receipt", {key, Receipt{{16, 1.5, 11}}}},
      {"outputs", {key, Outputs{counting({2, 3, 1, 2}, at::kFloat, true)}}},
      {"output_gradients", {key, OutputGradients{counting({2, 3}), {2, kNan, 1}}}},
      {"trained", {key, Trained{{12000, 27631.25, 3456}}}},
      {"evaluate", {key, Evaluate{one}}},
      {"evaluated", {key, Evaluated{{1500, 1200.125, 1234}}}},
  };
}

void check_same_tensor(const at::Tensor& expected, const at::Tensor& found) {
  REQUIRE(found.defined());
  CHECK((expected.scalar_type() == found.scalar_type()));
  REQUIRE(expected.sizes().vec() == found.sizes().vec());
  if (expected.numel() > 0) CHECK(expected.strides().vec() == found.strides().vec());
  CHECK((expected.suggest_memory_format() == found.suggest_memory_format()));
  const at::Tensor a = expected.contiguous(), b = found.contiguous();
  CHECK((a.nbytes() == 0 || std::memcmp(a.data_ptr(), b.data_ptr(), a.nbytes()) == 0));
}

void check_same_message(const Message& expected, const Message& found) {
  CHECK((expected.key == found.key));
  REQUIRE(expected.body.index() == found.body.index());
  std::visit(Comparison{found.body}, expected.body);
}

std::vector<std::string> to_strings(const Frames& frames) {
  std::vector<std::string> strings;
  for (const Frame& frame : frames) {
    strings.emplace_back(reinterpret_cast<const char*>(frame.data()), frame.size());
  }
  return strings;
}

Frames to_frames(const std::vector<std::string>& strings) {
  Frames frames;
  for (const std::string& bytes : strings) frames.push_back(Frame::own(bytes));
  return frames;
}

Frames with_checksum(const Frames& frames) {
  std::vector<std::string> strings = to_strings(frames);
  const uint64_t checksum = message_checksum(frames);
  for (size_t i = 0; i < 8; ++i) strings[0][kChecksumOffset + i] = static_cast<char>(checksum >> (8 * i));
  return to_frames(strings);
}

}  // namespace tandem::wire
