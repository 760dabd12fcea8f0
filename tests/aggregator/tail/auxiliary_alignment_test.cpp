#include "tandem/aggregator/tail/auxiliary_alignment.h"

#include <cmath>
#include <limits>

#include "support/test.h"
#include "tandem/core/model/auxiliary_head.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

constexpr int64_t kClasses = 4;

struct Problem {
  ModelPart tail;
  std::vector<int64_t> activation_shape;
  std::vector<SmashedBatch> smashed;
};

/// Images that are one pattern a class under noise, through the front of an untrained model, in uneven
/// batches.
Problem make_problem(const std::string& model, std::vector<int64_t> input, int cut, int batches = 6) {
  const auto definition = define_model(model, input, kClasses);
  REQUIRE_MESSAGE(definition.has_value(), model);
  ModelPart front = definition->build(3, 0, cut);
  Problem problem{
      definition->build(3, cut, definition->num_blocks()), definition->block(cut - 1).output_shape, {}};
  const torch::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(5);
  input.insert(input.begin(), kClasses);
  const at::Tensor patterns = torch::randn(input, generator);
  for (int i = 0; i < batches; ++i) {
    const at::Tensor labels = torch::randint(0, kClasses, {20 + 8 * i}, generator, at::kLong);
    input[0] = labels.size(0);
    const at::Tensor images = patterns.index_select(0, labels) + 0.3 * torch::randn(input, generator);
    problem.smashed.push_back({front.forward(images).contiguous(), labels});
  }
  return problem;
}

ModelPart make_head(const Problem& problem, const std::string& specification, uint64_t seed = 9) {
  return *build_auxiliary_head(specification, problem.activation_shape, kClasses, seed);
}

bool same_bits(const NamedTensors& a, const NamedTensors& b) {
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); ++i) same = at::equal(a[i].tensor, b[i].tensor);
  return same;
}

/// By definition, one example at a time: sum |g_aux - g_tail|^2 / sum |g_tail|^2.
double relative_error(const ModelPart& head, ModelPart tail, const std::vector<SmashedBatch>& smashed) {
  tail.set_training(false);
  const auto gradient = [](const ModelPart& part, const at::Tensor& z, const at::Tensor& y) {
    const at::Tensor leaf = z.clone().requires_grad_();
    torch::cross_entropy_loss(part.forward(leaf), y).backward();
    return leaf.grad();
  };
  double difference = 0, reference = 0;
  for (const SmashedBatch& batch : smashed) {
    for (int64_t i = 0; i < batch.labels.size(0); ++i) {
      const at::Tensor z = batch.activations.narrow(0, i, 1), y = batch.labels.narrow(0, i, 1);
      const at::Tensor target = gradient(tail, z, y);
      difference += (gradient(head, z, y) - target).square().sum().item<double>();
      reference += target.square().sum().item<double>();
    }
  }
  return difference / reference;
}

}  // namespace

