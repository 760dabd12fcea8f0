#include "tandem/aggregator/strategies/robust_detail.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "tandem/aggregator/strategies/strategy_base_detail.h"

namespace tandem::aggregator {
namespace {

/// Coordinates taken at a time: keeps the copies in double small beside the updates themselves.
constexpr int64_t kChunk = 1 << 16;

using Updates = std::vector<const ClientUpdate*>;

/// Tensor `index` of every update as rows of [updates, coordinates], in double, a chunk at a time.
void for_each_chunk(const Updates& updates, size_t index,
                    const std::function<void(const at::Tensor& rows, int64_t begin)>& visit) {
  std::vector<at::Tensor> flat;
  for (const ClientUpdate* update : updates) flat.push_back(update->weights[index].tensor.flatten());
  const int64_t size = flat.front().numel();
  for (int64_t begin = 0; begin < size; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, size);
    std::vector<at::Tensor> rows;
    for (const at::Tensor& tensor : flat) rows.push_back(tensor.slice(0, begin, end).to(at::kDouble));
    visit(at::stack(rows), begin);
  }
}

/// [coordinates, updates], ascending -> [coordinates].
using Reduction = std::function<at::Tensor(const at::Tensor& sorted)>;

at::Tensor reduce_coordinates(const Updates& updates, size_t index, const at::Tensor& layout,
                              const Reduction& reduce) {
  const at::Tensor flat = at::empty({layout.numel()}, layout.options());
  for_each_chunk(updates, index, [&](const at::Tensor& rows, int64_t begin) {
    const at::Tensor sorted = std::get<0>(rows.t().contiguous().sort(1));
    flat.slice(0, begin, begin + rows.size(1)).copy_(reduce(sorted));
  });
  return at::empty_like(layout).copy_(flat.view(layout.sizes()));
}

at::Tensor maximum_of(const Updates& updates, size_t index, const at::Tensor& layout) {
  const at::Tensor maximum = at::empty_like(layout).copy_(updates.front()->weights[index].tensor);
  for (const ClientUpdate* update : updates) {
    maximum.copy_(at::maximum(maximum, update->weights[index].tensor));
  }
  return maximum;
}

NamedTensors merge_coordinates(const Updates& updates, const NamedTensors& layout, const Reduction& reduce) {
  NamedTensors merged;
  for (size_t i = 0; i < layout.size(); ++i) {
    const at::Tensor& tensor = layout[i].tensor;
    merged.push_back({layout[i].name, at::isFloatingType(tensor.scalar_type())
                                          ? reduce_coordinates(updates, i, tensor, reduce)
                                          : maximum_of(updates, i, tensor)});
  }
  return merged;
}

at::Tensor median_of_sorted(const at::Tensor& sorted) {
  const int64_t count = sorted.size(1);
  return at::add(sorted.select(1, (count - 1) / 2), sorted.select(1, count / 2)).mul_(0.5);
}

at::Tensor mean_nearest_median(const at::Tensor& sorted, int64_t count) {
  const at::Tensor distance = at::sub(sorted, median_of_sorted(sorted).unsqueeze(1)).abs_();
  // Stable, on values that ascend: of two equally near the smaller comes first.
  const at::Tensor order = std::get<1>(distance.sort(/*stable=*/true, 1, /*descending=*/false));
  return sorted.gather(1, order.slice(1, 0, count)).mean(1);
}

/// Squared distances between all pairs, over the parameters. Differences, not the expanded square, which
/// cancels when updates are close.
std::vector<std::vector<double>> squared_distances(const Updates& updates, const NamedTensors& layout,
                                                   const std::set<std::string>& buffers) {
  const size_t count = updates.size();
  std::vector<std::vector<double>> distances(count, std::vector<double>(count, 0.0));
  for (size_t i = 0; i < layout.size(); ++i) {
    if (!is_parameter(layout[i], buffers)) continue;
    for_each_chunk(updates, i, [&](const at::Tensor& rows, int64_t) {
      for (size_t a = 0; a + 1 < count; ++a) {
        const auto row = static_cast<int64_t>(a);
        const at::Tensor others = rows.slice(0, row + 1);
        const at::Tensor squares = at::sub(others, rows[row]).square_().sum(1).contiguous();
        for (size_t b = a + 1; b < count; ++b) distances[a][b] += squares.data_ptr<double>()[b - a - 1];
      }
    });
  }
  for (size_t a = 0; a < count; ++a) {
    for (size_t b = 0; b < a; ++b) distances[a][b] = distances[b][a];
  }
  return distances;
}

/// Krum's score of each of `candidates` among them (Blanchard et al. 2017, section 4).
std::vector<double> krum_scores(const std::vector<std::vector<double>>& distances,
                                const std::vector<size_t>& candidates, int attackers) {
  const int64_t wanted = std::max<int64_t>(1, static_cast<int64_t>(candidates.size()) - attackers - 2);
  std::vector<double> scores;
  for (const size_t candidate : candidates) {
    std::vector<double> to_others;
    for (const size_t other : candidates) {
      if (other != candidate) to_others.push_back(distances[candidate][other]);
    }
    std::sort(to_others.begin(), to_others.end());
    const auto neighbours = std::min<int64_t>(wanted, static_cast<int64_t>(to_others.size()));
    scores.push_back(std::accumulate(to_others.begin(), to_others.begin() + neighbours, 0.0));
  }
  return scores;
}

class RobustStrategy : public StrategyBase {
 public:
  bool needs_single_updates() const final { return true; }
  std::vector<ClientId> left_out() const final { return left_out_; }

