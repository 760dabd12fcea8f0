#include "tandem/core/storage/checkpoint.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>
#include <set>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/safetensors.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

/// What a manifest says.
struct Manifest {
  std::string file;
  uint64_t bytes = 0;
  std::string sha256;
  uint32_t round = 0;
  uint32_t step = 0;
};

using Position = CheckpointPosition;

std::string stem_of(Position position) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "round-%05u-step-%05u", position.round, position.step);
  return text.data();
}

/// The position in "round-00003-step-00000.json"; nothing for any other name.
std::optional<Position> manifest_position(const std::string& file_name) {
  Position position;
  // sscanf has undefined behaviour on overflow, so the widths are bounded and the name is rebuilt.
  unsigned long long round = 0, step = 0;
  if (std::sscanf(file_name.c_str(), "round-%10llu-step-%10llu", &round, &step) != 2) return std::nullopt;
  position.round = static_cast<uint32_t>(round);
  position.step = static_cast<uint32_t>(step);
  if (file_name != stem_of(position) + ".json") return std::nullopt;
  return position;
}

std::string manifest_text(const Manifest& manifest) {
  const nlohmann::ordered_json json = {{"file", manifest.file},
                                       {"bytes", manifest.bytes},
                                       {"sha256", manifest.sha256},
                                       {"round", manifest.round},
                                       {"step", manifest.step}};
  return json.dump(2) + "\n";
}

Error damaged(const fs::path& path, const std::string& text) {
  return Error{ErrorCode::kCorrupt, path.string() + ": " + text};
}

Result<Manifest> parse_manifest(const fs::path& path, Position position) {
  const Result<std::string> text = read_file(path);
  if (!text) return text.error();
  Manifest manifest;
  try {
    const auto json = nlohmann::json::parse(*text);
    manifest.file = json.at("file").get<std::string>();
    manifest.bytes = json.at("bytes").get<uint64_t>();
    manifest.sha256 = json.at("sha256").get<std::string>();
    manifest.round = json.at("round").get<uint32_t>();
    manifest.step = json.at("step").get<uint32_t>();
  } catch (const nlohmann::json::exception& error) {
    return damaged(path, std::string("not a manifest: ") + error.what());
  }
  if (Position{manifest.round, manifest.step} != position) {
    return damaged(path, "expected the manifest of " + stem_of(position) + ", found that of " +
                             stem_of({manifest.round, manifest.step}));
  }
  if (manifest.file.empty() || fs::path(manifest.file).filename() != manifest.file) {
    return damaged(path, "expected a file name without directories, found \"" + manifest.file + "\"");
  }
  return manifest;
}

Result<Checkpoint> read_checkpoint(const fs::path& directory, Position position) {
  const auto manifest = parse_manifest(directory / (stem_of(position) + ".json"), position);
  if (!manifest) return manifest.error();
  const fs::path path = directory / manifest->file;
  const Result<std::string> bytes = read_file(path);
  if (!bytes) return bytes.error();
  if (bytes->size() != manifest->bytes) {
    return damaged(path, "expected " + std::to_string(manifest->bytes) + " bytes, found " +
                             std::to_string(bytes->size()));
  }
  if (const std::string sha256 = sha256_hex({*bytes}); sha256 != manifest->sha256) {
    return damaged(path, "expected SHA-256 " + manifest->sha256 + ", found " + sha256);
  }
  Result<SafetensorsContent> content = parse_safetensors(*bytes);
  if (!content) return damaged(path, content.error().message);
  return Checkpoint{
      .position = position, .tensors = std::move(content->tensors), .metadata = std::move(content->metadata)};
}

/// Names of the files in a directory; empty when it cannot be read.
std::vector<std::string> list_files(const fs::path& directory, std::error_code& error) {
  std::vector<std::string> names;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  return names;
}

/// Newest first.
std::vector<Position> manifests_in(const std::vector<std::string>& files) {
  std::vector<Position> positions;
  for (const std::string& file : files) {
    if (const auto position = manifest_position(file)) positions.push_back(*position);
  }
  std::sort(positions.rbegin(), positions.rend());
  return positions;
}

/// A name that no file has, so that a checkpoint saved twice at one position replaces the old one only
/// with its manifest.
std::string unused_data_name(const fs::path& directory, Position position) {
  std::string name = stem_of(position) + ".safetensors";
  std::error_code ignored;
  for (int i = 1; fs::exists(directory / name, ignored); ++i) {
    name = stem_of(position) + "." + std::to_string(i) + ".safetensors";
  }
  return name;
}

