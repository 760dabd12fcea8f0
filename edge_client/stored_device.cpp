#include "tandem/edge_client/stored_device.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/run_storage.h"

namespace tandem::edge_client {
namespace {

/// As many as a device can need: the aggregator stands at most --checkpoint-steps behind it, or at the end of
/// the round before.
constexpr int kKeptCheckpoints = 3;

uint64_t random_instance() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

/// The number in the file, which is written with the first start.
Result<uint64_t> instance_in(const std::filesystem::path& path) {
  if (const auto text = read_file(path); text) {
    char* end = nullptr;
    const uint64_t instance = std::strtoull(text->c_str(), &end, 16);
    if (instance != 0 && *end == '\n') return instance;
    return Error{ErrorCode::kCorrupt, path.string() +
                                          " does not hold a device's number; remove it and the "
                                          "checkpoints beside it to start anew"};
  } else if (text.error().code != ErrorCode::kNotFound) {
    return text.error();
  }
  const uint64_t instance = random_instance();
  char text[32];
  std::snprintf(text, sizeof text, "%016llx\n", static_cast<unsigned long long>(instance));
  if (auto written = write_file_atomically(path, {text}); !written) return written.error();
  return instance;
}

}  // namespace

Result<StoredDevice> open_stored_device(const EdgeFlags& flags) {
  if (flags.run_dir.empty()) {
    return StoredDevice{random_instance(), std::make_unique<CheckpointMemory>(kKeptCheckpoints),
                        std::nullopt};
  }
  auto storage =
      open_run_storage(flags.run_dir, flags.seal_key, {.keep = kKeptCheckpoints, .owner = "device"});
  if (!storage) return storage.error();
  auto store = std::make_unique<CheckpointStore>(std::move(storage->checkpoints));
  const std::vector<CheckpointPosition> kept = store->positions();
  if (!flags.resume && !kept.empty()) {
    return Error{ErrorCode::kInvalidArgument, flags.run_dir.string() +
                                                  " holds checkpoints of a device; --resume goes on from "
                                                  "them, or choose another --run-dir or move it away"};
  }
  // A missing or another key is a mistake to be told, not damage to be passed over.
  if (!kept.empty()) {
    const auto newest = store->load(kept.front());
    if (!newest && newest.error().code == ErrorCode::kInvalidArgument) return newest.error();
  }
  auto instance = instance_in(flags.run_dir / "instance");
  if (!instance) return instance.error();
  return StoredDevice{*instance, std::move(store), std::move(storage->lock)};
}

}  // namespace tandem::edge_client
