#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tandem/core/base/result.h"

namespace tandem {

/// What a planning problem says: the blocks of a model, and the places that may hold them. Times are in ms,
/// sizes in bytes, energies in mJ; all may be fractional. An id is the position in the file.

/// One block of the model.
struct PlanBlock {
  std::string name;
  double memory_bytes = 0;     ///< what a place needs to hold it
  double output_bytes = 0;     ///< what travels when the next block is on another place
  double parameter_bytes = 0;  ///< its weights, exchanged at a round's end
};

/// What the blocks cost on one place. Every list has an entry for each block.
struct BlockTimes {
  std::vector<double> forward_ms;
  std::vector<double> backward_ms;   ///< zeros where nothing is trained
  std::vector<double> optimiser_ms;  ///< zeros where the problem gives none
};

/// What bounds the blocks on one place: infinite where the problem sets no limit.
struct PlaceLimits {
  double memory_bytes;
  std::vector<double> energy_mj;  ///< for each block, zeros where the problem gives none
  double max_energy_mj;           ///< bounds the sum over the blocks that the place holds
};

/// One place of a chain.
struct PlanDevice {
  std::string name;
  std::string type;  ///< devices of one type are said to be alike; the exact planner verifies it
  BlockTimes times;
  PlaceLimits limits;
};

/// One direction between two devices. b bytes take latency_ms + b / bytes_per_ms.
struct PlanLink {
  double bytes_per_ms = 1;
  double latency_ms = 0;
};

/// A chain over devices that each hold a range of blocks (P2).
struct ChainPlaces {
  std::vector<PlanDevice> devices;
  std::vector<PlanLink> links;  ///< [from * devices + to]; the entries from a device to itself mean nothing
  size_t source = 0;            ///< where the input lies
  double return_bytes = 0;      ///< from the last stage's device to the source; not in training
  size_t min_front_blocks = 1;  ///< the first blocks, which stay on the source
  bool last_stage_on_source = false;
  bool contiguous = true;  ///< a device holds one range of blocks
  uint64_t micro_batches = 1;

  const PlanLink& link(size_t from, size_t to) const { return links[from * devices.size() + to]; }
};

/// How one server serves its clients in a step.
enum class ServerKind {
  kSequential,   ///< one client after the other
  kJoined,       ///< all clients' batches at once, as the schedule `parallel` does
  kSharing,      ///< each client owns a fraction of the server
  kUncontended,  ///< a server for each client
};

/// A client of a split-federated problem. It holds the blocks before its cut, the aggregator the others.
struct PlanClient {
  std::string name;
  BlockTimes times;
  PlaceLimits limits;
  double up_bytes_per_ms = 1;
  double down_bytes_per_ms = 1;
  double latency_ms = 0;
  uint64_t steps = 1;  ///< in a round
  size_t min_cut = 1;
  size_t max_cut = 0;
};

/// Clients and one aggregator, with a cut for each client (P3). A step always trains.
struct SplitPlaces {
  BlockTimes aggregator;
  double aggregator_memory_bytes;  ///< infinite where the problem sets no limit
  std::vector<PlanClient> clients;
  ServerKind server = ServerKind::kSequential;
};

/// A validated problem.
struct Problem {
  std::vector<PlanBlock> blocks;
  double input_bytes = 0;
  bool training = false;
  /// Entry c is the leakage of what is sent when the first c blocks are before it; empty where the problem
  /// has no such limit. A place other than the data's own receives nothing above max_leakage.
  std::vector<double> leakage;
  double max_leakage = 0;
  /// The loss, and with it the labels, stay where the data are. In a chain the same as last_stage_on_source;
  /// with clients the only cut left is that after the last block.
  bool labels_stay = false;
  std::variant<ChainPlaces, SplitPlaces> places;

  size_t size() const { return blocks.size(); }
  const ChainPlaces* chain() const { return std::get_if<ChainPlaces>(&places); }
  const SplitPlaces* split() const { return std::get_if<SplitPlaces>(&places); }
  /// Whether the activation after the first `cut` blocks may leave the place that holds the data.
  bool may_leave(size_t cut) const { return leakage.empty() || cut >= size() || leakage[cut] <= max_leakage; }
};

/// A sum fits a limit if it exceeds it by no more than rounding does.
inline bool fits(double sum, double limit) {
  return sum <= limit * (1 + 1e-12);
}

/// A field of a problem that breaks a rule. what() is "FIELD RULE", such as
/// `devices[1].forward_ms[2] must be a number of at least 0, got -1`.
class ProblemError : public std::invalid_argument {
 public:
  ProblemError(std::string field, const std::string& rule)
      : std::invalid_argument(field.empty() ? "the problem " + rule : field + " " + rule),
        field_(std::move(field)) {}

  /// The path of the field: "links.overrides[0].from"; empty for the whole problem.
  const std::string& field() const { return field_; }

 private:
  std::string field_;
};

/// Reads a problem. The format is in docs/planning.md. Every field is checked: unknown and missing fields,
/// wrong types, numbers outside their range, names that occur twice or that nothing has. Throws ProblemError.
Problem read_problem(const nlohmann::json& json);

/// Parses the text of a problem file and reads it. kInvalidArgument says the field and the rule, or where the
/// text stops being JSON. Nesting is bounded, and so is the time, by the length of the text.
Result<Problem> parse_problem(std::string_view text);

}  // namespace tandem
