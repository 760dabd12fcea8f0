#include "tandem/core/model/model.h"

#include <torch/torch.h>

#include <array>
#include <cmath>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "tandem/core/base/random.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/model/model_detail.h"

namespace tandem {
namespace {

using Block = torch::nn::Sequential;

/// The same values with exactly channels-last strides. `contiguous` alone is a no-op where one channel or
/// one pixel makes the format ambiguous, and kernels then choose the slow or simply another format.
at::Tensor to_channels_last(const at::Tensor& tensor) {
  if (tensor.dim() != 4) return tensor;
  const int64_t channels = tensor.size(1);
  const int64_t row = tensor.size(3) * channels;
  const std::array<int64_t, 4> strides{tensor.size(2) * row, 1, row, channels};
  const at::Tensor dense = tensor.contiguous(at::MemoryFormat::ChannelsLast);
  return dense.strides() == at::IntArrayRef(strides) ? dense : dense.as_strided(dense.sizes(), strides);
}

/// Fixes the memory format of what crosses from one block to the next, forward and backward. A cut at this
/// place then changes nothing: what came over a wire has the strides that it would have had without one.
at::Tensor normalise_boundary(const at::Tensor& tensor) {
  if (tensor.dim() != 4) return tensor;
  at::Tensor normal = to_channels_last(tensor);
  if (normal.requires_grad() && !normal.is_leaf()) {
    normal.register_hook([](const at::Tensor& gradient) { return to_channels_last(gradient); });
  }
  return normal;
}

bool is_batch_norm(const torch::nn::Module& module) {
  return module.as<torch::nn::BatchNorm1d>() != nullptr || module.as<torch::nn::BatchNorm2d>() != nullptr;
}

/// A block, with what its modules cannot tell. Every part that shares the block shares this.
struct HeldBlock {
  explicit HeldBlock(Block block) : module(std::move(block)) {}

  void train(bool training) {
    module->train(training);
    if (batch_norm_frozen) freeze_batch_norm();  // train() has switched its layers along
  }

  void freeze_batch_norm() {
    batch_norm_frozen = true;
    for (const auto& layer : module->modules()) {
      if (!is_batch_norm(*layer)) continue;
      layer->eval();
      for (at::Tensor& parameter : layer->parameters()) {
        parameter.requires_grad_(false);
        parameter.mutable_grad().reset();  // an optimiser would still step on what is left here
      }
    }
  }

  Block module;
  bool batch_norm_frozen = false;
};

using Blocks = std::vector<std::shared_ptr<HeldBlock>>;

/// The tensors of modules under their names, all aliases.
struct TensorLists {
  void visit(const torch::nn::Module& module, const std::string& prefix) {
    const size_t begin = state.size();
    for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
      parameters.push_back({prefix + parameter.key(), parameter.value()});
      state.push_back(parameters.back());
    }
    for (const auto& buffer : module.named_buffers(/*recurse=*/false)) {
      buffers.push_back({prefix + buffer.key(), buffer.value()});
      state.push_back(buffers.back());
    }
    if (is_batch_norm(module)) batch_norm.insert(batch_norm.end(), state.begin() + begin, state.end());
    for (const auto& child : module.named_children()) visit(*child.value(), prefix + child.key() + ".");
  }

  NamedTensors parameters;
  NamedTensors buffers;
  NamedTensors state;
  NamedTensors batch_norm;
};

/// PyTorch's default initialisation of Conv2d and Linear: kaiming_uniform(a = sqrt 5) is
/// U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the bias likewise. Norms keep the 1 and 0 of their constructors.
void initialise(Block& block, uint64_t seed, int number) {
  const at::NoGradGuard no_grad;
  uint64_t index = 0;
  for (const auto& module : block->modules()) {
    double bound = 0.0;
    for (auto& parameter : module->parameters(/*recurse=*/false)) {
      if (parameter.dim() >= 2) {
        bound = 1.0 / std::sqrt(static_cast<double>(parameter.numel() / parameter.size(0)));
      }
      const uint64_t stream =
          derive_seed(seed, RandomPurpose::kInitialise, {static_cast<uint64_t>(number), index++});
      if (bound == 0.0) continue;
      // Drawn into a plain tensor first: an in-place draw follows the memory order of the strides.
      auto generator = at::make_generator<at::CPUGeneratorImpl>(stream);
      parameter.copy_(at::empty(parameter.sizes()).uniform_(-bound, bound, generator));
    }
  }
}

Block build_block(const BlockDefinition& definition, uint64_t seed, int number) {
  const at::NoGradGuard no_grad;
  Block block = definition.make();
  initialise(block, seed, number);
  for (auto& parameter : block->parameters()) {
    if (parameter.dim() == 4) parameter.set_data(to_channels_last(parameter.data()));
  }
  return block;
}

[[noreturn]] void throw_bad_range(const std::string& function, int first, int last, int low, int high) {
  throw std::invalid_argument(function + " needs " + std::to_string(low) +
                              " <= first < last <= " + std::to_string(high) + ", got [" +
                              std::to_string(first) + ", " + std::to_string(last) + ")");
}

}  // namespace

struct ModelPart::Impl {
  /// `part_name` stands in names for the number of the only block; empty for blocks of a model.
  Impl(int first_block, Blocks modules, std::string part_name = {})
      : first(first_block), blocks(std::move(modules)), name(std::move(part_name)) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      const std::string block_name = name.empty() ? std::to_string(first + static_cast<int>(i)) : name;
      tensors.visit(*blocks[i]->module, block_name + ".");
    }
  }

  int last() const { return first + static_cast<int>(blocks.size()); }

  std::string describe() const {
    if (!name.empty()) return name;
    return "blocks [" + std::to_string(first) + ", " + std::to_string(last()) + ")";
  }

  int first;
  Blocks blocks;
  std::string name;
  TensorLists tensors;
};

