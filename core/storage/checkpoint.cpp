#include "tandem/core/storage/checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <limits>
#include <optional>
#include <regex>
#include <set>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/file_writer_detail.h"
#include "tandem/core/storage/safetensors.h"
#include "tandem/core/storage/seal_detail.h"
#include "tandem/core/storage/sha256_detail.h"

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

/// In the file's metadata: names of the tensors that lie channels last, as JSON. safetensors has no word for
/// it, kernels choose their order of summation by it, and a request that is sent again has to have the same
/// bytes.
constexpr const char* kChannelsLast = "channels_last";

std::map<std::string, std::string> with_formats(const Checkpoint& checkpoint) {
  nlohmann::json names = nlohmann::json::array();
  for (const NamedTensor& entry : checkpoint.tensors) {
    if (entry.tensor.suggest_memory_format() == at::MemoryFormat::ChannelsLast) names.push_back(entry.name);
  }
  auto metadata = checkpoint.metadata;
  if (!names.empty()) {
    metadata[kChannelsLast] = names.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  return metadata;
}

void restore_formats(Checkpoint& checkpoint) {
  const auto node = checkpoint.metadata.extract(kChannelsLast);
  if (node.empty()) return;
  const auto listed = nlohmann::json::parse(node.mapped(), nullptr, false);
  if (!listed.is_array()) return;
  const std::set<nlohmann::json> names(listed.begin(), listed.end());
  for (NamedTensor& entry : checkpoint.tensors) {
    if (entry.tensor.dim() != 4 || !names.contains(entry.name)) continue;
    const at::Tensor placed =
        at::empty(entry.tensor.sizes(), entry.tensor.options().memory_format(at::MemoryFormat::ChannelsLast));
    entry.tensor = placed.copy_(entry.tensor);
  }
}

std::string stem_of(Position position) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "round-%05u-step-%05u", position.round, position.step);
  return text.data();
}

