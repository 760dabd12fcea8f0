#pragma once

#include <cstddef>
#include <limits>
#include <vector>

namespace tandem {

/// One machine, one job after the other. A job can begin at `release`, keeps the machine for `time`, and is over
/// `tail` after it left the machine. The makespan is when the last job is over.
struct MachineJob {
  double release = 0;
  double time = 0;
  double tail = 0;
};

/// An order of the jobs.
struct MachineSchedule {
  std::vector<size_t> order;
  double makespan = 0;
  double lower_bound = 0;  ///< of every order; equal to the makespan where the order is proved to be the best
  size_t nodes = 0;        ///< that the search looked at
};

/// The makespan of the jobs in this order.
double makespan_of(const std::vector<MachineJob>& jobs, const std::vector<size_t>& order);

/// Schrage's rule: of the jobs that can begin the one with the longest tail.
MachineSchedule schrage_schedule(const std::vector<MachineJob>& jobs);

/// Jackson's preemptive schedule: a lower bound of the makespan of every order.
double jackson_bound(const std::vector<MachineJob>& jobs);

/// The best order, by Carlier's branch and bound (European Journal of Operational Research 11, 1982). It gives up
/// after some nodes, fewer where there are many jobs, with the best order so far and a lower bound. Orders of
/// `upper` or more are of no interest: there it may stop with any order and a lower bound of at least `upper`.
MachineSchedule best_schedule(const std::vector<MachineJob>& jobs,
                              double upper = std::numeric_limits<double>::infinity());

}  // namespace tandem
