#include "tandem/aggregator/rounds/round_figures.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <nlohmann/json.hpp>

#include "tandem/core/run/record_json.h"

namespace tandem::aggregator {

double seconds_between(TimePoint from, TimePoint to) {
  return std::chrono::duration<double>(to - from).count();
}

double value_or_nan(const std::optional<double>& value) {
  return value.value_or(std::numeric_limits<double>::quiet_NaN());
}

nlohmann::json json_of(const TrainingFigures& figures) {
  return {{"completed_rounds", figures.completed_rounds},
          {"applied_examples", figures.applied_examples},
          {"training_seconds", figures.training_seconds},
          {"eval_loss", tandem::json_of(figures.eval_loss)},
          {"eval_accuracy", tandem::json_of(figures.eval_accuracy)}};
}

TrainingFigures training_figures_of(const nlohmann::json& values) {
  return {.completed_rounds = values.at("completed_rounds").get<uint32_t>(),
          .applied_examples = values.at("applied_examples").get<int64_t>(),
          .training_seconds = values.at("training_seconds").get<double>(),
          .eval_loss = figure_of(values.at("eval_loss")),
          .eval_accuracy = figure_of(values.at("eval_accuracy"))};
}

StepReport step_report(const Round& round) {
  StepReport report;
  const Figures& sum = round.totals();
  report.steps_done = round.applied();
  report.steps = round.tail_steps();
  if (round.lanes() == 0) {
    const auto& parts = round.participants();
    report.steps = static_cast<uint32_t>(parts.size());
    report.steps_done = static_cast<uint32_t>(
        std::count_if(parts.begin(), parts.end(), [](const auto& entry) { return entry.second.trained; }));
  }
  report.examples = static_cast<int64_t>(sum.examples);
  if (sum.examples > 0) {
    report.loss = sum.mean_loss();
    report.accuracy = sum.accuracy();
  }
  return report;
}

std::pair<int64_t, int64_t> traffic_of(const Participant& part, const TrafficModel& traffic) {
  // Where nothing comes down, the device counts more examples than go up.
  int64_t examples = static_cast<int64_t>(part.figures.examples);
  if (!traffic.gradients_come_down) {
    examples = 0;
    for (size_t step = 0; step < part.batch_sizes.size(); ++step) {
      if ((step + 1) % traffic.tail_interval == 0) examples += part.batch_sizes[step];
    }
  }
  constexpr int64_t kLabelBytes = 8;
  const bool crosses = traffic.activation_bytes > 0;
  const int64_t labels = crosses && traffic.labels_go_up ? kLabelBytes : 0;
  const int64_t up = examples * (traffic.activation_bytes + traffic.output_bytes + labels);
  const int64_t down =
      examples * ((traffic.gradients_come_down ? traffic.activation_bytes : 0) + traffic.output_bytes);
  return {up + traffic.weight_bytes + traffic.control_up_bytes,
          down + traffic.weight_bytes + traffic.control_down_bytes};
}

TrafficModel traffic_model(const TrainedModel& model, const TrainingPlan& plan,
                           const ModelPartition& partition) {
  int64_t control = 0;
  if (plan.control_variates) {
    control = total_bytes(model.device.front.parameters());
    if (model.device.head) control += total_bytes(model.device.head->parameters());
    if (model.device.auxiliary) control += total_bytes(model.device.auxiliary->parameters());
  }
  TrafficModel traffic;
  traffic.activation_bytes = model.activation_bytes(partition);
  traffic.output_bytes = model.output_bytes(partition);
  traffic.weight_bytes = total_bytes(model.held_by(partition, model.device.exchanged()));
  traffic.control_up_bytes = control;
  traffic.control_down_bytes = control;
  traffic.labels_go_up = !plan.u_shaped();
  traffic.gradients_come_down = plan.objective == EdgeObjective::kEndToEnd;
  traffic.tail_interval = plan.tail_interval;
  return traffic;
}

ClientRecord client_record(const ClientId& client, const Participant& part, const Member& member,
                           const TrafficModel& traffic) {
  const Figures& figures = part.figures;
  const bool any = figures.examples > 0;
  const auto [up, down] = traffic_of(part, traffic);
  ClientRecord record{.client = client.name,
                      .loss = any ? figures.mean_loss() : figures.loss_sum,
                      .accuracy = any ? figures.accuracy() : static_cast<double>(figures.correct),
                      .examples = static_cast<int64_t>(figures.examples),
                      .steps = part.steps,
                      .missed_steps = part.planned_steps() - std::min(part.steps, part.planned_steps()),
                      .bytes_up = member.bytes_up - part.bytes_up_before,
                      .bytes_down = member.bytes_down - part.bytes_down_before};
  record.bytes_up_formula = up;
  record.bytes_down_formula = down;
  return record;
}

void add_evaluation(ClientRecord& record, const Figures& result) {
  record.eval_loss = result.mean_loss();
  record.eval_accuracy = result.accuracy();
}

RoundRecord sum_of(const std::vector<ClientRecord>& clients) {
  RoundRecord sum;
  for (const ClientRecord& client : clients) {
    sum.examples += client.examples;
    sum.loss += client.loss * static_cast<double>(client.examples);
    sum.accuracy += client.accuracy * static_cast<double>(client.examples);
    sum.bytes_up_formula += client.bytes_up_formula;
    sum.bytes_down_formula += client.bytes_down_formula;
    sum.steps = std::max(sum.steps, client.steps + client.missed_steps);
  }
  const auto examples = static_cast<double>(std::max<int64_t>(sum.examples, 1));
  sum.loss /= examples;
  sum.accuracy /= examples;
  return sum;
}

Result<void> check_trained(const Figures& trained, uint64_t most) {
  const bool counts_fit = trained.examples <= most && trained.correct <= trained.examples;
  if (counts_fit && std::isfinite(trained.loss_sum)) return {};
  return Error{counts_fit ? ErrorCode::kNonFinite : ErrorCode::kInvalidArgument,
               "its training gave a loss of " + std::to_string(trained.loss_sum) + " and " +
                   std::to_string(trained.correct) + " right of " + std::to_string(trained.examples) +
                   " examples, expected finite figures of at most " + std::to_string(most)};
}

RoundReport round_report(const Round& round, const Roster& roster,
                         const std::function<const TrafficModel&(const ClientId&)>& traffic_of,
                         const std::map<ClientId, Figures>& evaluations) {
  RoundReport report;
  for (const auto& [client, part] : round.participants()) {
    ClientRecord record = client_record(client, part, *roster.find(client), traffic_of(client));
    if (const auto found = evaluations.find(client); found != evaluations.end()) {
      add_evaluation(record, found->second);
    }
    report.clients.push_back(std::move(record));
  }
  report.record = sum_of(report.clients);
  report.record.steps = round.steps();
  return report;
}

}  // namespace tandem::aggregator
