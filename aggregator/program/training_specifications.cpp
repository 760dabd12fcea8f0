#include "tandem/aggregator/program/training_specifications.h"

#include <utility>

namespace tandem::aggregator {
namespace {

using Kind = FormParameter::Kind;

constexpr Range kSteps{.low = 1, .high = 1LL << 40};
constexpr Range kNotNegative{.low = 0};
constexpr Range kDeadline{.low = 0.001, .high = 30.0 * 24 * 3600};

Error invalid(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}

/// Refuses cosine:STEPS and step:EVERY:FACTOR.
Result<void> check_spelling(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos || text.find('=') != std::string::npos) return {};
  const std::string name = text.substr(0, colon);
  const std::string rest = text.substr(colon + 1);
  if (name == "cosine") return invalid("--lr-schedule " + text + ": write cosine:steps=" + rest);
  const size_t second = rest.find(':');
  if (name != "step" || second == std::string::npos) return {};
  return invalid("--lr-schedule " + text + ": write step:every=" + rest.substr(0, second) +
                 ",factor=" + rest.substr(second + 1));
}

std::vector<FormParameter> with(std::vector<FormParameter> first, const std::vector<FormParameter>& others) {
  first.insert(first.end(), others.begin(), others.end());
  return first;
}

std::optional<std::chrono::milliseconds> time_if_given(const FormValue& form, const std::string& parameter) {
  if (!form.given(parameter)) return std::nullopt;
  return form.time(parameter);
}

std::vector<Form> make_edge_objective_forms() {
  const std::vector<FormParameter> both = {
      {"head", Kind::kText, {}, "linear", "the auxiliary head: linear, mlp:hidden=N or conv:channels=N"},
      {"tail-interval", Kind::kWhole, {1, 1e6}, "1", "every so many batches one goes up"}};
  return {
      {"end-to-end", "the front learns on the tail's gradient"},
      {"local", "the front learns on the loss of an auxiliary head (CSE-FSL)", both},
      {"aligned", "the front learns on the loss of a head fitted to the tail's gradients (FSL-SAGE)",
       with(both,
            {{"tail-epochs",
              Kind::kWhole,
              {0, 1e6},
              "",
              "the tail's passes over what it was sent, at the end of a round, in mixed order; 0 as in the "
              "paper; left out, the tail interval less one: as many steps as if all batches went up"},
             {"every", Kind::kWhole, {1, 4294967295.0}, "1", "rounds from one alignment to the next"},
             {"epochs", Kind::kWhole, {0, 1e6}, "1", "passes in which the head is fitted to the tail"},
             {"learning-rate", Kind::kNumber, {.low = 0, .above_low = true}, "0.0001", "of that fit"},
             {"memory-mib",
              Kind::kWhole,
              {1, 4294967295.0},
              "256",
              "the newest of a round's smashed data that the aggregator keeps, MiB; while it uses them it "
              "needs up to three times as much, and each checkpoint within a round holds them"}})}};
}

AlignmentSchedule alignment_of(const FormValue& form, uint32_t tail_interval) {
  return {.interval = static_cast<uint32_t>(form.whole("every")),
          .max_bytes = form.whole("memory-mib") << 20,
          .tail_epochs = form.given("tail-epochs") ? static_cast<int>(form.whole("tail-epochs"))
                                                   : static_cast<int>(tail_interval) - 1,
          .epochs = static_cast<int>(form.whole("epochs")),
          .learning_rate = form.number("learning-rate")};
}

}  // namespace

const std::vector<Form>& algorithm_forms() {
  static const std::vector<Form> forms = [] {
    const std::vector<FormParameter> window = {
        {"window",
         Kind::kWhole,
         {1, 64},
         "1",
         "steps that a client may have in flight; 1 is exact, W gives gradients W-1 steps old"}};
    return std::vector<Form>{{"parallel", "one tail, one joined batch of all clients a step", window},
                             {"splitfed-v1", "a tail for each client, merged like the fronts", window},
                             {"splitfed-v2", "one tail, which serves one client after the other", window},
                             {"relay", "the front passes from client to client", window},
                             {"federated", "the whole model is on the edge: no step crosses the network"}};
  }();
  return forms;
}

Result<AlgorithmChoice> parse_algorithm(const std::string& text) {
  const auto form = parse_form("--algorithm", text, algorithm_forms());
  if (!form) return form.error();
  AlgorithmChoice choice{.algorithm = find_algorithm(form->name()).value()};
  if (choice.algorithm != Algorithm::kFederated) choice.window = static_cast<uint32_t>(form->whole("window"));
  return choice;
}

