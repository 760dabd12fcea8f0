#include "tandem/aggregator/rounds/round.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

namespace tandem::aggregator {
namespace {

constexpr uint32_t kMissesThatExclude = 2;

TailStep::iterator entry_of(TailStep& step, const ClientId& client) {
  return std::find_if(step.begin(), step.end(),
                      [&](const TailEntry& entry) { return entry.client == client; });
}

nlohmann::json json_of(const Participant& part) {
  return {{"batch_sizes", part.batch_sizes},
          {"first_example", part.first_example},
          {"active", part.active},
          {"trained", part.trained},
          {"missed", part.missed},
          {"steps", part.steps},
          {"examples", part.figures.examples},
          {"loss_sum", part.figures.loss_sum},
          {"correct", part.figures.correct},
          {"beyond_limits", part.beyond_limits},
          {"beyond_limits_reason", part.beyond_limits_reason},
          {"bytes_up_before", part.bytes_up_before},
          {"bytes_down_before", part.bytes_down_before}};
}

Participant participant_of(const nlohmann::json& value) {
  return {.batch_sizes = value.at("batch_sizes").get<std::vector<uint32_t>>(),
          .first_example = value.at("first_example").get<uint64_t>(),
          .active = value.at("active").get<bool>(),
          .trained = value.at("trained").get<bool>(),
          .missed = value.at("missed").get<uint32_t>(),
          .steps = value.at("steps").get<uint32_t>(),
          .figures = {.examples = value.at("examples").get<uint64_t>(),
                      .loss_sum = value.at("loss_sum").get<double>(),
                      .correct = value.at("correct").get<uint64_t>()},
          .beyond_limits = value.value("beyond_limits", uint32_t{0}),
          .beyond_limits_reason = value.value("beyond_limits_reason", std::string()),
          .bytes_up_before = value.at("bytes_up_before").get<int64_t>(),
          .bytes_down_before = value.at("bytes_down_before").get<int64_t>()};
}

}  // namespace

uint64_t Participant::planned_examples() const {
  return std::accumulate(batch_sizes.begin(), batch_sizes.end(), uint64_t{0});
}

uint32_t Participant::planned_steps() const {
  return static_cast<uint32_t>(
      std::count_if(batch_sizes.begin(), batch_sizes.end(), [](uint32_t size) { return size > 0; }));
}

void Participant::count_beyond_limits(const Error& error) {
  if (error.code != ErrorCode::kNonFinite) return;
  ++beyond_limits;
  beyond_limits_reason = error.message;
}

void Participant::record_trained(const Figures& trained_figures) {
  trained = true;
  figures = trained_figures;
  steps = planned_steps();
}

Round::Round(RoundId id, RoundPlan plan) : id_(id), steps_(plan.steps()), turns_(std::move(plan.turns)) {
  for (auto& [client, sizes] : plan.batch_sizes) participants_[client].batch_sizes = std::move(sizes);
  for (Lane& lane : plan.lanes) {
    for (const TailStep& step : lane) {
      for (const TailEntry& entry : step) {
        lane_of_[entry.client] = lanes_.size();
        pending_[entry.client].push_back(entry.step);
      }
    }
    lanes_.push_back({.steps = std::move(lane)});
  }
  begin_counting();
}

Round::Round(const nlohmann::json& state)
    : id_{state.at("id").get<uint32_t>()}, steps_(state.at("steps").get<uint32_t>()) {
  for (const auto& name : state.at("turns")) turns_.push_back({name.get<std::string>()});
  std::vector<ClientId> clients;
  for (const auto& [name, value] : state.at("participants").items()) {
    clients.push_back({name});
    participants_[{name}] = participant_of(value);
    if (value.contains("lane")) lane_of_[{name}] = value.at("lane").get<size_t>();
    if (value.contains("pending")) pending_[{name}] = value.at("pending").get<std::deque<uint32_t>>();
    if (value.at("lagging").get<bool>()) lagging_.insert({name});
  }
  for (const auto& lane : state.at("lanes")) {
    LaneState& restored = lanes_.emplace_back();
    restored.current = lane.at("current").get<size_t>();
    restored.steps.resize(restored.current);  // what is behind it is never looked at again
    for (const auto& step : lane.at("steps")) {
      TailStep& entries = restored.steps.emplace_back();
      for (const auto& entry : step) {
        entries.push_back({clients.at(entry.at(0).get<size_t>()), entry.at(1).get<uint32_t>()});
      }
    }
  }
  for (const auto& [client, lane] : lane_of_) (void)lanes_.at(lane);
  begin_counting();
}

void Round::begin_counting() {
  for (const auto& [client, part] : participants_) {
    active_count_ += part.active ? 1 : 0;
    totals_ += part.figures;
  }
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    applied_ += applied(lane);
    tail_steps_ += tail_steps(lane);
    lanes_done_ += lane_done(lane) ? 1 : 0;
  }
}

