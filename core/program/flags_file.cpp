#include "tandem/core/program/flags_file_detail.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include <toml++/toml.h>

#include "tandem/core/base/toml_text_detail.h"
#include "tandem/core/base/wording_detail.h"
#include "tandem/core/storage/atomic_file.h"

namespace tandem::detail {
namespace {

using Path = std::filesystem::path;

/// One key of the file.
struct FileEntry {
  std::string key;
  const toml::node* node;
  std::string label;  ///< `key "rounds" in run.toml:3`
};

// ---- reading ----------------------------------------------------------------------------------------

struct ExpectedKind {
  const char* operator()(const std::string*) const { return "a string"; }
  const char* operator()(const Path*) const { return "a string"; }
  const char* operator()(const bool*) const { return "true or false"; }
  const char* operator()(const double*) const { return "a number"; }
  const char* operator()(const Texts*) const { return "an array of strings"; }
  template <class T>
  const char* operator()(const T*) const {
    return "a whole number";
  }
};

std::string describe(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::string:
      return "the string " + in_quotes(node.as_string()->get());
    case toml::node_type::integer:
      return "the whole number " + number_text(node.as_integer()->get());
    case toml::node_type::floating_point:
      return "the number " + number_text(node.as_floating_point()->get());
    case toml::node_type::boolean:
      return node.as_boolean()->get() ? "true" : "false";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::table:
      return "a table";
    default:
      return "a date or time";
  }
}

std::optional<Texts> array_texts(const toml::array& array) {
  Texts texts;
  for (const toml::node& item : array) {
    if (!item.is_string()) return std::nullopt;
    texts.push_back(item.as_string()->get());
  }
  return texts;
}

/// The texts of a TOML value, as the command line would have carried them, or nothing when it has the wrong
/// type for the variable.
struct NodeTexts {
  const toml::node& node;

  using Answer = std::optional<Texts>;

  Answer operator()(const std::string*) const {
    return node.is_string() ? Answer(Texts{node.as_string()->get()}) : std::nullopt;
  }
  Answer operator()(const Path*) const {
    return node.is_string() ? Answer(Texts{node.as_string()->get()}) : std::nullopt;
  }
  Answer operator()(const bool*) const {
    return node.is_boolean() ? Answer(Texts{node.as_boolean()->get() ? "true" : "false"}) : std::nullopt;
  }
  Answer operator()(const double*) const {
    if (node.is_integer()) return Texts{number_text(node.as_integer()->get())};
    if (node.is_floating_point()) return Texts{number_text(node.as_floating_point()->get())};
    return std::nullopt;
  }
  Answer operator()(const Texts*) const {
    return node.is_array() ? array_texts(*node.as_array()) : std::nullopt;
  }
  Answer operator()(const uint64_t*) const {
    if (node.is_string()) {
      const std::string& text = node.as_string()->get();
      const bool digits = text.size() >= 19 && text.find_first_not_of("0123456789") == std::string::npos;
      return digits ? Answer(Texts{text}) : std::nullopt;
    }
    return whole();
  }
  template <class T>
  Answer operator()(const T*) const {
    return whole();
  }

 private:
  Answer whole() const {
    return node.is_integer() ? Answer(Texts{number_text(node.as_integer()->get())}) : std::nullopt;
  }
};

std::string location(const Path& file, const toml::source_region& source) {
  return file.string() + ":" + std::to_string(source.begin.line);
}

/// A flag with a variable of its own.
class OwnValue {
 public:
  explicit OwnValue(Flag flag) : flag_(std::move(flag)) {
    std::visit([&](auto* other) { flag_.target = &value_.emplace<std::decay_t<decltype(*other)>>(*other); },
               FlagTarget(flag_.target));
  }
  OwnValue(const OwnValue&) = delete;
  OwnValue& operator=(const OwnValue&) = delete;

  const Flag& flag() const { return flag_; }

 private:
  std::variant<std::string, int32_t, uint32_t, int64_t, uint64_t, double, bool, Texts, Path> value_;
  Flag flag_;
};

/// The file's keys in the order of their lines, so that the first mistake is the one reported.
std::vector<FileEntry> entries_by_line(const toml::table& table, const Path& file) {
  std::vector<FileEntry> entries;
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    entries.push_back({name, &node, "key " + in_quotes(name) + " in " + location(file, node.source())});
  }
  std::stable_sort(entries.begin(), entries.end(), [](const FileEntry& a, const FileEntry& b) {
    return a.node->source().begin.line < b.node->source().begin.line;
  });
  return entries;
}

Result<toml::table> parse_toml(const Path& file) {
  const auto content = read_file(file);
  if (!content) return content.error();
  if (const auto deep = find_deep_nesting(*content)) {
    return Error{ErrorCode::kCorrupt,
                 file.string() + ":" + std::to_string(deep->line) + ": " + deep->problem};
  }
  try {
    return toml::parse(*content, file.string());
  } catch (const toml::parse_error& error) {
    return Error{ErrorCode::kCorrupt,
                 location(file, error.source()) + ": " + std::string(error.description())};
  }
}

Texts keys_of(const std::vector<Flag>& flags) {
  Texts keys;
  for (const Flag& flag : flags) {
    if (flag.is_key()) keys.push_back(flag.name);
  }
  return keys;
}

