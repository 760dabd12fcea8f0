#include "tandem/core/training/optimizer_specification.h"

namespace tandem {
namespace {

using Kind = FormParameter::Kind;

constexpr Range kNotNegative{.low = 0};

OptimizerKind kind_named(const std::string& name) {
  if (name == optimizer_name(OptimizerKind::kAdam)) return OptimizerKind::kAdam;
  return name == optimizer_name(OptimizerKind::kAdamW) ? OptimizerKind::kAdamW : OptimizerKind::kSgd;
}

}  // namespace

const std::vector<Form>& optimizer_forms() {
  static const std::vector<Form> forms = [] {
    const std::vector<FormParameter> all = {
        {"weight-decay", Kind::kNumber, kNotNegative, "0", "weight decay (decoupled for adamw)"},
        {"clip-norm", Kind::kNumber, kNotNegative, "0",
         "largest norm of a part's gradients; 0 for no limit"}};
    const FormParameter momentum = {
        "momentum", Kind::kNumber, {.low = 0, .high = 1, .below_high = true}, "0", "momentum"};
    std::vector<FormParameter> sgd{momentum};
    sgd.insert(sgd.end(), all.begin(), all.end());
    return std::vector<Form>{{"sgd", "with momentum or without", sgd},
                             {"adam", "Kingma and Ba 2015", all},
                             {"adamw", "Loshchilov and Hutter 2019", all}};
  }();
  return forms;
}

Result<OptimizerOptions> parse_optimizer(const std::string& text) {
  const auto form = parse_form("--optimizer", text, optimizer_forms());
  if (!form) return form.error();
  OptimizerOptions options{.kind = kind_named(form->name()),
                           .weight_decay = form->number("weight-decay"),
                           .clip_norm = form->number("clip-norm")};
  if (options.kind == OptimizerKind::kSgd) options.momentum = form->number("momentum");
  return options;
}

}  // namespace tandem
