// What a plan looks like: as JSON, as a table, as a picture.
#include "support/plain_test.h"

#include <algorithm>

#include "core/planning/problems.h"
#include "tandem/core/planning/plan_chart.h"
#include "tandem/core/planning/plan_text.h"

using namespace tandem;
using namespace tandem::test;

namespace {

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

/// The nesting of the tags, which is all that an XML reader needs besides escaped text.
void check_well_formed(const std::string& svg) {
  std::vector<std::string> open;
  for (size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    const size_t end = svg.find('>', at);
    REQUIRE(end != std::string::npos);
    const std::string tag = svg.substr(at + 1, end - at - 1);
    CHECK(std::count(tag.begin(), tag.end(), '"') % 2 == 0);
    if (tag.back() == '/') continue;
    if (tag[0] != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
      continue;
    }
    REQUIRE_FALSE(open.empty());
    CHECK(open.back() == tag.substr(1));
    open.pop_back();
  }
  CHECK(open.empty());
}

}  // namespace

TEST_SUITE("core/planning/plan_output") {
  TEST_CASE("the JSON of a chain") {
    const Json json = plan_json(plan_of(small_chain()));
    CHECK(json["status"] == "optimal");
    CHECK(json["objective"] == 14.0);
    CHECK(json["lower_bound"] == 14.0);
    CHECK(json["gap"] == 0.0);
    CHECK(json["planner"] == "exact");
    CHECK(json["stages"] ==
          Json::parse(R"([{"device":"d0","first":0,"last":1},{"device":"d1","first":2,"last":3}])"));
    CHECK(json["memory_bytes"] == Json::parse(R"({"d0":2,"d1":2})"));
    CHECK(json["terms"]["compute_ms"] == 12.0);
    CHECK(json["terms"]["transfer_ms"] == 2.0);
    CHECK(json["terms"]["step_ms"] == 14.0);
    CHECK(json["runner_up"].is_null());  // memory permits no other plan
  }

  TEST_CASE("the JSON of clients has a cut for each and the order of the server") {
    const Json json = plan_json(plan_of(alexnet(3, 2.5e6, 3, "sequential")));
    CHECK(json["cuts"].size() == 3);
    CHECK(json["order"].size() == 3);
    CHECK(json["memory_bytes"].contains("aggregator"));
    CHECK(json["terms"]["step_ms"] == json["objective"]);
    CHECK(json["runner_up"]["cuts"].size() == 3);
  }

  TEST_CASE("an infeasible problem gives no objective but a reason") {
    Json problem = small_chain();
    for (Json& entry : problem["devices"]) entry["memory_bytes"] = 1;
    const Json json = plan_json(plan_of(problem));
    CHECK(json["status"] == "infeasible");
    CHECK(json["objective"].is_null());
    CHECK(json["reason"] ==
          "no plan obeys memory_bytes: the blocks need 4 bytes, the devices have 2 together; without this limit there "
          "would be one");
    CHECK(plan_json(plan_of(problem, "", "even"))["reason"] == "this planner finds none");
    Json clients = alexnet(3, 2.5e6, 2, "joined");
    clients["clients"][1]["memory_bytes"] = 0.5;
    CHECK(plan_json(plan_of(clients))["reason"] == "no cut from 1 to 8 of client client-2 obeys memory_bytes");
    clients["labels_stay"] = true;
    CHECK(plan_json(plan_of(clients))["reason"] == "no cut from 1 to 8 of client client-1 obeys labels_stay");
  }

  TEST_CASE("a round is steps times the step and the slowest client's weights up and down") {
    Json problem = alexnet(3, 1000, 2, "joined");
    for (Json& entry : problem["blocks"]) entry["parameter_bytes"] = 500;
    for (Json& client : problem["clients"]) client.update({{"steps", 10}, {"min_cut", 4}, {"max_cut", 4}});
    problem["clients"][1]["latency_ms"] = 7;
    const Plan plan = plan_of(problem);
    CHECK(*plan.terms.round_ms == doctest::Approx(10 * *plan.objective + 2 * 7 + 2 * 2000.0 / 1000));
  }

  TEST_CASE("the table says the cost, its certificate and who holds what") {
    const Problem problem = read_problem(small_chain());
    const std::string table = plan_table(problem, make_plan(problem));
    CHECK(table.find("one pass: 14.000 ms, optimal: no plan is better\n") == 0);
    CHECK(table.find("\nd0         0-1      a ... b") != std::string::npos);
    CHECK(table.find("\nbottleneck   7.000 ms\n") != std::string::npos);
  }

  TEST_CASE("the explanation has a line for each device and says what the next best plan does") {
    Json json = small_chain();
    for (Json& entry : json["devices"]) entry["memory_bytes"] = 4;
    const Problem problem = read_problem(json);
    const Plan plan = make_plan(problem);
    const std::string text = plan_explanation(problem, plan);
    CAPTURE(text);
    CHECK(text ==
          "d0: blocks 0, 4.000 ms; in the next best plan blocks 0-3, 13.000 ms\n"
          "d1: blocks 1-3, 6.000 ms; in the next best plan nothing, 0.000 ms\n"
          "the next best plan takes 1.000 ms more\n");
  }

  TEST_CASE("the picture is well-formed, whatever the names, and has a bar for each part of the step") {
    std::mt19937 random(3);
    for (int i = 0; i < 60; ++i) {
      Json json = i % 2 == 0 ? random_chain(random) : random_clients(random);
      for (Json& entry : json[i % 2 == 0 ? "devices" : "clients"]) {
        const std::string name = "<&\"'" + entry["name"].get<std::string>() + "]]>";
        if (json.contains("source") && json["source"] == entry["name"]) json["source"] = name;
        entry["name"] = name;
      }
      const Problem problem = read_problem(json);
      const Plan plan = make_plan(problem);
      const std::string svg = plan_chart(problem, plan);
      if (!plan.feasible()) {
        CHECK(svg.empty());
        continue;
      }
      CHECK(svg.find("<svg xmlns=\"http://www.w3.org/2000/svg\"") == 0);
      check_well_formed(svg);
      CHECK(count_of(svg, "nan") == 0);
      CHECK(count_of(svg, "inf") == 0);
      CHECK(count_of(svg, "<title>") > plan.stages.size());
    }
  }
}
