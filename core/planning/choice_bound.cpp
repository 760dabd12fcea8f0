#include <algorithm>
#include <map>
#include <numeric>

#include "tandem/core/planning/choice_bound_detail.h"
#include "tandem/core/planning/matrix_game_detail.h"

namespace tandem::detail {
namespace {

constexpr size_t kMostRounds = 80;
constexpr double kCloseEnough = 1e-4;

/// The work of all jobs with release >= a and tail >= b has to fit between a and T - b.
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

class ChoiceGame {
 public:
  ChoiceGame(const ClientOptions& options, double start) : options_(options), bound_(start) {
    add_interval(smallest_interval());
    Choice least;
    for (const auto& list : options_) {
      least.push_back(static_cast<size_t>(
          std::min_element(list.begin(), list.end(),
                           [](const CutOption& a, const CutOption& b) { return a.server_ms < b.server_ms; }) -
          list.begin()));
    }
    add_choice(least);
  }

  ChoiceBound run() {
    GameSolution mix;
    for (size_t round = 0; round < kMostRounds; ++round) {
      mix = solve_game(payoff_);
      const Choice answer = best_choice(mix.rows);
      const auto [interval, worst] = worst_interval(mix.columns);
      if (worst <= bound_ * (1 + kCloseEnough)) break;
      const bool is_new_interval = add_interval(interval);
      const bool is_new_choice = add_choice(answer);
      if (!is_new_interval && !is_new_choice) break;
    }
    return {bound_, choices_by(solve_game(payoff_).columns)};
  }

 private:
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
    double sum = interval.a + interval.b;
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

  /// The cheapest choice against weighted intervals. What it costs is a lower bound, whatever the weights.
  Choice best_choice(const std::vector<double>& weights) {
    double value = 0;
    for (size_t r = 0; r < intervals_.size(); ++r) value += weights[r] * (intervals_[r].a + intervals_[r].b);
    Choice choice;
    for (const auto& list : options_) {
      size_t best = 0;
      double least = -1;
      for (size_t c = 0; c < list.size(); ++c) {
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
    // Against rounding: weights sum to 1 up to 1e-15, and a bound must not exceed the optimum.
    bound_ = std::max(bound_, value * (1 - 1e-12));
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

  /// The interval that is fullest with the mix, of those with a + b <= bound_: for these T >= a + b is known, so
  /// that they hold for choices with no job inside too.
  std::pair<Interval, double> worst_interval(const std::vector<double>& weights) const {
    std::vector<MixedJob> jobs = mixed_jobs(weights);
    std::vector<double> tails;
    for (const MixedJob& job : jobs) tails.push_back(job.tail);
    std::sort(tails.begin(), tails.end());
    tails.erase(std::unique(tails.begin(), tails.end()), tails.end());
    std::sort(jobs.begin(), jobs.end(),
              [](const MixedJob& a, const MixedJob& b) { return a.release > b.release; });
    std::vector<double> work(tails.size(), 0.0);
    std::pair<Interval, double> worst{intervals_[0], 0};
    for (size_t j = 0; j < jobs.size(); ++j) {
      const auto at = std::lower_bound(tails.begin(), tails.end(), jobs[j].tail) - tails.begin();
      work[static_cast<size_t>(at)] += jobs[j].work;
      if (j + 1 < jobs.size() && jobs[j + 1].release == jobs[j].release) continue;
      double inside = 0;
      for (size_t t = tails.size(); t-- > 0;) {
        inside += work[t];
        const double ends = jobs[j].release + tails[t];
        if (ends <= bound_ && ends + inside > worst.second) {
          worst = {{jobs[j].release, tails[t]}, ends + inside};
        }
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
  double bound_;
  std::vector<Interval> intervals_;
  std::vector<Choice> choices_;
  std::vector<std::vector<double>> payoff_;
};

/// Each client alone, and the server busy with the least work from the first release to the last tail.
double simple_bound(const ClientOptions& options) {
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
  ClientOptions kept(options.size());
  std::vector<std::vector<size_t>> positions(options.size());
  for (size_t i = 0; i < options.size(); ++i) {
    for (size_t c = 0; c < options[i].size(); ++c) {
      if (options[i][c].alone_ms() >= upper) continue;
      kept[i].push_back(options[i][c]);
      positions[i].push_back(c);
    }
    if (kept[i].empty()) return {upper, {}};  // with any of its cuts this client alone takes that long
  }
  ChoiceBound result = ChoiceGame(kept, simple_bound(kept)).run();
  result.bound = std::min(result.bound, upper);
  for (Choice& choice : result.choices) {
    for (size_t i = 0; i < choice.size(); ++i) choice[i] = positions[i][choice[i]];
  }
  return result;
}

}  // namespace tandem::detail
