#pragma once

#include <string>
#include <vector>

#include "tandem/core/planning/plan.h"

namespace tandem {

/// What a client's step takes with one cut, by the definitions in docs/planning.md. Times in ms.
struct CutOption {
  size_t cut = 0;
  double before_ms = 0;  ///< front forward and uplink: when the server can begin
  double server_ms = 0;  ///< the server's forward and backward for one batch
  double after_ms = 0;   ///< downlink and front backward
  double bytes = 0;      ///< both ways
  double compute_ms = 0;
  double transfer_ms = 0;

  double alone_ms() const { return before_ms + server_ms + after_ms; }
};

/// The permitted cuts of each client in ascending order: those between min_cut and max_cut that its memory, its
/// energy, the leakage, the labels and the aggregator's memory allow. A list may be empty.
std::vector<std::vector<CutOption>> cut_options(const Problem& problem);

/// The option of client `client` with this cut, whether it is permitted or not.
CutOption cut_option(const Problem& problem, size_t client, size_t cut);

/// Which constraint takes the last cut from the client whose list is empty.
std::string split_infeasible_reason(const Problem& problem);

/// The time of one step under the server's kind, with a cut for each client. `order` receives the order in
/// which a sequential server serves them.
double step_ms(ServerKind kind, const std::vector<CutOption>& chosen, std::vector<size_t>* order = nullptr);

/// The same, but for a sequential server in a good order instead of the best: an upper bound, quickly.
double quick_step_ms(ServerKind kind, const std::vector<CutOption>& chosen);

/// The memory that each client and, last, the aggregator holds.
std::vector<double> split_memory(const Problem& problem, const std::vector<size_t>& cuts);

/// steps x step + the slowest client's weights up and down.
double round_ms(const Problem& problem, const std::vector<size_t>& cuts, double step);

}  // namespace tandem
