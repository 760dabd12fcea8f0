#include "tandem/edge_client/session/kept_checkpoints.h"

#include <filesystem>
#include <string>
#include <vector>

#include "core/storage/storage_support.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::edge_client;
using wire::DevicePosition;

namespace {

EdgeCheckpoint moment(uint32_t round, uint32_t step, uint64_t run_id = 42) {
  return {.run_id = run_id,
          .instance = 11,
          .position = {.round = round, .step = step, .unanswered = step},
          .round = {.number = round, .ordinal = round, .batch_sizes = {4, 4, 4, 4}, .next_apply = step},
          .trainer = {{"front.0.weight", at::full({2}, static_cast<float>(step))}}};
}

DevicePosition at_step(uint32_t round, uint32_t step) {
  return {.round = round, .step = step, .unanswered = step};
}

}  // namespace

TEST_SUITE("edge_client/session/kept_checkpoints") {
  TEST_CASE("what is offered: where the device stands, what is kept, the beginning; each place once") {
    CheckpointMemory memory(3);
    KeptCheckpoints kept(&memory);
    CHECK((kept.offer({}) == std::vector<DevicePosition>{{}}));
    REQUIRE(kept.save(moment(1, 2)).has_value());
    REQUIRE(kept.save(moment(1, 3)).has_value());
    CHECK((kept.offer(at_step(2, 1)) ==
           std::vector<DevicePosition>{at_step(2, 1), at_step(1, 3), at_step(1, 2), {}}));
    CHECK((kept.offer(at_step(1, 3)) == std::vector<DevicePosition>{at_step(1, 3), at_step(1, 2), {}}));
    CHECK((kept.offer({}) == std::vector<DevicePosition>{at_step(1, 3), at_step(1, 2), {}}));
    kept.forget();
    CHECK(kept.newest() == nullptr);
    CHECK((kept.offer({}) == std::vector<DevicePosition>{{}}));
  }

  TEST_CASE("what the storage drops is not offered any more") {
    CheckpointMemory memory(2);
    KeptCheckpoints kept(&memory);
    for (const uint32_t step : {1u, 2u, 3u}) REQUIRE(kept.save(moment(1, step)).has_value());
    CHECK((kept.offer({}) == std::vector<DevicePosition>{at_step(1, 3), at_step(1, 2), {}}));
    // The device went back and comes by another way: what was newer is given up.
    REQUIRE(kept.save(moment(1, 2)).has_value());
    CHECK((kept.offer({}) == std::vector<DevicePosition>{at_step(1, 2), {}}));
    CHECK(*kept.newest() == at_step(1, 2));
  }

  TEST_CASE("a later program finds the checkpoints of the newest's run and passes damaged ones over") {
    const TemporaryDirectory directory;
    CheckpointStore storage(directory.path(), 4);
    {
      KeptCheckpoints earlier(&storage);
      REQUIRE(earlier.save(moment(1, 1, 41)).has_value());  // another run
      for (const uint32_t step : {2u, 3u, 4u}) REQUIRE(earlier.save(moment(1, step)).has_value());
    }
    const auto newest = directory.path() / "round-00001-step-00004.safetensors";
    const auto size = std::filesystem::file_size(newest);
    std::filesystem::resize_file(newest, size - 1);
    KeptCheckpoints kept(&storage);
    std::vector<std::string> notes;
    const auto owner = kept.find([&](const std::string& line) { notes.push_back(line); });
    REQUIRE(owner);
    CHECK(owner->run_id == 42);
    CHECK(owner->instance == 11);
    REQUIRE(notes.size() == 1);
    CHECK(notes[0] == "a checkpoint is passed over: " + newest.string() + ": expected " +
                          std::to_string(size) + " bytes, found " + std::to_string(size - 1));
    CHECK((kept.offer({}) == std::vector<DevicePosition>{at_step(1, 3), at_step(1, 2), {}}));
    const auto loaded = kept.load(at_step(1, 3));
    REQUIRE(loaded);
    CHECK(loaded->round.next_apply == 3);
    CHECK(at::equal(loaded->trainer.at(0).tensor, at::full({2}, 3.0f)));
    CHECK((kept.load(at_step(1, 4)).error().code == ErrorCode::kCorrupt));
  }

  TEST_CASE("an empty storage holds no run") {
    CheckpointMemory memory(2);
    CHECK_FALSE(KeptCheckpoints(&memory).find([](const std::string&) {}));
  }

  TEST_CASE("without a storage nothing is kept, and going back is an error that says so") {
    KeptCheckpoints kept(nullptr);
    CHECK_FALSE(kept.active());
    CHECK_FALSE(kept.find([](const std::string&) {}));
    REQUIRE(kept.save(moment(1, 2)).has_value());
    CHECK((kept.offer(at_step(1, 2)) == std::vector<DevicePosition>{at_step(1, 2), {}}));
    CHECK(kept.load(at_step(1, 2)).error().message ==
          "the aggregator wants this device to go back to step 2 of round 1, which it never offered");
  }
}
