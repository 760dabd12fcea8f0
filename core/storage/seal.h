#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem {

/// 32 secret bytes that seal files. Wiped when the object dies.
class SealKey {
 public:
  static constexpr size_t kBytes = 32;

  explicit SealKey(const std::array<uint8_t, kBytes>& bytes) : bytes_(bytes) {}
  SealKey(const SealKey&) = default;
  SealKey& operator=(const SealKey&) = default;
  ~SealKey();

  const std::array<uint8_t, kBytes>& bytes() const { return bytes_; }

 private:
  std::array<uint8_t, kBytes> bytes_;
};

/// A fresh key from OpenSSL's generator.
SealKey generate_seal_key();

/// Key file: TOML with `seal = "64 hexadecimal digits"`, mode 0600; the digits alone are read, too. Saving
/// replaces no file that is there (kInvalidArgument): what is sealed with its key could never be read again.
/// Reading refuses a file that others can access (read_secret_file) and one that holds no key
/// (kInvalidArgument).
Result<void> save_seal_key(const std::filesystem::path& path, const SealKey& key);
Result<SealKey> load_seal_key(const std::filesystem::path& path);

/// Sealing is AES-256-GCM over the whole file, under a key and for a context: what the bytes are, in words
/// that anybody can read in the file and nobody can change, so that one sealed file cannot pass for another.
///
///     offset  bytes  what
///     0       8      "TNDMSEAL"
///     8       4      version, 1; integers are little-endian
///     12      4      length c of the context, at most 1024
///     16      16     salt, random for each file
///     32      12     nonce, random for each file
///     44      16     key check: tells a wrong key from a damaged file
///     60      c      context, UTF-8
///     60 + c  n      ciphertext of the n bytes
///     ..      16     tag; everything before the ciphertext is authenticated with it
///
/// HKDF-SHA256 (RFC 5869) makes the file's key and the key check from key and salt, so that no nonce meets
/// a key twice. One file holds at most 2^36 - 32 bytes, GCM's limit.
constexpr uint64_t kMaxSealedBytes = (uint64_t{1} << 36) - 32;

/// Whether these bytes claim to be sealed.
bool is_sealed(std::string_view bytes);

/// Throws std::invalid_argument for a context above 1024 bytes; kTooLarge above kMaxSealedBytes.
Result<std::string> seal(const SealKey& key, std::string_view context,
                         const std::vector<std::string_view>& pieces);

/// The bytes that were sealed; on any failure none of them. kCorrupt: not sealed, damaged, truncated, or
/// sealed for another context; kInvalidArgument: sealed with another key.
Result<std::string> unseal(const SealKey& key, std::string_view context, std::string_view sealed);

/// What a sealed file says that it is, which only `unseal` proves. kCorrupt when it is none.
Result<std::string> sealed_context(std::string_view sealed);

}  // namespace tandem
