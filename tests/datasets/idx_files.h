// Makes small data sets in MNIST's format for the tests.
#pragma once

#include <unistd.h>
#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace tandem::test {

/// A folder of its own, removed at the end.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& name) {
    std::string pattern = (std::filesystem::temp_directory_path() / (name + "-XXXXXX")).string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make " + pattern);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

using Bytes = std::vector<uint8_t>;

inline void append_number(Bytes& bytes, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(value >> shift));
}

/// A file of that element type and those dimensions.
inline Bytes array_bytes(int type, const std::vector<uint32_t>& sizes, const Bytes& values) {
  Bytes bytes = {0, 0, static_cast<uint8_t>(type), static_cast<uint8_t>(sizes.size())};
  for (const uint32_t size : sizes) append_number(bytes, size);
  bytes.insert(bytes.end(), values.begin(), values.end());
  return bytes;
}

/// Pixel k of the file is k mod 251.
inline Bytes image_bytes(uint32_t count, uint32_t rows, uint32_t columns) {
  Bytes bytes;
  for (const uint32_t number : {uint32_t{0x803}, count, rows, columns}) append_number(bytes, number);
  for (uint64_t k = 0; k < uint64_t{count} * rows * columns; ++k)
    bytes.push_back(static_cast<uint8_t>(k % 251));
  return bytes;
}

inline Bytes label_bytes(const Bytes& labels) {
  Bytes bytes;
  append_number(bytes, 0x801);
  append_number(bytes, static_cast<uint32_t>(labels.size()));
  bytes.insert(bytes.end(), labels.begin(), labels.end());
  return bytes;
}

inline void write_plain(const std::filesystem::path& file, const Bytes& bytes) {
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

inline void write_gzip(const std::filesystem::path& file, const Bytes& bytes) {
  gzFile out = gzopen(file.c_str(), "wb");
  if (out == nullptr) throw std::runtime_error("cannot write " + file.string());
  if (!bytes.empty()) gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(out);
}

inline Bytes read_bytes(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

/// The training half: 5 images of 4 x 3 pixels, labels 2 0 1 2 3.
inline void write_small_set(const std::filesystem::path& folder) {
  write_plain(folder / "train-images-idx3-ubyte", image_bytes(5, 4, 3));
  write_plain(folder / "train-labels-idx1-ubyte", label_bytes({2, 0, 1, 2, 3}));
}

}  // namespace tandem::test
