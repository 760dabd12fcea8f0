// Secrets that leave nothing in memory.
#pragma once

#include <openssl/crypto.h>

#include <string>

namespace tandem::detail {

/// Overwrites the text and empties it.
inline void wipe(std::string& secret) {
  // What lies between size and capacity may be an earlier, longer secret.
  secret.resize(secret.capacity());
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

/// A text that is wiped when it goes.
struct WipedString {
  std::string text;
  ~WipedString() { wipe(text); }
};

}  // namespace tandem::detail
