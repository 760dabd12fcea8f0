#pragma once

#include <string>
#include <string_view>

#include "tandem/core/storage/openssl_detail.h"

namespace tandem {

/// SHA-256 of bytes as they come.
class Sha256 {
 public:
  Sha256();
  void update(std::string_view bytes);
  /// Lower-case hexadecimal; once, at the end.
  std::string hex();

 private:
  DigestContext context_;
};

}  // namespace tandem
