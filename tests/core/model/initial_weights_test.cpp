#include "tandem/core/model/initial_weights.h"

#include <algorithm>
#include <limits>
#include <string>

#include "support/test.h"
#include "tandem/core/model/model.h"

namespace {

using namespace tandem;

NamedTensors layout_of(const std::string& model) {
  return snapshot(define_model(model, {1, 12, 12}, 10)->build(3).state());
}

/// As another program may have stored the layout's weights.
NamedTensors weights_like(const NamedTensors& layout) {
  NamedTensors weights = snapshot(layout);
  for (size_t i = 0; i < weights.size(); ++i) {
    if (at::isFloatingType(weights[i].tensor.scalar_type())) {
      weights[i].tensor.uniform_(-2, 2);
    } else {
      weights[i].tensor.fill_(static_cast<int64_t>(100 + i));
    }
  }
  return weights;
}

void rename(NamedTensors& tensors, const std::string& prefix) {
  for (NamedTensor& entry : tensors) entry.name = prefix + entry.name;
}

void check_same(const NamedTensors& a, const NamedTensors& b) {
  const auto same = check_same_layout(a, b);
  REQUIRE_MESSAGE(same.has_value(), (same ? "" : same.error().message));
  for (size_t i = 0; i < a.size(); ++i) CHECK(at::equal(a[i].tensor, b[i].tensor));
}

FittedWeights fit(const NamedTensors& layout, NamedTensors weights) {
  const auto fitted = fit_weights(layout, {.tensors = std::move(weights)});
  REQUIRE_MESSAGE(fitted.has_value(), (fitted ? "" : fitted.error().message));
  return *fitted;
}

std::string error_of(const NamedTensors& layout, NamedTensors weights,
                     ErrorCode code = ErrorCode::kShapeMismatch) {
  const auto fitted = fit_weights(layout, {.tensors = std::move(weights)});
  REQUIRE_FALSE(fitted.has_value());
  CHECK((fitted.error().code == code));
  return fitted.error().message;
}

}  // namespace

