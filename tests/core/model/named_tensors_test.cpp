#include "tandem/core/model/named_tensors.h"

#include <limits>

#include "support/test.h"

namespace tandem {
namespace {

NamedTensors example() {
  return {{"0.weight", torch::arange(6, torch::kFloat).view({2, 3})},
          {"0.steps", torch::tensor(int64_t{4}, torch::kLong)}};
}

}  // namespace

TEST_SUITE("core/model/named_tensors") {
  TEST_CASE("snapshot owns its storage and carries no graph") {
    NamedTensors tensors = example();
    tensors[0].tensor.requires_grad_();
    const NamedTensors copy = snapshot(tensors);
    const torch::NoGradGuard no_grad;
    tensors[0].tensor.fill_(9.0);
    CHECK(copy[0].name == "0.weight");
    CHECK(copy[0].tensor[1][2].item<float>() == 5.0f);
    CHECK_FALSE(copy[0].tensor.requires_grad());
  }

  TEST_CASE("snapshot keeps each memory format, also that of a single channel") {
    const at::Tensor many = torch::rand({4, 3, 2, 2}).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor one = torch::rand({4, 1, 3, 3}).as_strided({4, 1, 3, 3}, {9, 1, 3, 1});
    const NamedTensors copy = snapshot({{"many", many}, {"one", one}});
    CHECK(copy[0].tensor.strides().vec() == many.strides().vec());
    CHECK(copy[1].tensor.strides().vec() == std::vector<int64_t>{9, 1, 3, 1});
    CHECK(at::equal(copy[1].tensor, one));
  }

  TEST_CASE("check_same_layout accepts the same names, shapes and dtypes with other values") {
    NamedTensors other = snapshot(example());
    other[0].tensor.zero_();
    CHECK(check_same_layout(example(), other).has_value());
  }

  TEST_CASE("check_same_layout names the first tensor that differs, what was expected and what came") {
    struct Case {
      NamedTensors candidate;
      std::string message;
    };
    NamedTensors renamed = example();
    renamed[1].name = "0.count";
    NamedTensors reshaped = example();
    reshaped[0].tensor = reshaped[0].tensor.view({3, 2});
    NamedTensors retyped = example();
    retyped[0].tensor = retyped[0].tensor.to(torch::kDouble);
    NamedTensors undefined = example();
    undefined[0].tensor = at::Tensor();
    NamedTensors shorter = example();
    shorter.pop_back();
    NamedTensors longer = example();
    longer.push_back({"1.bias", torch::zeros({1})});
    const std::vector<Case> cases{
        {renamed, "tensor 2 of 2: expected 0.steps (Long []), got 0.count (Long [])"},
        {reshaped, "tensor 1 of 2: expected 0.weight (Float [2, 3]), got 0.weight (Float [3, 2])"},
        {retyped, "tensor 1 of 2: expected 0.weight (Float [2, 3]), got 0.weight (Double [2, 3])"},
        {undefined, "tensor 1 of 2: expected 0.weight (Float [2, 3]), got 0.weight (undefined)"},
        {shorter, "tensor 2 of 2: expected 0.steps (Long []), got none"},
        {longer, "tensor 3 of 2: expected none, got 1.bias (Float [1])"},
    };
    for (const Case& c : cases) {
      const auto checked = check_same_layout(example(), c.candidate);
      REQUIRE_FALSE(checked.has_value());
      CHECK(checked.error().code == ErrorCode::kShapeMismatch);
      CHECK(checked.error().message == c.message);
    }
  }

  TEST_CASE("check_finite names the tensor that holds NaN or infinity, wherever in it") {
    const double bad_values[] = {std::numeric_limits<double>::quiet_NaN(),
                                 std::numeric_limits<double>::infinity(),
                                 -std::numeric_limits<double>::infinity()};
    for (const auto type : {torch::kFloat, torch::kDouble, torch::kHalf}) {
      for (const double bad : bad_values) {
        for (const int64_t position : {0, 17, 39}) {
          CAPTURE(position);
          at::Tensor tensor = torch::ones({40}, type);
          tensor[position] = bad;
          const auto checked = check_finite({{"fine", torch::ones({3})}, {"2.bias", tensor}});
          REQUIRE_FALSE(checked.has_value());
          CHECK(checked.error().code == ErrorCode::kNonFinite);
          CHECK(checked.error().message == "tensor 2.bias holds NaN or infinity");
        }
      }
    }
  }

  TEST_CASE("check_finite accepts large, empty, integer and strided tensors") {
    const at::Tensor large = torch::full({3}, std::numeric_limits<float>::max());
    at::Tensor hidden = torch::ones({4, 4});
    hidden[1][1] = std::numeric_limits<float>::infinity();
    CHECK(check_finite({{"a", large},
                        {"b", torch::empty({0})},
                        {"c", torch::tensor(int64_t{1})},
                        {"d", hidden.slice(1, 2, 4)},
                        {"e", torch::tensor(1.5f)}})
              .has_value());
  }

  TEST_CASE("total_bytes counts 4 bytes a float and 8 a long") {
    CHECK(total_bytes(example()) == 32);
  }

  TEST_CASE("find_tensor finds by name or gives null") {
    const NamedTensors tensors = example();
    CHECK(find_tensor(tensors, "0.steps") == &tensors[1].tensor);
    CHECK(find_tensor(tensors, "0.bias") == nullptr);
  }
}

}  // namespace tandem
