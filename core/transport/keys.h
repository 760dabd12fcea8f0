#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"

namespace tandem {

/// A CURVE key pair, Z85 (40 characters each). The secret half is wiped when the object dies.
struct KeyPair {
  std::string public_key;
  std::string secret_key;

  KeyPair() = default;
  KeyPair(std::string public_key, std::string secret_key);
  KeyPair(const KeyPair&) = default;
  KeyPair(KeyPair&&) = default;
  KeyPair& operator=(const KeyPair& other);
  KeyPair& operator=(KeyPair&& other) noexcept;
  ~KeyPair();
};

/// Devices that may connect: public key (Z85) -> the name it is listed under. Names are unique.
using DeviceList = std::map<std::string, ClientId>;

/// A fresh key pair from libzmq's (libsodium's) generator.
KeyPair generate_key_pair();

/// Whether `text` is a Z85 key: 40 characters of the Z85 alphabet that decode to 32 bytes.
bool is_z85_key(const std::string& text);

/// Whether `name` can name a device: 1 to 64 bytes of UTF-8, no control characters (it goes into logs and
/// paths).
bool is_device_name(const std::string& name);

/// Key file: TOML with `public = "..."` and `secret = "..."`, mode 0600. Reading refuses a file that others
/// can access (read_secret_file in atomic_file.h), a missing or malformed one, and a pair whose halves do not
/// belong together.
Result<void> save_key_pair(const std::filesystem::path& path, const KeyPair& keys);
Result<KeyPair> load_key_pair(const std::filesystem::path& path);

/// Device list: TOML, a table [devices] with `name = "public key"`. Both ways refuse a bad key, a key or
/// a name listed twice and what is not a device name (kInvalidArgument); reading names the line.
Result<void> save_device_list(const std::filesystem::path& path, const DeviceList& devices);
Result<DeviceList> load_device_list(const std::filesystem::path& path);

}  // namespace tandem
