#include "tandem/core/transport/fault_injector.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "tandem/core/base/specification.h"

namespace tandem {
namespace {

using std::chrono::milliseconds;
using TimePoint = FaultInjector::TimePoint;

constexpr double kDefaultReorder = 0.01;
constexpr uint64_t kMostOvertaking = 3;
constexpr double kLongestDelay = 3600;
constexpr double kShortestDisconnect = 0.01;
constexpr double kLongestDisconnect = 30.0 * 24 * 3600;

Error invalid(const std::string& message) {
  return {ErrorCode::kInvalidArgument, message};
}

struct Probability {
  const char* name;
  double FaultOptions::*field;
};
constexpr Probability kProbabilities[] = {{"drop", &FaultOptions::drop},
                                          {"duplicate", &FaultOptions::duplicate},
                                          {"reorder", &FaultOptions::reorder},
                                          {"corrupt", &FaultOptions::corrupt}};

struct Time {
  const char* name;
  milliseconds FaultOptions::*field;
  double shortest;  // seconds
  double longest;
};
constexpr Time kTimes[] = {
    {"delay", &FaultOptions::delay, 0, kLongestDelay},
    {"disconnect", &FaultOptions::disconnect, kShortestDisconnect, kLongestDisconnect}};

Result<void> read_probability(const std::string& part, const std::string& value, double& field) {
  const auto number = parse_number(part, value, 0, 1);
  if (!number || *number >= 1)
    return invalid("\"" + part + "\": a probability from 0 to below 1 was expected, as in drop=0.01");
  field = *number;
  return {};
}

Result<void> read_time(const std::string& part, const std::string& value, const Time& time,
                       milliseconds& field) {
  const bool in_ms = value.ends_with("ms");
  if (in_ms || value.ends_with("s")) {
    const auto number = parse_number(part, value.substr(0, value.size() - (in_ms ? 2 : 1)), 0, 1e12);
    const double seconds = number ? *number * (in_ms ? 0.001 : 1) : -1;
    if (seconds >= time.shortest && seconds <= time.longest) {
      field = milliseconds(std::llround(seconds * 1000));
      return {};
    }
  }
  std::ostringstream expected;
  expected << "\"" << part << "\": a time from " << time.shortest << "s to " << time.longest
           << "s with its unit was expected, as in delay=50ms or disconnect=30s";
  return invalid(expected.str());
}

Error unknown(const std::string& name) {
  std::vector<std::string> known;
  std::string list;
  for (const auto& probability : kProbabilities) known.emplace_back(probability.name);
  for (const auto& time : kTimes) known.emplace_back(time.name);
  for (const auto& each : known) list += (list.empty() ? "" : ", ") + each;
  const auto nearest = nearest_name(name, known);
  return invalid("\"" + name + "\" is no fault" + (nearest ? "; did you mean " + *nearest + "?" : "") +
                 " (known: " + list + ")");
}

Result<void> read_part(const std::string& part, FaultOptions& options) {
  const size_t equals = part.find('=');
  const std::string name = part.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : part.substr(equals + 1);
  if (part == "reorder") {
    options.reorder = kDefaultReorder;
    return {};
  }
  for (const Probability& each : kProbabilities)
    if (name == each.name) return read_probability(part, value, options.*each.field);
  for (const Time& each : kTimes)
    if (name == each.name) return read_time(part, value, each, options.*each.field);
  return unknown(name);
}

wire::Frames with_a_bit_flipped(wire::Frames frames, SplitMix64& random) {
  std::vector<size_t> candidates;
  for (size_t i = 0; i < frames.size(); ++i)
    if (frames[i].size() > 0) candidates.push_back(i);
  if (candidates.empty()) return frames;
  wire::Frame& frame = frames[candidates[random.below(candidates.size())]];
  // A copy: the frame may borrow a tensor, or share its bytes with a duplicate.
  std::string bytes(reinterpret_cast<const char*>(frame.data()), frame.size());
  const uint64_t bit = random.below(8 * static_cast<uint64_t>(bytes.size()));
  bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
  frame = wire::Frame::own(std::move(bytes));
  return frames;
}

TimePoint moment_of_cut(const FaultOptions& options, uint64_t seed, TimePoint now) {
  if (options.disconnect.count() == 0) return TimePoint::max();
  SplitMix64 random(seed);
  const std::chrono::duration<double> mean = options.disconnect;
  return now + std::chrono::duration_cast<TimePoint::duration>(-std::log1p(-random.uniform()) * mean);
}

}  // namespace

bool FaultOptions::any() const {
  return drop > 0 || duplicate > 0 || reorder > 0 || corrupt > 0 || delay.count() > 0 ||
         disconnect.count() > 0;
}

std::string FaultOptions::text() const {
  std::ostringstream out;
  const char* separator = "";
  for (const Probability& each : kProbabilities) {
    if (this->*each.field == 0) continue;
    out << separator << each.name << '=' << this->*each.field;
    separator = ",";
  }
  for (const Time& each : kTimes) {
    if ((this->*each.field).count() == 0) continue;
    out << separator << each.name << '=' << (this->*each.field).count() << "ms";
    separator = ",";
  }
  return out.str();
}

Result<FaultOptions> parse_faults(const std::string& text, uint64_t seed) {
  FaultOptions options;
  options.seed = seed;
  if (text.empty()) return options;
  std::set<std::string> given;
  std::istringstream parts(text + ",");
  for (std::string part; std::getline(parts, part, ',');) {
    if (const auto read = read_part(part, options); !read) return read.error();
    const std::string name = part.substr(0, part.find('='));
    if (!given.insert(name).second) return invalid("\"" + name + "\" is given twice");
  }
  return options;
}

std::string FaultCounts::text() const {
  std::ostringstream out;
  out << "of " << messages << " messages " << dropped << " were dropped, " << duplicated << " duplicated, "
      << delayed << " delayed, " << reordered << " reordered and " << corrupted << " corrupted; "
      << disconnected << " connections were cut, and " << discarded
      << " messages were on their way when a connection ended";
  return out.str();
}

FaultInjector::FaultInjector(const FaultOptions& options, uint64_t stream, TimePoint now, FaultCounts& counts)
    : options_(options),
      counts_(counts),
      cut_at_(moment_of_cut(options, derive_seed(options.seed, RandomPurpose::kNetwork, {stream, 2}), now)),
      lanes_{{SplitMix64(derive_seed(options.seed, RandomPurpose::kNetwork, {stream, 0})), {}, {}, now},
             {SplitMix64(derive_seed(options.seed, RandomPurpose::kNetwork, {stream, 1})), {}, {}, now}} {}

FaultInjector::~FaultInjector() {
  lose_all();
}

void FaultInjector::put(Direction direction, wire::Frames frames, TimePoint now) {
  Lane& lane = this->lane(direction);
  ++counts_.messages;
  // Always both, so that one fault's share does not change which messages another one hits.
  const bool dropped = lane.random.uniform() < options_.drop;
  const bool duplicated = lane.random.uniform() < options_.duplicate;
  if (dropped) {
    ++counts_.dropped;
    return;
  }
  if (duplicated) {
    ++counts_.duplicated;
    send_off(lane, frames, now);
  }
  send_off(lane, std::move(frames), now);
}

void FaultInjector::send_off(Lane& lane, wire::Frames frames, TimePoint now) {
  const bool corrupted = lane.random.uniform() < options_.corrupt;
  const bool held_back = lane.random.uniform() < options_.reorder;
  const double share = lane.random.uniform();
  if (corrupted) {
    ++counts_.corrupted;
    frames = with_a_bit_flipped(std::move(frames), lane.random);
  }
  if (held_back) {
    lane.held.push_back({.frames = std::move(frames),
                         .to_overtake = 1 + lane.random.below(kMostOvertaking),
                         .limit = now + kOvertakeLimit});
    return;
  }
  const auto delay = std::chrono::duration_cast<TimePoint::duration>(share * options_.delay);
  lane.last_due = std::max(lane.last_due, now + delay);
  if (lane.last_due > now) ++counts_.delayed;
  lane.queue.push_back({std::move(frames), lane.last_due});
  release_overtaken(lane);
}

void FaultInjector::release_overtaken(Lane& lane) {
  std::vector<HeldBack> still_held;
  for (HeldBack& each : std::exchange(lane.held, {})) {
    each.overtaken = true;
    if (--each.to_overtake > 0)
      still_held.push_back(std::move(each));
    else
      release(lane, std::move(each), lane.last_due);
  }
  lane.held = std::move(still_held);
}

void FaultInjector::release_at_limit(Lane& lane, TimePoint now) {
  std::vector<HeldBack> still_held;
  for (HeldBack& each : std::exchange(lane.held, {})) {
    if (each.limit > now)
      still_held.push_back(std::move(each));
    else
      release(lane, std::move(each), std::max(lane.last_due, each.limit));
  }
  lane.held = std::move(still_held);
}

void FaultInjector::release(Lane& lane, HeldBack held, TimePoint due) {
  ++(held.overtaken ? counts_.reordered : counts_.delayed);
  lane.last_due = due;
  lane.queue.push_back({std::move(held.frames), due});
}

std::optional<wire::Frames> FaultInjector::take(Direction direction, TimePoint now) {
  Lane& lane = this->lane(direction);
  release_at_limit(lane, now);
  if (lane.queue.empty() || lane.queue.front().due > now) return std::nullopt;
  wire::Frames frames = std::move(lane.queue.front().frames);
  lane.queue.pop_front();
  ++counts_.delivered;
  return frames;
}

size_t FaultInjector::waiting(Direction direction) const {
  return lane(direction).queue.size() + lane(direction).held.size();
}

void FaultInjector::cut() {
  ++counts_.disconnected;
  cut_at_ = TimePoint::max();
  lose_all();
}

FaultInjector::TimePoint FaultInjector::next_due() const {
  TimePoint next = cut_at_;
  for (const Lane& lane : lanes_) {
    if (!lane.queue.empty()) next = std::min(next, lane.queue.front().due);
    for (const HeldBack& each : lane.held) next = std::min(next, each.limit);
  }
  return next;
}

void FaultInjector::lose_all() {
  for (Lane& lane : lanes_) {
    counts_.discarded += lane.queue.size() + lane.held.size();
    lane.queue.clear();
    lane.held.clear();
  }
}

}  // namespace tandem
