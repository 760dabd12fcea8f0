#include "tandem/core/storage/seal.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <toml++/toml.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>

#include "tandem/core/base/text.h"
#include "tandem/core/base/wiped_detail.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/seal_detail.h"

namespace tandem {
namespace {

using detail::wipe;
using detail::WipedString;

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "TNDMSEAL";
constexpr uint32_t kVersion = 1;
constexpr size_t kMaxContextBytes = 1024;
constexpr size_t kSaltBytes = 16;
constexpr size_t kNonceBytes = 12;
constexpr size_t kCheckBytes = 16;
constexpr size_t kTagBytes = 16;
constexpr size_t kSaltAt = 16;
constexpr size_t kNonceAt = kSaltAt + kSaltBytes;
constexpr size_t kCheckAt = kNonceAt + kNonceBytes;
constexpr size_t kContextAt = kCheckAt + kCheckBytes;
static_assert(kContextAt == 60, "the format is a promise");
/// What OpenSSL is given at once; its lengths are ints.
constexpr size_t kChunkBytes = size_t{1} << 20;

void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("OpenSSL could not ") + what);
}

unsigned char* bytes_of(std::string& text) {
  return reinterpret_cast<unsigned char*>(text.data());
}

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

/// The file's own key, and what shows that it is the right one.
struct FileKey {
  std::array<unsigned char, SealKey::kBytes + kCheckBytes> bytes;
  ~FileKey() { OPENSSL_cleanse(bytes.data(), bytes.size()); }

  const unsigned char* key() const { return bytes.data(); }
  std::string_view check() const {
    return {reinterpret_cast<const char*>(bytes.data()) + SealKey::kBytes, kCheckBytes};
  }
};

FileKey derive(const SealKey& key, std::string_view salt) {
  const KeyDerivation function(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  require(function != nullptr, "find HKDF");
  const KeyDerivationContext context(EVP_KDF_CTX_new(function.get()));
  require(context != nullptr, "begin HKDF");
  char digest[] = "SHA256";
  char info[] = "tandem sealed file v1";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<uint8_t*>(key.bytes().data()),
                                        key.bytes().size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, const_cast<char*>(salt.data()), salt.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof(info) - 1),
      OSSL_PARAM_construct_end()};
  FileKey file_key{};
  require(EVP_KDF_derive(context.get(), file_key.bytes.data(), file_key.bytes.size(), parameters) == 1,
          "derive a file's key");
  return file_key;
}

void append_u32(std::string& bytes, uint32_t value) {
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
}

uint32_t read_u32(std::string_view bytes, size_t offset) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[offset + i])) << (8 * i);
  }
  return value;
}

std::string random_bytes(size_t count) {
  std::string bytes(count, '\0');
  require(RAND_bytes(bytes_of(bytes), static_cast<int>(count)) == 1, "make random bytes");
  return bytes;
}

Error damaged(const std::string& what) {
  return Error{ErrorCode::kCorrupt, "sealed file: " + what + "; use an older checkpoint or a copy"};
}

/// The parts of a sealed file, of which nothing is proven yet.
struct SealedParts {
  std::string_view head;  // up to the ciphertext
  std::string_view salt;
  std::string_view nonce;
  std::string_view check;
  std::string_view context;
  std::string_view ciphertext;
  std::string_view tag;
};

Result<SealedParts> split(std::string_view sealed) {
  if (!is_sealed(sealed)) return damaged("expected it to begin with TNDMSEAL, found something else");
  if (sealed.size() < kContextAt + kTagBytes) {
    return damaged("expected at least " + std::to_string(kContextAt + kTagBytes) + " bytes, found " +
                   std::to_string(sealed.size()));
  }
  if (const uint32_t version = read_u32(sealed, 8); version != kVersion) {
    return damaged("expected version " + std::to_string(kVersion) + ", found " + std::to_string(version));
  }
  const size_t context_bytes = read_u32(sealed, 12);
  if (context_bytes > std::min(kMaxContextBytes, sealed.size() - kContextAt - kTagBytes)) {
    return damaged("expected a context of at most " + std::to_string(kMaxContextBytes) +
                   " bytes that are there, found the length " + std::to_string(context_bytes));
  }
  const size_t body = kContextAt + context_bytes;
  return SealedParts{.head = sealed.substr(0, body),
                     .salt = sealed.substr(kSaltAt, kSaltBytes),
                     .nonce = sealed.substr(kNonceAt, kNonceBytes),
                     .check = sealed.substr(kCheckAt, kCheckBytes),
                     .context = sealed.substr(kContextAt, context_bytes),
                     .ciphertext = sealed.substr(body, sealed.size() - body - kTagBytes),
                     .tag = sealed.substr(sealed.size() - kTagBytes)};
}

