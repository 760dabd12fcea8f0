#include <cstring>
#include <limits>

#include "support/test.h"
#include "tandem/core/model/model.h"
#include "tandem/core/training/optimizer.h"

namespace tandem {
namespace {

ModelPart build(const std::string& specification, int first, int last, uint64_t seed = 1) {
  const auto definition = define_model(specification, {1, 8, 8}, 10);
  REQUIRE_MESSAGE(definition.has_value(), specification);
  return definition->build(seed, first, last);
}

/// Stem, a residual block with a strided 1x1 convolution beside it, and what is between.
ModelPart build_resnet(uint64_t seed = 1) {
  return build("resnet18:width=8", 0, 4, seed);
}

at::Tensor images(int64_t batch, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return torch::randn({batch, 1, 8, 8}, generator);
}

bool same_bits(const NamedTensors& a, const NamedTensors& b) {
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); ++i) {
    same = a[i].name == b[i].name && at::equal(a[i].tensor, b[i].tensor);
  }
  return same;
}

bool is_batch_norm(const std::string& name) {
  // The stem's and downsample's batch norm follow their convolution; a residual block's are called bn.
  for (const char* part : {"0.1.", ".bn1.", ".bn2.", ".downsample.1."}) {
    if (name.find(part) != std::string::npos) return true;
  }
  return false;
}

std::vector<std::string> names(const NamedTensors& tensors) {
  std::vector<std::string> list;
  for (const NamedTensor& entry : tensors) list.push_back(entry.name);
  return list;
}

void train_step(const ModelPart& part, Optimizer& optimizer, uint64_t seed) {
  part.forward(images(4, seed)).square().mean().backward();
  optimizer.step(1.0);
}

}  // namespace

