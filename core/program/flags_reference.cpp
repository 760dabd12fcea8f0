#include "tandem/core/program/flags_reference_detail.h"

#include <algorithm>

#include "tandem/core/base/wording_detail.h"

namespace tandem::detail {
namespace {

struct TypeName {
  const Flag& flag;
  std::string operator()(const std::string*) const {
    if (!flag.choices.empty()) return "one of " + joined(flag.choices);
    return flag.forms.empty() ? "text" : "specification";
  }
  std::string operator()(const std::filesystem::path*) const { return "path"; }
  std::string operator()(const bool*) const { return "switch"; }
  std::string operator()(const double*) const { return "number"; }
  std::string operator()(const Texts*) const { return "text, repeatable"; }
  template <class T>
  std::string operator()(const T*) const {
    return "whole number";
  }
};

/// `text` in one cell of a table.
std::string cell(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '|' || c == '<' || c == '*') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string code(const std::string& text) {
  return text.empty() ? "" : "`" + text + "`";
}

std::string with_range(const std::string& type, const std::string& range) {
  return cell(range.empty() ? type : type + " " + range);
}

bool belongs_to_a_run(const FlagTable& flags) {
  return std::any_of(flags.begin(), flags.end(),
                     [](const Flag& flag) { return flag.is_key() && !flag.of_the_run; });
}

std::string run_cell(const Flag& flag) {
  if (!flag.is_key() || !flag.of_the_run) return "no";
  return flag.of_the_run_when.empty() ? "yes" : cell(flag.of_the_run_when);
}

std::string meaning(const Flag& flag) {
  std::string text = cell(flag.help) + ".";
  for (const Idle& idle : flag.idle) {
    text += " Does nothing " + cell(idle.when) + ": " + cell(idle.because) + ".";
  }
  return text;
}

std::string flag_row(const Flag& flag, bool with_run) {
  const std::string name = flag.positional ? flag.name : "--" + flag.name;
  std::string row = "| " + code(name) + " | " +
                    with_range(std::visit(TypeName{flag}, flag.target), flag.range.text()) + " | " +
                    code(flag.default_text) + " | ";
  if (with_run) row += run_cell(flag) + " | ";
  return row + meaning(flag) + " |\n";
}

std::string parameter_type(const FormParameter& parameter) {
  switch (parameter.kind) {
    case FormParameter::Kind::kWhole:
      return with_range("whole number", parameter.range.text());
    case FormParameter::Kind::kNumber:
      return with_range("number", parameter.range.text());
    case FormParameter::Kind::kTime:
      return with_range("time", parameter.range.text("s"));
    case FormParameter::Kind::kText:
      break;
  }
  return cell(parameter.choices.empty() ? "text" : "one of " + joined(parameter.choices));
}

/// The forms of one flag.
std::string forms_table(const Flag& flag) {
  std::string text = "\n`--" + flag.name + "` takes:\n\n";
  text += "| name | parameter | value | default | meaning |\n|---|---|---|---|---|\n";
  for (const Form& form : flag.forms) {
    if (!form.name.empty()) text += "| " + code(form.name) + " | | | | " + cell(form.help) + " |\n";
    for (const FormParameter& parameter : form.parameters) {
      text += "| | " + code(parameter.name) + " | " + parameter_type(parameter) + " | " +
              (parameter.required ? "required" : code(parameter.default_text)) + " | " +
              cell(parameter.help) + " |\n";
    }
  }
  return text;
}

std::string section_text(const FlagTable& flags, const std::string& title, bool with_run) {
  std::string rows;
  std::string forms;
  std::string name;
  for (const Flag& flag : flags) {
    if (flag.section.title != title || flag.positional) continue;
    name = flag.section.name;
    rows += flag_row(flag, with_run);
    if (!flag.forms.empty()) forms += forms_table(flag);
  }
  if (rows.empty()) return "";
  const std::string heading =
      "\n### " + title + (name.empty() ? "" : ", `[" + name + "]` in a file") + "\n\n";
  const std::string head = with_run
                               ? "| flag | value | default | of the run | meaning |\n|---|---|---|---|---|\n"
                               : "| flag | value | default | meaning |\n|---|---|---|---|\n";
  return heading + head + rows + forms;
}

std::string positional_text(const FlagTable& flags) {
  std::string rows;
  for (const Flag& flag : flags) {
    if (flag.positional) rows += flag_row(flag, /*with_run=*/false);
  }
  if (rows.empty()) return "";
  return "\n### Arguments\n\n| argument | value | default | meaning |\n|---|---|---|---|\n" + rows;
}

std::string replaced_text(const FlagTable& flags) {
  std::string text;
  for (const Flag& flag : flags) {
    for (const ReplacedFlag& replaced : flag.replaced) {
      text += (text.empty() ? "" : ", ") + code("--" + replaced.name) + " (" + code("--" + flag.name) + ")";
    }
  }
  if (text.empty()) return "";
  return "\nFlags of earlier versions are refused with their value in the present spelling. They are, each "
         "with "
         "the flag that it is part of now: " +
         text + ".\n";
}

}  // namespace

std::string reference_text(const std::string& program, const std::string& description,
                           const FlagTable& flags) {
  const bool with_run = belongs_to_a_run(flags);
  std::string text = "\n## " + program + "\n\n" + description + "\n" + positional_text(flags);
  std::vector<std::string> titles;
  for (const Flag& flag : flags) {
    const std::string& title = flag.section.title;
    if (std::find(titles.begin(), titles.end(), title) == titles.end()) titles.push_back(title);
  }
  std::rotate(titles.begin(), titles.begin() + 1, titles.end());  // that of --config comes last
  for (const std::string& title : titles) text += section_text(flags, title, with_run);
  return text + replaced_text(flags);
}

}  // namespace tandem::detail
