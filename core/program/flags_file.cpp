#include "tandem/core/program/flags_file_detail.h"

#include <algorithm>
#include <limits>
#include <map>
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
  std::string section;  ///< the table it stands in; empty at the top
  const toml::node* node;
  std::string label;  ///< `key "rounds" in run.toml:3`

  size_t line() const { return node->source().begin.line; }
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
  bool or_number = false;  // whether a text may be written as a whole number

  using Answer = std::optional<Texts>;

  Answer operator()(const std::string*) const {
    if (or_number && node.is_integer()) return Texts{number_text(node.as_integer()->get())};
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

  Flag& flag() { return flag_; }

 private:
  std::variant<std::string, int32_t, uint32_t, int64_t, uint64_t, double, bool, Texts, Path> value_;
  Flag flag_;
};

bool is_section(const FlagTable& flags, const std::string& name) {
  return std::any_of(flags.begin(), flags.end(), [&](const Flag& flag) { return flag.section.name == name; });
}

void add_entries(const toml::table& table, const std::string& section, const FlagTable& flags,
                 const Path& file, std::vector<FileEntry>& entries) {
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (section.empty() && node.is_table() && is_section(flags, name)) {
      add_entries(*node.as_table(), name, flags, file, entries);
      continue;
    }
    entries.push_back(
        {name, section, &node, "key " + in_quotes(name) + " in " + location(file, node.source())});
  }
}

/// The file's keys, also those in the tables of sections, in the order of their lines, so that the first
/// mistake is the one reported.
std::vector<FileEntry> entries_by_line(const toml::table& table, const FlagTable& flags, const Path& file) {
  std::vector<FileEntry> entries;
  add_entries(table, "", flags, file, entries);
  std::stable_sort(entries.begin(), entries.end(),
                   [](const FileEntry& a, const FileEntry& b) { return a.line() < b.line(); });
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

Texts keys_of(const FlagTable& flags) {
  Texts keys;
  for (const Flag& flag : flags) {
    if (flag.is_key()) keys.push_back(flag.name);
  }
  return keys;
}

Texts sections_of(const FlagTable& flags) {
  Texts names;
  for (const Flag& flag : flags) {
    const std::string& name = flag.section.name;
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

/// Whether an entry is a key of the program, where it belongs.
Result<void> check_entry(const FileEntry& entry, const Flag* flag, const FlagTable& flags) {
  if (entry.key == kConfigFlag) return invalid(entry.label + ": a configuration file cannot name another");
  if (entry.node->is_table()) {
    if (!entry.section.empty()) return invalid(entry.label + " is a table within a table");
    const Texts sections = sections_of(flags);
    return invalid(entry.label + " is a table: " +
                   (sections.empty() ? "the file is flat, every key is the name of a flag"
                                     : "tables are " + joined(sections)) +
                   did_you_mean(entry.key, sections));
  }
  if (flag == nullptr) return invalid("unknown " + entry.label + did_you_mean(entry.key, keys_of(flags)));
  if (!entry.section.empty() && entry.section != flag->section.name) {
    return invalid(entry.label + " stands in [" + entry.section + "], expected in [" + flag->section.name +
                   "] or at the top");
  }
  return {};
}

Flag* find_key(FlagTable& flags, const std::string& name) {
  const auto found = std::find_if(flags.begin(), flags.end(),
                                  [&](const Flag& flag) { return flag.name == name && flag.is_key(); });
  return found == flags.end() ? nullptr : &*found;
}

/// `folder`: to which its paths are relative.
Result<void> apply_entry(const FileEntry& entry, const Path& folder, Flag& flag) {
  const auto texts = std::visit(NodeTexts{*entry.node, flag.or_number}, flag.target);
  if (!texts) {
    return invalid(entry.label + " must be " + std::visit(ExpectedKind{}, flag.target) + ", found " +
                   describe(*entry.node));
  }
  return assign(flag, entry.label, *texts, folder);
}

std::string value_text(const toml::node& node) {
  if (node.is_integer()) return number_text(node.as_integer()->get());
  if (node.is_floating_point()) return number_text(node.as_floating_point()->get());
  return node.is_string() ? node.as_string()->get() : "VALUE";
}

/// The entry as a flag of earlier versions, if it is one.
std::optional<GivenReplaced> as_replaced(const FileEntry& entry, const FlagTable& flags) {
  const Replacement found = find_replaced(flags, entry.key);
  if (found.flag == nullptr) return std::nullopt;
  return GivenReplaced{found, value_text(*entry.node), entry.label, /*in_file=*/true};
}

/// A value that differs, for a person: a specification as it was given, everything else in its one spelling.
std::string shown_text(const Flag& flag) {
  return flag.forms.empty() ? canonical_text(flag) : plain_text(flag.target);
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
    return toml_string(
        with_changed_path(flag, *value, [&](const std::string& path) { return path_text(path, folder); }));
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

Result<void> apply_file(const Path& file, FlagTable& flags, std::vector<GivenReplaced>& replaced) {
  const auto table = parse_toml(file);
  if (!table) return table.error();
  const Path folder = std::filesystem::absolute(file).parent_path();
  std::map<std::string, size_t> lines;
  for (const FileEntry& entry : entries_by_line(*table, flags, file)) {
    if (auto earlier = as_replaced(entry, flags)) {
      replaced.push_back(std::move(*earlier));
      continue;
    }
    Flag* flag = find_key(flags, entry.key);
    if (auto checked = check_entry(entry, flag, flags); !checked) return checked;
    const auto [other, is_first] = lines.emplace(entry.key, entry.line());
    if (!is_first)
      return invalid(entry.label + " is given twice, first in line " + number_text(other->second));
    if (auto applied = apply_entry(entry, folder, *flag); !applied) return applied;
  }
  return {};
}

Result<std::vector<FlagDifference>> differences_from(const Path& file, const FlagTable& flags) {
  const auto table = parse_toml(file);
  if (!table) return table.error();
  const Path folder = std::filesystem::absolute(file).parent_path();
  std::map<std::string, FileEntry> recorded;
  std::vector<GivenReplaced> replaced;
  for (const FileEntry& entry : entries_by_line(*table, flags, file)) {
    if (auto earlier = as_replaced(entry, flags)) replaced.push_back(std::move(*earlier));
    recorded.emplace(entry.key, entry);
  }
  if (!replaced.empty()) return replaced_error(replaced);
  std::vector<FlagDifference> differences;
  for (const Flag& flag : flags) {
    const auto entry = recorded.find(flag.name);
    const bool counts =
        flag.is_key() && flag.of_the_run && (!flag.of_the_run_while || flag.of_the_run_while());
    if (!counts || entry == recorded.end()) continue;
    OwnValue own(flag);
    if (auto applied = apply_entry(entry->second, folder, own.flag()); !applied) return applied.error();
    if (canonical_text(own.flag()) == canonical_text(flag)) continue;
    differences.push_back({flag.name, shown_text(own.flag()), shown_text(flag)});
  }
  return differences;
}

std::string file_text(const FlagTable& flags, const Path& folder) {
  Texts sections{""};
  for (const std::string& name : sections_of(flags)) sections.push_back(name);
  std::string text;
  for (const std::string& section : sections) {
    std::string lines;
    for (const Flag& flag : flags) {
      if (!flag.is_key() || flag.section.name != section) continue;
      lines += flag.name + " = " + std::visit(TomlValue{flag, folder}, flag.target) + "\n";
    }
    if (lines.empty()) continue;
    if (!section.empty()) text += (text.empty() ? "[" : "\n[") + section + "]\n";
    text += lines;
  }
  return text;
}

}  // namespace tandem::detail
