#include <algorithm>
#include <limits>
#include <optional>

#include "tandem/core/planning/split_planner_detail.h"

namespace tandem::detail {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kTie = 1e-9;

/// The option that fewer bytes travel for; of equal ones the lower cut.
bool sends_less(const CutOption& a, const CutOption& b) {
  return a.bytes != b.bytes ? a.bytes < b.bytes : a.cut < b.cut;
}

/// For each client the option with the least bytes among those that `is_permitted`.
template <class Permitted>
Choice least_bytes(const ClientOptions& options, const Permitted& is_permitted) {
  Choice choice;
  for (const auto& list : options) {
    std::optional<size_t> best;
    for (size_t c = 0; c < list.size(); ++c) {
      if (is_permitted(list, c) && (!best || sends_less(list[c], list[*best]))) best = c;
    }
    choice.push_back(best.value_or(0));
  }
  return choice;
}

Choice plan_uncontended(const ClientOptions& options) {
  double slowest = 0;
  for (const auto& list : options) {
    double least = kInfinite;
    for (const CutOption& option : list) least = std::min(least, option.alone_ms());
    slowest = std::max(slowest, least);
  }
  const double enough = slowest * (1 + kTie);
  return least_bytes(options, [&](const auto& list, size_t c) { return list[c].alone_ms() <= enough; });
}

/// max r + sum p + max q: for each bound on r all bounds on q, in ascending order, so that every client's least
/// p among its options within both only falls.
class JoinedPlanner {
 public:
  explicit JoinedPlanner(const ClientOptions& options) : options_(options) {
    for (size_t i = 0; i < options.size(); ++i) {
      for (const CutOption& option : options[i]) {
        by_tail_.push_back({i, &option});
        releases_.push_back(option.before_ms);
      }
    }
    std::stable_sort(by_tail_.begin(), by_tail_.end(),
                     [](const Entry& a, const Entry& b) { return a.option->after_ms < b.option->after_ms; });
    std::sort(releases_.begin(), releases_.end());
    releases_.erase(std::unique(releases_.begin(), releases_.end()), releases_.end());
  }

  Choice run() {
    double least_work = 0;
    for (const auto& list : options_) {
      double least = kInfinite;
      for (const CutOption& option : list) least = std::min(least, option.server_ms);
      least_work += least;
    }
    for (const double release : releases_) {
      if (release + least_work + by_tail_[0].option->after_ms > best_ * (1 + kTie)) break;
      sweep(release);
    }
    return best_choice_;
  }

 private:
  struct Entry {
    size_t client;
    const CutOption* option;
  };

  void sweep(double release) {
    std::vector<double> least(options_.size(), kInfinite);
    size_t without = options_.size();
    double work = 0;
    for (size_t e = 0; e < by_tail_.size(); ++e) {
      const auto& [client, option] = by_tail_[e];
      if (option->before_ms <= release && option->server_ms < least[client]) {
        if (least[client] == kInfinite) {
          --without;
          work += option->server_ms;
        } else {
          work += option->server_ms - least[client];
        }
        least[client] = option->server_ms;
      }
      const bool is_last = e + 1 == by_tail_.size() || by_tail_[e + 1].option->after_ms > option->after_ms;
      const double value = release + work + option->after_ms;
      if (is_last && without == 0 && value <= best_ * (1 + kTie)) take(release, option->after_ms);
    }
  }

  /// Within these bounds every client takes its least p, of equal ones that with the least bytes.
  void take(double release, double tail) {
    const auto is_within = [&](const CutOption& o) { return o.before_ms <= release && o.after_ms <= tail; };
    const Choice choice = least_bytes(options_, [&](const auto& list, size_t c) {
      if (!is_within(list[c])) return false;
      return std::none_of(list.begin(), list.end(), [&](const CutOption& other) {
        return is_within(other) && other.server_ms < list[c].server_ms;
      });
    });
    const auto chosen = chosen_options(options_, choice);
    const double value = step_ms(ServerKind::kJoined, chosen);
    double bytes = 0;
    for (const CutOption& option : chosen) bytes += option.bytes;
    const bool is_tie = best_ < kInfinite && value <= best_ * (1 + kTie) && best_ <= value * (1 + kTie);
    if (!(is_tie ? bytes < best_bytes_ : value < best_)) return;
    best_choice_ = choice;
    best_bytes_ = bytes;
    best_ = std::min(best_, value);
  }

  const ClientOptions& options_;
  std::vector<Entry> by_tail_;
  std::vector<double> releases_;
  Choice best_choice_;
  double best_ = kInfinite;
  double best_bytes_ = kInfinite;
};

/// The fraction of the server that a client needs to be done in `time`.
double share(const CutOption& option, double time) {
  const double left = time - option.before_ms - option.after_ms;
  if (option.server_ms == 0) return left >= 0 ? 0 : kInfinite;
  return left > 0 ? option.server_ms / left : kInfinite;
}

double least_shares(const ClientOptions& options, double time) {
  double sum = 0;
  for (const auto& list : options) {
    double least = kInfinite;
    for (const CutOption& option : list) least = std::min(least, share(option, time));
    sum += least;
  }
  return sum;
}

/// Bisection down to neighbouring numbers: the sum of the least shares falls with the time.
Choice plan_sharing(const ClientOptions& options) {
  double high = 0;
  for (const auto& list : options) {
    double enough = kInfinite;
    for (const CutOption& option : list) {
      enough = std::min(enough, option.before_ms + option.after_ms +
                                    static_cast<double>(options.size()) * option.server_ms);
    }
    high = std::max(high, enough);
  }
  // Rounding may ask a hair more than that.
  while (least_shares(options, high) > 1) high = high * (1 + 1e-15) + 1e-300;
  double low = 0;
  while (true) {
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) break;
    (least_shares(options, middle) <= 1 ? high : low) = middle;
  }
  const Choice choice = least_bytes(options, [&](const auto& list, size_t c) {
    return std::none_of(list.begin(), list.end(),
                        [&](const CutOption& other) { return share(other, high) < share(list[c], high); });
  });
  return choice;
}

}  // namespace

std::vector<CutOption> chosen_options(const ClientOptions& options, const Choice& choice) {
  std::vector<CutOption> chosen;
  for (size_t i = 0; i < choice.size(); ++i) chosen.push_back(options[i][choice[i]]);
  return chosen;
}

SplitResult plan_parallel_server(ServerKind kind, const ClientOptions& options) {
  SplitResult result;
  if (kind == ServerKind::kJoined) {
    result.choice = JoinedPlanner(options).run();
  } else {
    result.choice = kind == ServerKind::kSharing ? plan_sharing(options) : plan_uncontended(options);
  }
  result.value = step_ms(kind, chosen_options(options, result.choice));
  result.lower_bound = result.value;
  return result;
}

}  // namespace tandem::detail
