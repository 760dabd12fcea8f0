// What the reader of problems refuses, and in which words.
#include "support/plain_test.h"

#include <functional>
#include <limits>

#include "core/planning/problems.h"

using namespace tandem;
using namespace tandem::test;

namespace {

/// Every field of a chain, and of a problem with clients.
Json whole_chain() {
  Json problem = small_chain();
  problem["devices"][0]["type"] = "orin";
  problem["devices"][0]["backward_ms"] = {1, 1, 1, 1};
  problem["devices"][1]["backward_ms"] = {1, 1, 1, 1};
  problem["devices"][1]["energy_mj"] = {1, 1, 1, 1};
  problem["devices"][1]["max_energy_mj"] = 4;
  problem["links"]["overrides"] = {{{"from", "d0"}, {"to", "d1"}, {"bytes_per_ms", 2}, {"latency_ms", 0.5}}};
  problem["return_bytes"] = 1;
  problem["min_front_blocks"] = 1;
  problem["last_stage_on_source"] = false;
  problem["contiguous"] = true;
  problem["micro_batches"] = 3;
  problem["mode"] = "training";
  problem["leakage"] = {1, 0, 0, 0};
  problem["max_leakage"] = 0.5;
  problem["labels_stay"] = false;
  return problem;
}

Json whole_clients() {
  Json problem = alexnet(2, 1e5, 2, "sequential");
  problem["aggregator"]["memory_bytes"] = 50;
  problem["aggregator"]["optimiser_ms"] = Numbers(9, 0.5);
  problem["clients"][1]["optimiser_ms"] = Numbers(9, 0.5);
  problem["clients"][1]["latency_ms"] = 2;
  problem["clients"][1]["steps"] = 5;
  problem["clients"][1]["min_cut"] = 1;
  problem["clients"][1]["max_cut"] = 4;
  return problem;
}

struct BadProblem {
  std::string message;
  std::function<void(Json&)> spoil;
};

void check_refused(const Json& good, const std::vector<BadProblem>& table) {
  REQUIRE_NOTHROW(read_problem(good));
  for (const BadProblem& row : table) {
    Json problem = good;
    row.spoil(problem);
    CAPTURE(row.message);
    CHECK_THROWS_WITH_AS(read_problem(problem), row.message.c_str(), ProblemError);
  }
}

}  // namespace

