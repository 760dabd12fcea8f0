#include "tandem/datasets/partition.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

#include "tandem/core/base/random.h"
#include "tandem/core/base/specification.h"

namespace tandem::datasets {
namespace {

using Parts = std::vector<std::vector<int64_t>>;

constexpr uint64_t kMaxDraws = 100;

Parts split_evenly(int64_t num_examples, size_t num_shards, uint64_t seed) {
  const std::vector<int64_t> order =
      random_permutation(num_examples, derive_seed(seed, RandomPurpose::kPartition, {}));
  const size_t smaller = order.size() / num_shards;
  const size_t larger_parts = order.size() % num_shards;
  Parts parts;
  auto begin = order.begin();
  for (size_t shard = 0; shard < num_shards; ++shard) {
    const auto end = begin + static_cast<std::ptrdiff_t>(smaller + (shard < larger_parts ? 1 : 0));
    parts.emplace_back(begin, end);
    begin = end;
  }
  return parts;
}

/// One draw from Dir(alpha): gamma variates divided by their sum.
std::vector<double> draw_proportions(size_t n, double alpha, SplitMix64& random) {
  std::vector<double> proportions(n);
  double sum = 0.0;
  for (double& value : proportions) sum += value = random.gamma(alpha);
  if (sum <= 0.0) {
    // Every variate underflowed: the limit of a tiny alpha, all to one shard.
    proportions[random.below(n)] = sum = 1.0;
  }
  for (double& value : proportions) value /= sum;
  return proportions;
}

Parts draw_dirichlet(const std::map<int64_t, std::vector<int64_t>>& classes, double alpha, size_t num_shards,
                     SplitMix64 random) {
  Parts parts(num_shards);
  for (const auto& [label, members] : classes) {
    const std::vector<int64_t> order = random_permutation(static_cast<int64_t>(members.size()), random());
    const std::vector<double> proportions = draw_proportions(num_shards, alpha, random);
    size_t begin = 0;
    double cumulative = 0.0;
    for (size_t shard = 0; shard < num_shards; ++shard) {
      cumulative += proportions[shard];
      const double cut = std::round(cumulative * static_cast<double>(members.size()));
      const size_t end =
          shard + 1 == num_shards ? members.size() : std::min(static_cast<size_t>(cut), members.size());
      for (; begin < end; ++begin) parts[shard].push_back(members[static_cast<size_t>(order[begin])]);
    }
  }
  return parts;
}

Result<Parts> split_by_class(std::span<const int64_t> labels, double alpha, size_t num_shards,
                             uint64_t seed) {
  std::map<int64_t, std::vector<int64_t>> classes;
  for (size_t i = 0; i < labels.size(); ++i) classes[labels[i]].push_back(static_cast<int64_t>(i));
  for (uint64_t draw = 0; draw < kMaxDraws; ++draw) {
    const SplitMix64 random(derive_seed(seed, RandomPurpose::kPartition, {draw}));
    Parts parts = draw_dirichlet(classes, alpha, num_shards, random);
    const auto is_empty = [](const std::vector<int64_t>& part) { return part.empty(); };
    if (std::none_of(parts.begin(), parts.end(), is_empty)) return parts;
  }
  return Error{ErrorCode::kInvalidArgument,
               "--partition: in " + std::to_string(kMaxDraws) + " draws of dirichlet:ALPHA at least one of " +
                   std::to_string(num_shards) + " shards stayed empty (" + std::to_string(labels.size()) +
                   " examples); raise ALPHA or use fewer shards"};
}

/// "dirichlet:ALPHA"
Result<Partition> parse_dirichlet(const std::string& text) {
  if (text == "dirichlet") {
    return Error{ErrorCode::kInvalidArgument,
                 "--partition dirichlet needs a concentration, for example dirichlet:0.5"};
  }
  const Result<Specification> parsed = parse_specification(text, Argument::kTaken);
  const Result<void> checked = parsed ? check_parameters(*parsed, {}) : Result<void>(parsed.error());
  if (!checked) return Error{checked.error().code, "--partition: " + checked.error().message};
  const Result<double> alpha = parse_number("--partition dirichlet:ALPHA", parsed->argument, 1e-3, 1e6);
  if (!alpha) return alpha.error();
  return Partition{Partition::Kind::kDirichlet, *alpha};
}

}  // namespace

Result<Partition> parse_partition(const std::string& text) {
  if (text == "iid") return Partition{};
  const std::string name = text.substr(0, text.find_first_of(":,"));
  if (name == "dirichlet") return parse_dirichlet(text);
  const std::optional<std::string> nearest = nearest_name(name, {"iid", "dirichlet"});
  return Error{ErrorCode::kInvalidArgument, "--partition \"" + text + "\" is unknown; " +
                                                (nearest ? "did you mean " + *nearest + "? " : "") +
                                                "Known are iid and dirichlet:ALPHA"};
}

Result<std::vector<std::vector<int64_t>>> partition_indices(std::span<const int64_t> labels,
                                                            const Partition& partition, int64_t num_shards,
                                                            uint64_t seed) {
  if (num_shards < 1) {
    throw std::invalid_argument("partition_indices: num_shards must be >= 1, got " +
                                std::to_string(num_shards));
  }
  const int64_t num_examples = static_cast<int64_t>(labels.size());
  if (num_examples < num_shards) {
    return Error{ErrorCode::kInvalidArgument,
                 "--shard: " + std::to_string(num_examples) + " examples cannot be split into " +
                     std::to_string(num_shards) + " shards without an empty one"};
  }
  const size_t n = static_cast<size_t>(num_shards);
  Result<Parts> parts = partition.kind == Partition::Kind::kIid
                            ? Result<Parts>(split_evenly(num_examples, n, seed))
                            : split_by_class(labels, partition.alpha, n, seed);
  if (!parts) return parts;
  for (std::vector<int64_t>& part : *parts) std::sort(part.begin(), part.end());
  return parts;
}

}  // namespace tandem::datasets