TEST_SUITE("core/model/initial_weights") {
  TEST_CASE("tensors are taken by name, in whatever order they come") {
    for (const char* model : {"mlp:hidden=16", "lenet5", "resnet18:width=16"}) {
      CAPTURE(model);
      const NamedTensors layout = layout_of(model);
      const NamedTensors weights = weights_like(layout);
      NamedTensors sorted = weights;
      std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
      NamedTensors reversed = weights;
      std::reverse(reversed.begin(), reversed.end());
      for (const NamedTensors& order : {weights, sorted, reversed}) {
        const FittedWeights fitted = fit(layout, order);
        check_same(weights, fitted.tensors);
        CHECK(fitted.note == "");
      }
    }
  }

  TEST_CASE("other precisions become float32, and it is said") {
    const NamedTensors layout = layout_of("mlp:hidden=16");
    const NamedTensors weights = weights_like(layout);
    for (const auto& [type, name] :
         {std::pair{at::kHalf, "float16"}, {at::kBFloat16, "bfloat16"}, {at::kDouble, "float64"}}) {
      NamedTensors stored = weights;
      NamedTensors expected = weights;
      for (size_t i = 0; i < stored.size(); ++i) {
        stored[i].tensor = stored[i].tensor.to(type);
        expected[i].tensor = stored[i].tensor.to(at::kFloat);
      }
      const FittedWeights fitted = fit(layout, stored);
      check_same(expected, fitted.tensors);
      CHECK(fitted.note == std::string("4 tensors converted from ") + name + " to float32");
    }
  }

  TEST_CASE("batch norm's counters come as any whole numbers") {
    const NamedTensors layout = layout_of("resnet18:width=16");
    const NamedTensors weights = weights_like(layout);
    for (const at::ScalarType type : {at::kInt, at::kShort, at::kByte, at::kFloat, at::kHalf}) {
      NamedTensors stored = weights;
      for (NamedTensor& entry : stored) {
        if (entry.tensor.scalar_type() == at::kLong) entry.tensor = entry.tensor.fill_(99).to(type);
      }
      check_same(weights, fit(layout, stored).tensors);
    }
    NamedTensors stored = weights;
    for (NamedTensor& entry : stored) {
      if (entry.name == "0.1.num_batches_tracked") entry.tensor = at::full({}, 1.5);
    }
    CHECK(error_of(layout, stored, ErrorCode::kNonFinite) ==
          "NaN, infinity or values that cannot be converted in 0.1.num_batches_tracked");
  }

  TEST_CASE("a prefix before all names is taken off, and it is said") {
    const NamedTensors layout = layout_of("mlp:hidden=16");
    const NamedTensors weights = weights_like(layout);
    for (const char* prefix : {"module.", "_orig_mod.", "_orig_mod.module.", "net.1."}) {
      NamedTensors stored = weights;
      rename(stored, prefix);
      const FittedWeights fitted = fit(layout, stored);
      check_same(weights, fitted.tensors);
      CHECK(fitted.note == std::string("the prefix \"") + prefix + "\" was taken off the names");
      stored.erase(stored.begin());
      CHECK(error_of(layout, stored) == "the file lacks 0.1.weight (16x144)");
      CHECK_FALSE(check_weight_names(layout, {.tensors = stored}).has_value());
    }
  }

  TEST_CASE("everything that does not fit is listed at once, with the nearest names") {
    const NamedTensors layout = layout_of("mlp:hidden=16");
    NamedTensors weights = weights_like(layout);
    weights[0].tensor = weights[0].tensor.t().contiguous();
    weights[1].tensor = at::zeros({17});
    weights[2].name = "1.0.wieght";
    weights[3].tensor = weights[3].tensor.to(at::kLong);
    weights.push_back({"optimizer.step", at::zeros({}, at::kLong)});
    CHECK(error_of(layout, weights) ==
          "the file lacks 1.0.weight (10x16); the model has no 1.0.wieght (10x16) (for 1.0.weight?), "
          "optimizer.step "
          "(int64 scalar); other shapes or kinds: 0.1.weight 144x16 for 16x144 (transposed), 0.1.bias 17 for "
          "16, "
          "1.0.bias int64 10 for 10");
    CHECK(check_weight_names(layout, {.tensors = weights}).error().message ==
          "the file lacks 1.0.weight; the model has no 1.0.wieght (for 1.0.weight?), optimizer.step");
    CHECK(error_of(layout, {}) ==
          "the file lacks 0.1.weight (16x144), 0.1.bias (16), 1.0.weight (10x16), 1.0.bias (10)");
  }

  TEST_CASE("long lists are cut short") {
    const std::string error = error_of(layout_of("resnet18:width=16"), weights_like(layout_of("lenet5")));
    CHECK(error.starts_with("the file lacks "));
    CHECK(error.find(" more; the model has no ") != std::string::npos);
    CHECK(error.size() < 800);
  }

  TEST_CASE("a part of the model is called that") {
    const NamedTensors layout = layout_of("cnn");
    const NamedTensors weights = weights_like(layout);
    const NamedTensors front = {weights.begin(), weights.begin() + 4};
    const std::string hint =
        "; it holds only block(s) 0, 1 of the model, as a front.safetensors or tail.safetensors "
        "does: give the model.safetensors of the run";
    CHECK(error_of(layout, front).ends_with(hint));
    CHECK(check_weight_names(layout, {.tensors = front}).error().message.ends_with(hint));
    const NamedTensors half = {weights.begin(), weights.begin() + 3};
    CHECK(error_of(layout, half).find("it holds only") == std::string::npos);
  }

  TEST_CASE("values that are not finite are refused with every tensor that holds one") {
    const NamedTensors layout = layout_of("mlp:hidden=16");
    NamedTensors weights = weights_like(layout);
    weights[1].tensor[3] = std::numeric_limits<float>::quiet_NaN();
    weights[3].tensor = at::full({10}, 1e300, at::kDouble);
    CHECK(error_of(layout, weights, ErrorCode::kNonFinite) ==
          "NaN, infinity or values that cannot be converted in 0.1.bias, 1.0.bias");
  }
}
