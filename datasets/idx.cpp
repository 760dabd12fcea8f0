#include "tandem/datasets/idx.h"

#include <ATen/ops/empty.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tandem::datasets {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kImageMagic = 0x00000803;  // unsigned bytes, three dimensions
constexpr uint32_t kLabelMagic = 0x00000801;  // unsigned bytes, one dimension
constexpr uint32_t kMaxSide = 16384;
// Deflate cannot expand further than this (zlib's technical details), so a header that promises more is
// wrong before any memory is taken for it.
constexpr uint64_t kMaxExpansion = 1032;

std::string with_commas(uint64_t value) {
  const std::string digits = std::to_string(value);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string hexadecimal(uint32_t value) {
  std::array<char, 11> text{};
  std::snprintf(text.data(), text.size(), "0x%08X", value);
  return text.data();
}

uint32_t big_endian(std::span<const uint8_t> bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | uint32_t{bytes[3]};
}

/// What a header announces, in words that error messages share.
struct Payload {
  const char* noun;  // "image data"
  uint64_t bytes;
  std::string formula;  // " (60000 x 28 x 28)"
};

/// A gzip or plain file, read once from front to back.
class GzipReader {
 public:
  static Result<GzipReader> open(const fs::path& file) {
    GzipReader reader(file);
    reader.stream_.reset(gzopen(file.c_str(), "rb"));
    if (!reader.stream_) {
      const std::string reason = errno != 0 ? std::strerror(errno) : "out of memory";
      return Error{ErrorCode::kIo, file.string() + ": cannot open: " + reason};
    }
    return reader;
  }

  const fs::path& file() const { return file_; }

  /// Fills `bytes`; returns how many there were, fewer only where the file ends.
  Result<uint64_t> read(std::span<uint8_t> bytes) {
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

  /// Reads to the end, which also verifies gzip's checksum; returns how many bytes there were.
  Result<uint64_t> count_rest() {
    std::vector<uint8_t> buffer(size_t{1} << 16);
    uint64_t total = 0;
    for (;;) {
      const Result<uint64_t> got = read(buffer);
      if (!got) return got;
      total += *got;
      if (*got < buffer.size()) return total;
    }
  }

  /// After the end was reached: whether gzip's stream stopped in the middle.
  bool cut_off() const {
    int code = Z_OK;
    (void)gzerror(stream_.get(), &code);
    return code == Z_BUF_ERROR;
  }

 private:
  struct Closer {
    void operator()(gzFile stream) const { (void)gzclose_r(stream); }
  };

  explicit GzipReader(fs::path file) : file_(std::move(file)) {}

  Error failure() const {
    int code = Z_OK;
    const std::string reason = gzerror(stream_.get(), &code);  // begins with the file's path
    if (code == Z_ERRNO) return {ErrorCode::kIo, file_.string() + ": cannot read: " + std::strerror(errno)};
    return {ErrorCode::kCorrupt, reason + ": the gzip data is damaged; fetch it again"};
  }

  fs::path file_;
  std::unique_ptr<gzFile_s, Closer> stream_;
};

Error corrupt(const fs::path& file, const std::string& problem) {
  return {ErrorCode::kCorrupt, file.string() + ": " + problem};
}

Error wrong_length(const fs::path& file, const Payload& payload, size_t header_bytes, uint64_t found) {
  const std::string verdict =
      found < payload.bytes ? "the file is truncated" : "the file is longer than its header says";
  return corrupt(file, "holds " + with_commas(found) + " bytes of " + payload.noun + " after the " +
                           std::to_string(header_bytes) + "-byte header, expected " +
                           with_commas(payload.bytes) + payload.formula + ": " + verdict +
                           "; fetch it again");
}

/// Reads a header of big-endian 32-bit numbers and checks the first.
template <size_t kNumbers>
Result<std::array<uint32_t, kNumbers>> read_header(GzipReader& reader, uint32_t magic, const char* kind) {
  std::array<uint8_t, kNumbers * 4> bytes{};
  const Result<uint64_t> got = reader.read(bytes);
  if (!got) return got.error();
  if (*got < bytes.size()) {
    return corrupt(reader.file(), "holds " + with_commas(*got) + " bytes, less than the " +
                                      std::to_string(bytes.size()) + "-byte header of an IDX " + kind +
                                      " file; fetch it again");
  }
  std::array<uint32_t, kNumbers> numbers{};
  for (size_t i = 0; i < kNumbers; ++i) numbers[i] = big_endian(std::span(bytes).subspan(4 * i, 4));
  if (numbers[0] != magic) {
    return corrupt(reader.file(), "begins with " + hexadecimal(numbers[0]) + ", expected " +
                                      hexadecimal(magic) + " of an IDX " + kind + " file");
  }
  if (numbers[1] == 0) return corrupt(reader.file(), "its header announces no examples");
  return numbers;
}

bool plausible(const fs::path& file, uint64_t bytes) {
  std::error_code ignored;
  const uintmax_t on_disk = fs::file_size(file, ignored);
  return !ignored && bytes / kMaxExpansion <= on_disk;
}

Result<at::Tensor> allocate(const fs::path& file, uint64_t bytes) {
  try {
    return at::empty({static_cast<int64_t>(bytes)}, at::kByte);
  } catch (const std::exception&) {
    return Error{ErrorCode::kTooLarge, file.string() + ": no memory for " + with_commas(bytes) + " bytes"};
  }
}

/// The rest of the file, which must be exactly what the header announced; uint8 [payload.bytes].
Result<at::Tensor> read_payload(GzipReader& reader, const Payload& payload, size_t header_bytes) {
  if (!plausible(reader.file(), payload.bytes)) {
    const Result<uint64_t> found = reader.count_rest();
    if (!found) return found.error();
    return wrong_length(reader.file(), payload, header_bytes, *found);
  }
  Result<at::Tensor> data = allocate(reader.file(), payload.bytes);
  if (!data) return data;
  const Result<uint64_t> found = reader.read({data->data_ptr<uint8_t>(), payload.bytes});
  if (!found) return found.error();
  const Result<uint64_t> excess = reader.count_rest();
  if (!excess) return excess.error();
  if (*found + *excess != payload.bytes) {
    return wrong_length(reader.file(), payload, header_bytes, *found + *excess);
  }
  if (reader.cut_off()) {
    return corrupt(reader.file(),
                   "the gzip stream ends before its checksum: the file is truncated; "
                   "fetch it again");
  }
  return data;
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

std::string how_to_get(const fs::path& directory) {
  if (directory.string().find("fashion-mnist") != std::string::npos) {
    return "; install dataset-fashion-mnist or give idx:DIR";
  }
  return "; give idx:DIR with the four files of MNIST's format";
}

/// `name` or `name`.gz in `directory`.
Result<fs::path> find_file(const fs::path& directory, const std::string& name) {
  for (const std::string& candidate : {name, name + ".gz"}) {
    if (is_file(directory / candidate)) return directory / candidate;
  }
  std::error_code ignored;
  const std::string problem =
      fs::is_directory(directory, ignored) ? "the folder has neither " : "no such folder, looked there for ";
  const std::string conjunction = fs::is_directory(directory, ignored) ? " nor " : " or ";
  return Error{ErrorCode::kNotFound, directory.string() + ": " + problem + name + conjunction + name + ".gz" +
                                         how_to_get(directory)};
}

}  // namespace

Result<at::Tensor> read_idx_images(const fs::path& file) {
  Result<GzipReader> reader = GzipReader::open(file);
  if (!reader) return reader.error();
  const auto header = read_header<4>(*reader, kImageMagic, "image");
  if (!header) return header.error();
  const auto [magic, count, rows, columns] = *header;
  if (rows < 1 || rows > kMaxSide || columns < 1 || columns > kMaxSide) {
    return corrupt(file, "its header announces images of " + std::to_string(rows) + " x " +
                             std::to_string(columns) + " pixels, expected 1.." + std::to_string(kMaxSide) +
                             " in each direction");
  }
  const Payload payload{
      "image data", uint64_t{count} * rows * columns,
      " (" + std::to_string(count) + " x " + std::to_string(rows) + " x " + std::to_string(columns) + ")"};
  const Result<at::Tensor> pixels = read_payload(*reader, payload, 16);
  if (!pixels) return pixels;
  return pixels->view({count, 1, rows, columns});
}

Result<at::Tensor> read_idx_labels(const fs::path& file) {
  Result<GzipReader> reader = GzipReader::open(file);
  if (!reader) return reader.error();
  const auto header = read_header<2>(*reader, kLabelMagic, "label");
  if (!header) return header.error();
  const Result<at::Tensor> labels = read_payload(*reader, {"labels", (*header)[1], ""}, 8);
  if (!labels) return labels;
  return labels->to(at::kLong);
}

Result<std::shared_ptr<const TensorDataset>> read_idx(const fs::path& directory, Split split) {
  const std::string prefix = split == Split::kTrain ? "train" : "t10k";
  const Result<fs::path> image_file = find_file(directory, prefix + "-images-idx3-ubyte");
  if (!image_file) return image_file.error();
  const Result<fs::path> label_file = find_file(directory, prefix + "-labels-idx1-ubyte");
  if (!label_file) return label_file.error();
  // Labels first: they are quick to read, and what is wrong with them is then said at once.
  const Result<at::Tensor> labels = read_idx_labels(*label_file);
  if (!labels) return labels.error();
  const Result<at::Tensor> images = read_idx_images(*image_file);
  if (!images) return images.error();
  if (images->size(0) != labels->size(0)) {
    return Error{ErrorCode::kCorrupt,
                 image_file->string() + " holds " + with_commas(static_cast<uint64_t>(images->size(0))) +
                     " images but " + label_file->string() + " holds " +
                     with_commas(static_cast<uint64_t>(labels->size(0))) + " labels: not a pair"};
  }
  const int64_t num_classes = std::max<int64_t>(2, labels->max().item<int64_t>() + 1);
  return std::make_shared<const TensorDataset>(*images, *labels, num_classes);
}

}  // namespace tandem::datasets
