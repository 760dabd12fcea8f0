#include <algorithm>
#include <cmath>

#include "tandem/core/base/text.h"
#include "tandem/core/base/wording_detail.h"
#include "tandem/core/planning/json_fields_detail.h"

namespace tandem::detail {
namespace {

using Json = nlohmann::json;

constexpr size_t kLongestName = 200;
constexpr size_t kLongestQuote = 60;

/// The value as a message shows it, shortened, on one line.
std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kLongestQuote) text = text.substr(0, kLongestQuote) + "...";
  return text;
}

std::string got(const Json& value) {
  return ", got " + shown(value);
}

double checked_number(const Json& value, const std::string& path, double low, double high,
                      const std::string& rule) {
  if (!value.is_number()) throw ProblemError(path, rule + got(value));
  const auto number = value.get<double>();
  if (!std::isfinite(number) || number < low || number > high) throw ProblemError(path, rule + got(value));
  return number;
}

double any_number(const Json& value, const std::string& path) {
  return checked_number(value, path, 0, kLargestNumber, "must be a number from 0 to 1e30");
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

}  // namespace

JsonFields::JsonFields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object()) throw ProblemError(path_, "must be an object" + got(object));
}

bool JsonFields::has(const std::string& name) {
  asked_.push_back(name);
  return object_.contains(name);
}

const Json& JsonFields::value(const std::string& name) {
  if (!has(name)) refuse(name, "is missing");
  return object_.at(name);
}

double JsonFields::number(const std::string& name) {
  return any_number(value(name), path_of(name));
}

double JsonFields::number_or(const std::string& name, double missing) {
  return has(name) ? number(name) : missing;
}

double JsonFields::rate(const std::string& name) {
  return checked_number(value(name), path_of(name), kSmallestRate, std::numeric_limits<double>::max(),
                        "must be a number above 0 (at least 1e-30)");
}

double JsonFields::limit(const std::string& name) {
  return checked_number(value(name), path_of(name), 0, std::numeric_limits<double>::max(),
                        "must be a number of at least 0");
}

double JsonFields::limit_or_none(const std::string& name) {
  return has(name) ? limit(name) : kUnlimited;
}

uint64_t JsonFields::count_or(const std::string& name, uint64_t missing, uint64_t low, uint64_t high) {
  if (!has(name)) return missing;
  const Json& field = object_.at(name);
  const std::string rule = "must be a whole number from " + number_text(low) + " to " + number_text(high);
  const double number =
      checked_number(field, path_of(name), static_cast<double>(low), static_cast<double>(high), rule);
  if (number != std::floor(number)) refuse(name, rule + got(field));
  return static_cast<uint64_t>(number);
}

bool JsonFields::flag_or(const std::string& name, bool missing) {
  if (!has(name)) return missing;
  const Json& field = object_.at(name);
  if (!field.is_boolean()) refuse(name, "must be true or false" + got(field));
  return field.get<bool>();
}

size_t JsonFields::choice_or(const std::string& name, const std::vector<std::string>& choices,
                             size_t missing) {
  if (!has(name)) return missing;
  const Json& field = object_.at(name);
  if (field.is_string()) {
    const auto found = std::find(choices.begin(), choices.end(), field.get_ref<const std::string&>());
    if (found != choices.end()) return static_cast<size_t>(found - choices.begin());
  }
  refuse(name, "must be one of " + joined(choices) + got(field));
}

std::string JsonFields::text(const std::string& name) {
  const Json& field = value(name);
  const std::string rule = "must be a text of 1 to 200 bytes without control characters";
  if (!field.is_string()) refuse(name, rule + got(field));
  std::string text = field.get<std::string>();
  if (text.empty() || text.size() > kLongestName || std::any_of(text.begin(), text.end(), is_control)) {
    refuse(name, rule + got(field));
  }
  return text;
}

const Json& JsonFields::array(const std::string& name, size_t low, size_t high) {
  const Json& field = value(name);
  const std::string size =
      low == high ? number_text(low) : number_text(low) + " to " + number_text(high);
  const std::string rule = "must be an array of " + size + (high == 1 ? " entry" : " entries");
  if (!field.is_array()) refuse(name, rule + got(field));
  if (field.size() < low || field.size() > high) refuse(name, rule + ", got " + number_text(field.size()));
  return field;
}

std::vector<double> JsonFields::numbers(const std::string& name, size_t size) {
  const Json& field = value(name);
  const std::string rule = "must be an array of " + number_text(size) + " numbers, one for each block";
  if (!field.is_array()) refuse(name, rule + got(field));
  if (field.size() != size) refuse(name, rule + ", got " + number_text(field.size()));
  std::vector<double> numbers;
  numbers.reserve(size);
  for (size_t i = 0; i < size; ++i) numbers.push_back(any_number(field[i], entry_path(path_of(name), i)));
  return numbers;
}

std::string JsonFields::path_of(const std::string& name) const {
  return path_.empty() ? name : path_ + "." + name;
}

void JsonFields::refuse(const std::string& name, const std::string& rule) const {
  throw ProblemError(path_of(name), rule);
}

void JsonFields::check_all_known() const {
  for (const auto& item : object_.items()) {
    if (std::find(asked_.begin(), asked_.end(), item.key()) != asked_.end()) continue;
    const std::string key = shown(Json(item.key()));
    throw ProblemError(path_.empty() ? "the problem" : path_,
                       "has no field " + key + did_you_mean(item.key(), asked_));
  }
}

std::string entry_path(const std::string& array, size_t index) {
  return array + "[" + number_text(index) + "]";
}

}  // namespace tandem::detail
