#include "tandem/core/planning/one_machine.h"

#include <algorithm>
#include <numeric>
#include <queue>
#include <utility>

namespace tandem {
namespace {

/// A search looks at no more nodes than this, each of which looks at every job.
constexpr size_t kMostSteps = 40'000;
constexpr size_t kMostNodes = 20'000;
constexpr size_t kFewestNodes = 200;
/// Sums of the same times in another order differ by less.
constexpr double kRounding = 1e-12;

/// Job numbers by release, ties by number.
std::vector<size_t> by_release(const std::vector<MachineJob>& jobs) {
  std::vector<size_t> order(jobs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return jobs[a].release < jobs[b].release; });
  return order;
}

/// The job with the longest tail on top, ties by number.
struct ShorterTail {
  const std::vector<MachineJob>* jobs;
  bool operator()(size_t a, size_t b) const {
    const double tail_a = (*jobs)[a].tail;
    const double tail_b = (*jobs)[b].tail;
    return tail_a != tail_b ? tail_a < tail_b : a > b;
  }
};
using TailQueue = std::priority_queue<size_t, std::vector<size_t>, ShorterTail>;

/// Where Schrage's schedule can be improved: the jobs before[...] of the critical path go from `first` to `last`,
/// and `interfering` stands among them though its tail is shorter than the last one's.
struct CriticalPath {
  bool is_optimal = true;
  size_t interfering = 0;          ///< a job
  std::vector<size_t> after;       ///< the jobs behind it on the path
};

CriticalPath critical_path(const std::vector<MachineJob>& jobs, const MachineSchedule& schedule) {
  std::vector<double> starts;
  double now = 0;
  size_t last = 0;
  double longest = -1;
  for (size_t i = 0; i < schedule.order.size(); ++i) {
    const MachineJob& job = jobs[schedule.order[i]];
    now = std::max(now, job.release);
    starts.push_back(now);
    now += job.time;
    if (now + job.tail >= longest) {
      longest = now + job.tail;
      last = i;
    }
  }
  size_t first = last;
  // Where a job begins at its release the path may begin too, unless the machine was busy until then.
  while (first > 0 && starts[first] > jobs[schedule.order[first]].release) --first;
  while (first > 0) {
    const MachineJob& before = jobs[schedule.order[first - 1]];
    if (starts[first - 1] + before.time < starts[first]) break;
    --first;
  }
  CriticalPath path;
  for (size_t i = last; i-- > first;) {
    if (jobs[schedule.order[i]].tail >= jobs[schedule.order[last]].tail) continue;
    path.is_optimal = false;
    path.interfering = schedule.order[i];
    path.after.assign(schedule.order.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                      schedule.order.begin() + static_cast<std::ptrdiff_t>(last) + 1);
    break;
  }
  return path;
}

/// A subproblem of Carlier's search: the jobs with some releases and tails raised.
struct Node {
  double bound;
  std::vector<MachineJob> jobs;
};

struct LargerBound {
  bool operator()(const Node& a, const Node& b) const { return a.bound > b.bound; }
};

}  // namespace

double makespan_of(const std::vector<MachineJob>& jobs, const std::vector<size_t>& order) {
  double now = 0;
  double makespan = 0;
  for (const size_t i : order) {
    now = std::max(now, jobs[i].release) + jobs[i].time;
    makespan = std::max(makespan, now + jobs[i].tail);
  }
  return makespan;
}

MachineSchedule schrage_schedule(const std::vector<MachineJob>& jobs) {
  const std::vector<size_t> waiting = by_release(jobs);
  TailQueue ready(ShorterTail{&jobs});
  MachineSchedule schedule;
  schedule.order.reserve(jobs.size());
  double now = 0;
  for (size_t next = 0; schedule.order.size() < jobs.size();) {
    if (ready.empty()) now = std::max(now, jobs[waiting[next]].release);
    while (next < waiting.size() && jobs[waiting[next]].release <= now) ready.push(waiting[next++]);
    const size_t job = ready.top();
    ready.pop();
    schedule.order.push_back(job);
    now += jobs[job].time;
    schedule.makespan = std::max(schedule.makespan, now + jobs[job].tail);
  }
  return schedule;
}

double jackson_bound(const std::vector<MachineJob>& jobs) {
  const std::vector<size_t> waiting = by_release(jobs);
  std::vector<double> left;
  for (const MachineJob& job : jobs) left.push_back(job.time);
  TailQueue ready(ShorterTail{&jobs});
  double now = 0;
  double bound = 0;
  for (size_t next = 0; next < waiting.size() || !ready.empty();) {
    if (ready.empty()) now = std::max(now, jobs[waiting[next]].release);
    while (next < waiting.size() && jobs[waiting[next]].release <= now) ready.push(waiting[next++]);
    const size_t job = ready.top();
    const double next_release =
        next < waiting.size() ? jobs[waiting[next]].release : std::numeric_limits<double>::infinity();
    if (now + left[job] <= next_release) {
      now += left[job];
      bound = std::max(bound, now + jobs[job].tail);
      ready.pop();
    } else {
      left[job] -= next_release - now;
      now = next_release;
    }
  }
  return bound;
}

MachineSchedule best_schedule(const std::vector<MachineJob>& jobs, double upper) {
  const size_t most_nodes = std::clamp<size_t>(kMostSteps / jobs.size(), kFewestNodes, kMostNodes);
  MachineSchedule best = schrage_schedule(jobs);
  best.lower_bound = jackson_bound(jobs);
  std::priority_queue<Node, std::vector<Node>, LargerBound> open;
  open.push({best.lower_bound, jobs});
  const auto limit = [&] { return std::min(best.makespan, upper) * (1 - kRounding); };
  for (; !open.empty() && open.top().bound < limit(); ++best.nodes) {
    if (best.nodes == most_nodes) {
      best.lower_bound = open.top().bound;
      return best;
    }
    const Node node = open.top();
    open.pop();
    const MachineSchedule schedule = schrage_schedule(node.jobs);
    const double makespan = makespan_of(jobs, schedule.order);
    if (makespan < best.makespan) {
      best.order = schedule.order;
      best.makespan = makespan;
    }
    const CriticalPath path = critical_path(node.jobs, schedule);
    if (path.is_optimal) continue;
    MachineJob after{std::numeric_limits<double>::infinity(), 0, std::numeric_limits<double>::infinity()};
    for (const size_t i : path.after) {
      after.release = std::min(after.release, node.jobs[i].release);
      after.time += node.jobs[i].time;
      after.tail = std::min(after.tail, node.jobs[i].tail);
    }
    // Carlier 1982: the interfering job goes behind all of the set, or before all of it.
    Node later{0, node.jobs};
    MachineJob& moved = later.jobs[path.interfering];
    moved.release = std::max(moved.release, after.release + after.time);
    Node earlier{0, node.jobs};
    MachineJob& first = earlier.jobs[path.interfering];
    first.tail = std::max(first.tail, after.time + after.tail);
    for (Node* child : {&later, &earlier}) {
      child->bound = std::max(node.bound, jackson_bound(child->jobs));
      if (child->bound < limit()) open.push(std::move(*child));
    }
  }
  best.lower_bound = std::min(best.makespan, std::max(upper, best.lower_bound));
  return best;
}

}  // namespace tandem