TEST_SUITE("aggregator/tail/auxiliary_alignment") {
  TEST_CASE("a linear head matches a linear tail to nearly no error") {
    const Problem problem = make_problem("mlp:hidden=8", {12}, 1);
    const ModelPart head = make_head(problem, "linear");
    const auto report =
        align_auxiliary_head(head, problem.tail, problem.smashed, {.epochs = 150, .learning_rate = 0.02});
    MESSAGE("linear: " << report.error_before << " -> " << report.error_after);
    CHECK(report.error_before > 0.5);
    CHECK(report.error_after < 1e-3);
  }

  TEST_CASE("the error of every kind of head falls clearly on images") {
    const Problem problem = make_problem("lenet5", {1, 12, 12}, 1);
    for (const std::string specification : {"linear", "mlp:hidden=32", "conv:channels=16"}) {
      CAPTURE(specification);
      const ModelPart head = make_head(problem, specification);
      const auto report =
          align_auxiliary_head(head, problem.tail, problem.smashed, {.epochs = 150, .learning_rate = 2e-3});
      MESSAGE(specification << ": " << report.error_before << " -> " << report.error_after);
      CHECK(report.error_after < 0.65);  // no gradient at all has 1
      CHECK(report.error_after < 0.5 * report.error_before);
      for (const NamedTensor& entry : head.parameters()) CHECK_FALSE(entry.tensor.grad().defined());
    }
  }

  TEST_CASE("the errors reported are the definition's, example by example") {
    for (const auto& [model, input] : {std::pair<std::string, std::vector<int64_t>>{"lenet5", {1, 12, 12}},
                                       {"resnet18:width=4", {1, 8, 8}}}) {
      CAPTURE(model);
      const Problem problem = make_problem(model, input, 1, 2);
      const ModelPart head = make_head(problem, "mlp:hidden=8");
      const double before = relative_error(head, problem.tail.clone(), problem.smashed);
      const auto report = align_auxiliary_head(head, problem.tail, problem.smashed,
                                               {.epochs = 1, .batch_size = 7, .learning_rate = 1e-2});
      CHECK(report.error_before == doctest::Approx(before).epsilon(1e-4));
      const double after = relative_error(head, problem.tail.clone(), problem.smashed);
      CHECK(report.error_after == doctest::Approx(after).epsilon(1e-4));
      CHECK(before != doctest::Approx(after).epsilon(1e-3));
    }
  }

  TEST_CASE("one full-batch step is Adam's on the objective's numerical gradient") {
    const Problem problem = make_problem("mlp:hidden=5", {6}, 1, 1);
    const ModelPart head = make_head(problem, "linear");
    const ModelPart moved = head.clone();
    const double rate = 1e-3;
    (void)align_auxiliary_head(moved, problem.tail, problem.smashed, {.epochs = 1, .learning_rate = rate});
    at::Tensor weight = head.parameters()[0].tensor.detach();
    const at::Tensor change = moved.parameters()[0].tensor.detach() - weight;
    int checked = 0;
    for (int64_t i = 0; i < weight.numel(); ++i) {
      at::Tensor value = weight.flatten().narrow(0, i, 1);
      const float old = value.item<float>();
      const auto error_at = [&](float x) {
        value.fill_(x);
        return relative_error(head, problem.tail.clone(), problem.smashed);
      };
      const double slope = (error_at(old + 1e-2f) - error_at(old - 1e-2f)) / 2e-2;
      value.fill_(old);
      if (std::abs(slope) < 1e-2) continue;
      // Adam's first step is the learning rate against the gradient's sign.
      const double step = change.flatten()[i].item<double>() / rate;
      CHECK(step == doctest::Approx(slope > 0 ? -1.0 : 1.0).epsilon(0.01));
      ++checked;
    }
    CHECK(checked >= 10);
  }

  TEST_CASE("a step through ReLU and convolution takes the second derivative as written out") {
    const Problem problem = make_problem("lenet5", {1, 12, 12}, 1, 1);
    const SmashedBatch& batch = problem.smashed[0];
    const auto gradient = [&](const at::Tensor& z, const at::Tensor& logits) {
      const auto loss = torch::cross_entropy_loss(logits, batch.labels, {}, at::Reduction::Sum);
      return torch::autograd::grad({loss}, {z}, {}, true, /*create_graph=*/true)[0];
    };
    const at::Tensor z = batch.activations.clone().requires_grad_();
    ModelPart tail = problem.tail.clone();
    tail.set_training(false);
    const at::Tensor target = gradient(z, tail.forward(z)).detach();
    const ModelPart head = make_head(problem, "conv:channels=4");
    const ModelPart moved = head.clone();
    const double rate = 1e-3;
    (void)align_auxiliary_head(moved, problem.tail, problem.smashed, {.epochs = 1, .learning_rate = rate});
    const NamedTensors w = snapshot(head.state());
    for (const NamedTensor& entry : w) entry.tensor.requires_grad_();
    const at::Tensor hidden = at::relu(at::conv2d(z, w[0].tensor, w[1].tensor));
    const at::Tensor logits = at::linear(hidden.flatten(1), w[2].tensor, w[3].tensor);
    ((gradient(z, logits) - target).square().sum() / target.square().sum()).backward();
    for (size_t i = 0; i < w.size(); ++i) {
      CAPTURE(w[i].name);
      const at::Tensor slope = w[i].tensor.grad();
      const at::Tensor change = moved.state()[i].tensor.detach() - w[i].tensor.detach();
      // Adam's first step is the learning rate against the gradient's sign.
      const at::Tensor clear = slope.abs() > 1e-4;
      CHECK(clear.sum().item<int64_t>() > slope.numel() / 2);
      CHECK(at::allclose(change.masked_select(clear), -rate * slope.sign().masked_select(clear), 1e-2, 1e-7));
    }
  }

  TEST_CASE("the tail keeps its weights, statistics and gradients, and is left in training mode") {
    Problem problem = make_problem("resnet18:width=4", {1, 8, 8}, 2, 2);
    const at::Tensor z = problem.smashed[0].activations;
    torch::cross_entropy_loss(problem.tail.forward(z), problem.smashed[0].labels).backward();
    const auto gradients = [&] {
      NamedTensors list;
      for (const NamedTensor& entry : problem.tail.parameters())
        list.push_back({entry.name, entry.tensor.grad()});
      return list;
    };
    const NamedTensors state = snapshot(problem.tail.state());
    const NamedTensors before = snapshot(gradients());
    (void)align_auxiliary_head(make_head(problem, "linear"), problem.tail, problem.smashed, {.epochs = 1});
    CHECK(same_bits(problem.tail.state(), state));
    CHECK(same_bits(gradients(), before));
    (void)problem.tail.forward(z);
    for (const NamedTensor& entry : problem.tail.buffers()) {
      if (entry.name.find("num_batches_tracked") != std::string::npos)
        CHECK(entry.tensor.item<int64_t>() == 2);
    }
  }

  TEST_CASE("the same seed gives the same head, bit for bit, and another seed another one") {
    const Problem problem = make_problem("lenet5", {1, 12, 12}, 1, 3);
    const auto aligned = [&](uint64_t seed) {
      const ModelPart head = make_head(problem, "conv:channels=4");
      const torch::NoGradGuard no_grad;  // the caller's mode does not matter
      (void)align_auxiliary_head(head, problem.tail, problem.smashed,
                                 {.epochs = 2, .batch_size = 16, .seed = seed});
      return snapshot(head.state());
    };
    torch::manual_seed(1);
    const NamedTensors first = aligned(1);
    torch::manual_seed(2);
    CHECK(same_bits(first, aligned(1)));
    CHECK_FALSE(same_bits(first, aligned(2)));
  }

  TEST_CASE("the error is relative: it does not depend on how large the gradients are") {
    // The same functions of activations a power of two larger: every gradient at the cut is that much
    // smaller.
    const double factor = 1024;
    const Problem problem = make_problem("mlp:hidden=8", {12}, 1, 2);
    Problem scaled{problem.tail.clone(), problem.activation_shape, problem.smashed};
    const torch::NoGradGuard no_grad;
    for (SmashedBatch& batch : scaled.smashed) batch.activations = batch.activations * factor;
    scaled.tail.parameters()[0].tensor.div_(factor);
    const ModelPart head = make_head(problem, "linear"), scaled_head = head.clone();
    scaled_head.parameters()[0].tensor.div_(factor);
    const auto report = align_auxiliary_head(head, problem.tail, problem.smashed, {});
    const auto scaled_report = align_auxiliary_head(scaled_head, scaled.tail, scaled.smashed, {});
    CHECK(scaled_report.error_before == doctest::Approx(report.error_before).epsilon(1e-5));
  }

  TEST_CASE("a tail whose gradients are not finite leaves the head as it was") {
    const Problem problem = make_problem("mlp:hidden=8", {12}, 1, 2);
    problem.tail.parameters()[0].tensor.detach().fill_(std::numeric_limits<float>::quiet_NaN());
    const ModelPart head = make_head(problem, "linear");
    const NamedTensors before = snapshot(head.state());
    const auto report = align_auxiliary_head(head, problem.tail, problem.smashed, {});
    CHECK(std::isnan(report.error_before));
    CHECK(std::isnan(report.error_after));
    CHECK(same_bits(head.state(), before));
  }

  TEST_CASE("misuse throws and says what") {
    const Problem problem = make_problem("mlp:hidden=8", {12}, 1, 1);
    const ModelPart head = make_head(problem, "linear");
    const auto align = [&](const std::vector<SmashedBatch>& smashed, AlignmentOptions options) {
      (void)align_auxiliary_head(head, problem.tail, smashed, options);
    };
    CHECK_THROWS_WITH_AS(align({}, {}), "align_auxiliary_head needs at least one example",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(align(problem.smashed, {.epochs = 0}), "AlignmentOptions.epochs must be >= 1, got 0",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(align(problem.smashed, {.batch_size = 0}),
                         "AlignmentOptions.batch_size must be >= 1, got 0", std::invalid_argument);
    CHECK_THROWS_AS(align(problem.smashed, {.learning_rate = 0}), std::invalid_argument);
    CHECK_THROWS_WITH_AS(align({{torch::ones({3, 8}), torch::zeros({2}, at::kLong)}}, {}),
                         "align_auxiliary_head: a batch has 3 activations and 2 labels",
                         std::invalid_argument);
  }
}