TEST_SUITE("core/model/batch_norm") {
  TEST_CASE("batch_norm_state holds weights and statistics of every batch-norm layer, and nothing else") {
    const ModelPart part = build_resnet();
    std::vector<std::string> expected;
    for (const NamedTensor& entry : part.state()) {
      if (is_batch_norm(entry.name)) expected.push_back(entry.name);
    }
    CHECK(names(part.batch_norm_state()) == expected);
    CHECK(expected.size() == 5 * 8);  // 1 in the stem, 2 in each of 3 blocks, 1 beside the strided one
    CHECK(part.batch_norm_state()[0].name == "0.1.weight");
    CHECK(part.batch_norm_state()[4].name == "0.1.num_batches_tracked");
    CHECK(part.batch_norm_state()[0].tensor.is_same(part.parameters()[1].tensor));
    CHECK(part.slice(1, 2).batch_norm_state()[0].name == "1.0.bn1.weight");
    CHECK(build("resnet18:width=8,norm=group", 0, 4).batch_norm_state().empty());
    CHECK(build("cnn", 0, 4).batch_norm_state().empty());
  }

  TEST_CASE("frozen batch norm uses and keeps its statistics, one example at a time as well as many") {
    ModelPart part = build_resnet();
    (void)part.forward(images(8, 2));  // moves the statistics away from 0 and 1
    ModelPart evaluated = part.clone();
    evaluated.set_training(false);
    const at::Tensor x = images(4, 3);
    CHECK_FALSE(at::equal(part.clone().forward(x), evaluated.forward(x)));

    part.freeze_batch_norm();
    part.set_training(true);
    const NamedTensors before = snapshot(part.batch_norm_state());
    const at::Tensor y = part.forward(x);
    CHECK(at::equal(y, evaluated.forward(x)));
    CHECK(at::allclose(part.forward(x.narrow(0, 1, 1)), y.narrow(0, 1, 1), 1e-4, 1e-5));
    CHECK(same_bits(part.batch_norm_state(), before));
  }

  TEST_CASE("an optimiser leaves frozen batch norm alone, even what had a gradient, and trains the rest") {
    ModelPart part = build_resnet();
    Optimizer optimizer({.momentum = 0.9, .weight_decay = 0.1}, part.parameters());
    train_step(part, optimizer, 2);  // gradients and momentum are there
    part.freeze_batch_norm();
    const NamedTensors before = snapshot(part.state());
    optimizer.step(1.0);
    train_step(part, optimizer, 3);
    for (size_t i = 0; i < before.size(); ++i) {
      CAPTURE(before[i].name);
      CHECK(at::equal(before[i].tensor, part.state()[i].tensor) == is_batch_norm(before[i].name));
    }
    for (const NamedTensor& entry : part.parameters()) {
      CAPTURE(entry.name);
      CHECK(entry.tensor.requires_grad() != is_batch_norm(entry.name));
      CHECK(entry.tensor.grad().defined() != is_batch_norm(entry.name));
    }
  }

  TEST_CASE("freezing survives clone, slice, to and load, and reaches what shares the blocks") {
    ModelPart part = build_resnet();
    ModelPart earlier = part.slice(1, 3);
    (void)part.forward(images(8, 2));
    part.freeze_batch_norm();
    ModelPart copy = part.clone();
    ModelPart later = copy.slice(0, 2);
    copy.to(at::kCPU);
    REQUIRE(copy.load(snapshot(part.state())).has_value());
    for (ModelPart handle : {part, earlier, copy, later, copy.clone().slice(0, 3)}) {
      handle.set_training(false);
      handle.set_training(true);
      CAPTURE(handle.first());
      CAPTURE(handle.last());
      const NamedTensors before = snapshot(handle.batch_norm_state());
      (void)handle.forward(handle.first() == 0 ? images(4, 3) : torch::ones({4, 8, 8, 8}));
      CHECK(same_bits(handle.batch_norm_state(), before));
      for (const NamedTensor& entry : handle.parameters()) {
        CHECK(entry.tensor.requires_grad() != is_batch_norm(entry.name));
      }
    }
  }

  TEST_CASE("a clone of an unfrozen part is not frozen with it, and loading still sets frozen layers") {
    ModelPart part = build_resnet();
    ModelPart copy = part.clone();
    part.freeze_batch_norm();
    const NamedTensors before = snapshot(copy.batch_norm_state());
    (void)copy.forward(images(4, 3));
    CHECK_FALSE(same_bits(copy.batch_norm_state(), before));
    REQUIRE(part.load(snapshot(copy.state())).has_value());
    CHECK(same_bits(part.state(), copy.state()));
  }

  TEST_CASE("freezing changes nothing where norm is by group") {
    ModelPart part = build("resnet18:width=8,norm=group", 0, 4);
    part.freeze_batch_norm();
    const ModelPart other = build("resnet18:width=8,norm=group", 0, 4);
    for (const NamedTensor& entry : part.parameters()) CHECK(entry.tensor.requires_grad());
    CHECK(at::equal(part.forward(images(2, 1)), other.forward(images(2, 1))));
  }

  TEST_CASE("a part without a trainable parameter still gives the gradient of its input") {
    ModelPart part = build_resnet();
    (void)part.forward(images(8, 2));
    ModelPart reference = part.clone();
    reference.set_training(false);
    part.freeze_batch_norm();
    for (NamedTensor& entry : part.parameters()) {
      entry.tensor.mutable_grad().reset();
      entry.tensor.requires_grad_(false);
    }
    const at::Tensor frozen_input = images(4, 3).requires_grad_();
    const at::Tensor input = images(4, 3).requires_grad_();
    part.forward(frozen_input).square().sum().backward();
    reference.forward(input).square().sum().backward();
    REQUIRE(frozen_input.grad().defined());
    CHECK(at::equal(frozen_input.grad(), input.grad()));
    CHECK(input.grad().abs().sum().item<float>() > 0.0f);
    for (const NamedTensor& entry : part.parameters()) CHECK_FALSE(entry.tensor.grad().defined());
    CHECK_FALSE(part.forward(images(4, 3)).requires_grad());
  }
}

}  // namespace tandem
