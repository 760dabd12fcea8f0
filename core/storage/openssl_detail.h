// Owners of OpenSSL's handles.
#pragma once

#include <openssl/evp.h>
#include <openssl/kdf.h>

#include <memory>

namespace tandem {

struct FreeOpenssl {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
  void operator()(EVP_KDF* function) const { EVP_KDF_free(function); }
  void operator()(EVP_KDF_CTX* context) const { EVP_KDF_CTX_free(context); }
};

using DigestContext = std::unique_ptr<EVP_MD_CTX, FreeOpenssl>;
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeOpenssl>;
using KeyDerivation = std::unique_ptr<EVP_KDF, FreeOpenssl>;
using KeyDerivationContext = std::unique_ptr<EVP_KDF_CTX, FreeOpenssl>;

}  // namespace tandem