/// Whether this store writes files of that name: data, manifests, and temporaries of a crash.
bool is_ours(const std::string& file) {
  if (file.starts_with(".round-")) return file.find(".tmp-") != std::string::npos;
  return file.starts_with("round-") && (file.ends_with(".safetensors") || file.ends_with(".json"));
}

/// Leaves `saved` and the newest before it, `keep` in all. What is newer than `saved` was given up when
/// the run went back, and resuming from it would undo that.
void prune(const fs::path& directory, Position saved, int keep) {
  std::error_code ignored;
  const std::vector<std::string> files = list_files(directory, ignored);
  std::set<std::string> kept;
  int count = 0;
  for (const Position position : manifests_in(files)) {
    if (position > saved || count == keep) continue;
    const std::string manifest_name = stem_of(position) + ".json";
    const auto manifest = parse_manifest(directory / manifest_name, position);
    if (!manifest) continue;
    kept.insert({manifest_name, manifest->file});
    ++count;
  }
  for (const std::string& file : files) {
    if (is_ours(file) && !kept.contains(file)) fs::remove(directory / file, ignored);
  }
}

}  // namespace

Result<void> CheckpointMemory::save(const Checkpoint& checkpoint) {
  std::erase_if(checkpoints_, [&](const Checkpoint& kept) { return kept.position >= checkpoint.position; });
  checkpoints_.push_front(checkpoint);
  checkpoints_.front().tensors = cpu_snapshot(checkpoint.tensors);
  while (checkpoints_.size() > static_cast<size_t>(keep_)) checkpoints_.pop_back();
  return {};
}

std::vector<CheckpointPosition> CheckpointMemory::positions() const {
  std::vector<CheckpointPosition> positions;
  for (const Checkpoint& checkpoint : checkpoints_) positions.push_back(checkpoint.position);
  return positions;
}

Result<Checkpoint> CheckpointMemory::load(CheckpointPosition position) const {
  for (const Checkpoint& checkpoint : checkpoints_) {
    if (checkpoint.position == position) return checkpoint;
  }
  return Error{ErrorCode::kNotFound, "no checkpoint " + stem_of(position) + " in memory"};
}

CheckpointStore::CheckpointStore(fs::path directory, int keep)
    : directory_(std::move(directory)), keep_(keep) {
  if (keep < 1) {
    throw std::invalid_argument("CheckpointStore keep must be >= 1, got " + std::to_string(keep));
  }
}

Result<void> CheckpointStore::save(const Checkpoint& checkpoint) {
  std::error_code error;
  fs::create_directories(directory_, error);
  if (error) {
    return Error{ErrorCode::kIo, "cannot create directory " + directory_.string() + ": " + error.message()};
  }
  const Position position = checkpoint.position;
  const std::string bytes = serialize_safetensors({checkpoint.tensors, checkpoint.metadata});
  const Manifest manifest{unused_data_name(directory_, position), bytes.size(), sha256_hex({bytes}),
                          position.round, position.step};
  if (auto written = write_file_atomically(directory_ / manifest.file, {bytes}); !written) return written;
  const fs::path manifest_path = directory_ / (stem_of(position) + ".json");
  if (auto written = write_file_atomically(manifest_path, {manifest_text(manifest)}); !written) {
    fs::remove(directory_ / manifest.file, error);
    return written;
  }
  prune(directory_, position, keep_);
  return {};
}

std::vector<CheckpointPosition> CheckpointStore::positions() const {
  std::error_code ignored;
  return manifests_in(list_files(directory_, ignored));
}

Result<Checkpoint> CheckpointStore::load(CheckpointPosition position) const {
  return read_checkpoint(directory_, position);
}

Result<Checkpoint> CheckpointStore::load_newest(std::vector<std::string>& warnings) const {
  std::error_code error;
  const std::vector<std::string> files = list_files(directory_, error);
  if (error && error != std::errc::no_such_file_or_directory) {
    return Error{ErrorCode::kIo, "cannot read directory " + directory_.string() + ": " + error.message()};
  }
  const std::vector<Position> positions = manifests_in(files);
  for (const Position position : positions) {
    Result<Checkpoint> checkpoint = read_checkpoint(directory_, position);
    if (checkpoint) return checkpoint;
    warnings.push_back("checkpoint " + stem_of(position) + " is passed over: " + checkpoint.error().message);
  }
  return Error{ErrorCode::kNotFound, "no good checkpoint in " + directory_.string() + ", " +
                                         std::to_string(positions.size()) + " damaged"};
}

}  // namespace tandem
