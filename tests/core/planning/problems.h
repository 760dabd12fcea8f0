// Problems for the planner's tests, as JSON.
#pragma once

#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tandem/core/planning/plan.h"

namespace tandem::test {

using Json = nlohmann::json;
using Numbers = std::vector<double>;

inline Json block(const std::string& name, double memory_bytes, double output_bytes) {
  return {{"name", name}, {"memory_bytes", memory_bytes}, {"output_bytes", output_bytes}};
}

inline Json device(const std::string& name, double memory_bytes, const Numbers& forward_ms) {
  return {{"name", name}, {"memory_bytes", memory_bytes}, {"forward_ms", forward_ms}};
}

/// Two devices, four blocks: EdgeShard's recurrence cannot see that the first path to a state has used up the
/// memory that the best plan needs.
inline Json small_chain() {
  return {{"blocks", {block("a", 1, 2), block("b", 1, 2), block("c", 1, 2), block("d", 1, 1)}},
          {"input_bytes", 2},
          {"devices", {device("d0", 2, {4, 3, 2, 4}), device("d1", 2, {2, 1, 3, 2})}},
          {"links", {{"default", {{"bytes_per_ms", 1}}}}},
          {"source", "d0"}};
}

/// AlexNet in nine blocks on a server (PipeDream's profile, batch 256), and clients `factor` times slower.
inline Json alexnet(double factor, double bytes_per_ms, int clients, const std::string& server) {
  const Numbers forward{23.885, 4.518, 3.687, 4.962, 3.339, 0.391, 2.208, 1.358, 0.453};
  const Numbers backward{8.286, 6.997, 6.879, 7.385, 5.673, 0.306, 3.111, 1.409, 0.474};
  const Numbers output{47775744, 33226752, 66453504, 44302336, 44302336, 9437184, 4194304, 4194304, 1024000};
  Numbers slow_forward, slow_backward;
  Json problem{{"input_bytes", 154140672}, {"server", server}};
  for (size_t i = 0; i < forward.size(); ++i) {
    problem["blocks"].push_back(block("block" + std::to_string(i), 1, output[i]));
    slow_forward.push_back(forward[i] * factor);
    slow_backward.push_back(backward[i] * factor);
  }
  problem["aggregator"] = {{"forward_ms", forward}, {"backward_ms", backward}};
  for (int i = 1; i <= clients; ++i) {
    problem["clients"].push_back({{"name", "client-" + std::to_string(i)},
                                  {"memory_bytes", 100},
                                  {"forward_ms", slow_forward},
                                  {"backward_ms", slow_backward},
                                  {"up_bytes_per_ms", bytes_per_ms},
                                  {"down_bytes_per_ms", bytes_per_ms}});
  }
  return problem;
}

inline double pick(std::mt19937& random, double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(random);
}

inline Numbers picks(std::mt19937& random, size_t count, double low, double high) {
  Numbers numbers;
  for (size_t i = 0; i < count; ++i) numbers.push_back(pick(random, low, high));
  return numbers;
}

/// A chain of up to 7 blocks over up to 4 devices, in which memory often binds.
inline Json random_chain(std::mt19937& random) {
  const size_t blocks = 2 + random() % 6;
  const size_t devices = 1 + random() % 4;
  Json problem{{"input_bytes", pick(random, 0, 5)},
               {"return_bytes", random() % 2 == 0 ? 0.0 : pick(random, 0, 5)},
               {"links", {{"default", {{"bytes_per_ms", pick(random, 0.5, 2)}, {"latency_ms", pick(random, 0, 1)}}}}},
               {"source", "d" + std::to_string(random() % devices)},
               {"min_front_blocks", random() % 2},
               {"last_stage_on_source", random() % 4 == 0},
               {"contiguous", random() % 4 != 0},
               {"micro_batches", 1 + random() % 8},
               {"mode", random() % 2 == 0 ? "training" : "inference"}};
  for (size_t i = 0; i < blocks; ++i) {
    problem["blocks"].push_back(block("b" + std::to_string(i), pick(random, 0, 2), pick(random, 0, 5)));
  }
  for (size_t d = 0; d < devices; ++d) {
    Json entry = device("d" + std::to_string(d), pick(random, 1, 8), picks(random, blocks, 0, 9));
    entry["backward_ms"] = picks(random, blocks, 0, 9);
    problem["devices"].push_back(entry);
  }
  return problem;
}

/// Up to 4 clients with 3 or 4 cuts each.
inline Json random_clients(std::mt19937& random) {
  const size_t blocks = 4 + random() % 2;
  const size_t clients = 1 + random() % 4;
  const char* servers[] = {"sequential", "joined", "sharing", "uncontended"};
  Json problem{{"input_bytes", 3},
               {"server", servers[random() % 4]},
               {"aggregator",
                {{"forward_ms", picks(random, blocks, 0, 3)}, {"backward_ms", picks(random, blocks, 0, 3)}}}};
  for (size_t i = 0; i < blocks; ++i) {
    problem["blocks"].push_back(block("b" + std::to_string(i), pick(random, 0, 2), pick(random, 0, 9)));
  }
  for (size_t i = 0; i < clients; ++i) {
    problem["clients"].push_back({{"name", "c" + std::to_string(i)},
                                  {"memory_bytes", pick(random, 2, 9)},
                                  {"forward_ms", picks(random, blocks, 0, 9)},
                                  {"backward_ms", picks(random, blocks, 0, 9)},
                                  {"up_bytes_per_ms", pick(random, 0.5, 2)},
                                  {"down_bytes_per_ms", pick(random, 0.5, 2)},
                                  {"latency_ms", pick(random, 0, 1)}});
  }
  return problem;
}

inline Plan plan_of(const Json& problem, const std::string& objective = "", const std::string& planner = "exact") {
  return make_plan(read_problem(problem), {objective, planner});
}

}  // namespace tandem::test
