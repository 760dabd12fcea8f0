#include "tandem/datasets/partition.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "support/test.h"

namespace {

using tandem::ErrorCode;
using tandem::datasets::parse_partition;
using tandem::datasets::Partition;
using tandem::datasets::partition_indices;
using Parts = std::vector<std::vector<int64_t>>;

std::vector<int64_t> cyclic_labels(int64_t n, int64_t classes) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < n; ++i) labels.push_back(i % classes);
  return labels;
}

Partition dirichlet(double alpha) {
  return {Partition::Kind::kDirichlet, alpha};
}

Parts parts_of(const std::vector<int64_t>& labels, const Partition& partition, int64_t n, uint64_t seed) {
  const auto parts = partition_indices(labels, partition, n, seed);
  REQUIRE_MESSAGE(parts.has_value(), (parts ? "" : parts.error().message));
  return *parts;
}

/// Disjoint, covering, sorted, nobody empty.
void check_is_partition(const Parts& parts, size_t num_examples) {
  std::vector<int64_t> all;
  for (const std::vector<int64_t>& part : parts) {
    CHECK_FALSE(part.empty());
    CHECK(std::is_sorted(part.begin(), part.end()));
    all.insert(all.end(), part.begin(), part.end());
  }
  std::sort(all.begin(), all.end());
  REQUIRE(all.size() == num_examples);
  for (size_t i = 0; i < all.size(); ++i) REQUIRE(all[i] == static_cast<int64_t>(i));
}

/// Share of the largest class in a part, averaged over the parts.
double mean_largest_share(const Parts& parts, const std::vector<int64_t>& labels, int64_t classes) {
  double sum = 0.0;
  for (const std::vector<int64_t>& part : parts) {
    std::vector<double> counts(static_cast<size_t>(classes), 0.0);
    for (const int64_t index : part) counts[static_cast<size_t>(labels[static_cast<size_t>(index)])] += 1.0;
    sum += *std::max_element(counts.begin(), counts.end()) / static_cast<double>(part.size());
  }
  return sum / static_cast<double>(parts.size());
}

std::string parse_error(const std::string& text) {
  const auto parsed = parse_partition(text);
  REQUIRE_FALSE(parsed.has_value());
  CHECK(parsed.error().code == ErrorCode::kInvalidArgument);
  return parsed.error().message;
}

bool contains(const std::string& text, const std::string& piece) {
  return text.find(piece) != std::string::npos;
}

}  // namespace