/// `folder`: to which its paths are relative.
Result<void> apply_entry(const FileEntry& entry, const Path& folder, std::vector<Flag>& flags) {
  if (entry.key == kConfigFlag) return invalid(entry.label + ": a configuration file cannot name another");
  const auto found = std::find_if(flags.begin(), flags.end(),
                                  [&](const Flag& flag) { return flag.name == entry.key && flag.is_key(); });
  if (entry.node->is_table()) {
    return invalid(entry.label + " is a table: the file is flat, every key is the name of a flag");
  }
  if (found == flags.end()) {
    return invalid("unknown " + entry.label + did_you_mean(entry.key, keys_of(flags)));
  }
  const auto texts = std::visit(NodeTexts{*entry.node}, found->target);
  if (!texts) {
    return invalid(entry.label + " must be " + std::visit(ExpectedKind{}, found->target) + ", found " +
                   describe(*entry.node));
  }
  return assign(*found, entry.label, *texts, folder);
}

std::string value_text(const toml::node& node) {
  if (node.is_integer()) return number_text(node.as_integer()->get());
  if (node.is_floating_point()) return number_text(node.as_floating_point()->get());
  return node.is_string() ? node.as_string()->get() : "VALUE";
}

/// If the entry is a flag of earlier versions, says what to write instead of it.
std::optional<Error> removed_key(const FileEntry& entry, const toml::table& table,
                                 const std::vector<RemovedFlag>& removed, const std::vector<Flag>& flags) {
  const auto found = std::find_if(removed.begin(), removed.end(),
                                  [&](const RemovedFlag& flag) { return flag.name == entry.key; });
  if (found == removed.end()) return std::nullopt;
  const auto flag =
      std::find_if(flags.begin(), flags.end(), [&](const Flag& other) { return other.name == found->flag; });
  const toml::node* node = table.get(found->flag);
  const bool given = node != nullptr && node->is_string();
  const std::string present = given ? node->as_string()->get() : *std::get<std::string*>(flag->target);
  return invalid(entry.label + " is now part of " + in_quotes(found->flag) + ": " + found->flag + " = " +
                 toml_string(with_parameter(present, found->parameter, value_text(*entry.node))));
}

// ---- writing ----------------------------------------------------------------------------------------

/// Inside of `folder` relative to it, so that the folder can be moved; else absolute.
std::string path_text(const Path& path, const Path& folder) {
  const std::string absolute = canonical_path(path);
  if (folder.empty() || absolute.empty()) return absolute;
  const std::string inside = Path(absolute).lexically_relative(canonical_path(folder)).string();
  return inside.empty() || inside == ".." || inside.starts_with("../") ? absolute : inside;
}

struct TomlValue {
  const Flag& flag;
  const Path& folder;

  std::string operator()(const std::string* value) const {
    if (!flag.is_data) return toml_string(*value);
    return toml_string(
        with_changed_path(*value, [&](const std::string& path) { return path_text(path, folder); }));
  }
  std::string operator()(const Path* value) const { return toml_string(path_text(*value, folder)); }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const double* value) const {
    const std::string text = number_text(*value);
    return text.find_first_of(".einf") == std::string::npos ? text + ".0" : text;
  }
  std::string operator()(const uint64_t* value) const {
    // TOML's integers are signed: a larger number travels as a string, which reading accepts.
    const bool fits = *value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    return fits ? number_text(*value) : toml_string(number_text(*value));
  }
  std::string operator()(const Texts* value) const {
    std::string text;
    for (const std::string& item : *value) text += (text.empty() ? "" : ", ") + toml_string(item);
    return "[" + text + "]";
  }
  template <class T>
  std::string operator()(const T* value) const {
    return number_text(*value);
  }
};

}  // namespace

Result<void> apply_file(const Path& file, const std::vector<RemovedFlag>& removed, std::vector<Flag>& flags) {
  const auto table = parse_toml(file);
  if (!table) return table.error();
  const Path folder = std::filesystem::absolute(file).parent_path();
  for (const FileEntry& entry : entries_by_line(*table, file)) {
    if (const auto removed_one = removed_key(entry, *table, removed, flags)) return *removed_one;
    const auto applied = apply_entry(entry, folder, flags);
    if (!applied) return applied;
  }
  return {};
}

Result<std::vector<FlagDifference>> differences_from(const Path& file, const std::vector<Flag>& flags) {
  const auto table = parse_toml(file);
  if (!table) return table.error();
  const Path folder = std::filesystem::absolute(file).parent_path();
  std::vector<FlagDifference> differences;
  for (const Flag& flag : flags) {
    const toml::node* node = flag.is_key() && flag.of_the_run ? table->get(flag.name) : nullptr;
    if (node == nullptr) continue;
    OwnValue own(flag);
    const FileEntry entry{flag.name, node,
                          "key " + in_quotes(flag.name) + " in " + location(file, node->source())};
    std::vector<Flag> one{own.flag()};
    if (auto applied = apply_entry(entry, folder, one); !applied) return applied.error();
    std::string recorded = canonical_text(one.front());
    std::string present = canonical_text(flag);
    if (recorded != present) differences.push_back({flag.name, std::move(recorded), std::move(present)});
  }
  return differences;
}

std::string file_text(const std::vector<Flag>& flags, const Path& folder) {
  std::string text;
  std::string group;
  for (const Flag& flag : flags) {
    if (!flag.is_key()) continue;
    if (flag.group != group) {
      text += (text.empty() ? "# " : "\n# ") + flag.group + "\n";
      group = flag.group;
    }
    text += flag.name + " = " + std::visit(TomlValue{flag, folder}, flag.target) + "\n";
  }
  return text;
}

}  // namespace tandem::detail
