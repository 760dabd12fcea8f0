#include "tandem/core/program/flags_help_detail.h"

#include <algorithm>
#include <filesystem>

#include "tandem/core/base/wording_detail.h"

namespace tandem::detail {
namespace {

constexpr size_t kHelpWidth = 100;
constexpr size_t kHelpColumn = 30;

using Path = std::filesystem::path;

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

/// Returns how much of `text` forms one line of at most `room` characters: up to a space, or behind a comma
/// where a word alone is longer.
size_t line_length(const std::string& text, size_t room) {
  if (text.size() <= room) return text.size();
  const size_t space = text.rfind(' ', room);
  if (space != std::string::npos) return space;
  const size_t comma = text.rfind(',', room - 1);
  return comma != std::string::npos ? comma + 1 : std::min(text.find(' '), text.size());
}

/// `text` broken to `width`, continued under `indent` spaces.
std::string wrapped(std::string text, size_t indent, size_t width) {
  std::string out;
  while (!text.empty()) {
    const size_t length = line_length(text, width - indent);
    out += (out.empty() ? "" : "\n" + std::string(indent, ' ')) + text.substr(0, length);
    text.erase(0, length < text.size() && text[length] == ' ' ? length + 1 : length);
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
  if (!flag.forms.empty()) right += ": " + forms_text(flag.forms);
  if (const std::string range = flag.range.text(); !range.empty()) right += "; " + range;
  if (flag.repeatable()) right += "; repeatable";
  if (!flag.default_text.empty()) right += " [" + flag.default_text + "]";
  return help_line(flag.label() + std::visit(Placeholder{flag}, flag.target), right);
}

std::string usage(const std::string& program, const FlagTable& flags) {
  std::string text = "Usage: " + program + " [flags]";
  for (const Flag& flag : flags) {
    if (!flag.positional) continue;
    text += " " + flag.name + (flag.repeatable() ? "..." : "");
  }
  return text + "\n";
}

}  // namespace

std::string help_text(const std::string& program, const std::string& description, const FlagTable& flags) {
  std::string text = description + "\n\n" + usage(program, flags);
  std::string group;
  for (const bool positional : {true, false}) {
    for (const Flag& flag : flags) {
      if (flag.name == kConfigFlag || flag.positional != positional) continue;
      const std::string heading = positional ? "Arguments" : flag.section.title;
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
