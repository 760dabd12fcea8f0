// A folder of checkpoints: a manifest's file name, a line; the manifest up to a zero byte; then the data file
// round-00003-step-00000.safetensors. BYTES and SHA256 in the manifest stand for the right values.
#include <string>
#include <vector>

#include <ATen/ops/ones.h>

#include "fuzz/support.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/checkpoint.h"

using namespace tandem;
using tandem::fuzz::Input;
using tandem::fuzz::require;
using tandem::fuzz::scratch;

namespace {

constexpr const char* kDataFile = "round-00003-step-00000.safetensors";

void replace(std::string& text, const std::string& word, const std::string& value) {
  const size_t at = text.find(word);
  if (at != std::string::npos) text.replace(at, word.size(), value);
}

bool is_file_name(const std::string& name) {
  return !name.empty() && name.size() < 200 && name != "." && name != ".." && name != kDataFile &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

/// After a save, a run goes on from there: whatever else lies in the folder.
void check_save(CheckpointStore& store) {
  const Checkpoint saved{{.round = 5, .step = 1}, {{"w", at::ones({2})}}, {}};
  require(store.save(saved).has_value(), "a checkpoint is saved beside any other file");
  std::vector<std::string> warnings;
  const auto newest = store.load_newest(warnings);
  require(newest.has_value() && newest->position == saved.position, "the newest checkpoint is the one saved");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const std::string name(input.take_until('\n'));
  std::string manifest(input.take_until('\0'));
  const std::string content(input.rest());
  if (!is_file_name(name)) return 0;
  replace(manifest, "BYTES", std::to_string(content.size()));
  replace(manifest, "SHA256", sha256_hex({content}));
  scratch().write(kDataFile, content);
  scratch().write(name, manifest);

  CheckpointStore store(scratch().path());
  std::vector<std::string> warnings;
  const auto newest = store.load_newest(warnings);
  const std::vector<CheckpointPosition> positions = store.positions();
  // A sealed one ends the search: that it cannot be opened without its key is no damage.
  const bool ended = newest.has_value() || newest.error().code == ErrorCode::kInvalidArgument;
  require(ended ? warnings.size() < positions.size() : warnings.size() == positions.size(),
          "every checkpoint that is passed over is warned of");
  for (const CheckpointPosition position : positions) (void)store.load(position);
  check_save(store);
  scratch().clear();
  return 0;
}
