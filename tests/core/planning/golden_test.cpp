// Figures that others published, or that can be checked by hand.
#include "support/plain_test.h"

#include <cmath>

#include "core/planning/problems.h"

using namespace tandem;
using namespace tandem::test;

TEST_SUITE("core/planning/golden") {
  TEST_CASE("the exact planner finds 14 where EdgeShard's recurrence finds 15") {
    Json problem = small_chain();
    const Plan plan = plan_of(problem);
    CHECK(plan.status == PlanStatus::kOptimal);
    CHECK(*plan.objective == 14.0);
    CHECK(plan.stages == std::vector<PlanStage>{{0, 0, 1}, {1, 2, 3}});
    problem["contiguous"] = false;
    CHECK(*plan_of(problem).objective == 14.0);
    const Plan published = plan_of(problem, "latency", "edgeshard");
    CHECK(*published.objective == 15.0);
    CHECK(published.status == PlanStatus::kHeuristic);
    CHECK(*published.lower_bound == 14.0);
  }

  TEST_CASE("AlexNet between a slower client and a server: every cut's step") {
    const struct {
      double factor;
      double megabits;
      Numbers step_ms;
    } rows[] = {
        {2, 100, {12416.575, 7761.611, 5445.287, 10772.134, 7240.294, 7249.306, 1671.578, 838.037, 840.804, 170.642}},
        {2, 10000, {208.634, 193.933, 182.17, 245.899, 222.804, 231.816, 176.728, 173.659, 176.426, 170.642}},
        {10, 1000, {1318.446, 1139.272, 1010.123, 1636.845, 1393.549, 1474.657, 923.088, 887.073, 911.976, 853.21}},
        {40, 1000, {1318.446, 2104.402, 2320.703, 3264.405, 3391.519, 3742.987, 3212.328, 3335.883, 3443.796, 3412.84}},
    };
    for (const auto& row : rows) {
      for (size_t cut = 0; cut < row.step_ms.size(); ++cut) {
        CAPTURE(row.factor);
        CAPTURE(cut);
        Json problem = alexnet(row.factor, row.megabits * 125, 1, "uncontended");
        problem["clients"][0]["min_cut"] = cut;
        problem["clients"][0]["max_cut"] = cut;
        CHECK(std::abs(*plan_of(problem).objective - row.step_ms[cut]) <= 0.0005001);  // the digits given
      }
    }
  }

  TEST_CASE("five identical clients and one sequential server: mixed cuts beat every common cut") {
    const Json problem = alexnet(3, 2.5e6, 5, "sequential");
    const Plan plan = plan_of(problem);
    CHECK(plan.status == PlanStatus::kOptimal);
    CHECK(*plan.objective == doctest::Approx(258.3914431999999).epsilon(1e-13));
    CHECK(plan.order.size() == 5);
    const Plan alone = plan_of(problem, "round", "neurosurgeon");
    CHECK(*alone.objective == doctest::Approx(400.48359519999997).epsilon(1e-13));
    CHECK(alone.cuts == std::vector<size_t>(5, 1));
    const Plan common = plan_of(problem, "round", "common");
    CHECK(*common.objective == doctest::Approx(261.1724431999999).epsilon(1e-13));
    CHECK(common.cuts == std::vector<size_t>(5, 8));
  }

  TEST_CASE("MP-SL's published optima: VGG-19 on five devices whose memory binds") {
    const Numbers forward{25.3793, 48.1379, 3.86207, 27.5862, 52.8621, 52.8621, 52.6552, 1.96552, 36.1379, 71.5517,
                          71.7241, 72.1379, 1.03448, 29.7586, 29.7241, 30.2069, 29.7586, 0,       25.3793};
    const Numbers backward{90.8621,   189.931,   1.44828, 104.103,   203.31,    207.138,   207.034,
                           0.862069,  129.345,   257.81446, 258.30538, 251.64146, 0,       150.85177,
                           148.70585, 149.04292, 149.31,  0.206897,  23.8621};
    const Numbers memory{2.6878058910369873, 2.7290046215057373, 0.7420705631375313, 1.6487538814544678,
                         1.8135488033294678, 1.8135488033294678, 1.8135488033294678, 0.4582570865750313,
                         1.5756547451019287, 2.2348344326019287, 2.2348344326019287, 2.2348344326019287,
                         0.3300832584500313, 1.6488969326019287, 1.6488969326019287, 1.6488969326019287,
                         1.6488969326019287, 0.14697778970003128, 1.7949270084500313};
    const struct {
      Numbers memory;
      Numbers speed;
      double optimum_ms;
    } instances[] = {{{16, 16, 16, 16, 16}, {1, 1, 1, 1, 1}, 747.48195},
                     {{16, 16, 8, 8, 8}, {1, 1, 2, 2, 2}, 988.10246},
                     {{4, 4, 8, 8, 9}, {2, 2, 2, 2, 2}, 1966.35},
                     {{16, 16, 4, 4, 4}, {1, 1, 2, 2, 2}, 1091.620877}};
    for (const auto& instance : instances) {
      // Block 0 costs nothing and stays on a source that holds nothing else.
      Json problem{{"blocks", {block("data", 0, 0)}},
                   {"input_bytes", 0},
                   {"mode", "training"},
                   {"links", {{"default", {{"bytes_per_ms", 1}}}}},
                   {"source", "source"}};
      problem["devices"] = {device("source", 0, Numbers(20, 0.0))};
      problem["devices"][0]["backward_ms"] = Numbers(20, 0.0);
      for (size_t i = 0; i < memory.size(); ++i) {
        problem["blocks"].push_back(block("b" + std::to_string(i), memory[i], 0));
      }
      for (size_t d = 0; d < instance.speed.size(); ++d) {
        Numbers own_forward{0}, own_backward{0};
        for (const double time : forward) own_forward.push_back(time * instance.speed[d]);
        for (const double time : backward) own_backward.push_back(time * instance.speed[d]);
        Json entry = device("d" + std::to_string(d), instance.memory[d], own_forward);
        entry["backward_ms"] = own_backward;
        problem["devices"].push_back(entry);
      }
      const Plan plan = plan_of(problem, "throughput");
      CHECK(plan.status == PlanStatus::kOptimal);
      CHECK(*plan.objective == doctest::Approx(instance.optimum_ms).epsilon(1e-14));
    }
  }

  TEST_CASE("32 blocks on three devices by hand: what counts is bandwidth, not memory") {
    Json problem{{"input_bytes", 0},
                 {"min_front_blocks", 0},
                 {"links", {{"default", {{"bytes_per_ms", 1}}}}},
                 {"source", "A"},
                 {"devices",
                  {device("A", 16, Numbers(32, 10)), device("B", 24, Numbers(32, 2.5)),
                   device("C", 16, Numbers(32, 5))}}};
    for (int i = 0; i < 32; ++i) problem["blocks"].push_back(block("b" + std::to_string(i), 1, 0));
    const Plan plan = plan_of(problem);
    CHECK(*plan.objective == 100.0);
    CHECK(plan.memory_bytes == Numbers{0, 24, 8});
    CHECK(*plan_of(problem, "", "llama-rpc").objective == 170.0);
    CHECK(*plan_of(problem, "", "exo").objective == 177.5);
    problem["source"] = "B";
    problem["devices"].erase(0);
    CHECK(*plan_of(problem, "", "exo").objective == 112.5);
  }
}
