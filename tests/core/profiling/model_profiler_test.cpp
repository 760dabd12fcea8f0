#include "tandem/core/profiling/model_profiler.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/test.h"
#include "tandem/core/profiling/allocation_meter.h"
#include "tandem/core/wire/message_codec.h"

using namespace tandem;

namespace {

ProfilerOptions quick() {
  ProfilerOptions options;
  options.batch_size = 4;
  options.warmup = 1;
  options.fewest_samples = 3;
  options.most_samples = 6;
  options.largest_drift = 1e9;  // other tests run beside this one
  options.optimizer.momentum = 0.9;
  return options;
}

ModelDefinition lenet() {
  return define_model("lenet5", {1, 28, 28}, 10).value();
}

ModelProfile measured() {
  ModelProfile profile = profile_model(lenet(), quick(), [](const std::string&) {}).value();
  profile.name = "cam-1";
  profile.role = "client";
  profile.memory_bytes = 1 << 30;
  profile.link = ProfileLink{.up_bytes_per_ms = 625, .down_bytes_per_ms = 2500, .latency_ms = 10};
  return profile;
}

nlohmann::json as_json(const ModelProfile& profile) {
  return nlohmann::json::parse(json_of(profile).dump());
}

}  // namespace

TEST_SUITE("core/profiling/model_profiler") {
  TEST_CASE("every block, prefix and suffix is measured, and sizes are those that travel and are held") {
    const ModelProfile profile = measured();
    REQUIRE(profile.blocks.size() == 5);
    REQUIRE(profile.prefixes.size() == 5);
    REQUIRE(profile.suffixes.size() == 5);
    for (const BlockProfile& block : profile.blocks) {
      CAPTURE(block.name);
      CHECK(block.step.forward.median_ms > 0);
      CHECK(block.step.backward.median_ms > 0);
      CHECK(block.step.forward.samples >= 3);
      CHECK(block.optimiser.samples == block.step.forward.samples);
      CHECK(block.saved_bytes > 0);
    }
    // conv 5x5 from 1 to 6 channels with bias: 156 weights.
    const BlockProfile& conv1 = profile.blocks[0];
    CHECK(conv1.name == "conv1");
    CHECK(conv1.parameter_bytes == 156 * 4);
    CHECK(conv1.gradient_bytes == 156 * 4);
    CHECK(conv1.optimiser_bytes == 156 * 4 + 8);  // momentum, and the step count
    // The message that carries 4 x 6 x 14 x 14 activations and 4 labels.
    const auto frames =
        wire::encode({.body = wire::Activations{at::zeros({4, 6, 14, 14}), at::zeros({4}, at::kLong)}});
    CHECK(conv1.output_bytes == static_cast<int64_t>(wire::total_bytes(frames)));
    CHECK(conv1.gradient_message_bytes < conv1.output_bytes + 64);
    for (size_t b = 0; b < 5; ++b) {
      CHECK(profile.prefixes[b].first == 0);
      CHECK(profile.prefixes[b].last == static_cast<int>(b) + 1);
      CHECK(profile.suffixes[b].first == static_cast<int>(b));
      CHECK(profile.suffixes[b].last == 5);
    }
    // A longer prefix needs more at its peak than a shorter one, and at least what its blocks save.
    CHECK(profile.prefixes[4].peak_bytes > profile.prefixes[0].peak_bytes);
    CHECK(profile.prefixes[0].peak_bytes >= conv1.saved_bytes);
    CHECK(profile.fingerprint.model == "lenet5");
    CHECK(profile.fingerprint.batch_size == 4);
  }

  TEST_CASE("measuring leaves the weights of no run behind: the same profile is of the same model") {
    CHECK(fingerprint_of(lenet(), quick()) == fingerprint_of(lenet(), quick()));
    const auto wider = define_model("resnet18:norm=batch,width=8", {1, 28, 28}, 10).value();
    const auto narrow = define_model("resnet18:norm=batch,width=4", {1, 28, 28}, 10).value();
    CHECK(fingerprint_of(wider, quick()).model_hash != fingerprint_of(narrow, quick()).model_hash);
    auto larger = quick();
    larger.batch_size = 8;
    CHECK(difference(fingerprint_of(lenet(), quick()), fingerprint_of(lenet(), larger), false) ==
          "batch_size: 4 and 8");
  }

  TEST_CASE(
      "a machine that is too restless is refused with the reason, after as many attempts as asked for") {
    auto options = quick();
    options.largest_drift = 0;  // no two halves are the same to the last digit
    int attempts = 0;
    const auto profile = profile_model(
        lenet(), options, [&](const std::string& line) { attempts += line.starts_with("attempt"); });
    REQUIRE_FALSE(profile);
    CHECK(profile.error().code == ErrorCode::kUnsupported);
    CHECK(profile.error().message.find("--largest-drift") != std::string::npos);
    CHECK(attempts == 3);
  }

  TEST_CASE("a batch of one is refused for a model with batch norm") {
    auto options = quick();
    options.batch_size = 1;
    const auto model = define_model("resnet18:width=4", {1, 8, 8}, 4).value();
    CHECK(profile_model(model, options, [](const std::string&) {}).error().message.find("--batch-size") !=
          std::string::npos);
  }

  TEST_CASE("the meter counts what tensors hold, and the peak") {
    const AllocationMeter meter;
    const at::Tensor kept = at::zeros({1000});
    CHECK(meter.held() >= 4000);
    { const at::Tensor gone = at::zeros({100'000}); }
    CHECK(meter.held() < 100'000);
    CHECK(meter.peak() >= 404'000);
  }
}

TEST_SUITE("core/profiling/model_profile") {
  TEST_CASE("what was written is read back, field by field") {
    const ModelProfile profile = measured();
    const auto read = read_profile(as_json(profile));
    REQUIRE(read);
    CHECK(json_of(*read).dump() == json_of(profile).dump());
    CHECK(difference(read->fingerprint, profile.fingerprint, true).empty());
  }

  TEST_CASE("a field that is missing, unknown, of another type or out of its range is named") {
    const nlohmann::json good = as_json(measured());
    const auto refused = [&](const std::string& part, const std::function<void(nlohmann::json&)>& change) {
      nlohmann::json json = good;
      change(json);
      const auto read = read_profile(json);
      CAPTURE(part);
      REQUIRE_FALSE(read);
      CHECK(read.error().code == ErrorCode::kCorrupt);
      CHECK(read.error().message.find(part) != std::string::npos);
    };
    refused("the profile must be an object", [](auto& json) { json = 5; });
    refused("kind is missing", [](auto& json) { json.erase("kind"); });
    refused("kind must be", [](auto& json) { json["kind"] = "tandem-plan"; });
    refused("version must be a whole number from 1 to 1", [](auto& json) { json["version"] = 2; });
    refused("role must be client", [](auto& json) { json["role"] = "server"; });
    refused("name must not be empty", [](auto& json) { json["name"] = ""; });
    refused("colour is not a field", [](auto& json) { json["colour"] = "red"; });
    refused("fingerprint.batch_size", [](auto& json) { json["fingerprint"]["batch_size"] = 0; });
    refused("fingerprint.input_shape[1]", [](auto& json) { json["fingerprint"]["input_shape"][1] = 1.5; });
    refused("blocks must not be empty", [](auto& json) { json["blocks"] = nlohmann::json::array(); });
    refused("blocks must be an array", [](auto& json) { json["blocks"] = 3; });
    refused("blocks[1].forward_ms.median",
            [](auto& json) { json["blocks"][1]["forward_ms"]["median"] = -1; });
    refused("blocks[1].forward_ms.samples",
            [](auto& json) { json["blocks"][1]["forward_ms"]["samples"] = 0; });
    refused("blocks[0].output_bytes", [](auto& json) { json["blocks"][0]["output_bytes"] = "many"; });
    refused("blocks[0].output_bytes",
            [](auto& json) { json["blocks"][0]["output_bytes"] = std::numeric_limits<uint64_t>::max(); });
    refused("prefixes and suffixes must have", [](auto& json) { json["prefixes"].erase(4); });
    refused("suffixes[2].first", [](auto& json) { json["suffixes"][2]["first"] = 3; });
    refused("link.up_bytes_per_ms must be > 0", [](auto& json) { json["link"]["up_bytes_per_ms"] = 0; });
    refused("link.down_bytes_per_ms is missing", [](auto& json) { json["link"].erase("down_bytes_per_ms"); });
    refused("drift", [](auto& json) { json["drift"] = nullptr; });
  }
}