void Round::count_step(const ClientId& client, const Figures& figures) {
  Participant& part = participants_.at(client);
  ++part.steps;
  part.figures += figures;
  totals_ += figures;
}

void Round::count_trained(const ClientId& client, const Figures& figures) {
  participants_.at(client).record_trained(figures);
  totals_ += figures;
}

nlohmann::json Round::state() const {
  nlohmann::json state = {{"id", id_.value},
                          {"steps", steps_},
                          {"turns", nlohmann::json::array()},
                          {"participants", nlohmann::json::object()},
                          {"lanes", nlohmann::json::array()}};
  for (const ClientId& client : turns_) state["turns"].push_back(client.name);
  std::map<ClientId, size_t> numbers;
  for (const auto& [client, part] : participants_) {
    numbers.emplace(client, numbers.size());
    nlohmann::json value = json_of(part);
    value["lagging"] = lagging_.contains(client);
    if (const auto lane = lane_of(client)) value["lane"] = *lane;
    if (const auto pending = pending_.find(client); pending != pending_.end())
      value["pending"] = pending->second;
    state["participants"][client.name] = std::move(value);
  }
  for (const LaneState& lane : lanes_) {
    nlohmann::json steps = nlohmann::json::array();
    for (size_t i = lane.current; i < lane.steps.size(); ++i) {
      nlohmann::json step = nlohmann::json::array();
      for (const TailEntry& entry : lane.steps[i]) step.push_back({numbers.at(entry.client), entry.step});
      steps.push_back(std::move(step));
    }
    state["lanes"].push_back({{"current", lane.current}, {"steps", std::move(steps)}});
  }
  return state;
}

Participant* Round::active(const ClientId& client) {
  const auto found = participants_.find(client);
  return found == participants_.end() || !found->second.active ? nullptr : &found->second;
}

std::vector<ClientId> Round::active_clients() const {
  std::vector<ClientId> clients;
  for (const auto& [client, part] : participants_) {
    if (part.active) clients.push_back(client);
  }
  return clients;
}

uint32_t Round::planned(const ClientId& client, uint32_t step) const {
  const auto found = participants_.find(client);
  if (found == participants_.end() || step >= found->second.batch_sizes.size()) return 0;
  return found->second.batch_sizes[step];
}

std::optional<size_t> Round::lane_of(const ClientId& client) const {
  const auto found = lane_of_.find(client);
  return found == lane_of_.end() ? std::nullopt : std::optional(found->second);
}

Round::StepState Round::state_of(const ClientId& client, uint32_t step, uint32_t window, bool waits) const {
  const auto found = pending_.find(client);
  if (found == pending_.end() || planned(client, step) == 0) return StepState::kUnknown;
  const std::deque<uint32_t>& pending = found->second;
  if (pending.empty() || step < pending.front()) return StepState::kPast;
  const auto place = std::lower_bound(pending.begin(), pending.end(), step);
  if (place == pending.end() || *place != step) return StepState::kUnknown;
  const auto ahead =
      waits ? uint64_t{step} - pending.front() : static_cast<uint64_t>(std::distance(pending.begin(), place));
  return ahead < window ? StepState::kOpen : StepState::kTooEarly;
}

bool Round::answered(const ClientId& client) const {
  const auto found = pending_.find(client);
  return found == pending_.end() || found->second.empty();
}

uint32_t Round::first_unanswered(const ClientId& client) const {
  const auto found = pending_.find(client);
  if (found == pending_.end() || found->second.empty()) return std::numeric_limits<uint32_t>::max();
  return found->second.front();
}

bool Round::has(const ClientId& client, uint32_t step) const {
  const auto found = arrived_.find(client);
  return found != arrived_.end() && found->second.contains(step);
}

std::vector<uint32_t> Round::waiting_steps(const ClientId& client) const {
  std::vector<uint32_t> steps;
  if (const auto found = arrived_.find(client); found != arrived_.end()) {
    for (const auto& [step, activations] : found->second) steps.push_back(step);
  }
  return steps;
}

void Round::put(ClientActivations activations) {
  const ClientId client = activations.client;
  lagging_.erase(client);
  arrived_[client].insert_or_assign(activations.step, std::move(activations));
}

bool Round::waits_for(const TailEntry& entry) const {
  return participants_.at(entry.client).active && !lagging_.contains(entry.client);
}

