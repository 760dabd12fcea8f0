// BufferedTraining in a checkpoint, and who can go on from where.
#include <map>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "tandem/aggregator/rounds/buffered_training.h"
#include "tandem/aggregator/rounds/round_figures.h"
#include "tandem/core/run/record_json.h"

namespace tandem::aggregator {
namespace {

// Names of tensors in the state; the model's own begin with the number of a block.
constexpr const char* kStrategy = "strategy.";
constexpr const char* kAdded = "added.";

std::string base_prefix(uint32_t version) {
  return "base." + std::to_string(version) + "/";
}

}  // namespace

/// Within its task a device can be anywhere: nothing of it is answered but the end. Without one it has only
/// the end of the run before it.
std::optional<wire::DevicePosition> BufferedTraining::position_for(
    const ClientId& client, const std::vector<wire::DevicePosition>& offered) const {
  const auto task = tasks_.find(client);
  if (task == tasks_.end() && !evaluation_ && !idle()) return std::nullopt;
  const uint32_t newest = task == tasks_.end() ? sequence_ : task->second.round;
  const uint64_t done =
      task == tasks_.end() ? messenger_.roster().find(client)->position : task->second.part.first_example;
  for (const wire::DevicePosition& position : offered) {
    // With nothing it is as good as before only if it has done nothing yet.
    const bool lost = position.round == 0 && done > 0;
    if (position.round <= newest && !lost) return position;
  }
  return std::nullopt;
}

nlohmann::json BufferedTraining::state(NamedTensors& tensors) const {
  append(tensors, model_.whole.state());
  append(tensors, strategy_->state(), kStrategy);
  append(tensors, strategy_->added(), kAdded);
  // What devices have finished and is not merged they send again.
  TrainingFigures figures = figures_;
  nlohmann::json tasks = nlohmann::json::object();
  std::set<uint32_t> bases;
  for (const auto& [client, task] : tasks_) {
    if (task.part.trained) figures.applied_examples -= static_cast<int64_t>(task.part.figures.examples);
    tasks[client.name] = {{"round", task.round},
                          {"version", task.version},
                          {"batch_sizes", task.part.batch_sizes},
                          {"first_example", task.part.first_example},
                          {"bytes_up_before", task.part.bytes_up_before},
                          {"bytes_down_before", task.part.bytes_down_before},
                          {"finish", task.finish}};
    if (task.base != weights_ && bases.insert(task.version).second)
      append(tensors, *task.base, base_prefix(task.version));
  }
  nlohmann::json buffered = nlohmann::json::array();
  for (const ClientRecord& record : buffered_) buffered.emplace_back(tandem::json_of(record));
  nlohmann::json values = json_of(figures);
  values.update({{"sequence", sequence_},
                 {"lr_period_steps", lr_schedule_.period_steps},
                 {"planner", planner_.state()},
                 {"seconds_since_merge", seconds_between(merge_started_, now_())},
                 {"bytes_up_before", bytes_up_before_},
                 {"bytes_down_before", bytes_down_before_},
                 {"tasks", std::move(tasks)},
                 {"buffered", std::move(buffered)}});
  return values;
}

Result<void> BufferedTraining::load_state(const nlohmann::json& state, const NamedTensors& tensors) {
  if (auto loaded = model_.whole.load(named_like(model_.whole.state(), tensors)); !loaded) return loaded;
  if (auto loaded = strategy_->load_state(without_prefix(tensors, kStrategy)); !loaded) return loaded;
  figures_ = training_figures_of(state);
  sequence_ = state.at("sequence").get<uint32_t>();
  lr_schedule_.period_steps = state.at("lr_period_steps").get<double>();
  planner_.load_state(state.at("planner"));
  begun_ = true;
  weights_ = std::make_shared<const NamedTensors>(cpu_snapshot(model_.device.exchanged()));
  strategy_->begin(*weights_);
  if (auto loaded = strategy_->load_added(without_prefix(tensors, kAdded)); !loaded) return loaded;
  const std::chrono::duration<double> seconds(state.at("seconds_since_merge").get<double>());
  merge_started_ = now_() - std::chrono::duration_cast<TimePoint::duration>(seconds);
  bytes_up_before_ = state.at("bytes_up_before").get<int64_t>();
  bytes_down_before_ = state.at("bytes_down_before").get<int64_t>();
  for (const auto& record : state.at("buffered")) buffered_.push_back(client_record_of(record));
  messenger_.begin_round(figures_.completed_rounds + 1);
  return load_tasks(state.at("tasks"), tensors);
}

Result<void> BufferedTraining::load_tasks(const nlohmann::json& state, const NamedTensors& tensors) {
  std::map<uint32_t, std::shared_ptr<const NamedTensors>> bases;
  for (const auto& [name, value] : state.items()) {
    Task task{.round = value.at("round").get<uint32_t>(), .version = value.at("version").get<uint32_t>()};
    std::shared_ptr<const NamedTensors>& base = bases[task.version];
    if (base == nullptr) {
      NamedTensors kept = without_prefix(tensors, base_prefix(task.version));
      base = kept.empty() ? weights_ : std::make_shared<const NamedTensors>(std::move(kept));
      if (auto checked = check_same_layout(*weights_, *base); !checked) return checked;
    }
    task.base = base;
    task.part.batch_sizes = value.at("batch_sizes").get<std::vector<uint32_t>>();
    task.part.first_example = value.at("first_example").get<uint64_t>();
    task.part.bytes_up_before = value.at("bytes_up_before").get<int64_t>();
    task.part.bytes_down_before = value.at("bytes_down_before").get<int64_t>();
    task.finish = value.at("finish").get<uint64_t>();
    task.deadline = deadline_of(task);
    task.allowance = allowance_of({name});
    tasks_.emplace(ClientId{name}, std::move(task));
  }
  return {};
}

}  // namespace tandem::aggregator
