// Sealing bytes as they come; the format is in seal.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tandem/core/storage/openssl_detail.h"
#include "tandem/core/storage/seal.h"

namespace tandem {

class Sealer {
 public:
  /// Throws std::invalid_argument for a context above 1024 bytes.
  Sealer(const SealKey& key, std::string_view context);

  /// What stands before the ciphertext.
  const std::string& head() const { return head_; }
  /// The ciphertext of the next `plain`, valid until the next call. kTooLarge past kMaxSealedBytes.
  Result<std::string_view> update(std::string_view plain);
  /// What stands behind it; once.
  std::string tag();

 private:
  CipherContext context_;
  std::string head_;
  std::string ciphertext_;
  uint64_t size_ = 0;
};

}  // namespace tandem
