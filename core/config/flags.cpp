#include "tandem/core/config/flags.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <functional>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include <toml++/toml.h>
#include <CLI/CLI.hpp>

#include "tandem/core/base/version.h"
#include "tandem/core/config/toml_text_detail.h"
#include "tandem/core/storage/atomic_file.h"

namespace tandem {
namespace {

using Texts = std::vector<std::string>;
using Path = std::filesystem::path;
using Target =
    std::variant<std::string*, int32_t*, uint32_t*, int64_t*, uint64_t*, double*, bool*, Texts*, Path*>;

constexpr size_t kHelpWidth = 100;
constexpr size_t kHelpColumn = 30;

struct Flag {
  std::string name;
  std::string help;
  std::string group;
  Target target;
  Texts choices;
  std::string default_text;
  bool positional = false;
  bool given = false;
  Texts command_line = {};  ///< raw values, in order
};

/// One key of a TOML file: its value as the texts that the command line would have carried.
struct FileEntry {
  std::string key;
  const toml::node* node;
  std::string label;  ///< `key "rounds" in run.toml:3`
};

Error invalid(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}

std::string in_quotes(std::string_view text) {
  std::string quoted = "\"";
  quoted += text;
  return quoted += '"';
}

std::string joined(const Texts& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string did_you_mean(const std::string& word, const Texts& known, const std::string& dashes) {
  const auto near = nearest_name(word, known);
  return near ? "; did you mean " + in_quotes(dashes + *near) + "?" : "";
}

/// The shortest text that reads back as the same number.
template <class T>
std::string number_text(T value) {
  std::array<char, 64> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return std::string(buffer.data(), end);
}

// ---- texts to values ------------------------------------------------------------------------------

/// Stores one flag's texts into its variable. `label` is how the reader knows the flag.
struct Assign {
  const Flag& flag;
  const std::string& label;
  const Texts& texts;

  const std::string& text() const { return texts.front(); }

  Result<void> operator()(std::string* value) const {
    if (!flag.choices.empty() &&
        std::find(flag.choices.begin(), flag.choices.end(), text()) == flag.choices.end()) {
      return invalid(label + " must be one of " + joined(flag.choices) + ", got " + in_quotes(text()) +
                     did_you_mean(text(), flag.choices, ""));
    }
    *value = text();
    return {};
  }

  template <class T>
  Result<void> operator()(T* value) const requires std::is_integral_v<T> {
    const char* end = text().data() + text().size();
    T parsed{};
    const auto [stop, error] = std::from_chars(text().data(), end, parsed);
    if (error != std::errc{} || stop != end) {
      return invalid(label + " must be a whole number from " + number_text(std::numeric_limits<T>::min()) +
                     " to " + number_text(std::numeric_limits<T>::max()) + ", got " + in_quotes(text()));
    }
    *value = parsed;
    return {};
  }

  Result<void> operator()(double* value) const {
    constexpr double kLimit = std::numeric_limits<double>::max();
    const auto parsed = parse_number(label, text(), -kLimit, kLimit);
    if (!parsed) return parsed.error();
    *value = *parsed;
    return {};
  }

  Result<void> operator()(bool* value) const {
    if (text() != "true" && text() != "false") {
      return invalid(label + " must be true or false, got " + in_quotes(text()));
    }
    *value = text() == "true";
    return {};
  }

  Result<void> operator()(Texts* value) const {
    *value = texts;
    return {};
  }

  Result<void> operator()(Path* value) const {
    *value = text();
    return {};
  }
};

Result<void> assign(Flag& flag, const std::string& label, const Texts& texts) {
  for (const std::string& text : texts) {
    // Both the configuration and the metrics are UTF-8 files; other bytes could not be written back.
    if (!detail::is_utf8(text)) return invalid(label + " is not valid UTF-8");
  }
  const auto stored = std::visit(Assign{flag, label, texts}, flag.target);
  if (stored) flag.given = true;
  return stored;
}

// ---- values to texts ------------------------------------------------------------------------------

struct TomlValue {
  std::string operator()(const std::string* value) const { return detail::toml_string(*value); }
  std::string operator()(const Path* value) const {
    if (value->empty()) return "\"\"";
    return detail::toml_string(std::filesystem::absolute(*value).lexically_normal().string());
  }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const double* value) const {
    const std::string text = number_text(*value);
    return text.find_first_of(".einf") == std::string::npos ? text + ".0" : text;
  }
  std::string operator()(const uint64_t* value) const {
    // TOML's integers are signed: a larger number travels as a string, which reading accepts.
    const bool fits = *value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    return fits ? number_text(*value) : detail::toml_string(number_text(*value));
  }
  std::string operator()(const Texts* value) const {
    std::string text;
    for (const std::string& item : *value) text += (text.empty() ? "" : ", ") + detail::toml_string(item);
    return "[" + text + "]";
  }
  template <class T>
  std::string operator()(const T* value) const {
    return number_text(*value);
  }
};

struct HelpValue {
  std::string operator()(const std::string* value) const { return *value; }
  std::string operator()(const Path* value) const { return value->string(); }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const Texts* value) const { return joined(*value); }
  template <class T>
  std::string operator()(const T* value) const {
    return number_text(*value);
  }
};

struct Placeholder {
  const Flag& flag;
  std::string operator()(const std::string*) const { return flag.choices.empty() ? " TEXT" : " NAME"; }
  std::string operator()(const Path*) const { return " PATH"; }
  std::string operator()(const bool*) const { return ""; }
  std::string operator()(const double*) const { return " NUMBER"; }
  std::string operator()(const Texts*) const { return " TEXT"; }
  template <class T>
  std::string operator()(const T*) const {
    return " N";
  }
};

// ---- the file ---------------------------------------------------------------------------------------

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

/// The texts of a TOML value, or nothing when it has the wrong type for the variable.
struct NodeTexts {
  const toml::node& node;
  const Path& folder;

