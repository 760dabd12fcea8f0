#include "tandem/aggregator/strategies/strategy.h"

#include <functional>
#include <map>
#include <stdexcept>
#include <utility>

#include "tandem/aggregator/strategies/fedavg_detail.h"
#include "tandem/aggregator/strategies/fedbuff_detail.h"
#include "tandem/aggregator/strategies/fednova_detail.h"
#include "tandem/aggregator/strategies/robust_detail.h"
#include "tandem/aggregator/strategies/scaffold_detail.h"
#include "tandem/aggregator/strategies/server_optimizer_detail.h"
#include "tandem/core/base/specification.h"

namespace tandem::aggregator {
namespace {

/// Parameters by name; whole numbers too, exactly.
using Values = std::map<std::string, double>;
using Builder = std::function<std::unique_ptr<Strategy>(const Values&, const StrategyOptions&)>;

struct Kind {
  std::string name;
  Values defaults;
  Builder build;
};

/// Stands for a default that depends on something else.
constexpr double kDerived = -1;

struct Range {
  double low;
  double high;
  bool below = false;  ///< `high` itself is too large
  bool whole = false;
};

const Range& range_of(const std::string& parameter) {
  static const std::map<std::string, Range> ranges = {
      {"mu", {0, 1e6}},
      {"eta", {1e-9, 1e3}},
      {"beta", {0, 1, true}},
      {"beta1", {0, 1, true}},
      {"beta2", {0, 1, true}},
      {"tau", {1e-12, 1e3}},
      {"v0", {0, 1e6}},
      {"fraction", {0, 0.5, true}},
      {"f", {0, 1e4, false, true}},
      {"m", {1, 1e6, false, true}},
      {"buffer", {1, 1e6, false, true}},
  };
  return ranges.at(parameter);
}

std::unique_ptr<Strategy> build_server_optimizer(const std::string& name, ServerRule rule,
                                                 const Values& values, const StrategyOptions& options) {
  ServerOptimizerOptions server{.rule = rule, .eta = values.at("eta")};
  if (rule == ServerRule::kMomentum) {
    server.beta1 = values.at("beta");
    return make_server_optimizer(name, options.buffers, server);
  }
  server.beta1 = values.at("beta1");
  if (rule != ServerRule::kAdagrad) server.beta2 = values.at("beta2");
  server.tau = values.at("tau");
  server.v0 = values.at("v0") == kDerived ? server.tau * server.tau : values.at("v0");
  return make_server_optimizer(name, options.buffers, server);
}

Builder server_optimizer(std::string name, ServerRule rule) {
  return [name = std::move(name), rule](const Values& values, const StrategyOptions& options) {
    return build_server_optimizer(name, rule, values, options);
  };
}

int whole(const Values& values, const std::string& parameter) {
  return static_cast<int>(values.at(parameter));
}

std::vector<Kind> plain_kinds() {
  const Values adaptive = {{"eta", 0.01}, {"beta1", 0.9}, {"beta2", 0.99}, {"tau", 1e-3}, {"v0", kDerived}};
  const Values adagrad = {{"eta", 0.1}, {"beta1", 0.9}, {"tau", 1e-3}, {"v0", kDerived}};
  return {
      {"fedavg", {}, [](const Values&, const StrategyOptions&) { return make_fedavg("fedavg"); }},
      {"fedprox",
       {{"mu", 0.01}},
       [](const Values&, const StrategyOptions&) { return make_fedavg("fedprox"); }},
      {"fedavgm", {{"beta", 0.9}, {"eta", 1}}, server_optimizer("fedavgm", ServerRule::kMomentum)},
      {"fedadam", adaptive, server_optimizer("fedadam", ServerRule::kAdam)},
      {"fedyogi", adaptive, server_optimizer("fedyogi", ServerRule::kYogi)},
      {"fedadagrad", adagrad, server_optimizer("fedadagrad", ServerRule::kAdagrad)},
      {"fednova",
       {},
       [](const Values&, const StrategyOptions& options) {
         return make_fednova(options.buffers, options.momentum);
       }},
      {"scaffold",
       {{"eta", 1}},
       [](const Values& values, const StrategyOptions& options) {
         return make_scaffold(options.buffers, values.at("eta"));
       }},
  };
}

std::vector<Kind> robust_kinds() {
  return {
      {"median", {}, [](const Values&, const StrategyOptions&) { return make_median(); }},
      {"trimmed-mean",
       {{"fraction", 0.25}},
       [](const Values& values, const StrategyOptions&) { return make_trimmed_mean(values.at("fraction")); }},
      {"krum",
       {{"f", 1}},
       [](const Values& values, const StrategyOptions& options) {
         return make_krum("krum", options.buffers, whole(values, "f"), 1);
       }},
      {"multi-krum",
       {{"f", 1}, {"m", kDerived}},
       [](const Values& values, const StrategyOptions& options) {
         const int selected = values.at("m") == kDerived ? 0 : whole(values, "m");
         return make_krum("multi-krum", options.buffers, whole(values, "f"), selected);
       }},
      {"bulyan",
       {{"f", 1}},
       [](const Values& values, const StrategyOptions& options) {
         return make_bulyan(options.buffers, whole(values, "f"));
       }},
  };
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = [] {
    std::vector<Kind> list = plain_kinds();
    for (Kind& kind : robust_kinds()) list.push_back(std::move(kind));
    list.push_back(
        {"fedbuff", {{"buffer", 10}, {"eta", 1}}, [](const Values& values, const StrategyOptions& options) {
           return make_fedbuff(options.buffers, values.at("eta"));
         }});
    return list;
  }();
  return all;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

Result<const Kind*> find_kind(const std::string& name) {
  for (const Kind& kind : kinds()) {
    if (kind.name == name) return &kind;
  }
  const auto near = nearest_name(name, strategy_names());
  return Error{ErrorCode::kInvalidArgument,
               "unknown strategy \"" + name + "\"; " +
                   (near ? "did you mean \"" + *near + "\"?" : "known are " + joined(strategy_names()))};
}

Result<double> parse_value(const std::string& strategy, const std::string& parameter,
                           const std::string& text) {
  const Range& range = range_of(parameter);
  const std::string what = "strategy " + strategy + ": " + parameter;
  if (range.whole) {
    const auto value =
        parse_integer(what, text, static_cast<int64_t>(range.low), static_cast<int64_t>(range.high));
    if (!value) return value.error();
    return static_cast<double>(*value);
  }
  const auto value = parse_number(what, text, range.low, range.high);
  if (value && range.below && *value >= range.high) {
    return Error{ErrorCode::kInvalidArgument,
                 what + " must be below " + (range.high == 1 ? "1" : "0.5") + ", got \"" + text + "\""};
  }
  return value;
}

struct Choice {
  const Kind* kind;
  Values values;
  bool planned_order = false;
};

/// The parameter of fedbuff that is no number.
constexpr const char* kOrder = "order";

Result<bool> parse_order(const std::string& text) {
  if (text == "arrival" || text == "planned") return text == "planned";
  return Error{ErrorCode::kInvalidArgument,
               "strategy fedbuff: order must be arrival or planned, got \"" + text + "\""};
}

Result<Choice> parse_choice(const std::string& text) {
  const auto name = specification_name(text);
  if (!name) return name.error();
  const auto kind = find_kind(*name);
  if (!kind) return kind.error();
  const auto specification = parse_specification(text, Argument::kNone);
  if (!specification) return specification.error();
  Choice choice{*kind, (*kind)->defaults};
  std::vector<std::string> known;
  for (const auto& [parameter, value] : choice.values) known.push_back(parameter);
  if (choice.kind->name == "fedbuff") known.emplace_back(kOrder);
  if (auto checked = check_parameters(*specification, known); !checked) return checked.error();
  for (const auto& [parameter, given] : specification->parameters) {
    if (parameter == kOrder) {
      const auto planned = parse_order(given);
      if (!planned) return planned.error();
      choice.planned_order = *planned;
      continue;
    }
    const auto value = parse_value(choice.kind->name, parameter, given);
    if (!value) return value.error();
    choice.values[parameter] = *value;
  }
  return choice;
}

}  // namespace

void Strategy::set_population(int clients) {
  if (clients >= 1) return;
  throw std::invalid_argument("Strategy.set_population: clients must be >= 1, got " +
                              std::to_string(clients));
}

Result<void> Strategy::load_added(const NamedTensors& added) {
  if (added.empty()) return {};
  return Error{ErrorCode::kInvalidArgument, name() + " does not go on with a merge under way"};
}

Result<std::unique_ptr<Strategy>> make_strategy(const StrategyOptions& options) {
  if (!(options.momentum >= 0 && options.momentum < 1)) {
    return Error{
        ErrorCode::kInvalidArgument,
        std::string("StrategyOptions.momentum must be in [0, 1), got ") + std::to_string(options.momentum)};
  }
  const auto choice = parse_choice(options.specification);
  if (!choice) return choice.error();
  return choice->kind->build(choice->values, options);
}

Result<StrategyTraits> strategy_traits(const std::string& specification) {
  const auto choice = parse_choice(specification);
  if (!choice) return choice.error();
  StrategyTraits traits{.name = choice->kind->name};
  if (traits.name == "fedprox") traits.proximal_mu = choice->values.at("mu");
  if (traits.name == "fedbuff") traits.buffer = whole(choice->values, "buffer");
  traits.planned_order = choice->planned_order;
  traits.control_variates = traits.name == "scaffold";
  traits.server_rate = choice->values.contains("eta");
  // A strategy holds no tensors before `begin`: asking one costs nothing.
  const auto strategy = choice->kind->build(choice->values, {});
  traits.needs_single_updates = strategy->needs_single_updates();
  traits.minimum_updates = strategy->minimum_updates();
  return traits;
}

std::vector<std::string> strategy_names() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) names.push_back(kind.name);
  return names;
}

}  // namespace tandem::aggregator
