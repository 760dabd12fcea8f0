#include "tandem/aggregator/round_figures.h"

#include <torch/torch.h>

#include <algorithm>

namespace tandem::aggregator {

double seconds_between(TimePoint from, TimePoint to) {
  return std::chrono::duration<double>(to - from).count();
}

std::pair<double, uint32_t> mean_loss(const at::Tensor& logits, const at::Tensor& labels) {
  const torch::NoGradGuard no_grad;
  return {torch::cross_entropy_loss(logits, labels).item<double>(),
          static_cast<uint32_t>(logits.argmax(1).eq(labels).sum().item<int64_t>())};
}

std::pair<int64_t, int64_t> traffic_of(const Participant& part, const TrafficModel& traffic) {
  // Where nothing comes down, the device counts more examples than go up.
  int64_t examples = static_cast<int64_t>(part.examples);
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
  return {up + traffic.weight_bytes, down + traffic.weight_bytes};
}

RoundReport round_report(const Round& round, const Roster& roster, const TrafficModel& traffic,
                         const std::map<ClientId, wire::Evaluated>& evaluations) {
  RoundReport report;
  RoundRecord& record = report.record;
  record.steps = round.steps();
  for (const auto& [client, part] : round.participants()) {
    const Member& member = *roster.find(client);
    const auto examples = static_cast<double>(std::max<uint64_t>(part.examples, 1));
    const auto [up, down] = traffic_of(part, traffic);
    record.examples += static_cast<int64_t>(part.examples);
    record.loss += part.loss_sum;
    record.accuracy += static_cast<double>(part.correct);
    record.bytes_up_formula += up;
    record.bytes_down_formula += down;
    ClientRecord of_client{.client = client.name,
                           .loss = part.loss_sum / examples,
                           .accuracy = static_cast<double>(part.correct) / examples,
                           .examples = static_cast<int64_t>(part.examples),
                           .steps = part.steps,
                           .missed_steps = part.planned_steps() - std::min(part.steps, part.planned_steps()),
                           .bytes_up = member.bytes_up - part.bytes_up_before,
                           .bytes_down = member.bytes_down - part.bytes_down_before};
    of_client.bytes_up_formula = up;
    of_client.bytes_down_formula = down;
    if (const auto found = evaluations.find(client); found != evaluations.end()) {
      const auto count = static_cast<double>(found->second.examples);
      of_client.eval_loss = found->second.loss_sum / count;
      of_client.eval_accuracy = static_cast<double>(found->second.correct) / count;
    }
    report.clients.push_back(std::move(of_client));
  }
  const auto examples = static_cast<double>(std::max<int64_t>(record.examples, 1));
  record.loss /= examples;
  record.accuracy /= examples;
  return report;
}

}  // namespace tandem::aggregator
