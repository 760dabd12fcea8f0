#include "core/planning/brute_force.h"

#include "support/test.h"

using namespace tandem;
using nlohmann::json;

namespace {

using Numbers = std::vector<double>;

json blocks(const Numbers& memory, const Numbers& output) {
  json made = json::array();
  for (size_t i = 0; i < memory.size(); ++i) {
    made.push_back(
        {{"name", "b" + std::to_string(i)}, {"memory_bytes", memory[i]}, {"output_bytes", output[i]}});
  }
  return made;
}

json device(const std::string& name, double memory, const Numbers& forward) {
  return {{"name", name}, {"memory_bytes", memory}, {"forward_ms", forward}};
}

/// Stages from the device of each block.
json stages(const std::vector<std::string>& devices) {
  json made = json::array();
  for (size_t i = 0; i < devices.size(); ++i) {
    if (i > 0 && devices[i] == devices[i - 1]) {
      made.back()["last"] = i;
    } else {
      made.push_back({{"device", devices[i]}, {"first", i}, {"last", i}});
    }
  }
  return {{"stages", made}};
}

/// Two devices and four blocks on which EdgeShard's dynamic program is one off.
json edgeshard_example() {
  return {{"blocks", blocks({1, 1, 1, 1}, {2, 2, 2, 1})},
          {"input_bytes", 0},
          {"devices", {device("d0", 2, {4, 3, 2, 4}), device("d1", 2, {2, 1, 3, 2})}},
          {"links", {{"default", {{"bytes_per_ms", 1}}}}},
          {"source", "d0"}};
}

/// 32 blocks of 1 GB; a block takes 1 GB over the device's bandwidth.
json bandwidth_example() {
  const auto many = [](double value) { return Numbers(32, value); };
  return {{"blocks", blocks(many(1), many(0))},
          {"input_bytes", 0},
          {"devices", {device("A", 16, many(10)), device("B", 24, many(2.5)), device("C", 16, many(5))}},
          {"links", {{"default", {{"bytes_per_ms", 1}}}}},
          {"source", "A"},
          {"min_front_blocks", 0}};
}

/// AlexNet as PipeDream profiled it, batch 256.
json alexnet(int clients, double factor, double bytes_per_ms) {
  const Numbers forward = {23.885, 4.518, 3.687, 4.962, 3.339, 0.391, 2.208, 1.358, 0.453};
  const Numbers backward = {8.286, 6.997, 6.879, 7.385, 5.673, 0.306, 3.111, 1.409, 0.474};
  const Numbers output = {47775744, 33226752, 66453504, 44302336, 44302336,
                          9437184,  4194304,  4194304,  1024000};
  json problem = {{"blocks", blocks(Numbers(9, 0), output)},
                  {"input_bytes", 154140672},
                  {"aggregator", {{"forward_ms", forward}, {"backward_ms", backward}}},
                  {"clients", json::array()}};
  Numbers slow_forward = forward, slow_backward = backward;
  for (double& time : slow_forward) time *= factor;
  for (double& time : slow_backward) time *= factor;
  for (int i = 0; i < clients; ++i) {
    problem["clients"].push_back({{"name", "client-" + std::to_string(i + 1)},
                                  {"forward_ms", slow_forward},
                                  {"backward_ms", slow_backward},
                                  {"memory_bytes", 0},
                                  {"up_bytes_per_ms", bytes_per_ms},
                                  {"down_bytes_per_ms", bytes_per_ms},
                                  {"steps", 1}});
  }
  return problem;
}

void set_cut(json& problem, int cut) {
  for (json& client : problem["clients"]) client["min_cut"] = client["max_cut"] = cut;
}

/// VGG-19 on CIFAR-10 as MP-SL published it: blocks 3 to 21 on helpers, after a block that costs nothing.
json vgg19(const Numbers& memory_gb, const Numbers& speed) {
  const Numbers forward = {25.3793, 48.1379, 3.86207, 27.5862, 52.8621, 52.8621, 52.6552,
                           1.96552, 36.1379, 71.5517, 71.7241, 72.1379, 1.03448, 29.7586,
                           29.7241, 30.2069, 29.7586, 0,       25.3793};
  const Numbers backward = {90.8621,   189.931,   1.44828,   104.103,   203.31,    207.138, 207.034,
                            0.862069,  129.345,   257.81446, 258.30538, 251.64146, 0,       150.85177,
                            148.70585, 149.04292, 149.31,    0.206897,  23.8621};
  Numbers memory = {0,
                    2.6878058910369873,
                    2.7290046215057373,
                    0.7420705631375313,
                    1.6487538814544678,
                    1.8135488033294678,
                    1.8135488033294678,
                    1.8135488033294678,
                    0.4582570865750313,
                    1.5756547451019287,
                    2.2348344326019287,
                    2.2348344326019287,
                    2.2348344326019287,
                    0.3300832584500313,
                    1.6488969326019287,
                    1.6488969326019287,
                    1.6488969326019287,
                    1.6488969326019287,
                    0.14697778970003128,
                    1.7949270084500313};
  json problem = {{"blocks", blocks(memory, Numbers(20, 0))},
                  {"input_bytes", 0},
                  {"links", {{"default", {{"bytes_per_ms", 1}}}}},
                  {"source", "source"},
                  {"mode", "training"},
                  {"devices", {device("source", 0, Numbers(20, 0))}}};
  problem["devices"][0]["backward_ms"] = Numbers(20, 0);
  for (size_t i = 0; i < speed.size(); ++i) {
    Numbers scaled_forward = {0}, scaled_backward = {0};
    for (const double time : forward) scaled_forward.push_back(time * speed[i]);
    for (const double time : backward) scaled_backward.push_back(time * speed[i]);
    json helper = device("h" + std::to_string(i), memory_gb[i], scaled_forward);
    helper["backward_ms"] = scaled_backward;
    problem["devices"].push_back(helper);
  }
  return problem;
}

}  // namespace

