#include "tandem/tools/fleet.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <toml++/toml.h>

#include <algorithm>
#include <string_view>
#include <system_error>

#include "tandem/core/storage/atomic_file.h"

namespace tandem::tools {
namespace {

namespace fs = std::filesystem;

Result<toml::table> parse(const fs::path& file, const std::string& text) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    return Error{ErrorCode::kInvalidArgument, file.string() + ": line " +
                                                  std::to_string(error.source().begin.line) + ": " +
                                                  std::string(error.description())};
  }
}

Result<toml::table> read_toml(const fs::path& file) {
  const auto text = read_file(file);
  if (!text) return text.error();
  return parse(file, *text);
}

/// Where in `text` the line of that number, from 1, begins.
size_t begin_of_line(const std::string& text, uint32_t line) {
  size_t begin = 0;
  for (uint32_t i = 1; i < line; ++i) begin = text.find('\n', begin) + 1;
  return begin;
}

/// Returns the value of a key of the network, which stands at the top of a kit's file or in its table; null
/// where the file does not have it.
const toml::node* network_value(const toml::table& table, std::string_view key) {
  if (const toml::node* value = table.get(key)) return value;
  const toml::node* section = table.get("network");
  return section != nullptr && section->is_table() ? section->as_table()->get(key) : nullptr;
}

std::string network_text(const toml::table& table, std::string_view key) {
  const toml::node* value = network_value(table, key);
  return value != nullptr ? value->value_or(std::string()) : std::string();
}

}  // namespace

Result<FileLock> lock_fleet(const FleetPaths& paths) {
  return FileLock::take(paths.aggregator() / "devices.lock", [&](const std::string& holder) {
    spdlog::info("waiting for {}, which is changing the devices of {}", holder, paths.fleet.string());
  });
}

Result<std::vector<Kit>> read_kits(const FleetPaths& paths) {
  std::vector<Kit> kits;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(paths.fleet, error)) {
    const std::string device = entry.path().filename();
    if (!fs::exists(paths.edge_toml(device), error)) continue;
    const auto table = read_toml(paths.edge_toml(device));
    if (!table) return table.error();
    kits.push_back({.device = device,
                    .endpoint = network_text(*table, "endpoint"),
                    .server_key = network_text(*table, "server-key")});
  }
  std::sort(kits.begin(), kits.end(), [](const Kit& a, const Kit& b) { return a.device < b.device; });
  return kits;
}

Result<std::string> endpoint_in(const fs::path& toml_file) {
  const auto table = read_toml(toml_file);
  if (!table) return table.error();
  return network_text(*table, "endpoint");
}

Result<void> replace_endpoint(const fs::path& toml_file, const std::string& endpoint) {
  auto text = read_file(toml_file);
  if (!text) return text.error();
  const auto table = parse(toml_file, *text);
  if (!table) return table.error();
  const toml::node* value = network_value(*table, "endpoint");
  if (value == nullptr || !value->is_string() || value->source().begin.line != value->source().end.line) {
    return Error{
        ErrorCode::kInvalidArgument,
        toml_file.string() + ": it has no line endpoint = \"...\"; add endpoint = \"" + endpoint + "\""};
  }
  const size_t line = begin_of_line(*text, value->source().begin.line);
  const size_t begin = line + value->source().begin.column - 1;
  text->replace(begin, line + value->source().end.column - 1 - begin, "\"" + endpoint + "\"");
  struct stat status {};
  const int mode = ::stat(toml_file.c_str(), &status) == 0 ? static_cast<int>(status.st_mode & 0777) : 0600;
  return write_file_atomically(toml_file, {*text}, mode);
}

std::string names_text(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  const size_t shown = names.size() <= kShown + 1 ? names.size() : kShown;
  std::string text;
  for (size_t i = 0; i < shown; ++i) {
    const bool last = i + 1 == names.size();
    text += (i == 0 ? "" : last ? " and " : ", ") + names[i];
  }
  if (shown < names.size()) text += " and " + std::to_string(names.size() - shown) + " more";
  return text;
}

}  // namespace tandem::tools
