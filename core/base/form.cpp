#include "tandem/core/base/form.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "tandem/core/base/text.h"
#include "tandem/core/base/wording_detail.h"

namespace tandem {
namespace {

using detail::did_you_mean;
using detail::in_quotes;
using detail::invalid;
using Kind = FormParameter::Kind;

constexpr double kLargest = std::numeric_limits<double>::max();

std::string value_kind(const FormParameter& parameter) {
  switch (parameter.kind) {
    case Kind::kWhole:
      return "a whole number";
    case Kind::kNumber:
      return "a finite number";
    case Kind::kTime:
      return "a time such as 10s or 500ms";
    case Kind::kText:
      break;
  }
  return "a text";
}

Error out_of_range(const std::string& label, const std::string& kind, const std::string& range,
                   const std::string& text) {
  return invalid(label + " must be " + kind + (range.empty() ? "" : " ") + range + ", got " +
                 in_quotes(text));
}

Result<std::string> checked_number(const std::string& label, const FormParameter& parameter,
                                   const std::string& text) {
  const auto refuse = [&] {
    return out_of_range(label, value_kind(parameter), parameter.range.text(), text);
  };
  if (parameter.kind == Kind::kWhole) {
    const auto whole = parse_integer(label, text, INT64_MIN, INT64_MAX);
    if (!whole || !parameter.range.contains(static_cast<double>(*whole))) return refuse();
    return number_text(*whole);
  }
  const auto number = parse_number(label, text, -kLargest, kLargest);
  if (!number || !parameter.range.contains(*number)) return refuse();
  return number_text(*number);
}

std::string time_text(std::chrono::milliseconds time) {
  const bool whole_seconds = time.count() % 1000 == 0;
  return number_text(whole_seconds ? time.count() / 1000 : time.count()) + (whole_seconds ? "s" : "ms");
}

/// Checks the text of a parameter, and returns it in its one spelling.
Result<std::string> checked_value(const std::string& label, const FormParameter& parameter,
                                  const std::string& text) {
  if (parameter.kind == Kind::kTime) {
    const auto time = parse_time(label, text, parameter.range);
    if (!time) return time.error();
    return time_text(*time);
  }
  if (parameter.kind != Kind::kText) return checked_number(label, parameter, text);
  const auto& choices = parameter.choices;
  if (choices.empty() || std::find(choices.begin(), choices.end(), text) != choices.end()) return text;
  return invalid(label + " must be one of " + detail::joined(choices) + ", got " + in_quotes(text) +
                 did_you_mean(text, choices));
}

std::vector<std::string> names_of(const std::vector<Form>& forms) {
  std::vector<std::string> names;
  for (const Form& form : forms) names.push_back(form.name);
  return names;
}

/// Returns the form that `text` names, which is the only one where it has no name.
Result<const Form*> chosen_form(const std::string& label, const std::string& text,
                                const std::vector<Form>& forms) {
  if (forms.size() == 1 && forms.front().name.empty()) return &forms.front();
  const auto name = specification_name(text);
  if (!name) return Error{name.error().code, label + ": " + name.error().message};
  for (const Form& form : forms) {
    if (form.name == *name) return &form;
  }
  const std::vector<std::string> names = names_of(forms);
  return invalid(label + " must be one of " + detail::joined(names) + ", got " + in_quotes(text) +
                 did_you_mean(*name, names));
}

Result<std::map<std::string, std::string>> parameters_of(const Form& form, const std::string& text) {
  if (form.name.empty() && text.empty()) return std::map<std::string, std::string>();
  const auto parsed = parse_specification(form.name.empty() ? ":" + text : text, Argument::kNone);
  if (!parsed) return parsed.error();
  std::vector<std::string> known;
  for (const FormParameter& parameter : form.parameters) known.push_back(parameter.name);
  if (auto checked = check_parameters(*parsed, known); !checked) return checked.error();
  return parsed->parameters;
}

/// How the value of a parameter without a default is shown.
const char* placeholder(const FormParameter& parameter) {
  switch (parameter.kind) {
    case Kind::kWhole:
      return "N";
    case Kind::kNumber:
      return "NUMBER";
    case Kind::kTime:
      return "TIME";
    case Kind::kText:
      break;
  }
  return "TEXT";
}

/// Shows a bound without an exponent where it is a whole number.
std::string bound_text(double bound) {
  const bool is_whole = std::abs(bound) < 1e15 && bound == std::floor(bound);
  return is_whole ? number_text(static_cast<int64_t>(bound)) : number_text(bound);
}

}  // namespace

bool Range::contains(double value) const {
  return (above_low ? value > low : value >= low) && (below_high ? value < high : value <= high);
}

std::string Range::text(const std::string& unit) const {
  const bool has_low = std::isfinite(low);
  const bool has_high = std::isfinite(high);
  const std::string lowest = bound_text(low) + unit;
  const std::string highest = bound_text(high) + unit;
  if (has_low && has_high) {
    return (above_low ? "above " : "from ") + lowest + (below_high ? " to below " : " to ") + highest;
  }
  if (has_low) return (above_low ? "> " : ">= ") + lowest;
  return has_high ? (below_high ? "< " : "<= ") + highest : "";
}

const FormParameter* Form::find(const std::string& parameter) const {
  const auto found = std::find_if(parameters.begin(), parameters.end(),
                                  [&](const FormParameter& known) { return known.name == parameter; });
  return found == parameters.end() ? nullptr : &*found;
}

const std::string& FormValue::text(const std::string& parameter) const {
  const FormParameter* known = form_.find(parameter);
  if (known == nullptr) {
    throw std::logic_error(in_quotes(form_.name) + " has no parameter " + in_quotes(parameter));
  }
  const auto found = given_.find(parameter);
  return found == given_.end() ? known->default_text : found->second;
}

int64_t FormValue::whole(const std::string& parameter) const {
  const auto value = parse_integer(parameter, text(parameter), INT64_MIN, INT64_MAX);
  if (!value) throw std::logic_error(value.error().message);
  return *value;
}

double FormValue::number(const std::string& parameter) const {
  const auto value = parse_number(parameter, text(parameter), -kLargest, kLargest);
  if (!value) throw std::logic_error(value.error().message);
  return *value;
}

std::chrono::milliseconds FormValue::time(const std::string& parameter) const {
  const auto value = parse_time(parameter, text(parameter), {});
  if (!value) throw std::logic_error(value.error().message);
  return *value;
}

std::string FormValue::full_text() const {
  std::string full = form_.name;
  char separator = ':';
  for (const FormParameter& parameter : form_.parameters) {
    full += separator + parameter.name + '=' + escaped_for_specification(text(parameter.name));
    separator = ',';
  }
  return full;
}

Result<FormValue> parse_form(const std::string& label, const std::string& text,
                             const std::vector<Form>& forms) {
  const auto form = chosen_form(label, text, forms);
  if (!form) return form.error();
  const auto parameters = parameters_of(**form, text);
  if (!parameters) return Error{parameters.error().code, label + ": " + parameters.error().message};
  FormValue value;
  value.form_ = **form;
  for (const FormParameter& parameter : value.form_.parameters) {
    const std::string name = label + " " + (value.name().empty() ? "" : value.name() + ":") + parameter.name;
    const auto found = parameters->find(parameter.name);
    if (found == parameters->end()) {
      if (parameter.required) return invalid(name + " is missing");
      continue;
    }
    const auto checked = checked_value(name, parameter, found->second);
    if (!checked) return checked.error();
    value.given_.emplace(parameter.name, *checked);
  }
  return value;
}

std::string forms_text(const std::vector<Form>& forms) {
  std::string text;
  for (size_t i = 0; i < forms.size(); ++i) {
    if (i > 0) text += i + 1 < forms.size() ? ", " : " or ";
    text += forms[i].name;
    const char* separator = forms[i].name.empty() ? "" : ":";
    for (const FormParameter& parameter : forms[i].parameters) {
      const std::string& standard = parameter.default_text;
      text += separator + parameter.name + "=" + (standard.empty() ? placeholder(parameter) : standard);
      separator = ",";
    }
  }
  return text;
}

Result<std::chrono::milliseconds> parse_time(const std::string& label, const std::string& text,
                                             const Range& seconds) {
  const bool in_ms = text.ends_with("ms");
  if (in_ms || text.ends_with("s")) {
    const auto number = parse_number(label, text.substr(0, text.size() - (in_ms ? 2 : 1)), 0, 1e12);
    const double value = number ? *number * (in_ms ? 0.001 : 1) : -1;
    if (number && seconds.contains(value)) return std::chrono::milliseconds(std::llround(value * 1000));
  }
  return out_of_range(label, "a time such as 10s or 500ms", seconds.text("s"), text);
}

}  // namespace tandem
