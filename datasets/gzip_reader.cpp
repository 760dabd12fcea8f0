#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tandem/core/storage/file_content.h"
#include "tandem/datasets/gzip_reader_detail.h"

namespace tandem::datasets {
namespace {

namespace fs = std::filesystem;

// Deflate cannot expand further than this (zlib's technical details).
constexpr uint64_t kMaxExpansion = 1032;

}  // namespace

void GzipReader::Closer::operator()(gzFile_s* stream) const {
  (void)gzclose_r(stream);
}

GzipReader::GzipReader(fs::path file) : file_(std::move(file)) {}

Result<GzipReader> GzipReader::open(const fs::path& file) {
  if (const auto dangling = dangling_link(file)) {
    return Error{ErrorCode::kNotFound, file.string() + " " + *dangling};
  }
  std::error_code unknown;
  const fs::file_status status = fs::status(file, unknown);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    // Opening a pipe would wait for whoever writes into it.
    return Error{
        ErrorCode::kIo,
        file.string() + (fs::is_directory(status) ? " is a folder where a file is expected"
                                                  : " is neither a file nor a folder; give a regular file")};
  }
  GzipReader reader(file);
  errno = 0;
  reader.stream_.reset(gzopen(file.c_str(), "rb"));
  if (!reader.stream_) {
    const std::string reason = errno != 0 ? std::strerror(errno) : "out of memory";
    return Error{ErrorCode::kIo, file.string() + ": cannot open: " + reason};
  }
  return reader;
}

Result<uint64_t> GzipReader::read(std::span<uint8_t> bytes) {
  constexpr size_t kPiece = size_t{1} << 24;  // gzread counts in int
  uint64_t done = 0;
  while (done < bytes.size()) {
    const auto piece = static_cast<unsigned>(std::min<uint64_t>(kPiece, bytes.size() - done));
    const int got = gzread(stream_.get(), bytes.data() + done, piece);
    if (got < 0) return failure();
    if (got == 0) break;
    done += static_cast<uint64_t>(got);
  }
  return done;
}

Result<uint64_t> GzipReader::count_rest() {
  std::vector<uint8_t> buffer(size_t{1} << 16);
  uint64_t total = 0;
  for (;;) {
    const Result<uint64_t> got = read(buffer);
    if (!got) return got;
    total += *got;
    if (*got < buffer.size()) return total;
  }
}

bool GzipReader::cut_off() const {
  int code = Z_OK;
  (void)gzerror(stream_.get(), &code);
  return code == Z_BUF_ERROR;
}

bool GzipReader::can_hold(uint64_t bytes) const {
  std::error_code unknown;
  const uintmax_t on_disk = fs::file_size(file_, unknown);
  const bool plain = gzdirect(stream_.get()) != 0;
  return !unknown && bytes / (plain ? 1 : kMaxExpansion) <= on_disk;
}

Error GzipReader::failure() const {
  int code = Z_OK;
  const std::string reason = gzerror(stream_.get(), &code);  // begins with the file's path
  if (code == Z_ERRNO) return {ErrorCode::kIo, file_.string() + ": cannot read: " + std::strerror(errno)};
  return {ErrorCode::kCorrupt, reason + ": the gzip data is damaged; fetch it again"};
}

}  // namespace tandem::datasets
