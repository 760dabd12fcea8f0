#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "tandem/core/planning/one_machine.h"
#include "tandem/core/planning/split_planner_detail.h"

namespace tandem::detail {
namespace {

/// A search spends about this many steps, each of which looks at one job.
constexpr size_t kDescentSteps = 600'000;
constexpr size_t kBranchSteps = 1'200'000;
constexpr double kSame = 1e-12;

MachineJob job_of(const CutOption& option) {
  return {option.before_ms, option.server_ms, option.after_ms};
}

/// Cuts by descent: one client's cut at a time, as long as that shortens the schedule.
class Descent {
 public:
  explicit Descent(const ClientOptions& options) : options_(options) {}

  /// Looks at this choice and at what it leads to.
  void start_from(Choice choice, size_t steps) {
    std::vector<MachineJob> jobs;
    for (size_t i = 0; i < choice.size(); ++i) jobs.push_back(job_of(options_[i][choice[i]]));
    double value = schrage_schedule(jobs).makespan;
    for (bool better = true; better && steps > 0;) {
      better = false;
      for (size_t i = 0; i < choice.size() && steps > 0; ++i) {
        better |= improve_client(i, choice, jobs, value, steps);
      }
    }
    const bool is_first = best_.choice.empty();
    const MachineSchedule exact = is_first ? best_schedule(jobs) : best_schedule(jobs, best_.value);
    if (!is_first && exact.makespan >= best_.value) return;
    best_.choice = std::move(choice);
    best_.value = exact.makespan;
  }

  const SplitResult& best() const { return best_; }

 private:
  bool improve_client(size_t i, Choice& choice, std::vector<MachineJob>& jobs, double& value, size_t& steps) {
    bool better = false;
    for (size_t c = 0; c < options_[i].size() && steps > 0; ++c) {
      if (c == choice[i] || options_[i][c].alone_ms() >= value) continue;
      jobs[i] = job_of(options_[i][c]);
      const double tried = schrage_schedule(jobs).makespan;
      steps -= std::min(steps, jobs.size());
      if (tried < value * (1 - kSame)) {
        value = tried;
        choice[i] = c;
        better = true;
      }
    }
    jobs[i] = job_of(options_[i][choice[i]]);
    return better;
  }

  const ClientOptions& options_;
  SplitResult best_;
};

/// Branch and bound over the clients' cuts. A client without a cut counts with the least release, time and tail
/// that its options have; Jackson's preemptive schedule bounds the rest.
class CutSearch {
 public:
  CutSearch(const ClientOptions& options, SplitResult start) : options_(options), best_(std::move(start)) {
    for (size_t i = 0; i < options.size(); ++i) order_.push_back(i);
    // Clients with the same options stand beside each other, so that their cuts can be kept in order.
    std::stable_sort(order_.begin(), order_.end(), [&](size_t a, size_t b) { return key(a) > key(b); });
    nodes_left_ = kBranchSteps / (4 * options.size());
  }

  SplitResult run() {
    relax();
    best_.lower_bound = std::max(best_.lower_bound, jackson_bound(jobs_));
    Choice choice(options_.size(), 0);
    cut_off_ = best_.value;
    branch(0, choice);
    best_.lower_bound = std::max(best_.lower_bound, std::min(cut_off_, best_.value));
    return best_;
  }

 private:
  std::vector<double> key(size_t client) const {
    std::vector<double> numbers;
    for (const CutOption& option : options_[client]) {
      numbers.insert(numbers.end(), {option.server_ms, option.before_ms, option.after_ms});
    }
    return numbers;
  }

  bool is_same(size_t a, size_t b) const { return key(a) == key(b); }

  void relax() {
    for (const auto& list : options_) {
      MachineJob least = job_of(list[0]);
      for (const CutOption& option : list) {
        if (option.alone_ms() >= best_.value) continue;  // worth nothing any more
        least.release = std::min(least.release, option.before_ms);
        least.time = std::min(least.time, option.server_ms);
        least.tail = std::min(least.tail, option.after_ms);
      }
      jobs_.push_back(least);
    }
    for (size_t d = 1; d < order_.size(); ++d) twins_.push_back(is_same(order_[d - 1], order_[d]));
  }

  void branch(size_t depth, Choice& choice) {
    if (depth == order_.size()) return finish(choice);
    const size_t client = order_[depth];
    const MachineJob relaxed = jobs_[client];
    const size_t first = depth > 0 && twins_[depth - 1] ? choice[order_[depth - 1]] : 0;
    for (size_t c = first; c < options_[client].size(); ++c) {
      if (options_[client][c].alone_ms() >= limit()) continue;
      jobs_[client] = job_of(options_[client][c]);
      choice[client] = c;
      const double bound = jackson_bound(jobs_);
      if (bound >= limit()) continue;
      if (nodes_left_ == 0) {
        cut_off_ = std::min(cut_off_, bound);
        continue;
      }
      --nodes_left_;
      branch(depth + 1, choice);
    }
    jobs_[client] = relaxed;
  }

  void finish(const Choice& choice) {
    const MachineSchedule schedule = best_schedule(jobs_, best_.value);
    nodes_left_ -= std::min(nodes_left_, schedule.nodes);
    if (schedule.lower_bound < limit()) cut_off_ = std::min(cut_off_, schedule.lower_bound);
    if (schedule.makespan >= best_.value) return;
    best_.choice = choice;
    best_.value = schedule.makespan;
  }

  /// Nothing from here on is worth looking at.
  double limit() const { return best_.value * (1 - kSame); }

  const ClientOptions& options_;
  SplitResult best_;
  std::vector<size_t> order_;
  std::vector<bool> twins_;
  std::vector<MachineJob> jobs_;
  size_t nodes_left_ = 0;
  double cut_off_ = 0;
};

/// What descents start from before a bound is known.
std::vector<Choice> first_choices(const ClientOptions& options) {
  std::vector<Choice> starts{choose_alone(options)};
  if (auto common = choose_common(ServerKind::kSequential, options)) starts.push_back(std::move(*common));
  starts.push_back(plan_parallel_server(ServerKind::kSharing, options).choice);
  starts.push_back(plan_parallel_server(ServerKind::kJoined, options).choice);
  return starts;
}

/// Every client takes its cut from one of the choices at random: a rounding of the mix that they are.
std::vector<Choice> rounded(const std::vector<Choice>& choices, size_t count) {
  std::vector<Choice> results(choices.begin(),
                              choices.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(choices.size(), 4)));
  std::mt19937 random(1);  // fixed: a plan is the same each time
  for (size_t r = 0; r < count && choices.size() > 1; ++r) {
    Choice mixed = choices[0];
    for (size_t& cut : mixed) cut = choices[random() % choices.size()][static_cast<size_t>(&cut - mixed.data())];
    results.push_back(std::move(mixed));
  }
  return results;
}

}  // namespace

SplitResult plan_sequential(const ClientOptions& options) {
  Descent descent(options);
  const std::vector<Choice> starts = first_choices(options);
  for (const Choice& start : starts) descent.start_from(start, kDescentSteps / (4 * starts.size()));
  ChoiceBound bound = bound_choices(options, descent.best().value);
  const std::vector<Choice> more = rounded(bound.choices, 8);
  for (const Choice& start : more) {
    if (descent.best().value <= bound.bound * (1 + kSame)) break;
    descent.start_from(start, kDescentSteps / (2 * more.size()));
  }
  SplitResult best = descent.best();
  best.lower_bound = std::min(bound.bound, best.value);
  if (best.value <= best.lower_bound * (1 + kSame)) return best;
  return CutSearch(options, best).run();
}

}  // namespace tandem::detail
