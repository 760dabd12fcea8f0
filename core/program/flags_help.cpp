#include "tandem/core/program/flags_help_detail.h"

#include <algorithm>
#include <filesystem>

#include "tandem/core/base/wording_detail.h"

namespace tandem::detail {
namespace {

constexpr size_t kHelpWidth = 100;
constexpr size_t kHelpColumn = 30;

using Path = std::filesystem::path;

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
  if (flag.positional) return help_line(flag.label(), flag.help);
  std::string right = flag.help;
  if (!flag.choices.empty()) right += "; one of " + joined(flag.choices);
  if (flag.repeatable()) right += "; repeatable";
  if (!flag.default_text.empty()) right += " [" + flag.default_text + "]";
  return help_line(flag.label() + std::visit(Placeholder{flag}, flag.target), right);
}

std::string usage(const std::string& program, const std::vector<Flag>& flags) {
  std::string text = "Usage: " + program + " [flags]";
  for (const Flag& flag : flags) {
    if (!flag.positional) continue;
    text += " " + flag.name + (flag.repeatable() ? "..." : "");
  }
  return text + "\n";
}

}  // namespace

std::string default_text(const FlagTarget& target) {
  return std::visit(HelpValue{}, target);
}

std::string help_text(const std::string& program, const std::string& description,
                      const std::vector<Flag>& flags) {
  std::string text = description + "\n\n" + usage(program, flags);
  std::string group;
  for (const bool positional : {true, false}) {
    for (const Flag& flag : flags) {
      if (flag.name == kConfigFlag || flag.positional != positional) continue;
      const std::string heading = positional ? "Arguments" : flag.group;
      if (heading != group) text += "\n" + heading + "\n";
      group = heading;
      text += flag_help(flag);
    }
  }
  text += "\nGeneral\n";
  for (const Flag& flag : flags) {
    if (flag.name == kConfigFlag) text += flag_help(flag);
  }
  text += help_line("-h, --help", "prints this text");
  return text + help_line("--version", "prints the version");
}

}  // namespace tandem::detail