TEST_SUITE("core/planning/problem_file") {
  TEST_CASE("a malformed chain is refused with the field and the rule") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    check_refused(
        whole_chain(),
        {{"blocks is missing", [](Json& p) { p.erase("blocks"); }},
         {"blocks must be an array of 1 to 10000 entries, got 0", [](Json& p) { p["blocks"] = Json::array(); }},
         {"blocks[1] must be an object, got 7", [](Json& p) { p["blocks"][1] = 7; }},
         {"blocks[1].memory_bytes must be a number from 0 to 1e30, got -1",
          [](Json& p) { p["blocks"][1]["memory_bytes"] = -1; }},
         {"blocks[1].output_bytes is missing", [](Json& p) { p["blocks"][1].erase("output_bytes"); }},
         {"blocks[1].name must differ from blocks[0].name, both are \"a\"",
          [](Json& p) { p["blocks"][1]["name"] = "a"; }},
         {"blocks[1] has no field \"memory_byte\"; did you mean \"memory_bytes\"?",
          [](Json& p) { p["blocks"][1]["memory_byte"] = 1; }},
         {"the problem has no field \"sorce\"; did you mean \"source\"?", [](Json& p) { p["sorce"] = 1; }},
         {"input_bytes must be a number from 0 to 1e30, got \"2\"", [](Json& p) { p["input_bytes"] = "2"; }},
         {"input_bytes must be a number from 0 to 1e30, got 1e+31", [](Json& p) { p["input_bytes"] = 1e31; }},
         {"input_bytes must be a number from 0 to 1e30, got null", [=](Json& p) { p["input_bytes"] = nan; }},
         {"devices[1].forward_ms must be an array of 4 numbers, one for each block, got 3",
          [](Json& p) { p["devices"][1]["forward_ms"] = {1, 2, 3}; }},
         {"devices[1].forward_ms[2] must be a number from 0 to 1e30, got true",
          [](Json& p) { p["devices"][1]["forward_ms"][2] = true; }},
         {"devices[0].backward_ms is missing", [](Json& p) { p["devices"][0].erase("backward_ms"); }},
         {"devices[0].memory_bytes is missing", [](Json& p) { p["devices"][0].erase("memory_bytes"); }},
         {"devices[1].name must differ from devices[0].name, both are \"d0\"",
          [](Json& p) { p["devices"][1]["name"] = "d0"; }},
         {"devices[1].name must be a text of 1 to 200 bytes without control characters, got \"\"",
          [](Json& p) { p["devices"][1]["name"] = ""; }},
         {"devices[1].energy_mj is missing: max_energy_mj needs the energy of each block",
          [](Json& p) { p["devices"][1].erase("energy_mj"); }},
         {"links.default is missing", [](Json& p) { p["links"].erase("default"); }},
         {"links.default.bytes_per_ms must be a number above 0 (at least 1e-30), got 0",
          [](Json& p) { p["links"]["default"]["bytes_per_ms"] = 0; }},
         {"links.overrides[0].from must be a device's name, got \"d9\"; did you mean \"d0\"?",
          [](Json& p) { p["links"]["overrides"][0]["from"] = "d9"; }},
         {"links.overrides[0].to must be another device than from",
          [](Json& p) { p["links"]["overrides"][0]["to"] = "d0"; }},
         {"links.overrides[1] must differ from links.overrides[0], which names the same link",
          [](Json& p) { p["links"]["overrides"].push_back(p["links"]["overrides"][0]); }},
         {"source is missing", [](Json& p) { p.erase("source"); }},
         {"source must be a device's name, got \"d7\"; did you mean \"d0\"?", [](Json& p) { p["source"] = "d7"; }},
         {"min_front_blocks must be a whole number from 0 to 4, got 5", [](Json& p) { p["min_front_blocks"] = 5; }},
         {"min_front_blocks must be a whole number from 0 to 4, got 1.5",
          [](Json& p) { p["min_front_blocks"] = 1.5; }},
         {"micro_batches must be a whole number from 1 to 1000000000, got 0",
          [](Json& p) { p["micro_batches"] = 0; }},
         {"contiguous must be true or false, got 1", [](Json& p) { p["contiguous"] = 1; }},
         {"mode must be one of inference, training, got \"train\"", [](Json& p) { p["mode"] = "train"; }},
         {"max_leakage is missing: leakage and max_leakage need each other",
          [](Json& p) { p.erase("max_leakage"); }},
         {"leakage must be an array of 4 to 5 entries, got 1", [](Json& p) { p["leakage"] = {1}; }},
         {"the problem must be an object, got an array", [](Json& p) { p = Json::array(); }}});
  }

  TEST_CASE("a malformed problem with clients is refused with the field and the rule") {
    check_refused(
        whole_clients(),
        {{"clients is missing", [](Json& p) { p.erase("clients"); }},
         {"aggregator is missing", [](Json& p) { p.erase("aggregator"); }},
         {"aggregator.backward_ms is missing", [](Json& p) { p["aggregator"].erase("backward_ms"); }},
         {"clients[1].up_bytes_per_ms is missing", [](Json& p) { p["clients"][1].erase("up_bytes_per_ms"); }},
         {"clients[1].max_cut must be a whole number from 0 to 9, got 10",
          [](Json& p) { p["clients"][1]["max_cut"] = 10; }},
         {"clients[1].max_cut must be at least min_cut, which is 6, got 4",
          [](Json& p) { p["clients"][1]["min_cut"] = 6; }},
         {"clients[1].name must be another one than \"aggregator\", which names the server in a plan",
          [](Json& p) { p["clients"][1]["name"] = "aggregator"; }},
         {"server must be one of sequential, joined, sharing, uncontended, got \"shared\"",
          [](Json& p) { p["server"] = "shared"; }},
         {"mode must be training in a problem with clients, whose steps always train, got \"inference\"",
          [](Json& p) { p["mode"] = "inference"; }},
         {"micro_batches says nothing in a problem with clients: leave it out",
          [](Json& p) { p["micro_batches"] = 4; }},
         {"source says nothing in a problem with clients: leave it out", [](Json& p) { p["source"] = "client-1"; }},
         {"devices says nothing in a problem with clients: leave one of the two out",
          [](Json& p) { p["devices"] = Json::array(); }},
         {"input_bytes is missing: clients[1].min_cut is 0, so the input may travel",
          [](Json& p) { p.erase("input_bytes"), p["clients"][1]["min_cut"] = 0; }}});
  }

  TEST_CASE("a field's path is kept apart from the rule") {
    Json problem = whole_chain();
    problem["devices"][1]["forward_ms"][2] = -3;
    try {
      read_problem(problem);
      FAIL("a negative time was read");
    } catch (const ProblemError& error) {
      CHECK(error.field() == "devices[1].forward_ms[2]");
    }
  }

  TEST_CASE("text that is no problem is refused in one sentence") {
    const auto message = [](const std::string& text) { return parse_problem(text).error().message; };
    CHECK(message("{\"blocks\": [").find("the problem is not JSON: parse error at line 1") == 0);
    CHECK(message("{\"a\": 1, \"a\": 2}") == "the problem has the key \"a\" twice in one object");
    CHECK(message(std::string(100'000, '[')) == "the problem is nested deeper than 16 levels");
    CHECK(message("{\"input_bytes\": 1e999}").find("the problem is not JSON: number overflow") == 0);
    CHECK(message("{\"input_bytes\": NaN}").find("the problem is not JSON") == 0);
    CHECK(parse_problem(whole_chain().dump()).has_value());
    CHECK(parse_problem(whole_clients().dump()).has_value());
  }

  TEST_CASE("every truncation of a problem is refused") {
    for (const Json& problem : {whole_chain(), whole_clients()}) {
      const std::string text = problem.dump();
      for (size_t size = 0; size < text.size(); ++size) CHECK_FALSE(parse_problem(text.substr(0, size)));
    }
  }

  TEST_CASE("an objective or a planner that does not exist or does not fit is refused") {
    const Json chain = small_chain();
    const Json clients = alexnet(2, 1e5, 2, "joined");
    CHECK_THROWS_WITH_AS(plan_of(chain, "latncy"),
                         "objective must be one of latency, throughput, pipeline, round, got \"latncy\"; did you mean "
                         "\"latency\"?",
                         ProblemError);
    CHECK_THROWS_WITH_AS(plan_of(chain, "round"), "objective round needs a problem with clients, this one has devices",
                         ProblemError);
    CHECK_THROWS_WITH_AS(plan_of(clients, "latency"),
                         "objective must be round in a problem with clients, got \"latency\"", ProblemError);
    CHECK_THROWS_AS(plan_of(chain, "", "common"), ProblemError);
    CHECK_THROWS_AS(plan_of(clients, "", "edgeshard"), ProblemError);
    CHECK_THROWS_AS(plan_of(clients, "", "best"), ProblemError);
  }
}
