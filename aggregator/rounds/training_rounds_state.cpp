// TrainingRounds in a checkpoint, and who can go on from where.
#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "tandem/aggregator/rounds/round_figures.h"
#include "tandem/aggregator/rounds/training_rounds.h"

namespace tandem::aggregator {
namespace {

// Names of tensors in the state; the model's own begin with the number of a block.
constexpr const char* kAuxiliary = "auxiliary.";
constexpr const char* kTails = "tails.";
constexpr const char* kStrategy = "strategy.";
constexpr const char* kSent = "sent.";

}  // namespace

std::optional<wire::DevicePosition> TrainingRounds::position_for(
    const ClientId& client, const std::vector<wire::DevicePosition>& offered) const {
  const bool active = state_ != State::kIdle && round_ && round_->participants().contains(client) &&
                      round_->participants().at(client).active;
  const uint32_t newest = round_ ? round_->id().value : sequence_;
  for (const wire::DevicePosition& position : offered) {
    if (position.round > newest) continue;
    // With nothing it is as good as before only if it has done nothing yet.
    const uint64_t done =
        active ? round_->participants().at(client).first_example : messenger_.roster().find(client)->position;
    if (position.round == 0 && done > 0) continue;
    if (!active) return position;
    // One from before the round gets BeginRound again, and then every answer.
    if (can_answer(client, position.round == newest ? position.unanswered : 0)) return position;
  }
  return std::nullopt;
}

/// Whether every answer to the client's steps from there on can be given: by what is kept, or because the
/// step is not answered yet. False for a device that is ahead.
bool TrainingRounds::can_answer(const ClientId& client, uint32_t from) const {
  const Member& member = *messenger_.roster().find(client);
  const uint32_t round = round_->id().value;
  const uint32_t first = round_->first_unanswered(client);
  const auto steps = static_cast<uint32_t>(round_->participants().at(client).batch_sizes.size());
  if (from > first && first < steps) return false;
  for (uint32_t step = from; step < std::min(first, steps); ++step) {
    if (!round_->lane_of(client) || round_->planned(client, step) == 0 ||
        (step + 1) % options_.plan.tail_interval != 0) {
      continue;  // it does not go up
    }
    const auto kept = std::count_if(
        member.replies.begin(), member.replies.end(),
        [&](const KeptReply& reply) { return reply.key.round == round && reply.key.step == step; });
    if (kept < (options_.plan.u_shaped() ? 2 : 1)) return false;
  }
  return true;
}

uint32_t TrainingRounds::steps_since_round() const {
  return round_ ? round_->applied() : 0;
}

/// The merged model, as if no step were open.
NamedTensors TrainingRounds::settled_model() const {
  NamedTensors model = model_.whole.state();
  if (!tails_ || tails_->has_replicas()) return model;
  for (const NamedTensor& settled : tails_->merged().settled_state()) {
    const auto place = std::find_if(model.begin(), model.end(),
                                    [&](const NamedTensor& entry) { return entry.name == settled.name; });
    if (place != model.end()) place->tensor = settled.tensor;
  }
  return model;
}

nlohmann::json TrainingRounds::state(NamedTensors& tensors) const {
  append(tensors, settled_model());
  if (model_.device.auxiliary) append(tensors, model_.device.auxiliary->state(), kAuxiliary);
  append(tensors, strategy_->state(), kStrategy);
  nlohmann::json replicas = nlohmann::json::array();
  if (tails_) {
    append(tensors, tails_->state(), kTails);
    for (const ClientId& client : tails_->replicas()) replicas.push_back(client.name);
  }
  // The end of a round is gone through anew: the fronts are still where they were.
  const bool in_round = state_ != State::kIdle;
  nlohmann::json values = json_of(figures_);
  values.update(schedules_.state());
  values.update({{"sequence", in_round ? round_->id().value : sequence_},
                 {"abandoned_in_a_row", abandoned_in_a_row_},
                 {"planner", planner_.state()},
                 {"replicas", std::move(replicas)},
                 {"round", in_round ? round_state(tensors) : nlohmann::json(nullptr)}});
  return values;
}

nlohmann::json TrainingRounds::round_state(NamedTensors& tensors) const {
  if (!model_.partitions.equal()) append(tensors, sent_weights_, kSent);
  return {{"steps", round_->state()},
          {"seconds", seconds_between(start_.time, now_())},
          {"bytes_up_before", start_.bytes_up},
          {"bytes_down_before", start_.bytes_down},
          {"control_sent", !sent_control_.empty()},
          {"turn", relay_ ? relay_->turn() : 0},
          {"merged_clients", relay_ ? merged_clients_ : 0},
          {"smashed", steps_->smashed().state(tensors)}};
}

Result<void> TrainingRounds::load_state(const nlohmann::json& state, const NamedTensors& tensors) {
  NamedTensors model;
  for (const NamedTensor& entry : model_.whole.state()) {
    const at::Tensor* saved = find_tensor(tensors, entry.name);
    model.push_back({entry.name, saved != nullptr ? *saved : at::Tensor()});
  }
  if (auto loaded = model_.whole.load(model); !loaded) return loaded;
  if (model_.device.auxiliary) {
    if (auto loaded = model_.device.auxiliary->load(without_prefix(tensors, kAuxiliary)); !loaded)
      return loaded;
  }
  if (auto loaded = strategy_->load_state(without_prefix(tensors, kStrategy)); !loaded) return loaded;
  figures_ = training_figures_of(state);
  sequence_ = state.at("sequence").get<uint32_t>();
  schedules_.load_state(state);
  abandoned_in_a_row_ = state.at("abandoned_in_a_row").get<int>();
  planner_.load_state(state.at("planner"));
  if (schedules_.known()) make_tails();
  if (tails_) {
    std::vector<ClientId> replicas;
    for (const auto& name : state.at("replicas")) replicas.push_back({name.get<std::string>()});
    if (auto loaded = tails_->load_state(without_prefix(tensors, kTails), replicas); !loaded) return loaded;
  }
  const nlohmann::json& round = state.at("round");
  if (round.is_null()) return {};
  load_round(round, tensors);
  return steps_->smashed().load_state(round.at("smashed"), tensors);
}

void TrainingRounds::load_round(const nlohmann::json& state, const NamedTensors& tensors) {
  round_.emplace(state.at("steps"));
  state_ = State::kTraining;
  merged_clients_ = state.at("merged_clients").get<int>();
  start_.bytes_up = state.at("bytes_up_before").get<int64_t>();
  start_.bytes_down = state.at("bytes_down_before").get<int64_t>();
  const std::chrono::duration<double> seconds(state.at("seconds").get<double>());
  start_.time = now_() - std::chrono::duration_cast<TimePoint::duration>(seconds);
  equip_round(state.at("turn").get<size_t>());
  // The aggregator has trained its copies of blocks that devices with a higher cut hold.
  sent_weights_ =
      cpu_snapshot(model_.partitions.equal() ? model_.device.exchanged() : without_prefix(tensors, kSent));
  if (state.at("control_sent").get<bool>()) sent_control_ = named_like(sent_weights_, strategy_->control());
  // Outputs of a U-shaped step that is open no more: its device starts it again.
  for (const auto& [client, part] : round_->participants()) {
    std::erase_if(messenger_.roster().find(client)->replies, [&](const KeptReply& kept) {
      return kept.key.round == round_->id().value && kept.key.step >= round_->first_unanswered(client);
    });
  }
}

}  // namespace tandem::aggregator
