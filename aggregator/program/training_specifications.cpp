#include "tandem/aggregator/program/training_specifications.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "tandem/core/base/specification.h"

namespace tandem::aggregator {
namespace {

constexpr int64_t kMaxSteps = int64_t{1} << 40;

Error invalid(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}

/// Reads the value of one parameter of a flag's specification, if it is given.
class Parameters {
 public:
  /// `flag` with its dashes. Both must outlive the object.
  Parameters(std::string flag, const Specification& specification)
      : flag_(std::move(flag)), specification_(specification) {}

  bool given(const std::string& name) const { return specification_.parameters.contains(name); }

  Result<int64_t> integer(const std::string& name, int64_t low, int64_t high, int64_t otherwise) const {
    if (!given(name)) return otherwise;
    return parse_integer(label(name), specification_.parameters.at(name), low, high);
  }

  Result<double> number(const std::string& name, double low, double high, double otherwise) const {
    if (!given(name)) return otherwise;
    return parse_number(label(name), specification_.parameters.at(name), low, high);
  }

  /// "--lr-schedule step:every"
  std::string label(const std::string& name) const { return flag_ + " " + specification_.name + ":" + name; }

 private:
  std::string flag_;
  const Specification& specification_;
};

/// A name that a flag takes, with the parameters of each.
struct Form {
  std::string name;
  std::vector<std::string> parameters;
};

/// Parses what `flag` takes, one of `forms`, none of which has an ARG.
Result<Specification> parse_form(const std::string& flag, const std::string& text,
                                 const std::vector<Form>& forms, const std::string& expected) {
  const auto name = specification_name(text);
  if (!name) return Error{name.error().code, flag + ": " + name.error().message};
  const auto form =
      std::find_if(forms.begin(), forms.end(), [&](const Form& known) { return known.name == *name; });
  if (form == forms.end()) return invalid(flag + " is \"" + text + "\", expected " + expected);
  auto specification = parse_specification(text, Argument::kNone);
  if (!specification) return Error{specification.error().code, flag + ": " + specification.error().message};
  if (auto checked = check_parameters(*specification, form->parameters); !checked) {
    return Error{checked.error().code, flag + ": " + checked.error().message};
  }
  return specification;
}

/// Refuses cosine:STEPS and step:EVERY:FACTOR, as earlier versions took them.
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

Result<LrScheduleChoice> read_step(const Parameters& parameters, LrScheduleOptions options) {
  for (const char* name : {"every", "factor"}) {
    if (!parameters.given(name)) return invalid(parameters.label(name) + " is missing");
  }
  const auto every = parameters.integer("every", 1, kMaxSteps, 1);
  if (!every) return every.error();
  const auto factor = parameters.number("factor", 1e-9, 1.0, 1.0);
  if (!factor) return factor.error();
  options.kind = LrScheduleKind::kStep;
  options.period_steps = static_cast<double>(*every);
  options.step_factor = *factor;
  return LrScheduleChoice{options};
}

Result<LrScheduleChoice> read_cosine(const Parameters& parameters, LrScheduleOptions options) {
  options.kind = LrScheduleKind::kCosine;
  if (!parameters.given("steps")) return LrScheduleChoice{options, true};
  const auto steps = parameters.integer("steps", 1, kMaxSteps, 1);
  if (!steps) return steps.error();
  options.period_steps = static_cast<double>(*steps);
  return LrScheduleChoice{options};
}

Result<double> read_momentum(const Parameters& parameters) {
  const auto momentum = parameters.number("momentum", 0, 1, 0);
  if (momentum && *momentum == 1) return invalid(parameters.label("momentum") + " must be below 1, got 1");
  return momentum;
}

OptimizerKind kind_named(const std::string& name) {
  if (name == optimizer_name(OptimizerKind::kAdam)) return OptimizerKind::kAdam;
  return name == optimizer_name(OptimizerKind::kAdamW) ? OptimizerKind::kAdamW : OptimizerKind::kSgd;
}

}  // namespace

Result<LrScheduleChoice> parse_lr_schedule(const std::string& text) {
  if (auto checked = check_spelling(text); !checked) return checked.error();
  const std::string flag = "--lr-schedule";
  const auto specification = parse_form(
      flag, text,
      {{"constant", {"warmup"}}, {"cosine", {"steps", "warmup"}}, {"step", {"every", "factor", "warmup"}}},
      "constant, cosine, cosine:steps=N or step:every=N,factor=F");
  if (!specification) return specification.error();
  const Parameters parameters(flag, *specification);
  const auto warmup = parameters.integer("warmup", 0, kMaxSteps, 0);
  if (!warmup) return warmup.error();
  const LrScheduleOptions options{.warmup_steps = *warmup};
  if (specification->name == "step") return read_step(parameters, options);
  if (specification->name == "cosine") return read_cosine(parameters, options);
  return LrScheduleChoice{options};
}

Result<OptimizerOptions> parse_optimizer(const std::string& text) {
  const std::string flag = "--optimizer";
  const std::vector<std::string> adam = {"weight-decay", "clip-norm"};
  const auto specification = parse_form(
      flag, text, {{"sgd", {"momentum", "weight-decay", "clip-norm"}}, {"adam", adam}, {"adamw", adam}},
      "sgd, adam or adamw");
  if (!specification) return specification.error();
  const Parameters parameters(flag, *specification);
  constexpr double kLargest = std::numeric_limits<double>::max();
  const auto momentum = read_momentum(parameters);
  if (!momentum) return momentum.error();
  const auto weight_decay = parameters.number("weight-decay", 0, kLargest, 0);
  if (!weight_decay) return weight_decay.error();
  const auto clip_norm = parameters.number("clip-norm", 0, kLargest, 0);
  if (!clip_norm) return clip_norm.error();
  return OptimizerOptions{.kind = kind_named(specification->name),
                          .momentum = *momentum,
                          .weight_decay = *weight_decay,
                          .clip_norm = *clip_norm};
}

}  // namespace tandem::aggregator
