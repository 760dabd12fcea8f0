#include "tandem/core/profiling/plan_problem.h"

#include <string>
#include <vector>

#include "support/test.h"

using namespace tandem;

namespace {

Timing milliseconds(double median) {
  return {.median_ms = median, .samples = 5};
}

/// Three blocks; prefixes and suffixes take as long as given.
ModelProfile profile(const std::string& name, const std::string& role, std::vector<double> prefixes,
                     std::vector<double> suffixes) {
  ModelProfile profile{.name = name, .role = role, .input_bytes = 500, .memory_bytes = 10'000};
  profile.fingerprint = {
      .model = "lenet5", .model_hash = "1", .input_shape = {1, 28, 28}, .num_classes = 10, .batch_size = 8};
  if (role == "client")
    profile.link = ProfileLink{.up_bytes_per_ms = 5, .down_bytes_per_ms = 20, .latency_ms = 3};
  for (int b = 0; b < 3; ++b) {
    profile.blocks.push_back({.name = "block" + std::to_string(b),
                              .optimiser = milliseconds(0.5),
                              .parameter_bytes = 100,
                              .gradient_bytes = 90,
                              .optimiser_bytes = 80,
                              .saved_bytes = 30 * (b + 1),
                              .output_bytes = 1000 - b});
    const auto place = static_cast<size_t>(b);
    profile.prefixes.push_back(
        {0, b + 1, {milliseconds(prefixes[place]), milliseconds(2 * prefixes[place])}});
    profile.suffixes.push_back({b, 3, {milliseconds(suffixes[place]), milliseconds(2 * suffixes[place])}});
  }
  return profile;
}

std::vector<ModelProfile> two_clients() {
  return {profile("cam-1", "client", {1, 3, 6}, {6, 5, 3}),
          profile("server", "aggregator", {1, 2, 3}, {3, 2, 0.5}),
          profile("cam-2", "client", {4, 3, 8}, {6, 5, 3})};
}

std::string refusal(const std::vector<ModelProfile>& profiles) {
  const auto problem = problem_of(profiles, {});
  return problem ? "" : problem.error().message;
}

}  // namespace

TEST_SUITE("core/profiling/plan_problem") {
  TEST_CASE("every range adds up to what was measured of it") {
    const auto problem = problem_of(two_clients(), {.server = "sequential", .steps = 7}).value();
    REQUIRE(problem["clients"].size() == 2);
    const auto& first = problem["clients"][0];
    CHECK(first["name"] == "cam-1");
    CHECK(first["forward_ms"] == std::vector<double>{1, 2, 3});
    CHECK(first["backward_ms"] == std::vector<double>{2, 4, 6});
    // A longer prefix that was measured faster counts as the shorter one.
    CHECK(problem["clients"][1]["forward_ms"] == std::vector<double>{4, 0, 4});
    CHECK(problem["aggregator"]["forward_ms"] == std::vector<double>{1, 1.5, 0.5});
    CHECK(first["optimiser_ms"] == std::vector<double>{0.5, 0.5, 0.5});
    CHECK(first["up_bytes_per_ms"] == 5);
    CHECK(first["down_bytes_per_ms"] == 20);
    CHECK(first["latency_ms"] == 3);
    CHECK(first["steps"] == 7);
    CHECK(problem["server"] == "sequential");
    CHECK(problem["blocks"][1]["memory_bytes"] == 100 + 90 + 80 + 60);
    CHECK(problem["blocks"][1]["output_bytes"] == 999);
    CHECK(problem["blocks"][1]["parameter_bytes"] == 100);
    CHECK(problem["input_bytes"] == 500);
  }

  TEST_CASE("what is missing or does not belong together is named") {
    CHECK(refusal({}).find("there are no profiles") != std::string::npos);
    auto profiles = two_clients();
    profiles[2].fingerprint.batch_size = 32;
    CHECK(refusal(profiles) ==
          "the profiles of cam-1 and cam-2 are not of the same work: batch_size: 8 and 32; profile one of "
          "them again");
    profiles = two_clients();
    profiles[2].name = "cam-1";
    CHECK(refusal(profiles).find("two profiles have the name cam-1") == 0);
    profiles = two_clients();
    profiles[0].link.reset();
    CHECK(refusal(profiles).find("the profile of cam-1 says nothing of its link") == 0);
    profiles = two_clients();
    profiles[0].role = "helper";
    CHECK(refusal(profiles).find("cam-1 is a helper") == 0);
    profiles = two_clients();
    profiles.erase(profiles.begin() + 1);
    CHECK(refusal(profiles).find("there are 0 profiles of an aggregator") == 0);
    CHECK(refusal({two_clients()[1]}).find("there is no profile of a client") == 0);
  }
}
