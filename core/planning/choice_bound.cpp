#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "tandem/core/planning/choice_bound_detail.h"
#include "tandem/core/planning/matrix_game_detail.h"

namespace tandem::detail {
namespace {

constexpr size_t kMostRounds = 60;
constexpr size_t kMostBisections = 14;
constexpr double kCloseEnough = 2e-4;
/// Weights sum to 1 up to this.
constexpr double kRounding = 1e-12;

/// Between a and T - b.
struct Interval {
  double a = 0;
  double b = 0;
};

/// An option that the mix uses, with its share of the server's time.
struct MixedJob {
  double release;
  double tail;
  double work;
};

/// The game for one T after the other. Intervals and choices stay from one to the next.
class ChoiceGame {
 public:
  explicit ChoiceGame(const ClientOptions& options) : options_(options) {}

  /// Whether no choice of cuts has a step of `time` or less. False where that is not known.
  bool refutes(double time) {
    time_ = time;
    if (!begin()) return true;
    for (size_t round = 0; round < kMostRounds; ++round) {
      const GameSolution mix = solve_game(payoff_);
      double value = 0;
      const Choice answer = best_choice(mix.rows, value);
      if (value > time_ * kRounding) return true;
      const auto [interval, worst] = worst_interval(mix.columns);
      mix_ = choices_by(mix.columns);
      if (worst <= time_ * kRounding) return false;
      const bool is_new_interval = add_interval(interval);
      const bool is_new_choice = add_choice(answer);
      if (!is_new_interval && !is_new_choice) return false;
    }
    return false;
  }

  /// The choices of the last mix that could not be refuted, the heaviest first.
  const std::vector<Choice>& mix() const { return mix_; }

 private:
  bool is_permitted(const CutOption& option) const { return option.alone_ms() <= time_; }

  /// Takes out what has no meaning for this T. False where a client has no cut left.
  bool begin() {
    Choice least;
    for (const auto& list : options_) {
      std::optional<size_t> best;
      for (size_t c = 0; c < list.size(); ++c) {
        if (is_permitted(list[c]) && (!best || list[c].server_ms < list[*best].server_ms)) best = c;
      }
      if (!best) return false;
      least.push_back(*best);
    }
    std::erase_if(intervals_, [&](const Interval& interval) { return interval.a + interval.b > time_; });
    std::erase_if(choices_, [&](const Choice& choice) {
      for (size_t i = 0; i < choice.size(); ++i) {
        if (!is_permitted(options_[i][choice[i]])) return true;
      }
      return false;
    });
    payoff_.clear();
    for (const Interval& interval : std::exchange(intervals_, {})) add_interval(interval);
    add_interval(smallest_interval());
    add_choice(least);
    return true;
  }

  Interval smallest_interval() const {
    Interval all{options_[0][0].before_ms, options_[0][0].after_ms};
    for (const auto& list : options_) {
      for (const CutOption& option : list) {
        all.a = std::min(all.a, option.before_ms);
        all.b = std::min(all.b, option.after_ms);
      }
    }
    return all;
  }

  static bool is_inside(const CutOption& option, const Interval& interval) {
    return option.before_ms >= interval.a && option.after_ms >= interval.b;
  }

  double payoff_of(const Interval& interval, const Choice& choice) const {
    double sum = interval.a + interval.b - time_;
    for (size_t i = 0; i < choice.size(); ++i) {
      const CutOption& option = options_[i][choice[i]];
      if (is_inside(option, interval)) sum += option.server_ms;
    }
    return sum;
  }

  bool add_interval(const Interval& interval) {
    for (const Interval& known : intervals_) {
      if (known.a == interval.a && known.b == interval.b) return false;
    }
    intervals_.push_back(interval);
    payoff_.emplace_back();
    for (const Choice& choice : choices_) payoff_.back().push_back(payoff_of(interval, choice));
    return true;
  }

  bool add_choice(const Choice& choice) {
    if (std::find(choices_.begin(), choices_.end(), choice) != choices_.end()) return false;
    choices_.push_back(choice);
    for (size_t r = 0; r < intervals_.size(); ++r) payoff_[r].push_back(payoff_of(intervals_[r], choice));
    return true;
  }