TEST_SUITE("datasets/partition") {
  TEST_CASE("iid parts are disjoint, cover everything and differ by at most one example") {
    for (const int64_t n : {1, 2, 3, 7, 100, 103}) {
      CAPTURE(n);
      const auto labels = cyclic_labels(103, 10);
      const Parts parts = parts_of(labels, {}, n, 5);
      REQUIRE(static_cast<int64_t>(parts.size()) == n);
      check_is_partition(parts, 103);
      for (const auto& part : parts) {
        CHECK(static_cast<int64_t>(part.size()) >= 103 / n);
        CHECK(static_cast<int64_t>(part.size()) <= (103 + n - 1) / n);
      }
    }
  }

  TEST_CASE("iid parts are mixed: each class appears about as often as in the whole") {
    // Blocks of one class each, as in sorted files.
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < 4000; ++i) labels.push_back(i / 1000);
    for (const auto& part : parts_of(labels, {}, 4, 1)) {
      for (int64_t label = 0; label < 4; ++label) {
        const auto count =
            std::count_if(part.begin(), part.end(), [&](int64_t i) { return i / 1000 == label; });
        // Hypergeometric: mean 250, standard deviation 11.9; five of them.
        CHECK(std::abs(static_cast<double>(count) - 250.0) < 60.0);
      }
    }
  }

  TEST_CASE("the same arguments give the same parts, another seed gives others") {
    const auto labels = cyclic_labels(500, 10);
    for (const Partition& partition : {Partition{}, dirichlet(0.5)}) {
      CHECK(parts_of(labels, partition, 5, 3) == parts_of(labels, partition, 5, 3));
      CHECK(parts_of(labels, partition, 5, 3) != parts_of(labels, partition, 5, 4));
    }
  }

  TEST_CASE("dirichlet parts are disjoint, cover everything and are never empty") {
    const auto labels = cyclic_labels(997, 10);
    for (const double alpha : {0.05, 0.5, 1.0, 1000.0}) {
      for (const uint64_t seed : {1, 2, 3}) {
        CAPTURE(alpha);
        CAPTURE(seed);
        check_is_partition(parts_of(labels, dirichlet(alpha), 8, seed), 997);
      }
    }
  }

  TEST_CASE("the smaller alpha, the more a shard is of one class") {
    const auto labels = cyclic_labels(10000, 10);
    const auto share = [&](double alpha) {
      return mean_largest_share(parts_of(labels, dirichlet(alpha), 10, 7), labels, 10);
    };
    CHECK(share(1e5) < 0.12);  // every class nearly a tenth
    CHECK(share(1.0) > 0.2);
    CHECK(share(0.1) > 0.4);
    CHECK(share(0.1) > share(1.0));
  }

  TEST_CASE("class proportions have the mean and variance of the Dirichlet distribution") {
    // 1/N and (1/N)(1 - 1/N)/(N alpha + 1) for N = 4, alpha = 2: 0.25 and 0.0208333.
    const auto labels = cyclic_labels(40000, 400);  // 400 classes of 100: 400 draws
    double sum = 0.0;
    double squares = 0.0;
    const Parts parts = parts_of(labels, dirichlet(2.0), 4, 9);
    std::vector<double> counts(400, 0.0);
    for (const int64_t index : parts[0]) counts[static_cast<size_t>(index % 400)] += 1.0;
    for (const double count : counts) {
      sum += count / 100.0;
      squares += (count / 100.0) * (count / 100.0);
    }
    const double mean = sum / 400.0;
    const double variance = squares / 400.0 - mean * mean;
    CHECK(std::abs(mean - 0.25) < 5.0 * std::sqrt(0.0208333 / 400.0));
    CHECK(variance == doctest::Approx(0.0208333).epsilon(0.3));
  }

  TEST_CASE("examples of a class are mixed before they are divided") {
    const std::vector<int64_t> labels(1000, 0);
    const Parts parts = parts_of(labels, dirichlet(100.0), 2, 1);
    CHECK(parts[0].front() < 50);
    CHECK(parts[0].back() > 950);
    CHECK(parts[1].front() < 50);
    CHECK(parts[1].back() > 950);
  }

  TEST_CASE("more shards than examples are refused") {
    for (const Partition& partition : {Partition{}, dirichlet(1.0)}) {
      const auto parts = partition_indices(cyclic_labels(3, 2), partition, 4, 1);
      REQUIRE_FALSE(parts.has_value());
      CHECK(parts.error().code == ErrorCode::kInvalidArgument);
      CHECK(parts.error().message ==
            "--shard: 3 examples cannot be split into 4 shards without an empty one");
    }
  }

  TEST_CASE("an alpha that always leaves a shard empty is refused after 100 draws") {
    // Three classes, each practically whole in one shard, cannot fill ten shards.
    const auto parts = partition_indices(cyclic_labels(300, 3), dirichlet(0.001), 10, 1);
    REQUIRE_FALSE(parts.has_value());
    CHECK(
        parts.error().message ==
        "--partition: in 100 draws of dirichlet:ALPHA at least one of 10 shards stayed empty (300 examples); "
        "raise ALPHA or use fewer shards");
  }

  TEST_CASE("a draw with an empty shard is repeated") {
    // Two classes, two shards, tiny alpha: half the draws put both classes into one shard.
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const Parts parts = parts_of(cyclic_labels(100, 2), dirichlet(0.001), 2, seed);
      check_is_partition(parts, 100);
      CHECK(parts[0].size() >= 1);
    }
  }

  TEST_CASE("a number of shards below one is the caller's mistake") {
    CHECK_THROWS_WITH_AS((void)partition_indices(cyclic_labels(3, 2), {}, 0, 1),
                         "partition_indices: num_shards must be >= 1, got 0", std::invalid_argument);
  }

  TEST_CASE("partitions are parsed, mistakes quoted") {
    CHECK(parse_partition("iid")->kind == Partition::Kind::kIid);
    CHECK(parse_partition("dirichlet:0.5")->kind == Partition::Kind::kDirichlet);
    CHECK(parse_partition("dirichlet:0.5")->alpha == 0.5);
    CHECK(parse_error("random") == "--partition \"random\" is unknown; Known are iid and dirichlet:ALPHA");
    CHECK(parse_error("dirichle:1") ==
          "--partition \"dirichle:1\" is unknown; did you mean dirichlet? Known are iid and dirichlet:ALPHA");
    CHECK(parse_error("dirichlet") ==
          "--partition dirichlet needs a concentration, for example dirichlet:0.5");
    for (const std::string text :
         {"dirichlet:", "dirichlet:x", "dirichlet:0", "dirichlet:-1", "dirichlet:nan"}) {
      CAPTURE(text);
      CHECK(contains(parse_error(text), "--partition dirichlet:ALPHA"));
    }
    CHECK(contains(parse_error(""), "is unknown"));
    CHECK(contains(parse_error("iid:3"), "\"iid:3\" is unknown"));
    CHECK(parse_error("dirichlet:1,seed=2") ==
          "--partition: unknown parameter \"seed\" of \"dirichlet\"; it takes none");
  }
}