/// Whether key, head, ciphertext and tag belong together; `plain` holds the plaintext only then.
bool decrypt(const FileKey& key, const SealedParts& parts, std::string& plain) {
  const CipherContext context(EVP_CIPHER_CTX_new());
  require(context != nullptr &&
              EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, nullptr, nullptr) == 1 &&
              EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_IVLEN, kNonceBytes, nullptr) == 1 &&
              EVP_DecryptInit_ex(context.get(), nullptr, nullptr, key.key(), bytes_of(parts.nonce)) == 1,
          "begin to decrypt");
  int length = 0;
  require(EVP_DecryptUpdate(context.get(), nullptr, &length, bytes_of(parts.head),
                            static_cast<int>(parts.head.size())) == 1,
          "authenticate the head of a sealed file");
  plain.resize(parts.ciphertext.size());
  for (size_t at = 0; at < plain.size(); at += kChunkBytes) {
    const size_t count = std::min(kChunkBytes, plain.size() - at);
    require(EVP_DecryptUpdate(context.get(), bytes_of(plain) + at, &length, bytes_of(parts.ciphertext) + at,
                              static_cast<int>(count)) == 1,
            "decrypt");
  }
  require(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes,
                              const_cast<char*>(parts.tag.data())) == 1,
          "check a sealed file");
  std::array<unsigned char, kTagBytes> nothing{};
  if (EVP_DecryptFinal_ex(context.get(), nothing.data(), &length) == 1) return true;
  wipe(plain);
  return false;
}

Error invalid(const fs::path& path, const std::string& what) {
  return {ErrorCode::kInvalidArgument, path.string() + ": " + what};
}

std::string to_hex(const SealKey& key) {
  std::string text;
  text.reserve(2 * SealKey::kBytes);
  for (const uint8_t byte : key.bytes()) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 0xf];
  }
  return text;
}

std::optional<SealKey> from_hex(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  if (text.size() != 2 * SealKey::kBytes) return std::nullopt;
  std::array<uint8_t, SealKey::kBytes> bytes{};
  bool good = true;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = digit(text[2 * i]);
    const int low = digit(text[2 * i + 1]);
    good = good && high >= 0 && low >= 0;
    bytes[i] = static_cast<uint8_t>((high & 0xf) << 4 | (low & 0xf));
  }
  std::optional<SealKey> key;
  if (good) key.emplace(bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return key;
}

}  // namespace

SealKey::~SealKey() {
  OPENSSL_cleanse(bytes_.data(), bytes_.size());
}

