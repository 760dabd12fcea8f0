#include "tandem/edge_client/program/stored_device.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <system_error>
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

/// Beginning anew over damaged checkpoints would lose them: whoever can repair them has to know.
Result<void> check_some_is_good(const std::filesystem::path& run_dir, const CheckpointStore& store) {
  std::string damages;
  for (const CheckpointPosition& position : store.positions()) {
    const auto checkpoint = store.load(position);
    // A missing or another key is a mistake to be told, not damage to be passed over.
    if (!checkpoint && checkpoint.error().code == ErrorCode::kInvalidArgument) return checkpoint.error();
    if (checkpoint) return {};
    damages += (damages.empty() ? "" : "; ") + checkpoint.error().message;
  }
  if (damages.empty()) return {};
  return Error{
      ErrorCode::kInvalidArgument,
      "--resume: all checkpoints in " + run_dir.string() + " are damaged (" + damages +
          "): nothing to go on from; bring good ones back, or move the directory away to begin anew"};
}

/// The flags of this device's data: on other data its place in them means nothing.
Result<void> check_same_device(const std::filesystem::path& config, const Flags& all) {
  std::error_code error;
  if (!std::filesystem::exists(config, error)) return {};  // of a version that did not write it
  const auto differences = all.differences_from(config);
  if (!differences) return differences.error();
  if (differences->empty()) return {};
  return Error{ErrorCode::kInvalidArgument, "--resume: the checkpoints beside " + config.string() +
                                                " are of other data: " + Flags::text_of(*differences) +
                                                "; give the flags of then or another --run-dir"};
}

/// A folder with an instance is a device's; config.toml in another one is somebody else's.
Result<void> check_config_is_ours(const std::filesystem::path& run_dir) {
  std::error_code error;
  const std::filesystem::path config = run_dir / "config.toml";
  if (!std::filesystem::exists(std::filesystem::symlink_status(config, error)) ||
      std::filesystem::exists(run_dir / "instance", error)) {
    return {};
  }
  return Error{ErrorCode::kInvalidArgument,
               config.string() +
                   ": there is a file already that is not this device's, and it is not overwritten; "
                   "move it away or choose another --run-dir"};
}

}  // namespace

Result<StoredDevice> open_stored_device(const EdgeFlags& flags, const Flags& all) {
  if (flags.run_dir.empty()) {
    return StoredDevice{random_instance(), std::make_unique<CheckpointMemory>(kKeptCheckpoints),
                        std::nullopt};
  }
  auto storage =
      open_run_storage(flags.run_dir, flags.seal_key, {.keep = kKeptCheckpoints, .owner = "device"});
  if (!storage) return storage.error();
  auto store = std::make_unique<CheckpointStore>(std::move(storage->checkpoints));
  const bool kept = !store->positions().empty();
  if (!flags.resume && kept) {
    return Error{ErrorCode::kInvalidArgument, flags.run_dir.string() +
                                                  " holds checkpoints of a device; --resume goes on from "
                                                  "them, or choose another --run-dir or move it away"};
  }
  if (kept) {
    if (auto good = check_some_is_good(flags.run_dir, *store); !good) return good.error();
    if (auto same = check_same_device(flags.run_dir / "config.toml", all); !same) return same.error();
  }
  if (auto ours = check_config_is_ours(flags.run_dir); !ours) return ours.error();
  auto instance = instance_in(flags.run_dir / "instance");
  if (!instance) return instance.error();
  auto recorded = write_file_atomically(flags.run_dir / "config.toml", {all.to_toml(flags.run_dir)});
  if (!recorded) return recorded.error();
  return StoredDevice{*instance, std::move(store), std::move(storage->lock)};
}

}  // namespace tandem::edge_client
