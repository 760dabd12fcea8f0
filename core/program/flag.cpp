#include "tandem/core/program/flag_detail.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <type_traits>

#include "tandem/core/base/specification.h"
#include "tandem/core/base/toml_text_detail.h"
#include "tandem/core/base/wording_detail.h"

namespace tandem::detail {
namespace {

/// "~/x" is in the user's home, as in a shell. "~name" would have to be looked up: it is refused rather than
/// taken for a file of that name.
Result<std::string> resolve_path(const std::string& label, const std::string& text,
                                 const std::filesystem::path& folder) {
  if (text.empty()) return text;
  if (text.front() != '~') return folder.empty() ? text : canonical_path(folder / text);
  if (text.size() > 1 && text[1] != '/') {
    return invalid(
        label + " is " + in_quotes(text) +
        ": only ~/ at the beginning of a path is somebody's home, yours; write the path out, or ./" + text +
        " for a file of that name");
  }
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') {
    return invalid(label + " is " + in_quotes(text) + ", and HOME is not set; write the path out");
  }
  return home + text.substr(1);
}

/// Stores one flag's texts into its variable. `label` is how the reader knows the flag.
struct Assign {
  const Flag& flag;
  const std::string& label;
  const Texts& texts;
  const std::filesystem::path& folder;

  const std::string& text() const { return texts.front(); }

  Result<void> operator()(std::string* value) const {
    if (!flag.choices.empty() &&
        std::find(flag.choices.begin(), flag.choices.end(), text()) == flag.choices.end()) {
      return invalid(label + " must be one of " + joined(flag.choices) + ", got " + in_quotes(text()) +
                     did_you_mean(text(), flag.choices));
    }
    Result<void> outcome;
    *value = with_changed_path(flag, text(), [&](const std::string& path) {
      auto resolved = resolve_path(label, path, folder);
      if (resolved) return *resolved;
      outcome = resolved.error();
      return path;
    });
    return outcome;
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

  Result<void> operator()(std::filesystem::path* value) const {
    const auto resolved = resolve_path(label, text(), folder);
    if (!resolved) return resolved.error();
    *value = *resolved;
    return {};
  }
};

struct CanonicalText {
  const Flag& flag;

  std::string operator()(const std::string* value) const {
    if (!flag.forms.empty()) {
      const auto form = parse_form(flag.label(), *value, flag.forms);
      return form ? form->full_text() : *value;
    }
    const auto parsed = parse_specification(*value, Argument::kTaken);
    if (!flag.is_data || !parsed || !names_files(parsed->name)) return canonical_specification(*value);
    return with_changed_path(flag, *value, [](const std::string& path) { return canonical_path(path); });
  }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const Texts* value) const { return joined(*value); }
  std::string operator()(const std::filesystem::path* value) const { return canonical_path(*value); }
  template <class T>
  std::string operator()(const T* value) const {
    return number_text(*value);
  }
};

struct PlainText {
  std::string operator()(const std::string* value) const { return *value; }
  std::string operator()(const std::filesystem::path* value) const { return value->string(); }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const Texts* value) const { return joined(*value); }
  template <class T>
  std::string operator()(const T* value) const {
    return number_text(*value);
  }
};

/// The value as a number, of a flag that is one.
struct AsNumber {
  std::optional<double> operator()(const bool*) const { return std::nullopt; }
  template <class T>
  std::optional<double> operator()(const T* value) const {
    if constexpr (std::is_arithmetic_v<T>) return static_cast<double>(*value);
    return std::nullopt;
  }
};

/// `text` with `change` applied to the value of `parameter`, which stands after a comma.
std::string with_changed_parameter(const std::string& text, const std::string& parameter,
                                   const std::function<std::string(const std::string&)>& change) {
  const std::string mark = "," + parameter + "=";
  const size_t at = text.find(mark);
  if (at == std::string::npos) return text;
  const size_t begin = at + mark.size();
  const size_t end = std::min(text.find(',', begin), text.size());
  // Read as an ARG, so that what cannot be read is left to whoever reads the whole text.
  const auto value = parse_specification("path:" + text.substr(begin, end - begin), Argument::kTaken);
  if (!value || value->argument.empty()) return text;
  return text.substr(0, begin) + escaped_for_specification(change(value->argument)) + text.substr(end);
}

}  // namespace

std::string canonical_path(const std::filesystem::path& path) {
  if (path.empty()) return "";
  const auto normal = std::filesystem::absolute(path).lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).string();
}

std::string with_changed_path(const Flag& flag, const std::string& text,
                              const std::function<std::string(const std::string&)>& change) {
  if (!flag.path_parameter.empty()) return with_changed_parameter(text, flag.path_parameter, change);
  const auto parsed = parse_specification(text, Argument::kTaken);
  if (!flag.is_data || !parsed || !names_files(parsed->name) || parsed->argument.empty()) return text;
  const size_t end = std::min(text.find(','), text.size());  // of the name and its ARG
  return parsed->name + ":" + escaped_for_specification(change(parsed->argument)) + text.substr(end);
}

std::string canonical_text(const Flag& flag) {
  return std::visit(CanonicalText{flag}, flag.target);
}

Result<void> assign(Flag& flag, const std::string& label, const Texts& texts,
                    const std::filesystem::path& folder) {
  for (const std::string& text : texts) {
    // Both the configuration and the metrics are UTF-8 files; other bytes could not be written back.
    if (!is_utf8(text)) return invalid(label + " is not valid UTF-8");
  }
  const auto stored = std::visit(Assign{flag, label, texts, folder}, flag.target);
  if (stored) flag.given = true;
  return stored;
}

std::string plain_text(const FlagTarget& target) {
  return std::visit(PlainText{}, target);
}

Result<void> check_value(const Flag& flag) {
  const auto number = std::visit(AsNumber{}, flag.target);
  if (number && !flag.range.contains(*number)) {
    return invalid(flag.label() + " must be " + flag.range.text() + ", got " + plain_text(flag.target));
  }
  if (flag.check) {
    if (auto checked = flag.check(); !checked) return checked;
  }
  if (flag.forms.empty()) return {};
  const auto form = parse_form(flag.label(), *std::get<std::string*>(flag.target), flag.forms);
  return form ? Result<void>() : Result<void>(form.error());
}

std::optional<std::string> idle_message(const Flag& flag) {
  if (flag.idle.empty() || canonical_text(flag) == flag.default_value) return std::nullopt;
  for (const Idle& idle : flag.idle) {
    if (!idle.condition()) continue;
    return flag.label() + " " + plain_text(flag.target) + " does nothing " + idle.when + ": " + idle.because +
           "; leave it out" + (idle.remedy.empty() ? "" : " or " + idle.remedy);
  }
  return std::nullopt;
}

}  // namespace tandem::detail
