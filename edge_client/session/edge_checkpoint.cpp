#include "tandem/edge_client/session/edge_checkpoint.h"

#include <ATen/ATen.h>

#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "tandem/core/storage/checkpoint_values.h"

namespace tandem::edge_client {
namespace {

// Names of tensors in the checkpoint.
constexpr const char* kTrainer = "trainer.";
constexpr const char* kControlChange = "control_change.";
constexpr const char* kRequests = "requests.";

nlohmann::json json_of(const LrScheduleOptions& schedule) {
  return {{"kind", static_cast<int>(schedule.kind)},
          {"warmup_steps", schedule.warmup_steps},
          {"period_steps", schedule.period_steps},
          {"step_factor", schedule.step_factor},
          {"final_factor", schedule.final_factor}};
}

LrScheduleOptions schedule_of(const nlohmann::json& value) {
  return {.kind = static_cast<LrScheduleKind>(value.at("kind").get<int>()),
          .warmup_steps = value.at("warmup_steps").get<int64_t>(),
          .period_steps = value.at("period_steps").get<double>(),
          .step_factor = value.at("step_factor").get<double>(),
          .final_factor = value.at("final_factor").get<double>()};
}

nlohmann::json json_of(const wire::DevicePosition& position) {
  return {position.round, position.step, position.unanswered};
}

wire::DevicePosition position_of(const nlohmann::json& value) {
  return {.round = value.at(0).get<uint32_t>(),
          .step = value.at(1).get<uint32_t>(),
          .unanswered = value.at(2).get<uint32_t>()};
}

nlohmann::json json_of(const DeviceRound& round) {
  return {{"number", round.number},
          {"ordinal", round.ordinal},
          {"first_example", round.first_example},
          {"batch_sizes", round.batch_sizes},
          {"next_forward", round.next_forward},
          {"next_apply", round.next_apply},
          {"examples", round.figures.examples},
          {"steps", round.steps},
          {"loss_sum", round.figures.loss_sum},
          {"correct", round.figures.correct}};
}

DeviceRound round_of(const nlohmann::json& value) {
  return {.number = value.at("number").get<uint32_t>(),
          .ordinal = value.at("ordinal").get<uint32_t>(),
          .first_example = value.at("first_example").get<uint64_t>(),
          .batch_sizes = value.at("batch_sizes").get<std::vector<uint32_t>>(),
          .next_forward = value.at("next_forward").get<uint32_t>(),
          .next_apply = value.at("next_apply").get<uint32_t>(),
          .steps = value.at("steps").get<uint32_t>(),
          .figures = {.examples = value.at("examples").get<uint64_t>(),
                      .loss_sum = value.at("loss_sum").get<double>(),
                      .correct = value.at("correct").get<uint64_t>()}};
}

std::string request_prefix(uint32_t step) {
  return kRequests + std::to_string(step) + "/";
}

/// Only smashed data waits for an answer across a checkpoint: everything else is computed again.
Result<wire::Message> request_of(const NamedTensors& tensors, const wire::MessageKey& key) {
  const at::Tensor* activations = find_tensor(tensors, request_prefix(key.step) + "activations");
  const at::Tensor* labels = find_tensor(tensors, request_prefix(key.step) + "labels");
  if (activations == nullptr || labels == nullptr) {
    return Error{ErrorCode::kCorrupt, "the checkpoint lacks the request of step " + std::to_string(key.step)};
  }
  return wire::Message{.key = key, .body = wire::Activations{*activations, *labels}};
}

}  // namespace

Checkpoint to_checkpoint(const EdgeCheckpoint& state) {
  NamedTensors tensors;
  append(tensors, state.trainer, kTrainer);
  append(tensors, state.control_change, kControlChange);
  nlohmann::json requests = nlohmann::json::array();
  for (const auto& [step, message] : state.requests) {
    const auto* data = std::get_if<wire::Activations>(&message.body);
    if (data == nullptr) continue;
    tensors.push_back({request_prefix(step) + "activations", data->activations});
    tensors.push_back({request_prefix(step) + "labels", data->labels});
    requests.push_back(step);
  }
  const nlohmann::json values = {{"run_id", state.run_id},
                                 {"instance", state.instance},
                                 {"position", json_of(state.position)},
                                 {"round", json_of(state.round)},
                                 {"lr_schedule", json_of(state.lr_schedule)},
                                 {"requests", std::move(requests)},
                                 {"front_sent", state.front_sent}};
  return make_checkpoint({.round = state.position.round, .step = state.position.step}, values,
                         std::move(tensors), {});
}

Result<EdgeCheckpoint> edge_checkpoint_of(const Checkpoint& checkpoint) {
  EdgeCheckpoint state;
  auto loaded = load_checkpoint_values(checkpoint, [&](const nlohmann::json& values) -> Result<void> {
    state.run_id = values.at("run_id").get<uint64_t>();
    state.instance = values.at("instance").get<uint64_t>();
    state.position = position_of(values.at("position"));
    state.round = round_of(values.at("round"));
    state.lr_schedule = schedule_of(values.at("lr_schedule"));
    state.front_sent = values.at("front_sent").get<bool>();
    for (const auto& step : values.at("requests")) {
      const wire::MessageKey key{
          .run_id = state.run_id, .round = state.round.number, .step = step.get<uint32_t>()};
      auto request = request_of(checkpoint.tensors, key);
      if (!request) return request.error();
      state.requests.emplace(key.step, std::move(*request));
    }
    return {};
  });
  if (!loaded) return loaded.error();
  state.trainer = without_prefix(checkpoint.tensors, kTrainer);
  state.control_change = without_prefix(checkpoint.tensors, kControlChange);
  return state;
}

}  // namespace tandem::edge_client