SealKey generate_seal_key() {
  std::array<uint8_t, SealKey::kBytes> bytes{};
  require(RAND_priv_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1, "make a key");
  const SealKey key(bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return key;
}

Result<void> save_seal_key(const fs::path& path, const SealKey& key) {
  const WipedString text{to_hex(key)};
  // Written without joining the pieces: no copy of the key is left behind.
  return write_new_file(path,
                        {"# Seals checkpoints. Keep it secret, and keep a copy: without it they cannot be "
                         "read.\nseal = \"",
                         text.text, "\"\n"},
                        kSecretMode, "what its key sealed could not be read without it: choose another name");
}

Result<SealKey> load_seal_key(const fs::path& path) {
  Result<std::string> content = read_secret_file(path);
  if (!content) return content.error();
  const WipedString text{std::move(*content)};
  if (auto key = from_hex(trimmed(text.text))) return *key;
  const Error no_key = invalid(
      path, "expected seal = \"64 hexadecimal digits\"; make a key file with: tandem seal-key --out FILE");
  try {
    toml::table table = toml::parse(text.text);
    auto* value = table["seal"].as_string();
    if (value == nullptr) return no_key;
    const WipedString digits{std::move(value->get())};
    if (auto key = from_hex(digits.text)) return *key;
  } catch (const toml::parse_error&) {
    // Its description may quote the file, and so the secret.
  }
  return no_key;
}

bool is_sealed(std::string_view bytes) {
  return bytes.starts_with(kMagic);
}

Sealer::Sealer(const SealKey& key, std::string_view context) : context_(EVP_CIPHER_CTX_new()) {
  if (context.size() > kMaxContextBytes) {
    throw std::invalid_argument("seal: a context has at most 1024 bytes, got " +
                                std::to_string(context.size()));
  }
  const std::string salt = random_bytes(kSaltBytes);
  const std::string nonce = random_bytes(kNonceBytes);
  const FileKey file_key = derive(key, salt);
  head_ = kMagic;
  append_u32(head_, kVersion);
  append_u32(head_, static_cast<uint32_t>(context.size()));
  head_ += salt;
  head_ += nonce;
  head_ += file_key.check();
  head_ += context;
  int length = 0;
  require(context_ != nullptr &&
              EVP_EncryptInit_ex(context_.get(), EVP_aes_256_gcm(), nullptr, nullptr, nullptr) == 1 &&
              EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_GCM_SET_IVLEN, kNonceBytes, nullptr) == 1 &&
              EVP_EncryptInit_ex(context_.get(), nullptr, nullptr, file_key.key(),
                                 bytes_of(std::string_view(nonce))) == 1 &&
              EVP_EncryptUpdate(context_.get(), nullptr, &length, bytes_of(std::string_view(head_)),
                                static_cast<int>(head_.size())) == 1,
          "begin to encrypt");
}

Result<std::string_view> Sealer::update(std::string_view plain) {
  size_ += plain.size();
  if (size_ > kMaxSealedBytes) {
    return Error{ErrorCode::kTooLarge, "cannot seal more than " + std::to_string(kMaxSealedBytes) +
                                           " bytes in one file; go without --seal-key"};
  }
  if (ciphertext_.size() < plain.size()) ciphertext_.resize(plain.size());
  for (size_t at = 0; at < plain.size(); at += kChunkBytes) {
    const size_t count = std::min(kChunkBytes, plain.size() - at);
    int length = 0;
    require(EVP_EncryptUpdate(context_.get(), bytes_of(ciphertext_) + at, &length, bytes_of(plain) + at,
                              static_cast<int>(count)) == 1,
            "encrypt");
  }
  return std::string_view(ciphertext_).substr(0, plain.size());
}

std::string Sealer::tag() {
  std::string tag(kTagBytes, '\0');
  std::array<unsigned char, kTagBytes> nothing{};
  int length = 0;
  require(EVP_EncryptFinal_ex(context_.get(), nothing.data(), &length) == 1 &&
              EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag.data()) == 1,
          "finish to encrypt");
  return tag;
}

Result<std::string> seal(const SealKey& key, std::string_view context,
                         const std::vector<std::string_view>& pieces) {
  Sealer sealer(key, context);
  std::string sealed = sealer.head();
  for (const std::string_view piece : pieces) {
    const auto ciphertext = sealer.update(piece);
    if (!ciphertext) return ciphertext.error();
    sealed += *ciphertext;
  }
  sealed += sealer.tag();
  return sealed;
}

Result<std::string> unseal(const SealKey& key, std::string_view context, std::string_view sealed) {
  const auto parts = split(sealed);
  if (!parts) return parts.error();
  if (parts->ciphertext.size() > kMaxSealedBytes) return damaged("expected fewer bytes");
  const FileKey file_key = derive(key, parts->salt);
  if (CRYPTO_memcmp(file_key.check().data(), parts->check.data(), kCheckBytes) != 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "sealed with another key, or damaged in its first 60 bytes; give --seal-key the key file "
                 "that it was sealed with"};
  }
  std::string plain;
  if (!decrypt(file_key, *parts, plain)) return damaged("it was changed after it was sealed");
  if (parts->context == context) return plain;
  wipe(plain);
  return damaged("expected \"" + std::string(context) + "\", found that of \"" + std::string(parts->context) +
                 "\"");
}

Result<std::string> sealed_context(std::string_view sealed) {
  const auto parts = split(sealed);
  if (!parts) return parts.error();
  return std::string(parts->context);
}

}  // namespace tandem