  /// The choice that puts the least work into weighted intervals, and by how much that is too much.
  Choice best_choice(const std::vector<double>& weights, double& value) const {
    value = 0;
    for (size_t r = 0; r < intervals_.size(); ++r) {
      value += weights[r] * (intervals_[r].a + intervals_[r].b - time_);
    }
    Choice choice;
    for (const auto& list : options_) {
      size_t best = 0;
      double least = -1;
      for (size_t c = 0; c < list.size(); ++c) {
        if (!is_permitted(list[c])) continue;
        double weight = 0;
        for (size_t r = 0; r < intervals_.size(); ++r) {
          if (is_inside(list[c], intervals_[r])) weight += weights[r];
        }
        const double cost = weight * list[c].server_ms;
        if (least >= 0 && cost >= least) continue;
        best = c;
        least = cost;
      }
      choice.push_back(best);
      value += least;
    }
    return choice;
  }

  std::vector<MixedJob> mixed_jobs(const std::vector<double>& weights) const {
    std::map<std::pair<size_t, size_t>, double> shares;
    for (size_t c = 0; c < choices_.size(); ++c) {
      if (weights[c] <= 0) continue;
      for (size_t i = 0; i < options_.size(); ++i) shares[{i, choices_[c][i]}] += weights[c];
    }
    std::vector<MixedJob> jobs;
    for (const auto& [key, share] : shares) {
      const CutOption& option = options_[key.first][key.second];
      if (option.server_ms > 0) {
        jobs.push_back({option.before_ms, option.after_ms, share * option.server_ms});
      }
    }
    return jobs;
  }

  /// The interval into which the mix puts the most work too much.
  std::pair<Interval, double> worst_interval(const std::vector<double>& weights) const {
    std::vector<MixedJob> jobs = mixed_jobs(weights);
    std::vector<double> tails;
    for (const MixedJob& job : jobs) tails.push_back(job.tail);
    std::sort(tails.begin(), tails.end());
    tails.erase(std::unique(tails.begin(), tails.end()), tails.end());
    std::sort(jobs.begin(), jobs.end(),
              [](const MixedJob& a, const MixedJob& b) { return a.release > b.release; });
    std::vector<double> work(tails.size(), 0.0);
    std::pair<Interval, double> worst{intervals_[0], -time_};
    for (size_t j = 0; j < jobs.size(); ++j) {
      const auto at = std::lower_bound(tails.begin(), tails.end(), jobs[j].tail) - tails.begin();
      work[static_cast<size_t>(at)] += jobs[j].work;
      if (j + 1 < jobs.size() && jobs[j + 1].release == jobs[j].release) continue;
      double inside = 0;
      for (size_t t = tails.size(); t-- > 0;) {
        inside += work[t];
        const double ends = jobs[j].release + tails[t];
        if (ends > time_ || ends + inside - time_ <= worst.second) continue;
        worst = {{jobs[j].release, tails[t]}, ends + inside - time_};
      }
    }
    return worst;
  }

  std::vector<Choice> choices_by(const std::vector<double>& weights) const {
    std::vector<size_t> order(choices_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return weights[a] > weights[b]; });
    std::vector<Choice> sorted;
    for (const size_t c : order) {
      if (weights[c] > 0) sorted.push_back(choices_[c]);
    }
    return sorted;
  }

  const ClientOptions& options_;
  double time_ = 0;
  std::vector<Choice> mix_;
  std::vector<Interval> intervals_;
  std::vector<Choice> choices_;
  std::vector<std::vector<double>> payoff_;
};

/// The longest that a client takes by itself.
double alone_bound(const ClientOptions& options) {
  double alone = 0;
  for (const auto& list : options) {
    double least = list[0].alone_ms();
    for (const CutOption& option : list) least = std::min(least, option.alone_ms());
    alone = std::max(alone, least);
  }
  return alone;
}

}  // namespace

ChoiceBound bound_choices(const ClientOptions& options, double upper) {
  ChoiceGame game(options);
  ChoiceBound result{std::min(alone_bound(options), upper), {}};
  double high = upper * (1 - kRounding);
  if (result.bound >= high || game.refutes(high)) return {upper, {}};
  result.choices = game.mix();
  for (size_t i = 0; i < kMostBisections && high - result.bound > kCloseEnough * high; ++i) {
    const double middle = result.bound + (high - result.bound) / 2;
    if (game.refutes(middle)) {
      result.bound = middle;
    } else {
      high = middle;
      result.choices = game.mix();
    }
  }
  return result;
}

}  // namespace tandem::detail