const std::vector<Form>& lr_schedule_forms() {
  static const std::vector<Form> forms = [] {
    const FormParameter warmup = {
        "warmup", Kind::kWhole, {.low = 0, .high = kSteps.high}, "0", "steps of linear warm-up"};
    return std::vector<Form>{
        {"constant", "always --learning-rate", {warmup}},
        {"cosine",
         "down to 0 by a cosine",
         {{"steps", Kind::kWhole, kSteps, "",
           "where it ends; left out, the steps that a device, or a tail, is expected to make in the run"},
          warmup}},
        {"step",
         "times a factor every so many steps",
         {{"every", Kind::kWhole, kSteps, "", "steps between two", {}, /*required=*/true},
          {"factor", Kind::kNumber, {1e-9, 1}, "", "by which the rate is multiplied", {}, /*required=*/true},
          warmup}}};
  }();
  return forms;
}

Result<LrScheduleChoice> parse_lr_schedule(const std::string& text) {
  if (auto checked = check_spelling(text); !checked) return checked.error();
  const auto form = parse_form("--lr-schedule", text, lr_schedule_forms());
  if (!form) return form.error();
  LrScheduleChoice choice;
  LrScheduleOptions& options = choice.options;
  options.warmup_steps = form->whole("warmup");
  if (form->name() == "step") {
    options.kind = LrScheduleKind::kStep;
    options.period_steps = form->number("every");
    options.step_factor = form->number("factor");
  } else if (form->name() == "cosine") {
    options.kind = LrScheduleKind::kCosine;
    choice.spans_run = !form->given("steps");
    if (!choice.spans_run) options.period_steps = form->number("steps");
  }
  return choice;
}

const std::vector<Form>& edge_objective_forms() {
  static const std::vector<Form> forms = make_edge_objective_forms();
  return forms;
}

Result<EdgeObjectiveChoice> parse_edge_objective(const std::string& text) {
  const auto form = parse_form("--edge-objective", text, edge_objective_forms());
  if (!form) return form.error();
  EdgeObjectiveChoice choice;
  if (form->name() == "end-to-end") return choice;
  choice.objective = form->name() == "local" ? EdgeObjective::kLocal : EdgeObjective::kAligned;
  choice.auxiliary_head = form->text("head");
  choice.tail_interval = static_cast<uint32_t>(form->whole("tail-interval"));
  if (choice.objective == EdgeObjective::kLocal) return choice;
  if (form->whole("epochs") == 0 && form->given("learning-rate")) {
    return invalid(
        "--edge-objective aligned:learning-rate does nothing with epochs=0: the auxiliary head is not "
        "fitted; "
        "leave it out or give epochs=1 or more");
  }
  choice.alignment = alignment_of(*form, choice.tail_interval);
  return choice;
}

const std::vector<Form>& straggler_forms() {
  static const std::vector<Form> forms = [] {
    const FormParameter step = {
        "deadline", Kind::kTime, kDeadline, "",
        "how long a step waits for a client before it goes on without it; left out 30s, and longer while its "
        "data is on its way"};
    const std::vector<FormParameter> round = {
        {"round-deadline", Kind::kTime, kDeadline, "",
         "after it a round ends and each client sends its front as it stands; left out, never"},
        {"update-deadline", Kind::kTime, kDeadline, "",
         "how long the end of a round waits for a client's front; left out 60s, and longer while it is on "
         "its "
         "way"}};
    return std::vector<Form>{
        {"drop", "its batch is dropped; the second time it is out of the round", with({step}, round)},
        {"wait", "everybody waits for it", round},
        {"late", "its batch joins the step that is open when it comes; only for parallel",
         with({step}, round)}};
  }();
  return forms;
}

Result<StragglerChoice> parse_stragglers(const std::string& text) {
  const auto form = parse_form("--stragglers", text, straggler_forms());
  if (!form) return form.error();
  StragglerChoice choice;
  if (form->name() == "wait") choice.rule = StragglerRule::kWait;
  if (form->name() == "late") choice.rule = StragglerRule::kLate;
  choice.step_deadline = time_if_given(*form, "deadline");
  choice.update_deadline = time_if_given(*form, "update-deadline");
  choice.round_deadline = time_if_given(*form, "round-deadline").value_or(std::chrono::milliseconds(0));
  return choice;
}

}  // namespace tandem::aggregator