ModelPart::ModelPart(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

int ModelPart::first() const {
  return impl_->first;
}
int ModelPart::last() const {
  return impl_->last();
}

at::Tensor ModelPart::forward(const at::Tensor& input) const {
  try {
    at::Tensor value = to_channels_last(input);
    for (const auto& block : impl_->blocks) value = normalise_boundary(block->module->forward(value));
    return value;
  } catch (const c10::Error& error) {
    throw std::runtime_error("forward through " + impl_->describe() + " of an input " +
                             shape_to_string(input.sizes().vec()) + ": " + error.what_without_backtrace());
  }
}

void ModelPart::set_training(bool training) {
  for (const auto& block : impl_->blocks) block->train(training);
}

void ModelPart::freeze_batch_norm() {
  for (const auto& block : impl_->blocks) block->freeze_batch_norm();
}

NamedTensors ModelPart::parameters() const {
  return impl_->tensors.parameters;
}
NamedTensors ModelPart::buffers() const {
  return impl_->tensors.buffers;
}
NamedTensors ModelPart::state() const {
  return impl_->tensors.state;
}
NamedTensors ModelPart::batch_norm_state() const {
  return impl_->tensors.batch_norm;
}

Result<void> ModelPart::load(const NamedTensors& state) {
  if (auto checked = check_same_layout(impl_->tensors.state, state); !checked) return checked;
  if (auto checked = check_finite(state); !checked) return checked;
  copy_values(state, impl_->tensors.state);
  return {};
}

void ModelPart::zero_grad() {
  // Dropped, not filled with zeros: the next backward then moves its result in instead of adding to it.
  for (NamedTensor& parameter : impl_->tensors.parameters) parameter.tensor.mutable_grad().reset();
}

ModelPart ModelPart::clone() const {
  Blocks copies;
  for (const auto& block : impl_->blocks) {
    auto copy = std::dynamic_pointer_cast<torch::nn::SequentialImpl>(block->module->clone());
    copies.push_back(std::make_shared<HeldBlock>(Block(std::move(copy))));
    // Module::clone copies the mode but not whether a parameter requires gradients.
    if (block->batch_norm_frozen) copies.back()->freeze_batch_norm();
  }
  return ModelPart(std::make_shared<Impl>(impl_->first, std::move(copies), impl_->name));
}

ModelPart ModelPart::slice(int first, int last) const {
  if (first < impl_->first || last > impl_->last() || first >= last) {
    throw_bad_range("ModelPart.slice", first, last, impl_->first, impl_->last());
  }
  const auto begin = impl_->blocks.begin();
  return ModelPart(std::make_shared<Impl>(
      first, Blocks(begin + (first - impl_->first), begin + (last - impl_->first)), impl_->name));
}

void ModelPart::to(at::Device device) {
  zero_grad();
  for (const auto& block : impl_->blocks) block->module->to(device);
}

ModelPart detail::build_named_part(const BlockDefinition& definition, uint64_t seed, int number) {
  Blocks blocks{std::make_shared<HeldBlock>(build_block(definition, seed, number))};
  return ModelPart(std::make_shared<ModelPart::Impl>(number, std::move(blocks), definition.info.name));
}

ModelDefinition::ModelDefinition(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

const std::string& ModelDefinition::specification() const {
  return impl_->specification;
}
int ModelDefinition::num_blocks() const {
  return static_cast<int>(impl_->blocks.size());
}
const std::vector<int64_t>& ModelDefinition::input_shape() const {
  return impl_->input_shape;
}
int64_t ModelDefinition::num_classes() const {
  return impl_->num_classes;
}

const BlockInfo& ModelDefinition::block(int index) const {
  if (index < 0 || index >= num_blocks()) {
    throw std::invalid_argument("ModelDefinition.block needs 0 <= index < " + std::to_string(num_blocks()) +
                                ", got " + std::to_string(index));
  }
  return impl_->blocks[static_cast<size_t>(index)].info;
}

bool ModelDefinition::uses_batch_statistics(int first, int last) const {
  if (first < 0 || last > num_blocks() || first > last) {
    throw_bad_range("ModelDefinition.uses_batch_statistics", first, last, 0, num_blocks());
  }
  for (int i = first; i < last; ++i) {
    if (impl_->blocks[static_cast<size_t>(i)].batch_statistics) return true;
  }
  return false;
}

ModelPart ModelDefinition::build(uint64_t seed, int first, int last) const {
  if (first < 0 || last > num_blocks() || first >= last) {
    throw_bad_range("ModelDefinition.build", first, last, 0, num_blocks());
  }
  Blocks blocks;
  for (int i = first; i < last; ++i) {
    const auto& definition = impl_->blocks[static_cast<size_t>(i)];
    blocks.push_back(std::make_shared<HeldBlock>(build_block(definition, seed, i)));
  }
  return ModelPart(std::make_shared<ModelPart::Impl>(first, std::move(blocks)));
}

Result<void> ModelDefinition::check_cut(int cut) const {
  if (cut >= 1 && cut < num_blocks()) return {};
  std::string message = "cut must be 1.." + std::to_string(num_blocks() - 1) + " for model " +
                        specification() + ", got " + std::to_string(cut) + "; the cuts are";
  for (int i = 1; i < num_blocks(); ++i) {
    const BlockInfo& before = block(i - 1);
    message += (i > 1 ? ", " : " ") + std::to_string(i) + " after " + before.name + " (" +
               shape_to_string(before.output_shape) + ")";
  }
  return Error{ErrorCode::kInvalidArgument, message};
}

}  // namespace tandem
