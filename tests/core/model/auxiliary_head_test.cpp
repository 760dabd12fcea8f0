#include "tandem/core/model/auxiliary_head.h"

#include "support/test.h"

namespace tandem {
namespace {

using Shape = std::vector<int64_t>;

ModelPart build(const std::string& specification, const Shape& shape, uint64_t seed = 1) {
  auto head = build_auxiliary_head(specification, shape, 10, seed);
  REQUIRE_MESSAGE(head.has_value(), specification);
  return *head;
}

at::Tensor activations(Shape shape, int64_t batch, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  shape.insert(shape.begin(), batch);
  return torch::randn(shape, generator);
}

std::vector<std::pair<std::string, Shape>> layout(const ModelPart& part) {
  std::vector<std::pair<std::string, Shape>> list;
  for (const NamedTensor& entry : part.state()) list.emplace_back(entry.name, entry.tensor.sizes().vec());
  return list;
}

std::string refusal(const std::string& specification, const Shape& shape, int64_t num_classes = 10) {
  const auto head = build_auxiliary_head(specification, shape, num_classes, 1);
  if (head) return "built";
  CHECK(head.error().code == ErrorCode::kInvalidArgument);
  return head.error().message;
}

}  // namespace

TEST_SUITE("core/model/auxiliary_head") {
  TEST_CASE("each head has the layers it promises, named auxiliary.*") {
    const Shape map{6, 5, 4};
    using Layout = std::vector<std::pair<std::string, Shape>>;
    CHECK(layout(build("linear", map)) ==
          Layout{{"auxiliary.1.weight", {10, 120}}, {"auxiliary.1.bias", {10}}});
    CHECK(layout(build("linear", {7})) ==
          Layout{{"auxiliary.1.weight", {10, 7}}, {"auxiliary.1.bias", {10}}});
    CHECK(layout(build("mlp:hidden=32", map)) == Layout{{"auxiliary.1.weight", {32, 120}},
                                                        {"auxiliary.1.bias", {32}},
                                                        {"auxiliary.3.weight", {10, 32}},
                                                        {"auxiliary.3.bias", {10}}});
    CHECK(layout(build("conv:channels=3", map)) == Layout{{"auxiliary.0.weight", {3, 6, 1, 1}},
                                                          {"auxiliary.0.bias", {3}},
                                                          {"auxiliary.3.weight", {10, 60}},
                                                          {"auxiliary.3.bias", {10}}});
    CHECK(layout(build("mlp", {7}))[0].second == Shape{128, 7});
    CHECK(layout(build("conv", map))[0].second == Shape{16, 6, 1, 1});
  }

  TEST_CASE("forward computes what its layers say") {
    const at::Tensor z = activations({6, 5, 4}, 3, 2);
    const auto weights = [](const ModelPart& part) {
      std::vector<at::Tensor> list;
      for (const NamedTensor& entry : part.parameters()) list.push_back(entry.tensor);
      return list;
    };
    const ModelPart conv = build("conv:channels=3", {6, 5, 4});
    const auto w = weights(conv);
    const at::Tensor mixed = at::einsum("nchw,oc->nohw", {z, w[0].flatten(1)}) + w[1].reshape({1, 3, 1, 1});
    const at::Tensor expected = at::matmul(mixed.relu().flatten(1), w[2].t()) + w[3];
    CHECK(at::allclose(conv.forward(z), expected, 1e-4, 1e-5));
    const ModelPart mlp = build("mlp:hidden=9", {6, 5, 4});
    const auto v = weights(mlp);
    const at::Tensor hidden = (at::matmul(z.flatten(1), v[0].t()) + v[1]).relu();
    CHECK(at::allclose(mlp.forward(z), at::matmul(hidden, v[2].t()) + v[3], 1e-4, 1e-5));
  }

  TEST_CASE("weights follow the seed, with PyTorch's bounds, and are no block's of a model") {
    const ModelPart head = build("linear", {100}, 7);
    const ModelPart again = build("linear", {100}, 7);
    const ModelPart other = build("linear", {100}, 8);
    CHECK(at::equal(head.state()[0].tensor, again.state()[0].tensor));
    CHECK_FALSE(at::equal(head.state()[0].tensor, other.state()[0].tensor));
    for (const NamedTensor& entry : head.state()) {
      CHECK(entry.tensor.abs().max().item<double>() <= 0.1);  // 1 / sqrt(100)
      CHECK(entry.tensor.abs().max().item<double>() > 0.05);
      CHECK(entry.tensor.requires_grad());
    }
    const ModelPart model = define_model("mlp:hidden=10-10-10", {100}, 10)->build(7);
    CHECK(model.parameters()[0].tensor.sizes() == head.parameters()[0].tensor.sizes());
    CHECK_FALSE(at::equal(model.parameters()[0].tensor, head.parameters()[0].tensor));
  }

  TEST_CASE("clone, load, slice, to and zero_grad work, and names stay") {
    ModelPart head = build("conv:channels=3", {6, 5, 4}, 1);
    const at::Tensor z = activations({6, 5, 4}, 3, 2);
    head.forward(z).sum().backward();
    CHECK(head.parameters()[0].tensor.grad().defined());
    ModelPart copy = head.clone();
    CHECK(layout(copy) == layout(head));
    CHECK(layout(head.slice(head.first(), head.last())) == layout(head));
    CHECK(at::equal(copy.forward(z), head.forward(z)));
    REQUIRE(copy.load(snapshot(build("conv:channels=3", {6, 5, 4}, 2).state())).has_value());
    CHECK_FALSE(at::equal(copy.forward(z), head.forward(z)));
    CHECK(copy.buffers().empty());
    CHECK(copy.batch_norm_state().empty());
    head.zero_grad();
    CHECK_FALSE(head.parameters()[0].tensor.grad().defined());
    head.to(at::kCPU);
    std::string message;
    try {
      (void)head.forward(torch::zeros({2, 5}));
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    CHECK(message.substr(0, message.find(": ")) == "forward through auxiliary of an input 2x5");
  }

  TEST_CASE("what cannot be built is refused and says why") {
    CHECK(refusal("liner", {4}) ==
          "auxiliary head: unknown \"liner\", did you mean linear? Known: linear, mlp, conv");
    CHECK(refusal("transformer", {4}) == "auxiliary head: unknown \"transformer\". Known: linear, mlp, conv");
    CHECK(refusal("mlp:hiden=4", {4}) == "unknown parameter \"hiden\" of \"mlp\"; did you mean \"hidden\"?");
    CHECK(refusal("linear:hidden=4", {4}) == "unknown parameter \"hidden\" of \"linear\"; it takes none");
    CHECK(refusal("mlp:hidden=0", {4}) ==
          "auxiliary head mlp:hidden must be a whole number from 1 to 65536, got \"0\"");
    CHECK(refusal("conv:channels=4", {4}) == "auxiliary head: conv needs activations {C,H,W}, got 4");
    CHECK(refusal("linear", {4, 4}) == "auxiliary head: activations must have shape {C,H,W} or {F}, got 4x4");
    CHECK(refusal("linear", {4, 0, 4}) ==
          "auxiliary head: each dimension of the activations must be 1..65536, got shape 4x0x4");
    CHECK(refusal("linear", {4}, 1) == "auxiliary head: the number of classes must be 2..1000000, got 1");
    CHECK(refusal("mlp:hidden=65536", {64, 256, 256}) ==
          "auxiliary head: a layer would hold 4194304 x 65536 weights, more than 1073741824");
    CHECK(refusal("conv?channels=4", {1, 4, 4}) == "\"conv?channels=4\": write conv:channels=4");
    CHECK(refusal("", {4}) == "a specification must not be empty");
  }
}

}  // namespace tandem
