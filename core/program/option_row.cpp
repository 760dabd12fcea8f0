#include "tandem/core/program/option_row.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "tandem/core/base/specification.h"
#include "tandem/core/base/wording_detail.h"
#include "tandem/core/program/flag_detail.h"

namespace tandem {

OptionRow& OptionRow::at_least(double low) {
  return within({.low = low});
}

OptionRow& OptionRow::between(double low, double high) {
  return within({.low = low, .high = high});
}

OptionRow& OptionRow::within(const Range& range) {
  flag_->range = range;
  return *this;
}

OptionRow& OptionRow::takes(std::vector<Form> forms) {
  if (!std::holds_alternative<std::string*>(flag_->target)) {
    throw std::logic_error("flag " + detail::in_quotes(flag_->name) + " takes no specification");
  }
  flag_->forms = std::move(forms);
  flag_->default_value = detail::canonical_text(*flag_);
  return *this;
}

OptionRow& OptionRow::checked_by(std::function<Result<void>()> check) {
  flag_->check = std::move(check);
  return *this;
}

OptionRow& OptionRow::does_nothing(std::string when, std::string because, std::string remedy,
                                   std::function<bool()> condition) {
  flag_->idle.push_back({std::move(when), std::move(because), std::move(remedy), std::move(condition)});
  return *this;
}

OptionRow& OptionRow::may_be_left_out() {
  flag_->may_be_left_out = true;
  return *this;
}

OptionRow& OptionRow::or_number() {
  flag_->or_number = true;
  return *this;
}

OptionRow& OptionRow::may_stay_unused() {
  flag_->may_stay_unused = true;
  return *this;
}

OptionRow& OptionRow::not_of_the_run() {
  flag_->of_the_run = false;
  return *this;
}

OptionRow& OptionRow::of_the_run_while(std::string when, std::function<bool()> condition) {
  flag_->of_the_run_when = std::move(when);
  flag_->of_the_run_while = std::move(condition);
  return *this;
}

OptionRow& OptionRow::replaces(const std::string& name, const std::string& parameter) {
  if (!std::holds_alternative<std::string*>(flag_->target)) {
    throw std::logic_error("flag " + detail::in_quotes(flag_->name) + " takes no specification");
  }
  return replaces(name, [forms = flag_->forms, parameter](const std::string& value, const std::string& text) {
    return with_parameter(text, parameter, value, forms);
  });
}

OptionRow& OptionRow::replaces(
    const std::string& name,
    std::function<std::string(const std::string& value, const std::string& text)> respelled) {
  flag_->replaced.push_back({name, std::move(respelled)});
  return *this;
}

OptionRow& OptionRow::with_path(const std::string& parameter) {
  flag_->path_parameter = parameter;
  return *this;
}

std::string with_parameter(const std::string& text, const std::string& parameter, const std::string& value,
                           const std::vector<Form>& forms) {
  const std::string item = parameter + "=" + escaped_for_specification(value);
  if (forms.size() == 1 && forms.front().name.empty()) return text + (text.empty() ? "" : ",") + item;
  const std::string name = text.substr(0, text.find_first_of(":,"));
  const auto has_it = [&](const Form& form) { return form.find(parameter) != nullptr; };
  const bool fits = std::any_of(forms.begin(), forms.end(),
                                [&](const Form& form) { return form.name == name && has_it(form); });
  const auto first = std::find_if(forms.begin(), forms.end(), has_it);
  if (!fits && first != forms.end()) return first->name + ":" + item;
  return text + (name.size() < text.size() ? "," : ":") + item;
}

}  // namespace tandem
