#include "tandem/core/transport/keys.h"

#include <openssl/crypto.h>
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <zmq.hpp>

#include "tandem/core/base/toml_text_detail.h"
#include "tandem/core/base/wiped_detail.h"
#include "tandem/core/storage/atomic_file.h"

namespace tandem {
namespace {

using detail::wipe;
using detail::WipedString;

constexpr size_t kZ85KeyLength = 40;
constexpr size_t kKeyBytes = 32;
constexpr size_t kMaxDeviceName = 64;

using Z85Buffer = std::array<char, kZ85KeyLength + 1>;

Error invalid(const std::filesystem::path& path, const std::string& what) {
  return {ErrorCode::kInvalidArgument, path.string() + ": " + what};
}

std::string at_line(const toml::source_region& region) {
  return "line " + std::to_string(region.begin.line) + ": ";
}

// The parser's description is left out of a key file's error: it may quote the file.
std::string parse_failure(const toml::parse_error& error, bool secret) {
  const std::string where = at_line(error.source());
  return where + (secret ? "not valid TOML" : std::string(error.description()));
}

Result<toml::table> parse(const std::filesystem::path& path, std::string_view text, bool secret) {
  if (const auto deep = detail::find_deep_nesting(text)) {
    return invalid(path, "line " + std::to_string(deep->line) + ": " + deep->problem);
  }
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    return invalid(path, parse_failure(error, secret));
  }
}

// Moves `name` out of the table, so that no copy of a secret stays behind in it.
Result<std::string> take_key(const std::filesystem::path& path, toml::table& table, const char* name) {
  auto* value = table[name].as_string();
  if (value == nullptr) return invalid(path, std::string("key file has no ") + name + " = \"...\"");
  WipedString key{std::move(value->get())};
  if (!is_z85_key(key.text)) return invalid(path, std::string(name) + " is not a Z85 key of 40 characters");
  return key.text;
}

Result<void> check_pair(const std::filesystem::path& path, const KeyPair& keys) {
  Z85Buffer derived{};
  if (zmq_curve_public(derived.data(), keys.secret_key.c_str()) != 0)
    return invalid(path, "cannot derive the public key: libzmq was built without CURVE");
  if (keys.public_key != derived.data()) return invalid(path, "public and secret key do not belong together");
  return {};
}

// Collects a device list, whose two failures reading and saving share.
class DeviceCollector {
 public:
  Result<void> add(const std::filesystem::path& path, const std::string& where, const std::string& name,
                   const std::string& key) {
    if (!is_device_name(name))
      return invalid(
          path, where + "a device name has 1 to 64 characters of UTF-8, none of them a control character");
    if (!is_z85_key(key))
      return invalid(path, where + "the key of \"" + name + "\" is not a Z85 key of 40 characters");
    if (!names_.insert(name).second) return invalid(path, where + "\"" + name + "\" is listed twice");
    const auto [entry, inserted] = devices_.emplace(key, ClientId{name});
    if (!inserted)
      return invalid(path, where + "\"" + name + "\" has the same key as \"" + entry->second.name + "\"");
    return {};
  }

  DeviceList take() { return std::move(devices_); }

 private:
  DeviceList devices_;
  std::set<std::string> names_;
};

Result<DeviceList> read_devices(const std::filesystem::path& path, const toml::table& file) {
  for (const auto& [key, node] : file)
    if (key.str() != "devices")
      return invalid(path, at_line(node.source()) + "unknown key \"" + std::string(key.str()) +
                               "\"; a device list has one table, [devices]");
  const toml::table* table = file["devices"].as_table();
  if (table == nullptr) return invalid(path, "a device list has one table, [devices]");
  DeviceCollector collector;
  for (const auto& [key, node] : *table) {
    const auto text = node.value_exact<std::string>();
    const std::string where = at_line(node.source());
    const std::string name(key.str());
    if (!text) return invalid(path, where + "the key of \"" + name + "\" is not a string");
    if (const auto added = collector.add(path, where, name, *text); !added) return added.error();
  }
  return collector.take();
}

}  // namespace