fs::path manifest_path(const fs::path& directory, Position position) {
  return directory / (stem_of(position) + ".json");
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

/// Throws out_of_range for what does not fit: nlohmann converts any number to the type, wrong or not.
template <class T>
T read_whole(const nlohmann::json& json, const char* key) {
  const auto& field = json.at(key);
  if (!field.is_number_unsigned() || field.get<uint64_t>() > std::numeric_limits<T>::max()) {
    throw std::out_of_range(std::string("\"") + key + "\": expected a whole number up to " +
                            std::to_string(std::numeric_limits<T>::max()) + ", found " +
                            (field.is_number() ? field.dump() : field.type_name()));
  }
  return field.get<T>();
}

Result<Manifest> parse_manifest(const fs::path& path, Position position) {
  const Result<std::string> text = read_file(path);
  if (!text) return text.error();
  Manifest manifest;
  try {
    const auto json = nlohmann::json::parse(*text);
    manifest.file = json.at("file").get<std::string>();
    manifest.bytes = read_whole<uint64_t>(json, "bytes");
    manifest.sha256 = json.at("sha256").get<std::string>();
    manifest.round = read_whole<uint32_t>(json, "round");
    manifest.step = read_whole<uint32_t>(json, "step");
  } catch (const std::exception& error) {  // nlohmann's too
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

/// What a sealed checkpoint is sealed as.
std::string seal_context(const std::string& owner, Position position) {
  std::string context = owner;
  if (!context.empty()) context += ' ';
  context += "checkpoint ";
  return context += stem_of(position);
}

/// The safetensors file in `bytes`, which are sealed exactly when there is a key.
Result<std::string> open_seal(const CheckpointStoreOptions& options, const fs::path& path, Position position,
                              std::string bytes) {
  const bool sealed = is_sealed(bytes);
  if (!options.seal_key && !sealed) return bytes;
  if (!options.seal_key) {
    return Error{ErrorCode::kInvalidArgument,
                 path.string() + " is sealed: give --seal-key the key file that it was sealed with"};
  }
  if (!sealed) {
    return Error{ErrorCode::kInvalidArgument,
                 path.string() +
                     " is not sealed, so with --seal-key it is refused: anybody could have put it "
                     "there; go without --seal-key, or move it away"};
  }
  auto plain = unseal(*options.seal_key, seal_context(options.owner, position), bytes);
  if (!plain) return Error{plain.error().code, path.string() + ": " + plain.error().message};
  return plain;
}

Result<Checkpoint> read_checkpoint(const CheckpointStoreOptions& options, Position position) {
  const fs::path& directory = options.directory;
  const auto manifest = parse_manifest(manifest_path(directory, position), position);
  if (!manifest) return manifest.error();
  const fs::path path = directory / manifest->file;
  Result<std::string> bytes = read_file(path);
  if (!bytes) return bytes.error();
  if (bytes->size() != manifest->bytes) {
    return damaged(path, "expected " + std::to_string(manifest->bytes) + " bytes, found " +
                             std::to_string(bytes->size()));
  }
  if (const std::string sha256 = sha256_hex({*bytes}); sha256 != manifest->sha256) {
    return damaged(path, "expected SHA-256 " + manifest->sha256 + ", found " + sha256);
  }
  const auto plain = open_seal(options, path, position, std::move(*bytes));
  if (!plain) return plain.error();
  Result<SafetensorsContent> content = parse_safetensors(*plain);
  if (!content) return damaged(path, content.error().message);
  Checkpoint checkpoint{
      .position = position, .tensors = std::move(content->tensors), .metadata = std::move(content->metadata)};
  restore_formats(checkpoint);
  return checkpoint;
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

/// A new file under a name that no file has, so that a checkpoint saved twice at one position replaces the
/// old one only with its manifest.
Result<FileWriter> create_data_file(const fs::path& directory, Position position, const char* extension) {
  fs::path path = directory / (stem_of(position) + extension);
  for (int i = 1;; ++i) {
    auto file = FileWriter::create(path, kPublicMode);
    if (file || file.error().code != ErrorCode::kInvalidArgument) return file;
    path = directory / (stem_of(position) + "." + std::to_string(i) + extension);
  }
}

/// The data file of a checkpoint on its way to the disk: sealed if there is a key, hashed, and counted.
class DataWriter {
 public:
  DataWriter(FileWriter& file, Sealer* sealer) : file_(file), sealer_(sealer) {}

  /// In chunks that stay in the processor's cache from one treatment to the next. The disk begins with
  /// each while the next is hashed.
  Result<void> write(const std::vector<std::string_view>& pieces) {
    if (sealer_ != nullptr) {
      if (auto done = put(sealer_->head()); !done) return done;
    }
    for (std::string_view piece : pieces) {
      // Optimizers have many small tensors: a system call for each would cost more than a copy.
      if (piece.size() < kSmallBytes) {
        small_ += piece;
        if (small_.size() < kSmallBytes) continue;
        piece = {};
      }
      if (auto flushed = flush(); !flushed) return flushed;
      for (; !piece.empty(); piece.remove_prefix(std::min(piece.size(), kChunkBytes))) {
        if (auto done = treat(piece.substr(0, kChunkBytes)); !done) return done;
      }
    }
    if (auto flushed = flush(); !flushed) return flushed;
    if (sealer_ != nullptr) {
      if (auto done = put(sealer_->tag()); !done) return done;
    }
    file_.start_writeback();
    return {};
  }

  uint64_t bytes() const { return bytes_; }
  std::string sha256() { return sha256_.hex(); }

 private:
  static constexpr size_t kSmallBytes = size_t{64} << 10;
  static constexpr size_t kChunkBytes = size_t{1} << 20;
  static constexpr uint64_t kWritebackBytes = uint64_t{8} << 20;

  Result<void> flush() {
    auto done = small_.empty() ? Result<void>() : treat(small_);
    small_.clear();
    return done;
  }

  Result<void> treat(std::string_view plain) {
    if (sealer_ == nullptr) return put(plain);
    const auto sealed = sealer_->update(plain);
    if (!sealed) return sealed.error();
    return put(*sealed);
  }

  Result<void> put(std::string_view chunk) {
    sha256_.update(chunk);
    if (auto written = file_.write(chunk); !written) return written;
    bytes_ += chunk.size();
    if (bytes_ - begun_ >= kWritebackBytes) {
      file_.start_writeback();
      begun_ = bytes_;
    }
    return {};
  }

  FileWriter& file_;
  Sealer* sealer_;
  Sha256 sha256_;
  std::string small_;
  uint64_t bytes_ = 0;
  uint64_t begun_ = 0;  // of which the disk was told
};

/// Whether this store writes data or, before a crash, temporaries under that name, such as
/// "round-00003-step-00000.1.sealed" and ".round-00003-step-00000.json.tmp". Anything else is somebody's own.
bool is_ours(const std::string& file) {
  static const std::regex data(R"(round-\d{5,10}-step-\d{5,10}(\.\d+)?\.(safetensors|sealed))");
  static const std::regex temporary(R"(\.round-\d{5,10}-step-\d{5,10}\.json\.tmp.*)");
  return std::regex_match(file, data) || std::regex_match(file, temporary);
}

/// Removes what no manifest mentions: data without one, temporaries. Nothing where a manifest cannot be read
/// at this moment: it may mention any of them.
void remove_leftovers(const fs::path& directory) {
  std::error_code ignored;
  const std::vector<std::string> files = list_files(directory, ignored);
  std::set<std::string> mentioned;
  for (const Position position : manifests_in(files)) {
    const auto manifest = parse_manifest(manifest_path(directory, position), position);
    if (manifest) {
      mentioned.insert(manifest->file);
    } else if (manifest.error().code != ErrorCode::kCorrupt) {
      return;
    }
  }
  for (const std::string& file : files) {
    if (is_ours(file) && !mentioned.contains(file)) remove_file(directory / file);
  }
}

/// Leaves `saved` and the newest before it, `keep` in all. What is newer than `saved` was given up when
/// the run went back, and resuming from it would undo that: it is an error when that cannot be removed.
///
/// What goes is removed from the oldest to the newest, each manifest before its data: stopped half-way, the
/// newest checkpoint is the one before the save or the new one, and no manifest lacks its data.
Result<void> prune(const fs::path& directory, Position saved, int keep) {
  std::error_code ignored;
  std::vector<Position> gone;
  int count = 0;
  for (const Position position : manifests_in(list_files(directory, ignored))) {
    const auto manifest = parse_manifest(manifest_path(directory, position), position);
    const bool damaged_manifest = !manifest && manifest.error().code == ErrorCode::kCorrupt;
    const bool kept = position <= saved && count < keep && !damaged_manifest;
    if (!kept) gone.push_back(position);
    if (kept) ++count;
  }
  for (auto position = gone.rbegin(); position != gone.rend(); ++position) {
    const fs::path path = manifest_path(directory, *position);
    const int reason = remove_file(path);
    if (reason != 0 && *position > saved) return io_error(path, "remove, which was given up,", reason);
  }
  remove_leftovers(directory);
  return {};
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

CheckpointStore::CheckpointStore(CheckpointStoreOptions options) : options_(std::move(options)) {
  if (options_.keep < 1) {
    throw std::invalid_argument("CheckpointStore keep must be >= 1, got " + std::to_string(options_.keep));
  }
}

CheckpointStore::CheckpointStore(fs::path directory, int keep)
    : CheckpointStore(CheckpointStoreOptions{.directory = std::move(directory), .keep = keep}) {}

Result<void> CheckpointStore::save(const Checkpoint& checkpoint) {
  const fs::path& directory = options_.directory;
  if (auto made = make_directories(directory); !made) return made;
  if (!swept_) {
    // Before, not after: on a full disk the room that a killed save took may be what this one lacks.
    remove_leftovers(directory);
    swept_ = true;
  }
  const Position position = checkpoint.position;
  const SafetensorsPieces pieces(checkpoint.tensors, with_formats(checkpoint));
  std::optional<Sealer> sealer;
  if (options_.seal_key) sealer.emplace(*options_.seal_key, seal_context(options_.owner, position));

  auto data = create_data_file(directory, position, sealer ? ".sealed" : ".safetensors");
  if (!data) return data.error();
  DataWriter writer(*data, sealer ? &*sealer : nullptr);
  if (auto written = writer.write(pieces.views()); !written) return written;
  const Manifest manifest{data->path().filename().string(), writer.bytes(), writer.sha256(), position.round,
                          position.step};
  auto manifest_file = FileWriter::create_temporary(manifest_path(directory, position), kPublicMode);
  if (!manifest_file) return manifest_file.error();
  if (auto written = manifest_file->write(manifest_text(manifest)); !written) return written;
  // Both on their way before the first is waited for: one commit of the file system's journal serves both.
  manifest_file->start_writeback();
  if (auto synced = data->sync(); !synced) return synced;
  if (auto synced = manifest_file->sync(); !synced) return synced;
  if (auto renamed = manifest_file->put_in_place(); !renamed) return renamed;
  data->keep();
  if (auto synced = sync_directory(directory); !synced) return synced;
  return prune(directory, position, options_.keep);
}

std::vector<CheckpointPosition> CheckpointStore::positions() const {
  std::error_code ignored;
  return manifests_in(list_files(options_.directory, ignored));
}

Result<Checkpoint> CheckpointStore::load(CheckpointPosition position) const {
  return read_checkpoint(options_, position);
}

Result<Checkpoint> CheckpointStore::load_newest(std::vector<std::string>& warnings) const {
  const fs::path& directory = options_.directory;
  std::error_code error;
  const std::vector<std::string> files = list_files(directory, error);
  if (error && error != std::errc::no_such_file_or_directory) {
    return Error{ErrorCode::kIo, "cannot read directory " + directory.string() + ": " + error.message()};
  }
  const std::vector<Position> positions = manifests_in(files);
  for (const Position position : positions) {
    Result<Checkpoint> checkpoint = read_checkpoint(options_, position);
    if (checkpoint || checkpoint.error().code == ErrorCode::kInvalidArgument) return checkpoint;
    warnings.push_back("checkpoint " + stem_of(position) + " is passed over: " + checkpoint.error().message);
  }
  return Error{ErrorCode::kNotFound, "no good checkpoint in " + directory.string() + ", " +
                                         std::to_string(positions.size()) + " damaged"};
}

}  // namespace tandem
