#include "tandem/datasets/tensor_dataset.h"

#include <functional>
#include <string>
#include <vector>

#include "support/test.h"

namespace {

using tandem::Batch;
using tandem::datasets::TensorDataset;

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::invalid_argument& thrown) {
    return thrown.what();
  }
  return "not refused";
}

std::string refusal(const at::Tensor& inputs, const at::Tensor& labels, int64_t classes) {
  return refusal([&] { TensorDataset(inputs, labels, classes); });
}

}  // namespace

TEST_SUITE("datasets/tensor_dataset") {
  TEST_CASE("get returns the examples asked for, in that order, repeated where repeated") {
    const at::Tensor inputs = torch::arange(24, torch::kByte).view({4, 1, 2, 3});
    const TensorDataset dataset(inputs, torch::tensor({3, 1, 0, 2}, torch::kLong), 5);
    CHECK(dataset.describe() == tandem::DataDescription{{1, 2, 3}, 5, 4});
    const Batch batch = dataset.get(std::vector<int64_t>{2, 0, 2});
    CHECK(torch::equal(batch.inputs, torch::stack({inputs[2], inputs[0], inputs[2]})));
    CHECK(torch::equal(batch.labels, torch::tensor({0, 3, 0}, torch::kLong)));
  }

  TEST_CASE("what get returns is the caller's own") {
    const TensorDataset dataset(torch::zeros({2, 3}), torch::zeros({2}, torch::kLong), 2);
    const std::vector<int64_t> first{0};
    dataset.get(first).inputs.fill_(7);
    dataset.get(first).labels.fill_(7);
    CHECK(dataset.get(first).inputs.sum().item<float>() == 0.0f);
    CHECK(dataset.get(first).labels.sum().item<int64_t>() == 0);
  }

  TEST_CASE("nothing asked for gives empty tensors of the right shape") {
    const TensorDataset dataset(torch::zeros({2, 3, 4, 5}, torch::kByte), torch::zeros({2}, torch::kLong), 2);
    const Batch batch = dataset.get({});
    CHECK(batch.inputs.sizes() == at::IntArrayRef({0, 3, 4, 5}));
    CHECK((batch.inputs.scalar_type() == at::kByte));
    CHECK(batch.labels.sizes() == at::IntArrayRef({0}));
  }

  TEST_CASE("a tensor that is not contiguous is read by its values") {
    const at::Tensor inputs = torch::arange(12, torch::kFloat).view({3, 4}).t();
    const at::Tensor labels = torch::tensor({0, 9, 1, 9, 0, 9, 1, 9}, torch::kLong).slice(0, 0, 8, 2);
    const TensorDataset dataset(inputs, labels, 2);
    const Batch batch = dataset.get(std::vector<int64_t>{1, 3});
    CHECK(torch::equal(batch.inputs, torch::tensor({{1.0f, 5.0f, 9.0f}, {3.0f, 7.0f, 11.0f}})));
    CHECK(torch::equal(batch.labels, torch::tensor({1, 1}, torch::kLong)));
  }

  TEST_CASE("tensors that do not fit are refused by name") {
    const at::Tensor images = torch::zeros({2, 1, 3, 3}, torch::kByte);
    const at::Tensor labels = torch::zeros({2}, torch::kLong);
    CHECK(refusal({}, labels, 2) == "TensorDataset: inputs need a batch dimension and at least one other");
    CHECK(refusal(torch::zeros({2}), labels, 2) ==
          "TensorDataset: inputs need a batch dimension and at least one other");
    const char* types = "TensorDataset: inputs must be uint8 or float32 [N, ...]";
    CHECK(refusal(torch::zeros({2, 3}, torch::kInt), labels, 2) == types);
    CHECK(refusal(torch::zeros({2, 3}, torch::kDouble), labels, 2) == types);
    CHECK(refusal(images, {}, 2) == "TensorDataset: labels must be int64 [N]");
    CHECK(refusal(images, torch::zeros({2}, torch::kInt), 2) == "TensorDataset: labels must be int64 [N]");
    CHECK(refusal(images, torch::zeros({3}, torch::kLong), 2) == "TensorDataset: 2 inputs but 3 labels");
    CHECK(refusal(images, labels, 1) == "TensorDataset: num_classes must be >= 2, got 1");
    CHECK(refusal(images, torch::tensor({1, 4}, torch::kLong), 4) ==
          "TensorDataset: label 4 of example 1 is outside 0..3");
    CHECK(refusal(images, torch::tensor({-1, 0}, torch::kLong), 4) ==
          "TensorDataset: label -1 of example 0 is outside 0..3");
  }

  TEST_CASE("an example that does not exist is refused") {
    const TensorDataset dataset(torch::zeros({2, 3}), torch::zeros({2}, torch::kLong), 2);
    CHECK(refusal([&] {
            dataset.get(std::vector<int64_t>{0, 2});
          }) == "TensorDataset: example 2 is outside 0..1");
    CHECK(refusal([&] { dataset.get(std::vector<int64_t>{-1}); }) ==
          "TensorDataset: example -1 is outside 0..1");
  }
}
