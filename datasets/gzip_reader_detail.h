#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "tandem/core/base/result.h"

struct gzFile_s;

namespace tandem::datasets {

/// A gzip or plain file, read once from front to back. The content decides which it is, not the name.
/// Errors name the file.
class GzipReader {
 public:
  static Result<GzipReader> open(const std::filesystem::path& file);

  const std::filesystem::path& file() const { return file_; }

  /// Fills `bytes`; returns how many there were, fewer only where the file ends.
  Result<uint64_t> read(std::span<uint8_t> bytes);

  /// Reads to the end, which also verifies gzip's checksum; returns how many bytes there were.
  Result<uint64_t> count_rest();

  /// After the end was reached: whether gzip's stream stopped in the middle.
  bool cut_off() const;

  /// Whether the file on disk can hold `bytes` more than were read, for gzip at its best compression. What
  /// cannot be there needs no memory.
  bool can_hold(uint64_t bytes) const;

 private:
  struct Closer {
    void operator()(gzFile_s* stream) const;
  };

  explicit GzipReader(std::filesystem::path file);

  Error failure() const;

  std::filesystem::path file_;
  std::unique_ptr<gzFile_s, Closer> stream_;
};

}  // namespace tandem::datasets
