#include "tandem/aggregator/evaluation/device_evaluation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tandem/aggregator/rounds/activation_checks.h"
#include "tandem/core/training/device_model.h"
#include "tandem/core/training/objective.h"

namespace tandem::aggregator {

DeviceEvaluation::DeviceEvaluation(const SessionOptions& options, Messenger& messenger,
                                   const TrainedModel& model, Tails* tails, std::function<TimePoint()> now,
                                   EvaluationRequest request)
    : options_(options),
      messenger_(messenger),
      model_(model),
      tails_(tails),
      now_(std::move(now)),
      weights_(std::move(request.weights)),
      progress_(request.round, request.examples, [this](const ClientId& client) {
        const ModelPartition& partition = model_.partitions.of(client);
        return tails_ != nullptr ? partition.evaluation_batch_size(model_.definition) : 0;
      }) {
  restart_deadline();
}

void DeviceEvaluation::ask(const ClientId& client) {
  messenger_.send(client, wire::Evaluate{model_.held_by(model_.partitions.of(client), weights_)},
                  progress_.round());
}

void DeviceEvaluation::ask_again(const ClientId& client, bool went_back) {
  if (went_back) progress_.start_again(client);
  ask(client);
}

void DeviceEvaluation::receive(const ClientId& client, const wire::Message& message) {
  if (const auto* evaluated = std::get_if<wire::Evaluated>(&message.body)) {
    if (const auto recorded = progress_.record(client, evaluated->figures); !recorded) {
      refuse(client, recorded.error());
    }
  } else {
    answer_batch(client, message);
  }
}

void DeviceEvaluation::answer_batch(const ClientId& client, const wire::Message& message) {
  const auto size = progress_.expected_batch(client, message.key.step);
  if (!size) return;  // out of order, a repeat from long ago, or nobody waits for it
  const auto& data = std::get<wire::Activations>(message.body);
  const ActivationRules rules = activation_rules(options_, model_, client, *size);
  if (const auto checked = check_activations(data.activations, data.labels, rules); !checked) {
    return refuse(client, checked.error());
  }
  const at::Tensor outputs = tails_->evaluate(client, data.activations);
  wire::Body answer = wire::Outputs{outputs};
  if (!options_.plan.u_shaped()) {
    const Figures figures = Objective().figures(outputs, data.labels);
    if (!std::isfinite(figures.loss_sum)) {
      return refuse(client, {ErrorCode::kNonFinite, "the loss on its batch is not finite"});
    }
    answer = wire::Receipt{figures};
  }
  // Every client that gets on has its time anew; it has only so many batches.
  if (progress_.count_batch(client, message.key.step)) restart_deadline();
  messenger_.send(client, std::move(answer), progress_.round(), message.key.step);
}

void DeviceEvaluation::refuse(const ClientId& client, const Error& error) {
  messenger_.offence(client, "bad-evaluation", error.message);
  if (error.code == ErrorCode::kNonFinite) ++beyond_limits_;
  progress_.give_up(client);
}

void DeviceEvaluation::restart_deadline() {
  deadline_ = now_() + options_.update_deadline;
  allowance_ = {messenger_.roster(), progress_.outstanding(), options_.update_allowance};
}

void DeviceEvaluation::extend_deadline(TimePoint deadline) {
  deadline_ = std::max(deadline_, deadline);
}

void DeviceEvaluation::expire() {
  for (const ClientId& client : progress_.outstanding()) {
    messenger_.event("missed-evaluation", client.name, "nothing came within the update deadline");
    progress_.give_up(client);
  }
}

}  // namespace tandem::aggregator
