// Planning problems: the file's text as it is. What is small is planned too.
#include <cmath>
#include <string>

#include <nlohmann/json.hpp>

#include "fuzz/support.h"
#include "tandem/core/planning/plan.h"

using namespace tandem;
using tandem::fuzz::require;

namespace {

bool is_small(const Problem& problem) {
  const size_t places = problem.chain() ? problem.chain()->devices.size() : problem.split()->clients.size();
  return problem.size() <= 8 && places <= 4;
}

void check_plan(const Problem& problem) {
  const Plan plan = make_plan(problem);
  require(plan.feasible() == plan.reason.empty(), "a plan or a reason, not both");
  if (!plan.feasible()) return;
  require(std::isfinite(*plan.objective) && *plan.objective >= 0, "a plan costs a finite time");
  require(*plan.lower_bound <= *plan.objective, "no bound is above the plan");
  require(!plan_json(plan).empty(), "a plan can be written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto problem = parse_problem({reinterpret_cast<const char*>(data), size});
  if (!problem) {
    require(!problem.error().message.empty(), "an error has a text");
    return 0;
  }
  require(problem->size() > 0, "a problem has a block");
  if (is_small(*problem)) check_plan(*problem);
  return 0;
}
