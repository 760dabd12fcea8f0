#include "tandem/aggregator/tail/tail_steps.h"

#include <algorithm>
#include <utility>

#include "tandem/aggregator/rounds/activation_checks.h"
#include "tandem/core/training/device_model.h"

namespace tandem::aggregator {
namespace {

Result<void> check_answer(const wire::OutputGradients& data, const ActivationRules& rules, uint32_t size,
                          double loss_limit) {
  if (auto checked = check_output_gradient(data.gradient, rules); !checked) return checked;
  const Figures& figures = data.figures;
  const double loss = figures.mean_loss();
  const bool counts_fit = figures.examples == size && figures.correct <= size && !(loss < 0);
  if (counts_fit && loss <= loss_limit) return {};
  return Error{counts_fit ? ErrorCode::kNonFinite : ErrorCode::kInvalidArgument,
               "a loss of " + std::to_string(loss) + " and " + std::to_string(figures.correct) +
                   " right of " + std::to_string(figures.examples) + " examples, its batch has " +
                   std::to_string(size)};
}

}  // namespace

TailSteps::TailSteps(const SessionOptions& options, Messenger& messenger, const TrainedModel& model,
                     Tails* tails, Round& round, TrainingFigures& figures, bool keeps_smashed)
    : options_(options),
      messenger_(messenger),
      model_(model),
      tails_(tails),
      round_(round),
      figures_(figures),
      open_(round.lanes()),
      keeps_smashed_(keeps_smashed),
      smashed_(options.alignment.max_bytes, round.participants().size()) {}

// ---------------------------------------------------------------------------------------------------------
// What clients send.

bool TailSteps::take_activations(const ClientId& client, const wire::Message& message) {
  const uint32_t step = message.key.step;
  const Round::StepState state = round_.state_of(client, step, options_.plan.window,
                                                 options_.plan.objective == EdgeObjective::kEndToEnd);
  if (state == Round::StepState::kPast) {
    skip(client, message.key);
    return false;
  }
  if (state != Round::StepState::kOpen) {
    messenger_.count_offence(client, "a batch out of turn");
    messenger_.refuse(messenger_.roster().find(client)->connection, message.key, ErrorCode::kProtocol,
                      "step " + std::to_string(step) + " is not open for this client" +
                          (state == Round::StepState::kTooEarly ? " before an earlier one is answered"
                                                                : ": it is not to send that one"),
                      false);
    return false;
  }
  if (round_.has(client, step)) return false;  // a repeat of what is waiting for the others
  const auto& data = std::get<wire::Activations>(message.body);
  ClientActivations request{.client = client,
                            .step = step,
                            .activations = data.activations,
                            .labels = data.labels,
                            .payload_hash = message.payload_hash,
                            .entry = model_.partitions.of(client).front().last};
  const ActivationRules rules = activation_rules(options_, model_, client, round_.planned(client, step));
  if (const auto checked = check_activations(data.activations, data.labels, rules); checked) {
    round_.put(std::move(request));
  } else {
    refuse_batch(request, message, checked.error());
  }
  return true;
}

void TailSteps::refuse_batch(const ClientActivations& request, const wire::Message& message,
                             const Error& error) {
  messenger_.offence(request.client, "bad-activations", error.message);
  round_.participants().at(request.client).count_beyond_limits(error);
  const size_t lane = *round_.lane_of(request.client);  // the step is open, so there is one
  if (is_current(lane, request)) return take_out(lane, request, error.message);
  messenger_.refuse(messenger_.roster().find(request.client)->connection, message.key, error.code,
                    error.message, false);
}

bool TailSteps::is_current(size_t lane, const ClientActivations& request) const {
  const std::vector<TailEntry> missing = round_.missing(lane);
  return std::any_of(missing.begin(), missing.end(), [&](const TailEntry& entry) {
    return entry.client == request.client && entry.step == request.step;
  });
}

bool TailSteps::take_output_gradients(const ClientId& client, const wire::Message& message) {
  const std::optional<size_t> lane = round_.lane_of(client);
  const ClientActivations* request =
      lane && open_[*lane] ? open_[*lane]->find(client, message.key.step) : nullptr;
  if (request == nullptr || open_[*lane]->state_of(client) == OpenStep::AnswerState::kGivenUp) {
    skip(client, message.key);
    return false;
  }
  // A repeat of what waits for the others.
  if (open_[*lane]->state_of(client) == OpenStep::AnswerState::kAnswered) return false;
  const auto& data = std::get<wire::OutputGradients>(message.body);
  const auto size = static_cast<uint32_t>(request->examples());
  // The gradient of a mean over the batch: an example's own is so many times larger.
  const ActivationRules rules{.shape = model_.partitions.of(client).output_shape(model_.definition, size),
                              .magnitude_limit = options_.gradient_limit / size};
  OpenStep::Answer answer{.payload_hash = message.payload_hash};
  if (const auto checked = check_answer(data, rules, size, options_.loss_limit); checked) {
    answer.gradient = data.gradient;
    answer.figures = data.figures;
  } else {
    messenger_.offence(client, "bad-gradient", checked.error().message);
    round_.participants().at(client).count_beyond_limits(checked.error());
  }
  open_[*lane]->answer(client, std::move(answer));
  return true;
}

void TailSteps::skip(const ClientId& client, const wire::MessageKey& key) {
  // Not kept as a reply: it could push out the replies that a repeat of an earlier step needs.
  messenger_.send(client, wire::Skip{.reason = kStepWentOn}, key.round, key.step);
}

std::vector<wire::RequestId> TailSteps::held_requests(const ClientId& client) const {
  using wire::MessageType;
  const uint32_t round = round_.id().value;
  std::vector<wire::RequestId> held;
  for (const uint32_t step : round_.waiting_steps(client)) {
    held.push_back({MessageType::kActivations, round, step});
  }
  const std::optional<size_t> lane = round_.lane_of(client);
  if (!lane || !open_[*lane]) return held;
  for (const ClientActivations& request : open_[*lane]->clients()) {
    const bool is_here = open_[*lane]->state_of(request.client) == OpenStep::AnswerState::kAnswered;
    if (request.client == client && is_here) {
      held.push_back({MessageType::kOutputGradients, round, request.step});
    }
  }
  return held;
}

// ---------------------------------------------------------------------------------------------------------
// What the tails do.

bool TailSteps::ready(size_t lane) const {
  if (!open_[lane]) return round_.ready(lane);
  return awaited(lane).empty();
}

std::vector<TailEntry> TailSteps::awaited(size_t lane) const {
  if (!open_[lane]) return round_.missing(lane);
  std::vector<TailEntry> entries = open_[lane]->missing();
  std::erase_if(entries, [&](const TailEntry& entry) {
    return !std::as_const(round_).participants().at(entry.client).active;
  });
  return entries;
}

bool TailSteps::open(size_t lane) {
  if (!options_.plan.u_shaped() || open_[lane]) return false;
  std::vector<ClientActivations> clients = round_.take(lane);
  if (clients.empty()) return false;
  std::vector<at::Tensor> outputs = tails_->of(clients.front().client).forward(clients);
  for (size_t i = 0; i < clients.size(); ++i) {
    messenger_.reply(clients[i].client, wire::MessageType::kActivations, clients[i].payload_hash,
                     wire::Outputs{std::move(outputs[i])}, round_.id().value, clients[i].step);
  }
  open_[lane].emplace(std::move(clients));
  return true;
}

bool TailSteps::finish(size_t lane) {
  bool learned = true;
  if (const auto open = std::exchange(open_[lane], std::nullopt)) {
    finish_open(lane, *open);
  } else {
    const std::vector<ClientActivations> clients = round_.take(lane);
    learned = !clients.empty();
    if (learned) learn(lane, clients);
  }
  round_.advance(lane);
  return learned;
}

void TailSteps::learn(size_t lane, const std::vector<ClientActivations>& clients) {
  std::vector<ClientGradient> results = tails_->of(clients.front().client).step(clients);
  for (size_t i = 0; i < clients.size(); ++i) {
    const ClientActivations& request = clients[i];
    if (!results[i].rejection.empty()) {
      messenger_.offence(request.client, "bad-activations", results[i].rejection);
      round_.participants()
          .at(request.client)
          .count_beyond_limits({ErrorCode::kNonFinite, results[i].rejection});
      take_out(lane, request, results[i].rejection);
      continue;
    }
    if (keeps_smashed_) smashed_.keep(request.client, request.activations, request.labels);
    answer(request, std::move(results[i]));
  }
}

void TailSteps::finish_open(size_t lane, const OpenStep& step) {
  const std::vector<at::Tensor> results =
      tails_->of(step.clients().front().client).backward(step.gradients());
  for (size_t i = 0; i < step.clients().size(); ++i) {
    // Without one it left, or the deadline has dealt with it.
    const OpenStep::Answer* answer = step.answer_of(step.clients()[i].client);
    if (answer != nullptr) answer_half(lane, step.clients()[i], *answer, results[i]);
  }
}

void TailSteps::expire(size_t lane) {
  const std::string reason =
      "nothing came within the step deadline of " + std::to_string(options_.step_deadline.count()) + " ms";
  std::optional<OpenStep>& open = open_[lane];
  for (const TailEntry& entry : awaited(lane)) {
    const std::string detail = "step " + std::to_string(entry.step) + ": " + reason;
    if (options_.stragglers == StragglerRule::kLate && !open && round_.let_lag(entry.client)) {
      messenger_.event("late-step", entry.client.name, detail);
      continue;
    }
    messenger_.event("missed-step", entry.client.name, detail);
    const bool excluded = round_.miss(lane, entry.client);
    if (open) open->give_up(entry.client);
    if (excluded) {
      messenger_.event("excluded", entry.client.name, "missed two steps, until the next round: " + reason);
    }
    messenger_.send(entry.client, wire::Skip{.until_next_round = excluded, .reason = reason},
                    round_.id().value, entry.step);
  }
}

// ---------------------------------------------------------------------------------------------------------
// Answers.

void TailSteps::answer(const ClientActivations& request, ClientGradient result) {
  wire::Body body = wire::Receipt{result.figures};
  // On its own loss a device counts its steps itself.
  if (options_.plan.objective == EdgeObjective::kEndToEnd) {
    count(request.client, result.figures);
    body = wire::Gradients{.gradient = std::move(result.gradient), .figures = result.figures};
  }
  messenger_.reply(request.client, wire::MessageType::kActivations, request.payload_hash, std::move(body),
                   round_.id().value, request.step);
}

void TailSteps::answer_half(size_t lane, const ClientActivations& request, const OpenStep::Answer& answer,
                            const at::Tensor& gradient) {
  const wire::MessageType type = wire::MessageType::kOutputGradients;
  const uint32_t round = round_.id().value;
  if (gradient.defined()) {
    count(request.client, answer.figures);
    messenger_.reply(request.client, type, answer.payload_hash,
                     wire::Gradients{.gradient = gradient, .figures = answer.figures}, round, request.step);
    return;
  }
  const std::string reason = "its output gradients were not usable";
  const bool excluded = round_.miss(lane, request.client);
  messenger_.reply(request.client, type, answer.payload_hash,
                   wire::Skip{.until_next_round = excluded, .reason = reason}, round, request.step);
  if (excluded) messenger_.event("excluded", request.client.name, "until the next round: " + reason);
}

void TailSteps::count(const ClientId& client, const Figures& figures) {
  round_.count_step(client, figures);
  figures_.applied_examples += static_cast<int64_t>(figures.examples);
}

void TailSteps::take_out(size_t lane, const ClientActivations& request, const std::string& reason) {
  const bool excluded = round_.miss(lane, request.client);
  messenger_.reply(request.client, wire::MessageType::kActivations, request.payload_hash,
                   wire::Skip{.until_next_round = excluded, .reason = reason}, round_.id().value,
                   request.step);
  if (excluded) {
    messenger_.event("excluded", request.client.name, "missed two steps, until the next round: " + reason);
  }
}

}  // namespace tandem::aggregator