 protected:
  using StrategyBase::StrategyBase;

  /// `updates` are in client-id order.
  virtual NamedTensors merge_updates(const Updates& updates) = 0;

  /// The chosen updates, still in client-id order; the others are remembered as left out.
  Updates select(const Updates& updates, std::vector<size_t> chosen) {
    std::sort(chosen.begin(), chosen.end());
    Updates selected;
    left_out_.clear();
    for (size_t i = 0; i < updates.size(); ++i) {
      if (std::binary_search(chosen.begin(), chosen.end(), i)) {
        selected.push_back(updates[i]);
      } else {
        left_out_.push_back(updates[i]->client);
      }
    }
    return selected;
  }

 private:
  void reset() final { held_.clear(); }

  Result<void> accept(ClientUpdate update) final {
    for (const ClientUpdate& earlier : held_) {
      if (earlier.client != update.client) continue;
      throw std::invalid_argument("Strategy.add: client " + update.client.name +
                                  " has an update in this merge already");
    }
    if (auto checked = check_weights(update); !checked) return checked;
    held_.push_back(std::move(update));
    return {};
  }

  Result<NamedTensors> finish() final {
    Updates ordered;
    for (const ClientUpdate& update : held_) ordered.push_back(&update);
    std::sort(ordered.begin(), ordered.end(),
              [](const ClientUpdate* a, const ClientUpdate* b) { return a->client < b->client; });
    return merge_updates(ordered);
  }

  std::vector<ClientUpdate> held_;
  std::vector<ClientId> left_out_;
};

class Median final : public RobustStrategy {
 public:
  Median() : RobustStrategy("median", std::set<std::string>{}) {}

 private:
  NamedTensors merge_updates(const Updates& updates) override {
    return merge_coordinates(updates, global(), median_of_sorted);
  }
};

class TrimmedMean final : public RobustStrategy {
 public:
  explicit TrimmedMean(double fraction)
      : RobustStrategy("trimmed-mean", std::set<std::string>{}), fraction_(fraction) {}

 private:
  NamedTensors merge_updates(const Updates& updates) override {
    const auto count = static_cast<int64_t>(updates.size());
    // 0.29 * 100 is 28.999999999999996.
    const auto wanted = static_cast<int64_t>(std::floor(fraction_ * static_cast<double>(count) + 1e-9));
    const int64_t trimmed = std::min(wanted, (count - 1) / 2);
    return merge_coordinates(updates, global(), [&](const at::Tensor& sorted) {
      return sorted.slice(1, trimmed, count - trimmed).mean(1);
    });
  }