TEST_SUITE("core/planning/brute_force") {
  TEST_CASE("the brute force finds what EdgeShard's dynamic program misses") {
    json problem = edgeshard_example();
    for (const bool contiguous : {true, false}) {
      CAPTURE(contiguous);
      problem["contiguous"] = contiguous;
      const auto best = brute_force::best_plan(problem, "latency");
      REQUIRE(best.feasible);
      CHECK(best.objective == 14);
      CHECK(best.by_forward_bytes.ids == std::vector<int>{0, 0, 1, 1});
    }
    const auto found = brute_force::cost_of(problem, "latency", stages({"d0", "d1", "d0", "d1"}));
    CHECK(found.broken == "");
    CHECK(found.objective == 15);
    problem["contiguous"] = true;
    CHECK(brute_force::cost_of(problem, "latency", stages({"d0", "d1", "d0", "d1"})).broken ==
          "more than one range on d0");
  }

  TEST_CASE(
      "the brute force gives blocks to the devices with the most bandwidth, not in proportion to memory") {
    const json problem = bandwidth_example();
    const auto best = brute_force::best_plan(problem, "latency");
    REQUIRE(best.feasible);
    CHECK(best.objective == 100);
    CHECK(std::count(best.by_forward_bytes.ids.begin(), best.by_forward_bytes.ids.end(), 1) == 24);
    CHECK(std::count(best.by_forward_bytes.ids.begin(), best.by_forward_bytes.ids.end(), 2) == 8);
    const auto cost = [&](const std::vector<std::pair<std::string, int>>& counts) {
      std::vector<std::string> devices;
      for (const auto& [name, count] : counts) devices.insert(devices.end(), count, name);
      return brute_force::cost_of(problem, "latency", stages(devices)).objective;
    };
    CHECK(cost({{"B", 24}, {"C", 8}}) == 100);
    CHECK(cost({{"B", 19}, {"C", 13}}) == 112.5);
    CHECK(cost({{"A", 13}, {"B", 19}}) == 177.5);
    CHECK(cost({{"A", 9}, {"B", 14}, {"C", 9}}) == 170);
  }

  TEST_CASE("the brute force reproduces the step times of AlexNet cut in two") {
    const struct {
      double factor, megabits;
      Numbers step_ms;  // of cut 0, 1, ..., 9
    } tables[] = {
        {2,
         100,
         {12416.575, 7761.611, 5445.287, 10772.134, 7240.294, 7249.306, 1671.578, 838.037, 840.804, 170.642}},
        {2,
         1000,
         {1318.446, 881.904, 660.635, 1202.829, 860.757, 869.769, 312.624, 234.057, 236.824, 170.642}},
        {10,
         1000,
         {1318.446, 1139.272, 1010.123, 1636.845, 1393.549, 1474.657, 923.088, 887.073, 911.976, 853.21}},
        {40,
         10000,
         {208.634, 1416.431, 1842.238, 2307.475, 2753.566, 3105.034, 3076.432, 3275.485, 3383.398, 3412.84}},
    };
    for (const auto& table : tables) {
      json problem = alexnet(1, table.factor, 125 * table.megabits);
      problem["server"] = "uncontended";
      for (int cut = 0; cut <= 9; ++cut) {
        CAPTURE(cut);
        set_cut(problem, cut);
        CHECK(std::abs(brute_force::best_plan(problem, "round").objective - table.step_ms[cut]) < 0.0005001);
      }
    }
  }

  TEST_CASE("the brute force mixes the cuts of five equal clients on one sequential server") {
    json problem = alexnet(5, 3, 2.5e6);
    CHECK(brute_force::close(brute_force::best_plan(problem, "round").objective, 258.3914431999999, 1e-13));
    double best_common = std::numeric_limits<double>::infinity();
    for (int cut = 1; cut <= 8; ++cut) {
      set_cut(problem, cut);
      const double common = brute_force::best_plan(problem, "round").objective;
      if (cut == 1) CHECK(brute_force::close(common, 400.48359519999997, 1e-13));
      best_common = std::min(best_common, common);
    }
    CHECK(brute_force::close(best_common, 261.1724431999999, 1e-13));
  }

  TEST_CASE("the brute force reproduces the published optima of MP-SL") {
    const struct {
      Numbers memory_gb, speed;
      double optimum_ms;
    } instances[] = {{{16, 16, 16, 16, 16}, {1, 1, 1, 1, 1}, 747.48195},
                     {{16, 16, 8, 8, 8}, {1, 1, 2, 2, 2}, 988.10246},
                     {{4, 4, 8, 8, 9}, {2, 2, 2, 2, 2}, 1966.35},
                     {{16, 16, 4, 4, 4}, {1, 1, 2, 2, 2}, 1091.620877}};
    for (const auto& [memory_gb, speed, optimum_ms] : instances) {
      CAPTURE(optimum_ms);
      CHECK(brute_force::close(brute_force::best_plan(vgg19(memory_gb, speed), "throughput").objective,
                               optimum_ms, 1e-12));
    }
  }

  TEST_CASE("the brute force counts gradients on the way back, and no return in training") {
    json problem = {
        {"blocks", blocks({1, 1}, {8, 0})},
        {"input_bytes", 6},
        {"return_bytes", 100},
        {"devices", {device("d0", 1, {1, 2}), device("d1", 2, {3, 4})}},
        {"links",
         {{"default", {{"bytes_per_ms", 2}}},
          {"overrides", {{{"from", "d1"}, {"to", "d0"}, {"bytes_per_ms", 4}, {"latency_ms", 1}}}}}},
        {"source", "d0"},
        {"mode", "training"},
        {"micro_batches", 3}};
    problem["devices"][0]["backward_ms"] = {5, 6};
    problem["devices"][1]["backward_ms"] = {7, 8};
    const json halves = stages({"d0", "d1"});
    CHECK(brute_force::cost_of(problem, "latency", halves).objective == (1 + 4 + 4) + (8 + 3 + 5));
    CHECK(brute_force::cost_of(problem, "throughput", halves).objective == 4 + 8);
    CHECK(brute_force::cost_of(problem, "pipeline", halves).objective == 25 + 2 * 12);
    problem["min_front_blocks"] = 0;
    CHECK(brute_force::cost_of(problem, "latency", stages({"d1", "d1"})).objective == 3 + 7 + 15);
    problem["mode"] = "inference";
    CHECK(brute_force::cost_of(problem, "latency", halves).objective == (1 + 4 + 4) + (1 + 25));
    CHECK(brute_force::cost_of(problem, "throughput", halves).objective == 26);
    CHECK(brute_force::best_plan(problem, "throughput").refused_for_memory > 0);
  }

  TEST_CASE("the brute force serves clients as each kind of server does") {
    // r = 2 + 4 / 2, p = 3 + 5, q = 6 + 4 / 4 with the cut after the first block.
    json client = {{"name", "a"},          {"forward_ms", {2, 100}}, {"backward_ms", {6, 100}},
                   {"up_bytes_per_ms", 2}, {"down_bytes_per_ms", 4}, {"memory_bytes", 1}};
    json problem = {{"blocks", blocks({1, 1}, {4, 0})},
                    {"input_bytes", 1},
                    {"aggregator", {{"forward_ms", {0, 3}}, {"backward_ms", {0, 5}}}},
                    {"clients", {client}}};
    const auto step_ms = [&](const char* server) {
      problem["server"] = server;
      return brute_force::best_plan(problem, "round").objective;
    };
    for (const char* server : {"sequential", "joined", "sharing", "uncontended"}) {
      CAPTURE(server);
      CHECK(brute_force::close(step_ms(server), 4 + 8 + 7, 1e-15));
    }
    // The second is ready later and done sooner: r = 9, p = 8, q = 1.
    client["name"] = "b";
    client["forward_ms"] = {7, 100};
    client["backward_ms"] = {0, 100};
    problem["clients"].push_back(client);
    CHECK(step_ms("sequential") == 4 + 8 + 8 + 1);
    CHECK(step_ms("joined") == 9 + 16 + 7);
    CHECK(step_ms("uncontended") == 19);
    // 8 / (T - 11) + 8 / (T - 10) = 1
    CHECK(brute_force::close(step_ms("sharing"), 18.5 + std::sqrt(64.25), 1e-14));
    CHECK(brute_force::cost_of(problem, "round", {{"cuts", {{"a", 1}, {"b", 1}}}}).objective ==
          step_ms("sharing"));
    problem["server"] = "sequential";
    const json late_first = {{"cuts", {{"a", 1}, {"b", 1}}}, {"order", {"b", "a"}}};
    CHECK(brute_force::cost_of(problem, "round", late_first).objective == 9 + 8 + 8 + 7);
  }
}
