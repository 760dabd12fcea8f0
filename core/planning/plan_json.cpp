#include <nlohmann/json.hpp>

#include "tandem/core/planning/plan.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

const char* status_name(PlanStatus status) {
  switch (status) {
    case PlanStatus::kOptimal: return "optimal";
    case PlanStatus::kWithinGap: return "within_gap";
    case PlanStatus::kHeuristic: return "heuristic";
    case PlanStatus::kInfeasible: break;
  }
  return "infeasible";
}

Json json_or_null(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json stages_json(const Plan& plan, const std::vector<PlanStage>& stages) {
  Json list = Json::array();
  for (const PlanStage& stage : stages) {
    list.push_back(
        {{"device", plan.place_names[stage.device]}, {"first", stage.first}, {"last", stage.last}});
  }
  return list;
}

Json cuts_json(const Plan& plan, const std::vector<size_t>& cuts) {
  Json object = Json::object();
  for (size_t i = 0; i < cuts.size(); ++i) object[plan.place_names[i]] = cuts[i];
  return object;
}

/// The places that hold a block.
Json memory_json(const Plan& plan) {
  Json object = Json::object();
  std::vector<bool> used(plan.memory_bytes.size(), !plan.cuts.empty());
  for (const PlanStage& stage : plan.stages) used[stage.device] = true;
  for (size_t i = 0; i < plan.memory_bytes.size(); ++i) {
    if (used[i]) object[plan.place_names[i]] = plan.memory_bytes[i];
  }
  return object;
}

Json terms_json(const Plan& plan) {
  if (!plan.feasible()) return nullptr;
  const PlanTerms& terms = plan.terms;
  Json object{{"compute_ms", terms.compute_ms},
              {"transfer_ms", terms.transfer_ms},
              {"return_ms", terms.return_ms},
              {"step_ms", terms.step_ms},
              {"round_ms", json_or_null(terms.round_ms)}};
  if (terms.bottleneck_ms) object["bottleneck_ms"] = *terms.bottleneck_ms;
  return object;
}

Json runner_up_json(const Plan& plan) {
  if (!plan.runner_up) return nullptr;
  return {{"objective", plan.runner_up->objective},
          {"stages", stages_json(plan, plan.runner_up->stages)},
          {"cuts", cuts_json(plan, plan.runner_up->cuts)}};
}

}  // namespace

Json plan_json(const Plan& plan) {
  Json order = Json::array();
  for (const size_t client : plan.order) order.push_back(plan.place_names[client]);
  Json object{{"status", status_name(plan.status)},
              {"objective", json_or_null(plan.objective)},
              {"lower_bound", json_or_null(plan.lower_bound)},
              {"gap", plan.feasible() ? Json(plan.gap()) : Json(nullptr)},
              {"planner", plan.planner},
              {"stages", stages_json(plan, plan.stages)},
              {"cuts", cuts_json(plan, plan.cuts)},
              {"order", std::move(order)},
              {"memory_bytes", memory_json(plan)},
              {"terms", terms_json(plan)},
              {"runner_up", runner_up_json(plan)}};
  if (!plan.reason.empty()) object["reason"] = plan.reason;
  return object;
}

}  // namespace tandem
