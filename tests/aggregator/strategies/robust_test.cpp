#include <numeric>

#include "merging.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using namespace tandem::aggregator::testing;

namespace {

double merged_scalar(const std::string& specification, const std::vector<double>& values) {
  return merged(*make(specification), weights({0}), scalars(values))[0].tensor.item<double>();
}

std::vector<ClientId> left_out_of(const std::string& specification, const std::vector<double>& values) {
  const auto strategy = make(specification);
  (void)merged(*strategy, weights({0}), scalars(values));
  return strategy->left_out();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// Bulyan by its definition, on vectors.
std::vector<double> bulyan_by_definition(const std::vector<std::vector<double>>& points, size_t f) {
  const auto distance = [&](size_t a, size_t b) {
    double sum = 0;
    for (size_t i = 0; i < points[a].size(); ++i) sum += std::pow(points[a][i] - points[b][i], 2);
    return sum;
  };
  std::vector<size_t> remaining(points.size());
  std::iota(remaining.begin(), remaining.end(), size_t{0});
  std::vector<size_t> selected;
  while (selected.size() < points.size() - 2 * f) {
    size_t best = remaining.front();
    double smallest = INFINITY;
    for (const size_t a : remaining) {
      std::vector<double> others;
      for (const size_t b : remaining) {
        if (a != b) others.push_back(distance(a, b));
      }
      std::sort(others.begin(), others.end());
      const size_t wanted = remaining.size() > f + 3 ? remaining.size() - f - 2 : 1;
      const size_t neighbours = std::min(wanted, others.size());
      const double score =
          std::accumulate(others.begin(), others.begin() + static_cast<std::ptrdiff_t>(neighbours), 0.0);
      if (score < smallest) {
        smallest = score;
        best = a;
      }
    }
    selected.push_back(best);
    remaining.erase(std::find(remaining.begin(), remaining.end(), best));
  }
  std::vector<double> result;
  for (size_t i = 0; i < points.front().size(); ++i) {
    std::vector<double> column;
    for (const size_t k : selected) column.push_back(points[k][i]);
    const double middle = median(column);
    std::sort(column.begin(), column.end(),
              [&](double a, double b) { return std::abs(a - middle) < std::abs(b - middle); });
    const auto count = static_cast<std::ptrdiff_t>(points.size() - 4 * f);
    result.push_back(std::accumulate(column.begin(), column.begin() + count, 0.0) /
                     static_cast<double>(count));
  }
  return result;
}

}  // namespace

TEST_SUITE("aggregator/strategies/robust") {
  TEST_CASE("the median is the middle value, or the mean of the two in the middle") {
    CHECK(merged_scalar("median", {5, 1, 100}) == 5);
    CHECK(merged_scalar("median", {5, 1, 100, 2}) == 3.5);
    CHECK(merged_scalar("median", {7}) == 7);
  }

  TEST_CASE("the trimmed mean drops the floor of its fraction at either end") {
    CHECK(merged_scalar("trimmed-mean:fraction=0.25", {100, .5, 2, 1}) == 1.5);
    CHECK(merged_scalar("trimmed-mean:fraction=0.25", {0, 3, 9}) == 4);
    CHECK(merged_scalar("trimmed-mean:fraction=0.4", {-50, 1, 2, 6, 90}) == 2);
    CHECK(merged_scalar("trimmed-mean:fraction=0.49", {3}) == 3);
    // 0.29 * 100 is 28.999999999999996 in double: all 29 values that are far out must go.
    std::vector<ClientUpdate> updates;
    for (int i = 0; i < 100; ++i) {
      updates.push_back(
          update(std::string("c").append(std::to_string(100 + i)), weights({i < 29 ? -1e6 : double(i)})));
    }
    const auto result = merged(*make("trimmed-mean:fraction=0.29"), weights({0}), updates);
    CHECK(result[0].tensor.item<double>() == doctest::Approx(49.5).epsilon(1e-6));
  }

  TEST_CASE("coordinates are merged each by itself, many more than fit in one piece") {
    const int64_t size = 150001;
    const at::Tensor ramp = at::arange(size, at::kFloat);
    std::vector<ClientUpdate> updates;
    for (int i = 0; i < 3; ++i) {
      at::Tensor values = ramp + i;
      values.slice(0, i * 50000, i * 50000 + 50000).fill_(-1e9);
      updates.push_back(update(std::string(1, static_cast<char>('a' + i)), {{"w", values}}));
    }
    const auto result = merged(*make("median"), {{"w", at::zeros({size})}}, updates);
    // One of the three is far below: the median is the smaller of the other two; the last has all three.
    at::Tensor expected = ramp.clone();
    expected.slice(0, 0, 50000).add_(1);
    expected.slice(0, size - 1).add_(1);
    CHECK(at::equal(result[0].tensor, expected));
  }

  TEST_CASE("Krum takes the update with the nearest n-f-2 neighbours") {
    // f = 1, n = 5: two neighbours. Scores 1+9=10, 1+4=5, 2.25+4=6.25, 2.25+12.25=14.5, far.
    const std::vector<double> values = {0, 1, 3, 4.5, 100};
    CHECK(merged_scalar("krum", values) == 1);
    CHECK(left_out_of("krum", values) == std::vector<ClientId>{{"a"}, {"c"}, {"d"}, {"e"}});
    // With f = 0 three neighbours: 1+9+20.25, 1+4+12.25, 2.25+4+9, 2.25+12.25+20.25.
    CHECK(merged_scalar("krum:f=0", values) == 3);
  }

  TEST_CASE("Krum counts one neighbour at least") {
    // f = 0, n = 3: n-f-2 = 1.
    CHECK(merged_scalar("krum:f=0", {0, 5, 6}) == 5);
  }

  TEST_CASE("Multi-Krum is the mean of the m best, n-f unless told") {
    const std::vector<double> values = {0, 1, 3, 4.5, 100};
    CHECK(merged_scalar("multi-krum:f=1,m=2", values) == 2);
    CHECK(merged_scalar("multi-krum:f=1", values) == 2.125);
    CHECK(left_out_of("multi-krum:f=1", values) == std::vector<ClientId>{{"e"}});
    CHECK(merged_scalar("multi-krum:f=1,m=1", values) == merged_scalar("krum", values));
  }

  TEST_CASE("ties go to the smaller client id, whatever the order of arrival") {
    // Scores 1+4, 1+1, 1+1, 1+4, far: b and c tie.
    std::vector<ClientUpdate> updates = scalars({0, 1, 2, 3, 100});
    CHECK(merged(*make("krum"), weights({0}), updates)[0].tensor.item<double>() == 1);
    std::reverse(updates.begin(), updates.end());
    CHECK(merged(*make("krum"), weights({0}), updates)[0].tensor.item<double>() == 1);
  }

  TEST_CASE("Krum's distances run over all parameters, in double, without buffers and counters") {
    const auto strategy = make("krum:f=0", {"running_mean"});
    const NamedTensors global = {{"a", vec({0})},
                                 {"running_mean", vec({0})},
                                 {"b", at::zeros({70000})},
                                 {"count", torch::tensor({0})}};
    std::vector<ClientUpdate> updates;
    const std::vector<double> first = {0, 1, 2.5};
    const std::vector<double> last = {0, 3, 3};  // in the second piece of the second tensor
    for (size_t i = 0; i < 3; ++i) {
      NamedTensors tensors = snapshot(global);
      tensors[0].tensor.fill_(first[i]);
      tensors[1].tensor.fill_(i == 1 ? 1e30 : 1);
      tensors[2].tensor[69999].fill_(last[i]);
      tensors[3].tensor.fill_(i == 1 ? 7 : 100);
      updates.push_back(update(std::string(1, static_cast<char>('a' + i)), tensors));
    }
    // Squared distances: ab 10, ac 15.25, bc 2.25: b and c tie, and b is taken with its own buffers.
    const auto result = merged(*strategy, global, updates);
    CHECK(strategy->left_out() == std::vector<ClientId>{{"a"}, {"c"}});
    CHECK(same(result, updates[1].weights));
  }

  TEST_CASE("Bulyan selects by iterated Krum") {
    // n = 7, f = 1. Best of all, with 4 neighbours: 7 (1+1+9+9); of the rest, with 3: 6 and 8 (4+4+16), so 6;
    // with 2: 10 (4+4); with 1: all have 16, so 12; then again, so 4. Left out are d (0) and f (8).
    // Nearest the median 7 are 7, 6 and, as near as 10 but smaller, 4. The five best of a single Krum would
    // be 7, 6, 8, 10, 4 and give 7.
    CHECK(merged_scalar("bulyan", {12, 7, 4, 0, 6, 8, 10}) == doctest::Approx(17.0 / 3.0).epsilon(1e-6));
    CHECK(left_out_of("bulyan", {12, 7, 4, 0, 6, 8, 10}) == std::vector<ClientId>{{"d"}, {"f"}});
  }

  TEST_CASE("Bulyan agrees with its definition") {
    torch::manual_seed(3);
    for (const int count : {3, 7, 8, 11, 12}) {
      for (int f = 0; 4 * f + 3 <= count; ++f) {
        CAPTURE(count);
        CAPTURE(f);
        std::vector<std::vector<double>> points;
        std::vector<ClientUpdate> updates;
        for (int k = 0; k < count; ++k) {
          const at::Tensor point = torch::randn({6}, at::kDouble);
          points.emplace_back(point.data_ptr<double>(), point.data_ptr<double>() + 6);
          updates.push_back(update(std::string(1, static_cast<char>('a' + k)), {{"w", point}}));
        }
        const auto result = merged(*make(std::string("bulyan:f=") + std::to_string(f)),
                                   weights({0, 0, 0, 0, 0, 0}, at::kDouble), updates);
        CHECK(error_of(result[0].tensor, bulyan_by_definition(points, static_cast<size_t>(f))) < 1e-12);
      }
    }
  }

  TEST_CASE("one client's huge values move no robust merge out of the others' range") {
    for (const char* specification : {"median", "trimmed-mean", "krum", "multi-krum", "bulyan"}) {
      for (const double outlier : {3e38, -3e38, 1e6}) {
        CAPTURE(specification);
        CAPTURE(outlier);
        for (size_t liar = 0; liar < 7; ++liar) {
          std::vector<double> values = {1, 2, 3, 4, 5, 6, 7};
          values[liar] = outlier;
          const double result = merged_scalar(specification, values);
          CHECK(result >= 1);
          CHECK(result <= 7);
        }
      }
    }
  }

  TEST_CASE("a client that is honest but in its buffers moves no coordinate-wise merge, Bulyan's included") {
    for (const char* specification : {"median", "trimmed-mean", "bulyan"}) {
      CAPTURE(specification);
      const NamedTensors global = {{"w", vec({0})}, {"running_mean", vec({0})}};
      std::vector<ClientUpdate> updates;
      for (int i = 0; i < 7; ++i) {
        updates.push_back(
            update(std::string(1, static_cast<char>('a' + i)),
                   {{"w", vec({double(i)})}, {"running_mean", vec({i == 3 ? 1e30 : double(i)})}}));
      }
      const auto result = merged(*make(specification, {"running_mean"}), global, updates);
      CHECK(result[1].tensor.item<double>() <= 6);
    }
  }

  TEST_CASE("Multi-Krum averages the buffers of those it selected, unweighted, and takes their counters") {
    const NamedTensors global = {{"w", vec({0})}, {"running_mean", vec({0})}, {"count", torch::tensor({0})}};
    std::vector<ClientUpdate> updates;
    for (int i = 0; i < 5; ++i) {
      updates.push_back(update(std::string(1, static_cast<char>('a' + i)),
                               {{"w", vec({i == 4 ? 100.0 : i})},
                                {"running_mean", vec({double(i)})},
                                {"count", torch::tensor({10 * i})}},
                               static_cast<uint64_t>(1 + 1000 * i)));
    }
    const auto result = merged(*make("multi-krum", {"running_mean"}), global, updates);
    CHECK(result[1].tensor.item<double>() == 1.5);
    CHECK(result[2].tensor.item<int64_t>() == 30);
  }

  TEST_CASE("too few updates are refused with what came and what is needed") {
    struct Case {
      const char* specification;
      int minimum;
      const char* message;
    };
    const Case cases[] = {
        {"krum:f=2", 7, "krum needs at least 7 updates (2f+3, f=2), got 6"},
        {"multi-krum:f=2,m=5", 7, "multi-krum needs at least 7 updates (2f+3, f=2), got 6"},
        {"multi-krum:f=1,m=8", 9, "multi-krum needs at least 9 updates (m+f, m=8, f=1), got 8"},
        {"bulyan:f=1", 7, "bulyan needs at least 7 updates (4f+3, f=1), got 6"},
        {"median", 1, "median needs at least 1 update, got 0"},
        {"trimmed-mean", 1, "trimmed-mean needs at least 1 update, got 0"},
    };
    for (const Case& one : cases) {
      CAPTURE(one.specification);
      const auto strategy = make(one.specification);
      CHECK(strategy->minimum_updates() == one.minimum);
      strategy->begin(weights({0}));
      std::vector<double> values(static_cast<size_t>(one.minimum - 1), 1.0);
      for (const ClientUpdate& made : scalars(values)) REQUIRE(strategy->add(made));
      const auto result = strategy->merge();
      REQUIRE_FALSE(result);
      CHECK(result.error().code == ErrorCode::kInvalidArgument);
      CHECK(result.error().message == one.message);
      values.push_back(1);
      CHECK(error_of(merged(*strategy, weights({0}), scalars(values))[0].tensor, {1}) == 0);
    }
  }

  TEST_CASE("a second update of one client is the caller's mistake") {
    const auto strategy = make("median");
    strategy->begin(weights({0}));
    REQUIRE(strategy->add(update("ann", weights({1}))));
    CHECK_THROWS_WITH((void)strategy->add(update("ann", weights({2}))),
                      "Strategy.add: client ann has an update in this merge already");
    CHECK(strategy->updates() == 1);
  }
}
