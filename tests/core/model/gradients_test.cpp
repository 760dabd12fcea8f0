// Every model's gradients at its smallest sizes, where kernels have their edge cases, against another
// implementation.
#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include "support/test.h"
#include "tandem/core/model/model.h"

namespace tandem {
namespace {

struct Case {
  std::string model;
  std::vector<int64_t> input;
};

/// While it lives, convolutions are computed by ATen's own kernels instead of oneDNN's.
class WithoutOneDnn {
 public:
  WithoutOneDnn() { at::globalContext().setUserEnabledMkldnn(false); }
  ~WithoutOneDnn() { at::globalContext().setUserEnabledMkldnn(true); }
  WithoutOneDnn(const WithoutOneDnn&) = delete;
  WithoutOneDnn& operator=(const WithoutOneDnn&) = delete;
};

class IntraOpThreads {
 public:
  explicit IntraOpThreads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~IntraOpThreads() { at::set_num_threads(before_); }
  IntraOpThreads(const IntraOpThreads&) = delete;
  IntraOpThreads& operator=(const IntraOpThreads&) = delete;

 private:
  int before_;
};

at::Tensor random_images(std::vector<int64_t> shape, int64_t batch) {
  auto generator = at::detail::createCPUGenerator(7);
  shape.insert(shape.begin(), batch);
  return torch::randn(shape, generator);
}

/// The loss's gradients by every parameter and by the input.
NamedTensors gradients(const Case& tested, int64_t batch) {
  const int64_t classes = 3;
  auto definition = define_model(tested.model, tested.input, classes);
  REQUIRE(definition.has_value());
  const ModelPart model = definition->build(1);
  const at::Tensor input = random_images(tested.input, batch).requires_grad_();
  const at::Tensor labels = torch::arange(batch).remainder(classes);
  torch::cross_entropy_loss(model.forward(input), labels).backward();
  NamedTensors all{{"input", input.grad()}};
  for (const NamedTensor& entry : model.parameters()) all.push_back({entry.name, entry.tensor.grad()});
  return all;
}

}  // namespace

TEST_SUITE("core/model/gradients") {
  TEST_CASE("every model's gradients at its smallest sizes are those of another implementation") {
    std::vector<Case> cases{{"mlp:hidden=1", {1}}, {"mlp:hidden=3-2", {1, 2, 2}}, {"cnn", {1, 4, 4}},
                            {"cnn", {3, 5, 4}},    {"lenet5", {1, 4, 4}},         {"lenet5", {3, 5, 7}}};
    for (const char* model : {"resnet18:width=4", "resnet18:width=8", "resnet18:width=12,norm=group",
                              "resnet18:width=16", "resnet18:width=20,norm=group"}) {
      cases.push_back({model, {1, 8, 8}});
      cases.push_back({model, {3, 9, 12}});
    }
    // So many pixels that a kernel shares out one image among its threads or passes.
    cases.push_back({"resnet18:width=4", {1, 64, 64}});
    cases.push_back({"resnet18:width=8,norm=group", {1, 64, 64}});
    const int64_t batch = 3;
    for (const Case& tested : cases) {
      for (const int threads : {1, 2}) {
        CAPTURE(tested.model);
        CAPTURE(tested.input);
        CAPTURE(threads);
        const IntraOpThreads scope(threads);
        const NamedTensors computed = gradients(tested, batch);
        const WithoutOneDnn plain;
        const NamedTensors expected = gradients(tested, batch);
        REQUIRE(computed.size() == expected.size());
        for (size_t i = 0; i < computed.size(); ++i) {
          CAPTURE(computed[i].name);
          const double largest = expected[i].tensor.abs().max().item<double>();
          const double off = (computed[i].tensor - expected[i].tensor).abs().max().item<double>();
          CHECK(off <= 1e-3 * largest + 1e-7);
        }
      }
    }
  }
}

}  // namespace tandem
