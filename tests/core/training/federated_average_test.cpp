#include "tandem/core/training/federated_average.h"

#include <limits>
#include <random>

#include "support/test.h"

namespace tandem {
namespace {

NamedTensors scalar(float value, int64_t counter = 0) {
  return {{"0.weight", torch::tensor({value})}, {"0.count", torch::tensor(counter, torch::kLong)}};
}

ClientId client(const std::string& name) {
  return ClientId{name};
}

}  // namespace

TEST_SUITE("core/training/federated_average") {
  TEST_CASE("1 with one example and 3 with two average to 7/3") {
    FederatedAverage average(scalar(0));
    REQUIRE(average.add(client("a"), scalar(1), 1).has_value());
    REQUIRE(average.add(client("b"), scalar(3), 2).has_value());
    CHECK(average.clients() == 2);
    CHECK(average.examples() == 3);
    const NamedTensors mean = average.mean();
    CHECK(mean[0].name == "0.weight");
    CHECK((mean[0].tensor.scalar_type() == torch::kFloat));
    CHECK(mean[0].tensor.item<float>() == static_cast<float>(7.0 / 3.0));
  }

  TEST_CASE("integer buffers take the maximum, whatever the weights") {
    FederatedAverage average(scalar(0, 100));
    REQUIRE(average.add(client("a"), scalar(1, 5), 1).has_value());
    REQUIRE(average.add(client("b"), scalar(1, 9), 1).has_value());
    REQUIRE(average.add(client("c"), scalar(1, -2), 1000).has_value());
    const NamedTensors mean = average.mean();
    CHECK((mean[1].tensor.scalar_type() == torch::kLong));
    CHECK(mean[1].tensor.item<int64_t>() == 9);
  }

  TEST_CASE("the mean of one client is that client, bit for bit") {
    auto generator = at::detail::createCPUGenerator(5);
    const NamedTensors update{{"0.weight", torch::randn({1000}, generator)}};
    for (const uint64_t examples : {1, 3, 7, 59'999}) {
      CAPTURE(examples);
      FederatedAverage average(update);
      REQUIRE(average.add(client("a"), update, examples).has_value());
      CHECK(at::equal(average.mean()[0].tensor, update[0].tensor));
    }
  }

  TEST_CASE("the mean is the double sum, divided once and rounded once, in the order of add") {
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0.0f, 0.1f);
    constexpr int kClients = 7;
    constexpr int kSize = 101;
    std::vector<double> sums(kSize, 0.0);
    uint64_t total = 0;
    FederatedAverage average({{"w", torch::zeros({kSize})}});
    for (int k = 0; k < kClients; ++k) {
      const uint64_t examples = 1 + random() % 10'000;
      const at::Tensor w = torch::empty({kSize});
      for (int i = 0; i < kSize; ++i) {
        w.data_ptr<float>()[i] = normal(random);
        sums[i] += static_cast<double>(examples) * static_cast<double>(w.data_ptr<float>()[i]);
      }
      total += examples;
      REQUIRE(average.add(client(std::to_string(k)), {{"w", w}}, examples).has_value());
    }
    const at::Tensor mean = average.mean()[0].tensor;
    for (int i = 0; i < kSize; ++i) {
      CHECK(mean[i].item<float>() == static_cast<float>(sums[i] / static_cast<double>(total)));
    }
  }

  TEST_CASE("updates in another memory format average alike, and the mean has the layout's") {
    const at::Tensor layout = torch::zeros({4, 1, 3, 3}).as_strided({4, 1, 3, 3}, {9, 1, 3, 1});
    auto generator = at::detail::createCPUGenerator(5);
    const at::Tensor a = torch::randn({4, 1, 3, 3}, generator);
    const at::Tensor b = torch::randn({4, 1, 3, 3}, generator);
    FederatedAverage average({{"w", layout}});
    REQUIRE(average.add(client("a"), {{"w", a}}, 1).has_value());
    REQUIRE(average.add(client("b"), {{"w", b.contiguous(at::MemoryFormat::ChannelsLast)}}, 1).has_value());
    const at::Tensor mean = average.mean()[0].tensor;
    CHECK(mean.strides().vec() == std::vector<int64_t>{9, 1, 3, 1});
    CHECK(at::equal(mean, ((a.to(torch::kDouble) + b.to(torch::kDouble)) / 2).to(torch::kFloat)));
  }

  TEST_CASE("an update that does not fit is left out, and the error names client and tensor") {
    FederatedAverage average(scalar(0));
    REQUIRE(average.add(client("a"), scalar(1), 1).has_value());
    const auto infinite = average.add(client("cam-2"), scalar(std::numeric_limits<float>::infinity()), 1);
    REQUIRE_FALSE(infinite.has_value());
    CHECK(infinite.error().code == ErrorCode::kNonFinite);
    CHECK(infinite.error().message == "update of client cam-2: tensor 0.weight holds NaN or infinity");
    NamedTensors short_update = scalar(1);
    short_update.pop_back();
    const auto mismatch = average.add(client("cam-3"), short_update, 1);
    REQUIRE_FALSE(mismatch.has_value());
    CHECK(mismatch.error().code == ErrorCode::kShapeMismatch);
    CHECK(mismatch.error().message ==
          "update of client cam-3: tensor 2 of 2: expected 0.count (Long []), got none");
    CHECK(average.clients() == 1);
    CHECK(average.examples() == 1);
    CHECK(average.mean()[0].tensor.item<float>() == 1.0f);
  }

  TEST_CASE("neither updates nor the layout change, and the mean is not tied to either") {
    NamedTensors layout = scalar(8, 8);
    layout[0].tensor.requires_grad_();
    NamedTensors update = scalar(1, 1);
    update[0].tensor.requires_grad_();
    FederatedAverage average(layout);
    REQUIRE(average.add(client("a"), update, 2).has_value());
    REQUIRE(average.add(client("b"), scalar(4, 4), 1).has_value());
    const NamedTensors mean = average.mean();
    CHECK_FALSE(mean[0].tensor.requires_grad());
    mean[0].tensor.fill_(77.0f);
    mean[1].tensor.fill_(77);
    CHECK(update[0].tensor.item<float>() == 1.0f);
    CHECK(layout[0].tensor.item<float>() == 8.0f);
    CHECK(average.mean()[0].tensor.item<float>() == 2.0f);
    CHECK(average.mean()[1].tensor.item<int64_t>() == 4);
  }

  TEST_CASE("misuse throws") {
    FederatedAverage average(scalar(0));
    CHECK_THROWS_WITH_AS((void)average.mean(), "FederatedAverage.mean: no update was added",
                         std::logic_error);
    CHECK_THROWS_WITH_AS((void)average.add(client("a"), scalar(1), 0),
                         "FederatedAverage.add: examples of client a must be >= 1, got 0",
                         std::invalid_argument);
  }
}

}  // namespace tandem
