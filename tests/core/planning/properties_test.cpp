// What holds for every problem.
#include "support/plain_test.h"

#include <algorithm>

#include "core/planning/problems.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr int kInstances = 300;
const char* const kObjectives[] = {"latency", "throughput", "pipeline"};

Json scaled(Json value, double factor) {
  for (Json& number : value) number = number.get<double>() * factor;
  return value;
}

/// Whether `plan` is no worse than `other`, which may be no plan at all.
bool is_no_worse(const Plan& plan, const Plan& other) {
  if (!other.feasible()) return true;
  return plan.feasible() && *plan.objective <= *other.objective * (1 + 1e-9);
}

}  // namespace

TEST_SUITE("core/planning/properties") {
  TEST_CASE("no baseline is better than the exact planner, for chains and for clients") {
    std::mt19937 random(11);
    for (int i = 0; i < kInstances; ++i) {
      const Json chain = random_chain(random);
      const Json clients = random_clients(random);
      const std::string objective = kObjectives[i % 3];
      const Plan best = plan_of(chain, objective);
      const Plan best_cuts = plan_of(clients);
      for (const std::string& planner : planner_names()) {
        CAPTURE(planner);
        CAPTURE(chain.dump());
        if (planner != "common") CHECK(is_no_worse(best, plan_of(chain, objective, planner)));
        const bool is_for_clients = planner == "common" || planner == "solo" || planner == "neurosurgeon";
        if (is_for_clients) CHECK(is_no_worse(best_cuts, plan_of(clients, "", planner)));
      }
      if (best.feasible()) {
        CHECK(best.status == PlanStatus::kOptimal);
        CHECK(*best.lower_bound == *best.objective);
      }
      if (best.runner_up) CHECK(best.runner_up->objective >= *best.objective * (1 - 1e-9));
    }
  }

  TEST_CASE("more memory, more bandwidth or one more device never hurts") {
    std::mt19937 random(12);
    for (int i = 0; i < kInstances; ++i) {
      const Json problem = random_chain(random);
      CAPTURE(problem.dump());
      const std::string objective = kObjectives[i % 3];
      const Plan before = plan_of(problem, objective);
      Json more = problem;
      for (Json& entry : more["devices"]) entry["memory_bytes"] = entry["memory_bytes"].get<double>() * 1.5;
      CHECK(is_no_worse(plan_of(more, objective), before));
      more = problem;
      Json& link = more["links"]["default"];
      link["bytes_per_ms"] = link["bytes_per_ms"].get<double>() * 2;
      CHECK(is_no_worse(plan_of(more, objective), before));
      more = problem;
      Json extra = problem["devices"][0];
      extra["name"] = "extra";
      more["devices"].push_back(extra);
      CHECK(is_no_worse(plan_of(more, objective), before));
    }
  }

  TEST_CASE("more memory or bandwidth for clients never hurts") {
    std::mt19937 random(13);
    for (int i = 0; i < kInstances; ++i) {
      const Json problem = random_clients(random);
      CAPTURE(problem.dump());
      const Plan before = plan_of(problem);
      Json more = problem;
      for (Json& entry : more["clients"]) {
        for (const char* field : {"memory_bytes", "up_bytes_per_ms", "down_bytes_per_ms"}) {
          entry[field] = entry[field].get<double>() * 1.5;
        }
      }
      CHECK(is_no_worse(plan_of(more), before));
    }
  }

  TEST_CASE("new names change nothing but names") {
    std::mt19937 random(14);
    for (int i = 0; i < 100; ++i) {
      Json problem = random_chain(random);
      const Plan before = plan_of(problem);
      for (Json& entry : problem["devices"]) entry["name"] = "z-" + entry["name"].get<std::string>();
      problem["source"] = "z-" + problem["source"].get<std::string>();
      for (Json& entry : problem["blocks"]) entry["name"] = "y-" + entry["name"].get<std::string>();
      const Plan after = plan_of(problem);
      CHECK(after.objective == before.objective);
      CHECK(after.stages == before.stages);
    }
  }

  TEST_CASE("times and bytes that are all twice as large make the answer twice as large") {
    std::mt19937 random(15);
    for (int i = 0; i < 100; ++i) {
      Json problem = random_chain(random);
      const std::string objective = kObjectives[i % 3];
      const Plan before = plan_of(problem, objective);
      for (Json& entry : problem["devices"]) {
        for (const char* field : {"forward_ms", "backward_ms"}) entry[field] = scaled(entry[field], 2);
      }
      for (Json& entry : problem["blocks"]) entry["output_bytes"] = entry["output_bytes"].get<double>() * 2;
      for (const char* field : {"input_bytes", "return_bytes"}) problem[field] = problem[field].get<double>() * 2;
      Json& latency = problem["links"]["default"]["latency_ms"];
      latency = latency.get<double>() * 2;
      const Plan after = plan_of(problem, objective);
      REQUIRE(after.feasible() == before.feasible());
      if (after.feasible()) CHECK(*after.objective == doctest::Approx(2 * *before.objective).epsilon(1e-12));
      CHECK(after.stages == before.stages);
    }
  }

  TEST_CASE("no plan puts a forbidden block, a label or too much leakage off the source") {
    std::mt19937 random(16);
    for (int i = 0; i < kInstances; ++i) {
      Json problem = random_chain(random);
      const size_t blocks = problem["blocks"].size();
      problem["min_front_blocks"] = random() % (blocks + 1);
      problem["labels_stay"] = random() % 2 == 0;
      problem["leakage"] = picks(random, blocks, 0, 1);
      problem["max_leakage"] = pick(random, 0, 1);
      CAPTURE(problem.dump());
      for (const std::string& planner : planner_names()) {
        if (planner == "common") continue;
        const Plan plan = plan_of(problem, kObjectives[i % 3], planner);
        const std::string source = problem["source"];
        for (const PlanStage& stage : plan.stages) {
          if (plan.place_names[stage.device] == source) continue;
          CHECK(stage.first >= problem["min_front_blocks"].get<size_t>());
          CHECK(problem["leakage"][stage.first].get<double>() <= problem["max_leakage"].get<double>());
          CHECK_FALSE((problem["labels_stay"].get<bool>() && stage.last + 1 == blocks));
        }
      }
    }
  }

  TEST_CASE("clients keep labels, leakage, memory and energy within their limits") {
    std::mt19937 random(17);
    for (int i = 0; i < kInstances; ++i) {
      Json problem = random_clients(random);
      const size_t blocks = problem["blocks"].size();
      problem["leakage"] = picks(random, blocks, 0, 1);
      problem["max_leakage"] = 0.6;
      for (Json& client : problem["clients"]) {
        client["max_cut"] = blocks;
        client["energy_mj"] = picks(random, blocks, 0, 1);
        client["max_energy_mj"] = 2;
      }
      const Plan plan = plan_of(problem);
      for (size_t c = 0; c < plan.cuts.size(); ++c) {
        if (plan.cuts[c] < blocks) CHECK(problem["leakage"][plan.cuts[c]].get<double>() <= 0.6);
        double energy = 0;
        for (size_t b = 0; b < plan.cuts[c]; ++b) energy += problem["clients"][c]["energy_mj"][b].get<double>();
        CHECK(energy <= 2);
        CHECK(plan.memory_bytes[c] <= problem["clients"][c]["memory_bytes"].get<double>());
      }
      problem["labels_stay"] = true;
      for (const size_t cut : plan_of(problem).cuts) CHECK(cut == blocks);
    }
  }

  TEST_CASE("ties go to fewer devices, then fewer bytes, then lower ids") {
    Json problem{{"blocks", {block("a", 1, 4), block("b", 1, 3), block("c", 1, 4)}},
                 {"input_bytes", 1},
                 {"links", {{"default", {{"bytes_per_ms", 1e12}}}}},
                 {"source", "d0"},
                 {"devices", {device("d0", 9, {1, 1, 1}), device("d1", 9, {1, 1, 1}), device("d2", 9, {1, 1, 1})}}};
    CHECK(plan_of(problem).stages == std::vector<PlanStage>{{0, 0, 2}});
    // No device holds more than two blocks: the cut after b sends less than that after a.
    for (Json& entry : problem["devices"]) entry["memory_bytes"] = 2;
    CHECK(plan_of(problem).stages == std::vector<PlanStage>{{0, 0, 1}, {1, 2, 2}});
  }
}