KeyPair::KeyPair(std::string public_half, std::string secret_half)
    : public_key(std::move(public_half)), secret_key(std::move(secret_half)) {}

KeyPair& KeyPair::operator=(const KeyPair& other) {
  if (this == &other) return *this;
  wipe(secret_key);
  public_key = other.public_key;
  secret_key = other.secret_key;
  return *this;
}

KeyPair& KeyPair::operator=(KeyPair&& other) noexcept {
  if (this == &other) return *this;
  wipe(secret_key);
  public_key = std::move(other.public_key);
  secret_key = std::move(other.secret_key);
  return *this;
}

KeyPair::~KeyPair() {
  wipe(secret_key);
}

KeyPair generate_key_pair() {
  Z85Buffer public_half{};
  Z85Buffer secret_half{};
  if (zmq_curve_keypair(public_half.data(), secret_half.data()) != 0)
    throw std::runtime_error("cannot make a key pair: libzmq was built without CURVE");
  KeyPair keys(public_half.data(), secret_half.data());
  OPENSSL_cleanse(secret_half.data(), secret_half.size());
  return keys;
}

bool is_z85_key(const std::string& text) {
  if (text.size() != kZ85KeyLength || text.find('\0') != std::string::npos) return false;
  std::array<uint8_t, kKeyBytes> bytes{};
  const bool valid = zmq_z85_decode(bytes.data(), text.c_str()) != nullptr;
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return valid;
}

bool is_device_name(const std::string& name) {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7F; };
  return !name.empty() && name.size() <= kMaxDeviceName && detail::is_utf8(name) &&
         std::none_of(name.begin(), name.end(), is_control);
}

Result<void> save_key_pair(const std::filesystem::path& path, const KeyPair& keys) {
  if (!is_z85_key(keys.public_key) || !is_z85_key(keys.secret_key))
    throw std::invalid_argument("save_key_pair: the keys must be Z85 keys of 40 characters");
  // The Z85 alphabet has neither quotes nor backslashes: nothing to escape.
  return write_file_atomically(path,
                               {"# CURVE key pair. Keep the secret key secret.\npublic = \"", keys.public_key,
                                "\"\nsecret = \"", keys.secret_key, "\"\n"},
                               0600);
}

Result<KeyPair> load_key_pair(const std::filesystem::path& path) {
  Result<std::string> content = read_secret_file(path);
  if (!content) return content.error();
  const WipedString text{std::move(*content)};
  Result<toml::table> table = parse(path, text.text, true);
  if (!table) return table.error();
  Result<std::string> public_half = take_key(path, *table, "public");
  if (!public_half) return public_half.error();
  Result<std::string> secret_half = take_key(path, *table, "secret");
  if (!secret_half) return secret_half.error();
  KeyPair keys(std::move(*public_half), std::move(*secret_half));
  if (const auto checked = check_pair(path, keys); !checked) return checked.error();
  return keys;
}

Result<void> save_device_list(const std::filesystem::path& path, const DeviceList& devices) {
  DeviceCollector collector;
  std::map<std::string, std::string> by_name;
  for (const auto& [key, client] : devices) {
    if (const auto added = collector.add(path, "", client.name, key); !added) return added.error();
    by_name[client.name] = key;
  }
  std::string text = "# Devices that may connect: name = \"public key\"\n[devices]\n";
  for (const auto& [name, key] : by_name) text += detail::toml_string(name) + " = \"" + key + "\"\n";
  return write_file_atomically(path, {text}, 0600);
}

Result<DeviceList> load_device_list(const std::filesystem::path& path) {
  const Result<std::string> content = read_file(path);
  if (!content) return content.error();
  const Result<toml::table> file = parse(path, *content, false);
  if (!file) return file.error();
  return read_devices(path, *file);
}

}  // namespace tandem
