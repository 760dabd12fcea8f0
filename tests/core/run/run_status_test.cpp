#include "tandem/core/run/run_status.h"

#include <chrono>

#include "support/test.h"

using namespace std::chrono_literals;
using tandem::RunStatus;

TEST_SUITE("core/run/run_status") {
  TEST_CASE("a program is alive for as long after a beat as it is allowed to be silent") {
    RunStatus status("tandem-edge", 60s);
    const auto before = RunStatus::Clock::now();
    status.beat();
    const auto after = RunStatus::Clock::now();
    CHECK(status.alive(before + 60s).good);
    CHECK(status.alive(before + 60s).reason == "alive");
    const RunStatus::Answer late = status.alive(after + 61500ms);
    CHECK_FALSE(late.good);
    CHECK(late.reason.find("the main loop has shown no sign of life for 61.") == 0);
    CHECK(late.reason.find("s, allowed are 60.0 s (stall-after of --status-endpoint)") != std::string::npos);
  }

  TEST_CASE("being made is the first beat, and the program waits for its start") {
    RunStatus status("tandem-edge", 60s);
    CHECK(status.alive().good);
    CHECK_FALSE(status.ready().good);
    CHECK(status.ready().reason == "the program is starting");
  }

  TEST_CASE("readiness follows what the program waits for") {
    RunStatus status("tandem-edge", 60s);
    status.set_waiting_for("not connected");
    CHECK_FALSE(status.ready().good);
    CHECK(status.ready().reason == "not connected");
    status.set_waiting_for("");
    CHECK(status.ready().good);
    CHECK(status.ready().reason == "ready");
  }

  TEST_CASE("the metrics say which program this is and what it uses") {
    RunStatus status("tandem-edge", 60s);
    const std::string text = status.metrics_text();
    CHECK(text.find("tandem_build_info{program=\"tandem-edge\",version=\"") != std::string::npos);
    CHECK(text.find("\nprocess_resident_memory_bytes ") != std::string::npos);
  }
}