bool Round::is_missing(const TailEntry& entry, bool all_lag) const {
  // Where nobody else is left, those who lag are waited for.
  const bool awaited = all_lag ? participants_.at(entry.client).active : waits_for(entry);
  return awaited && !has(entry.client, entry.step);
}

std::vector<TailEntry> Round::missing(size_t lane) const {
  std::vector<TailEntry> entries;
  if (lane_done(lane)) return entries;
  const TailStep& step = lanes_[lane].steps[lanes_[lane].current];
  const bool all_lag = only_laggards(lane);
  for (const TailEntry& entry : step) {
    if (is_missing(entry, all_lag)) entries.push_back(entry);
  }
  return entries;
}

bool Round::ready(size_t lane) const {
  if (lane_done(lane)) return false;
  const TailStep& step = lanes_[lane].steps[lanes_[lane].current];
  const bool all_lag = only_laggards(lane);
  return std::none_of(step.begin(), step.end(),
                      [&](const TailEntry& entry) { return is_missing(entry, all_lag); });
}

std::vector<ClientId> Round::expected(size_t lane) const {
  std::vector<ClientId> clients;
  if (lane_done(lane)) return clients;
  for (const TailEntry& entry : lanes_[lane].steps[lanes_[lane].current]) clients.push_back(entry.client);
  return clients;
}

void Round::forget(const ClientId& client, uint32_t step) {
  std::deque<uint32_t>& pending = pending_[client];
  if (!pending.empty() && pending.front() == step) {
    pending.pop_front();
  } else {
    std::erase(pending, step);
  }
  if (const auto arrived = arrived_.find(client); arrived != arrived_.end()) arrived->second.erase(step);
}

bool Round::only_laggards(size_t lane) const {
  if (lagging_.empty() || lane_done(lane)) return false;
  const TailStep& step = lanes_[lane].steps[lanes_[lane].current];
  return std::none_of(step.begin(), step.end(), [&](const TailEntry& entry) { return waits_for(entry); });
}

bool Round::let_lag(const ClientId& client) {
  return lagging_.insert(client).second;
}

bool Round::miss(size_t lane, const ClientId& client) {
  Participant* part = active(client);
  if (part == nullptr) return true;
  TailStep& step = lanes_[lane].steps[lanes_[lane].current];
  if (const auto entry = entry_of(step, client); entry != step.end()) {
    forget(client, entry->step);
    step.erase(entry);
  }
  if (++part->missed < kMissesThatExclude) return false;
  deactivate(client);
  return true;
}

void Round::postpone(size_t lane, const ClientId& client) {
  Lane& steps = lanes_[lane].steps;
  std::optional<TailEntry> carried;
  const size_t current = lanes_[lane].current;
  // A step that the client sits out takes up the lag: those behind it stay where they are.
  for (size_t i = current; i < steps.size() && (i == current || carried); ++i) {
    const auto entry = entry_of(steps[i], client);
    std::optional<TailEntry> own;
    if (entry != steps[i].end()) {
      own = *entry;
      steps[i].erase(entry);
    }
    if (carried) {
      // Joined order is client-id order.
      const auto place = std::find_if(steps[i].begin(), steps[i].end(),
                                      [&](const TailEntry& other) { return client < other.client; });
      steps[i].insert(place, *carried);
      carried.reset();
    }
    if (own) carried = own;
  }
  if (!carried) return;
  steps.push_back({*carried});
  ++tail_steps_;
}

void Round::deactivate(const ClientId& client) {
  if (Participant* part = active(client)) {
    part->active = false;
    --active_count_;
  }
  arrived_.erase(client);
}

std::vector<ClientActivations> Round::take(size_t lane) {
  std::vector<ClientActivations> taken;
  for (const TailEntry& entry : lanes_[lane].steps[lanes_[lane].current]) {
    const auto of_client = arrived_.find(entry.client);
    if (of_client == arrived_.end()) continue;
    if (auto node = of_client->second.extract(entry.step)) taken.push_back(std::move(node.mapped()));
  }
  return taken;
}

void Round::advance(size_t lane) {
  LaneState& state = lanes_[lane];
  std::vector<ClientId> late;
  for (const TailEntry& entry : state.steps[state.current]) {
    const bool active = participants_.at(entry.client).active;
    if (active && lagging_.contains(entry.client)) late.push_back(entry.client);
  }
  for (const ClientId& client : late) postpone(lane, client);
  for (const TailEntry& entry : state.steps[state.current]) forget(entry.client, entry.step);
  ++state.current;
  ++applied_;
  if (lane_done(lane)) ++lanes_done_;
}

}  // namespace tandem::aggregator