  using Answer = std::optional<Texts>;

  Answer operator()(const std::string*) const {
    return node.is_string() ? Answer(Texts{node.as_string()->get()}) : std::nullopt;
  }
  Answer operator()(const Path*) const {
    if (!node.is_string()) return std::nullopt;
    const std::string& text = node.as_string()->get();
    return Texts{text.empty() ? text : (folder / text).lexically_normal().string()};
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
  if (const auto deep = detail::find_deep_nesting(*content)) {
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

// ---- help -------------------------------------------------------------------------------------------

/// `text` broken at spaces to `width`, continued under `indent` spaces.
std::string wrapped(const std::string& text, size_t indent, size_t width) {
  std::string out;
  size_t column = indent;
  size_t position = 0;
  while (position < text.size()) {
    const size_t end = std::min(text.find(' ', position), text.size());
    const size_t length = end - position;
    if (column > indent && column + 1 + length > width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += text.substr(position, length);
    column += length;
    position = end + 1;
  }
  return out;
}

std::string help_line(const std::string& left, const std::string& right) {
  std::string line = "  " + left;
  if (line.size() + 2 > kHelpColumn) {
    line += "\n" + std::string(kHelpColumn, ' ');
  } else {
    line += std::string(kHelpColumn - line.size(), ' ');
  }
  return line + wrapped(right, kHelpColumn, kHelpWidth) + "\n";
}

std::string flag_help(const Flag& flag) {
  if (flag.positional) return help_line(flag.name, flag.help);
  std::string right = flag.help;
  if (!flag.choices.empty()) right += "; one of " + joined(flag.choices);
  if (std::holds_alternative<Texts*>(flag.target)) right += "; repeatable";
  if (!flag.default_text.empty()) right += " [" + flag.default_text + "]";
  return help_line("--" + flag.name + std::visit(Placeholder{flag}, flag.target), right);
}

std::string without_dashes(const std::string& argument) {
  const size_t start = argument.find_first_not_of('-');
  return start == std::string::npos ? "" : argument.substr(start, argument.find('=') - start);
}

bool valid_flag_name(const std::string& name) {
  return !name.empty() && name.front() != '-' &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
}

}  // namespace

// ---- the class --------------------------------------------------------------------------------------

struct Flags::Impl {
  enum class Request { kRun, kShowHelp, kShowVersion };

  std::string program;
  std::string description;
  std::string group = "Flags";
  std::vector<Flag> flags;
  Path config;

  void add(const std::string& name, Target target, const std::string& help, Texts choices, bool positional);
  const Flag* find(const std::string& name) const;
  Texts names(bool with_config) const;

  Result<Request> read_command_line(int argc, const char* const* argv);
  Result<Request> tokenize(CLI::App& app, int argc, const char* const* argv);
  Error unknown_argument(const std::string& argument) const;
  Result<void> check_counts() const;
  Result<void> apply_command_line(bool config_only);
  Result<void> apply_file();
  Result<void> apply_entry(const FileEntry& entry, const Path& folder);
  std::string usage() const;
};

void Flags::Impl::add(const std::string& name, Target target, const std::string& help, Texts choices,
                      bool positional) {
  if (!valid_flag_name(name)) throw std::logic_error("flag name " + in_quotes(name) + " is badly formed");
  if (find(name) || name == "help" || name == "version") {
    throw std::logic_error("flag " + in_quotes(name) + " is added twice");
  }
  Flag flag{name, help, group, target, std::move(choices), std::visit(HelpValue{}, target)};
  flag.positional = positional;
  flags.push_back(std::move(flag));
}

const Flag* Flags::Impl::find(const std::string& name) const {
  const auto found = std::find_if(flags.begin(), flags.end(), [&](const Flag& f) { return f.name == name; });
  return found == flags.end() ? nullptr : &*found;
}

Texts Flags::Impl::names(bool with_config) const {
  Texts names;
  for (const Flag& flag : flags) {
    if (!flag.positional && (with_config || flag.name != "config")) names.push_back(flag.name);
  }
  return names;
}

Error Flags::Impl::unknown_argument(const std::string& argument) const {
  if (argument.empty() || argument.front() != '-')
    return invalid("unexpected argument " + in_quotes(argument));
  const std::string shown = argument.substr(0, argument.find('='));
  Texts known = names(true);
  known.insert(known.end(), {"help", "version"});
  return invalid("unknown flag " + in_quotes(shown) + did_you_mean(without_dashes(argument), known, "--"));
}

/// Only splits the words: CLI11 hands back raw texts, and everything after (types, ranges, wording) is
/// the same for the file and the command line.
Result<Flags::Impl::Request> Flags::Impl::tokenize(CLI::App& app, int argc, const char* const* argv) {
  app.set_help_flag();
  app.allow_extras();
  const CLI::Option* help = app.add_flag("-h,--help");
  const CLI::Option* version = app.add_flag("--version");
  std::vector<const CLI::Option*> options;
  for (const Flag& flag : flags) {
    const std::string name = flag.positional ? flag.name : "--" + flag.name;
    const bool is_switch = std::holds_alternative<bool*>(flag.target);
    CLI::Option* option = is_switch ? app.add_flag(name) : app.add_option(name);
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    if (flag.positional && std::holds_alternative<Texts*>(flag.target)) option->expected(-1);
    options.push_back(option);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    return invalid(text.substr(0, text.find(':')) + " needs a value");
  } catch (const CLI::ParseError& error) {
    return invalid(error.what());
  }
  if (help->count() > 0) return Request::kShowHelp;
  if (version->count() > 0) return Request::kShowVersion;
  for (size_t i = 0; i < flags.size(); ++i) flags[i].command_line = options[i]->results();
  return Request::kRun;
}

Result<Flags::Impl::Request> Flags::Impl::read_command_line(int argc, const char* const* argv) {
  CLI::App app;
  const auto request = tokenize(app, argc, argv);
  if (!request || *request != Request::kRun) return request;
  for (const std::string& leftover : app.remaining()) {
    if (leftover == "--") continue;  // CLI11 keeps the mark that ends the flags
    return unknown_argument(leftover);
  }
  const auto counted = check_counts();
  if (!counted) return counted.error();
  return request;
}

Result<void> Flags::Impl::check_counts() const {
  for (const Flag& flag : flags) {
    const std::string label = flag.positional ? flag.name : "--" + flag.name;
    const bool repeatable = std::holds_alternative<Texts*>(flag.target);
    if (flag.command_line.size() > 1 && !repeatable) return invalid(label + " is given twice");
    if (flag.command_line.empty() && flag.positional) return invalid("missing argument " + label);
  }
  return {};
}

Result<void> Flags::Impl::apply_command_line(bool config_only) {
  for (Flag& flag : flags) {
    if (flag.command_line.empty() || (flag.name == "config") != config_only) continue;
    const auto assigned = assign(flag, flag.positional ? flag.name : "--" + flag.name, flag.command_line);
    if (!assigned) return assigned;
  }
  return {};
}

Result<void> Flags::Impl::apply_entry(const FileEntry& entry, const Path& folder) {
  if (entry.key == "config") return invalid(entry.label + ": a configuration file cannot name another");
  const auto found = std::find_if(flags.begin(), flags.end(), [&](const Flag& flag) {
    return flag.name == entry.key && !flag.positional;
  });
  if (entry.node->is_table()) {
    return invalid(entry.label + " is a table: the file is flat, every key is the name of a flag");
  }
  if (found == flags.end()) {
    return invalid("unknown " + entry.label + did_you_mean(entry.key, names(false), ""));
  }
  const auto texts = std::visit(NodeTexts{*entry.node, folder}, found->target);
  if (!texts) {
    return invalid(entry.label + " must be " + std::visit(ExpectedKind{}, found->target) + ", found " +
                   describe(*entry.node));
  }
  return assign(*found, entry.label, *texts);
}

Result<void> Flags::Impl::apply_file() {
  if (config.empty()) return {};
  const auto table = parse_toml(config);
  if (!table) return table.error();
  const Path folder = std::filesystem::absolute(config).parent_path();
  for (const FileEntry& entry : entries_by_line(*table, config)) {
    const auto applied = apply_entry(entry, folder);
    if (!applied) return applied;
  }
  return {};
}

std::string Flags::Impl::usage() const {
  std::string text = "Usage: " + program + " [flags]";
  for (const Flag& flag : flags) {
    if (!flag.positional) continue;
    text += " " + flag.name + (std::holds_alternative<Texts*>(flag.target) ? "..." : "");
  }
  return text + "\n";
}

Flags::Flags(std::string program, std::string description) : impl_(std::make_unique<Impl>()) {
  impl_->program = std::move(program);
  impl_->description = std::move(description);
  impl_->group = "General";
  impl_->add("config", &impl_->config, "a TOML file with flags as keys; the command line wins over it", {},
             false);
  impl_->group = "Flags";
}

Flags::~Flags() = default;

void Flags::group(const std::string& title) {
  impl_->group = title;
}

void Flags::add(const std::string& name, std::string& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, int32_t& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, uint32_t& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, int64_t& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, uint64_t& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, double& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, bool& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, std::vector<std::string>& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add_path(const std::string& name, std::filesystem::path& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add_choice(const std::string& name, std::string& value, std::vector<std::string> choices,
                       const std::string& help) {
  if (choices.empty()) throw std::logic_error("flag " + in_quotes(name) + " has no choices");
  impl_->add(name, &value, help, std::move(choices), false);
}
void Flags::add_positional(const std::string& name, std::string& value, const std::string& help) {
  impl_->add(name, &value, help, {}, true);
}

void Flags::add_positional(const std::string& name, std::vector<std::string>& value,
                           const std::string& help) {
  impl_->add(name, &value, help, {}, true);
}

std::optional<int> Flags::parse(int argc, const char* const* argv) {
  const auto fail = [&](const Error& error) {
    std::cerr << impl_->program << ": " << error.message << " (run " << impl_->program << " --help)"
              << std::endl;
    return kExitUsage;
  };
  const auto request = impl_->read_command_line(argc, argv);
  if (!request) return fail(request.error());
  if (*request == Impl::Request::kShowHelp) std::cout << help() << std::flush;
  if (*request == Impl::Request::kShowVersion) std::cout << impl_->program << " " << kVersion << std::endl;
  if (*request != Impl::Request::kRun) return kExitDone;
  // The file comes between: it needs --config, and everything else on the command line overrides it.
  const auto named = impl_->apply_command_line(true);
  if (!named) return fail(named.error());
  const auto from_file = impl_->apply_file();
  if (!from_file) return fail(from_file.error());
  const auto applied = impl_->apply_command_line(false);
  if (!applied) return fail(applied.error());
  return std::nullopt;
}

bool Flags::given(const std::string& name) const {
  const Flag* flag = impl_->find(name);
  if (!flag) throw std::logic_error("there is no flag " + in_quotes(name));
  return flag->given;
}

std::string Flags::to_toml() const {
  std::string text;
  std::string group;
  for (const Flag& flag : impl_->flags) {
    if (flag.positional || flag.name == "config") continue;
    if (flag.group != group) {
      text += (text.empty() ? "# " : "\n# ") + flag.group + "\n";
      group = flag.group;
    }
    text += flag.name + " = " + std::visit(TomlValue{}, flag.target) + "\n";
  }
  return text;
}

std::string Flags::help() const {
  std::string text = impl_->description + "\n\n" + impl_->usage();
  std::string group;
  for (const bool positional : {true, false}) {
    for (const Flag& flag : impl_->flags) {
      if (flag.name == "config" || flag.positional != positional) continue;
      const std::string heading = positional ? "Arguments" : flag.group;
      if (heading != group) text += "\n" + heading + "\n";
      group = heading;
      text += flag_help(flag);
    }
  }
  text += "\nGeneral\n" + flag_help(*impl_->find("config"));
  text += help_line("-h, --help", "prints this text");
  return text + help_line("--version", "prints the version");
}

}  // namespace tandem