  double fraction_;
};

class Krum final : public RobustStrategy {
 public:
  Krum(std::string name, std::set<std::string> buffers, int attackers, int selected)
      : RobustStrategy(std::move(name), std::move(buffers)), attackers_(attackers), selected_(selected) {}

  int minimum_updates() const override { return std::max(2 * attackers_ + 3, selected_ + attackers_); }

 private:
  std::string minimum_reason() const override {
    const std::string attackers = std::string("f=") + std::to_string(attackers_);
    if (selected_ + attackers_ <= 2 * attackers_ + 3) return "2f+3, " + attackers;
    return std::string("m+f, m=") + std::to_string(selected_) + ", " + attackers;
  }

  NamedTensors merge_updates(const Updates& updates) override {
    std::vector<size_t> ranked(updates.size());
    std::iota(ranked.begin(), ranked.end(), size_t{0});
    const auto scores = krum_scores(squared_distances(updates, global(), buffers()), ranked, attackers_);
    std::stable_sort(ranked.begin(), ranked.end(), [&](size_t a, size_t b) { return scores[a] < scores[b]; });
    ranked.resize(selected_ > 0 ? static_cast<size_t>(selected_)
                                : updates.size() - static_cast<size_t>(attackers_));
    FederatedAverage mean(global());
    for (const ClientUpdate* update : select(updates, ranked)) {
      mean.add(update->client, update->weights, 1).value();
    }
    return mean.mean();
  }

  int attackers_;
  int selected_;
};

class Bulyan final : public RobustStrategy {
 public:
  Bulyan(std::set<std::string> buffers, int attackers)
      : RobustStrategy("bulyan", std::move(buffers)), attackers_(attackers) {}

  int minimum_updates() const override { return 4 * attackers_ + 3; }

 private:
  std::string minimum_reason() const override { return std::string("4f+3, f=") + std::to_string(attackers_); }

  NamedTensors merge_updates(const Updates& updates) override {
    const Updates selected = select(updates, iterated_krum(updates));
    const int64_t nearest = static_cast<int64_t>(updates.size()) - 4 * int64_t{attackers_};
    return merge_coordinates(selected, global(),
                             [&](const at::Tensor& sorted) { return mean_nearest_median(sorted, nearest); });
  }

  /// El Mhamdi et al. 2018, section 4: the best by Krum moves over to the selection, n-2f times.
  std::vector<size_t> iterated_krum(const Updates& updates) const {
    const auto distances = squared_distances(updates, global(), buffers());
    std::vector<size_t> remaining(updates.size());
    std::iota(remaining.begin(), remaining.end(), size_t{0});
    std::vector<size_t> chosen;
    while (chosen.size() + 2 * static_cast<size_t>(attackers_) < updates.size()) {
      const auto scores = krum_scores(distances, remaining, attackers_);
      const auto best = std::min_element(scores.begin(), scores.end()) - scores.begin();
      chosen.push_back(remaining[static_cast<size_t>(best)]);
      remaining.erase(remaining.begin() + best);
    }
    return chosen;
  }

  int attackers_;
};

}  // namespace

std::unique_ptr<Strategy> make_median() {
  return std::make_unique<Median>();
}

std::unique_ptr<Strategy> make_trimmed_mean(double fraction) {
  return std::make_unique<TrimmedMean>(fraction);
}

std::unique_ptr<Strategy> make_krum(std::string name, std::set<std::string> buffers, int attackers,
                                    int selected) {
  return std::make_unique<Krum>(std::move(name), std::move(buffers), attackers, selected);
}

std::unique_ptr<Strategy> make_bulyan(std::set<std::string> buffers, int attackers) {
  return std::make_unique<Bulyan>(std::move(buffers), attackers);
}

}  // namespace tandem::aggregator
