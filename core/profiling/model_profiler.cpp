#include "tandem/core/profiling/model_profiler.h"

#include <torch/torch.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <vector>

#include "tandem/core/base/slowdown.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/profiling/allocation_meter.h"
#include "tandem/core/training/objective.h"
#include "tandem/core/wire/message_codec.h"

namespace tandem {
namespace {

using Clock = std::chrono::steady_clock;

template <class Work>
double milliseconds_of(const Work& work) {
  const Clock::time_point start = Clock::now();
  {
    const SlowedWork slowed;
    work();
  }
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// A slowed machine is another one.
std::string slowed() {
  if (slowdown() == 1) return "";
  std::ostringstream text;
  text << ", slowed down " << slowdown() << " times";
  return text.str();
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "unknown";
}

int64_t message_bytes(wire::Body body) {
  return static_cast<int64_t>(wire::total_bytes(wire::encode({.body = std::move(body)})));
}

/// A range of blocks with what a step of it needs. All ranges share the weights of one model.
class Range {
 public:
  Range(const ModelPart& whole, int first, int last, at::Tensor inputs, at::Tensor labels)
      : part_(whole.slice(first, last)),
        begins_model_(first == whole.first()),
        inputs_(std::move(inputs)),
        labels_(std::move(labels)) {}

  /// Makes a forward and a backward pass and keeps their times. The weights' gradients are there afterwards.
  void measure(bool counts) {
    const at::Tensor inputs = fresh_inputs();
    Forward pass;
    const double forward = milliseconds_of([&] { pass = forward_from(inputs); });
    const at::Tensor gradient = gradient_of(pass);
    const double backward = milliseconds_of([&] { pass.root.backward(gradient); });
    if (!counts) return;
    forward_.push_back(forward);
    backward_.push_back(backward);
    both_.push_back(forward + backward);
  }

  /// Returns what a step allocates: the most at once, and what the forward pass leaves for the backward pass.
  struct Allocated {
    int64_t peak = 0;
    int64_t saved = 0;
  };
  Allocated allocated() {
    const at::Tensor inputs = fresh_inputs();
    const AllocationMeter meter;
    const Forward pass = forward_from(inputs);
    const int64_t saved = meter.held();
    pass.root.backward(gradient_of(pass));
    return {.peak = meter.peak(), .saved = saved};
  }

  bool is_done(const ProfilerOptions& options) const {
    const auto samples = static_cast<int>(both_.size());
    if (samples >= options.most_samples) return true;
    return samples >= options.fewest_samples && summarize(both_).half_width <= options.half_width;
  }
  void forget() {
    forward_.clear();
    backward_.clear();
    both_.clear();
  }

  const std::vector<double>& samples() const { return both_; }
  StepTiming timing() const { return {summarize(forward_), summarize(backward_)}; }
  ModelPart& part() { return part_; }
  const ModelPart& part() const { return part_; }

 private:
  /// The inputs without a graph, and the weights without gradients.
  at::Tensor fresh_inputs() {
    part_.zero_grad();
    at::Tensor inputs = inputs_.detach();
    return begins_model_ ? inputs : inputs.requires_grad_();
  }
  struct Forward {
    at::Tensor outputs;
    at::Tensor root;  // where the backward pass begins: the loss where the range ends the model
  };
  Forward forward_from(const at::Tensor& inputs) {
    const at::Tensor outputs = part_.forward(inputs);
    return {outputs, labels_.defined() ? objective_.mean_loss(outputs, labels_) : outputs};
  }
  at::Tensor gradient_of(const Forward& forward) const {
    return labels_.defined() ? at::Tensor() : at::full_like(forward.outputs, 1e-3);
  }

  ModelPart part_;
  bool begins_model_;
  at::Tensor inputs_;
  at::Tensor labels_;  // undefined where the range does not end in the loss
  Objective objective_;
  std::vector<double> forward_;
  std::vector<double> backward_;
  std::vector<double> both_;
};

/// Everything that is measured of a model, interleaved.
class Measurement {
 public:
  Measurement(const ModelDefinition& definition, const ProfilerOptions& options)
      : definition_(definition), options_(options), whole_(definition.build(1)) {
    whole_.set_training(true);
    const int blocks = definition.num_blocks();
    std::vector<int64_t> shape = definition.input_shape();
    shape.insert(shape.begin(), options.batch_size);
    boundaries_.push_back(at::rand(shape));
    for (int b = 0; b < blocks; ++b) {
      const torch::NoGradGuard no_grad;
      boundaries_.push_back(whole_.slice(b, b + 1).forward(boundaries_.back()));
    }
    labels_ = at::randint(definition.num_classes(), {options.batch_size}, at::kLong);
    for (int b = 0; b < blocks; ++b) {
      blocks_.push_back(range(b, b + 1));
      prefixes_.push_back(range(0, b + 1));
      suffixes_.push_back(range(b, blocks));
      // Steps so small that the weights, and with them the times, stay what they are.
      OptimizerOptions small = options.optimizer;
      small.learning_rate = 1e-9;
      optimizers_.push_back(std::make_unique<Optimizer>(small, blocks_.back()->part().parameters()));
    }
    optimiser_samples_.resize(optimizers_.size());
  }

  /// Makes one attempt.
  void run(const std::function<void(const std::string&)>& progress) {
    for (Range* each : all()) each->forget();
    for (auto& samples : optimiser_samples_) samples.clear();
    const Clock::time_point start = Clock::now();
    for (int pass = 0; pass < options_.warmup; ++pass) measure_all(false);
    for (int pass = 0; pass < options_.most_samples; ++pass) {
      const std::vector<Range*> ranges = all();
      if (std::all_of(ranges.begin(), ranges.end(), [&](Range* each) { return each->is_done(options_); }))
        return;
      if (pass >= options_.fewest_samples && Clock::now() - start > options_.budget) return;
      measure_all(true);
      if (pass % 10 == 9) {
        progress("measured " + std::to_string(pass + 1) + " of at most " +
                 std::to_string(options_.most_samples) + " passes");
      }
    }
  }

  double drift() const { return drift_between_halves(prefixes_.back()->samples()); }

  ModelProfile result() {
    ModelProfile profile;
    profile.drift = drift();
    profile.input_bytes = message_bytes(wire::Activations{boundaries_.front(), labels_});
    for (size_t b = 0; b < blocks_.size(); ++b) profile.blocks.push_back(block_profile(b));
    for (const auto& each : prefixes_) profile.prefixes.push_back(range_profile(*each));
    for (const auto& each : suffixes_) profile.suffixes.push_back(range_profile(*each));
    profile.additivity_error = additivity_error(profile);
    return profile;
  }

 private:
  std::unique_ptr<Range> range(int first, int last) {
    const bool ends_model = last == definition_.num_blocks();
    return std::make_unique<Range>(whole_, first, last, boundaries_[static_cast<size_t>(first)],
                                   ends_model ? labels_ : at::Tensor());
  }

  std::vector<Range*> all() {
    std::vector<Range*> ranges;
    for (const auto* list : {&blocks_, &prefixes_, &suffixes_}) {
      for (const auto& each : *list) ranges.push_back(each.get());
    }
    return ranges;
  }

  void measure_all(bool counts) {
    for (size_t b = 0; b < blocks_.size(); ++b) {
      blocks_[b]->measure(counts);
      const double took = milliseconds_of([&] { optimizers_[b]->step(1.0); });
      if (counts) optimiser_samples_[b].push_back(took);
    }
    for (const auto& each : prefixes_) each->measure(counts);
    for (const auto& each : suffixes_) each->measure(counts);
  }

  BlockProfile block_profile(size_t b) {
    BlockProfile block;
    block.name = definition_.block(static_cast<int>(b)).name;
    block.step = blocks_[b]->timing();
    block.optimiser = summarize(optimiser_samples_[b]);
    block.parameter_bytes = total_bytes(blocks_[b]->part().state());
    block.gradient_bytes = total_bytes(blocks_[b]->part().parameters());
    block.optimiser_bytes = total_bytes(optimizers_[b]->state());
    block.saved_bytes = blocks_[b]->allocated().saved;
    const at::Tensor& outputs = boundaries_[b + 1];
    block.output_bytes = message_bytes(wire::Activations{outputs, labels_});
    block.gradient_message_bytes = message_bytes(wire::Gradients{outputs, {}});
    return block;
  }

  RangeProfile range_profile(Range& each) {
    const Range::Allocated allocated = each.allocated();
    return {.first = each.part().first(),
            .last = each.part().last(),
            .step = each.timing(),
            .peak_bytes = allocated.peak};
  }

  static double additivity_error(const ModelProfile& profile) {
    double largest = 0;
    for (const auto* list : {&profile.prefixes, &profile.suffixes}) {
      for (const RangeProfile& range : *list) {
        double sum = 0;
        for (int b = range.first; b < range.last; ++b) {
          const StepTiming& step = profile.blocks[static_cast<size_t>(b)].step;
          sum += step.forward.median_ms + step.backward.median_ms;
        }
        const double whole = range.step.forward.median_ms + range.step.backward.median_ms;
        if (whole > 0) largest = std::max(largest, std::abs(whole - sum) / whole);
      }
    }
    return largest;
  }

  const ModelDefinition& definition_;
  const ProfilerOptions& options_;
  ModelPart whole_;
  std::vector<at::Tensor> boundaries_;  // inputs of block b, and the outputs of the last
  at::Tensor labels_;
  std::vector<std::unique_ptr<Range>> blocks_;
  std::vector<std::unique_ptr<Range>> prefixes_;
  std::vector<std::unique_ptr<Range>> suffixes_;
  std::vector<std::unique_ptr<Optimizer>> optimizers_;  // by block
  std::vector<std::vector<double>> optimiser_samples_;
};

std::string percent(double share) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.1f %%", 100 * share);
  return text.data();
}

}  // namespace

ProfileFingerprint fingerprint_of(const ModelDefinition& definition, const ProfilerOptions& options) {
  std::string layout;
  for (int b = 0; b < definition.num_blocks(); ++b) {
    const BlockInfo& block = definition.block(b);
    layout += block.name + " " + shape_to_string(block.output_shape);
    for (const NamedTensor& entry : definition.build(1, b, b + 1).state()) {
      layout += " " + entry.name + " " + shape_to_string(entry.tensor.sizes().vec());
    }
    layout += "\n";
  }
  std::array<char, 17> hash;
  std::snprintf(hash.data(), hash.size(), "%016llx",
                static_cast<unsigned long long>(XXH3_64bits(layout.data(), layout.size())));
  return {.model = definition.specification(),
          .model_hash = hash.data(),
          .input_shape = definition.input_shape(),
          .num_classes = definition.num_classes(),
          .batch_size = options.batch_size,
          .optimizer = options.optimizer_text,
          .threads = at::get_num_threads(),
          .libtorch = TORCH_VERSION,
          .cpu = cpu_model() + slowed()};
}

Result<ModelProfile> profile_model(const ModelDefinition& definition, const ProfilerOptions& options,
                                   const std::function<void(const std::string&)>& progress) {
  if (definition.uses_batch_statistics(0, definition.num_blocks()) && options.batch_size < 2) {
    return Error{ErrorCode::kInvalidArgument, "--batch-size must be 2 or more for " +
                                                  definition.specification() +
                                                  ", whose batch norm has no variance of one example"};
  }
  try {
    Measurement measurement(definition, options);
    double drift = 0;
    for (int attempt = 1; attempt <= options.attempts; ++attempt) {
      measurement.run(progress);
      drift = measurement.drift();
      if (drift <= options.largest_drift) {
        ModelProfile profile = measurement.result();
        profile.fingerprint = fingerprint_of(definition, options);
        return profile;
      }
      progress("attempt " + std::to_string(attempt) + " of " + std::to_string(options.attempts) +
               ": its first and its second half differ by " + percent(drift) + ", at most " +
               percent(options.largest_drift) + " is taken");
    }
    return Error{ErrorCode::kUnsupported,
                 "this machine is too restless to be measured: the first and the second half of the samples "
                 "differ by " +
                     percent(drift) + ", at most " + percent(options.largest_drift) +
                     " is taken; stop what else runs here, or raise --largest-drift"};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kTooLarge, "the model does not fit into this machine's memory"};
  } catch (const std::exception& exception) {
    return Error{ErrorCode::kUnsupported, "the model does not run here: " + std::string(exception.what())};
  }
}

}  // namespace tandem
