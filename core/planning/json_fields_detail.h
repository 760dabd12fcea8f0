#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tandem/core/planning/problem.h"

namespace tandem::detail {

/// Above this no time, size or energy of a problem lies, so that no sum or quotient of them is infinite.
inline constexpr double kLargestNumber = 1e30;
/// Below this no rate lies, for the same reason.
inline constexpr double kSmallestRate = 1e-30;
inline constexpr double kUnlimited = std::numeric_limits<double>::infinity();

/// The fields of one JSON object. Each function reads one field, and throws ProblemError with the field's path
/// when it is missing or breaks its rule. check_all_known() refuses the fields that nobody asked for.
/// `object` must outlive the reader.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string path);

  bool has(const std::string& name);

  /// A finite number of at least 0 and at most kLargestNumber.
  double number(const std::string& name);
  double number_or(const std::string& name, double missing);
  /// A number above 0.
  double rate(const std::string& name);
  /// A number of at least 0; infinite when the field is missing.
  double limit_or_none(const std::string& name);
  /// A number of at least 0, of any size.
  double limit(const std::string& name);
  /// A whole number.
  uint64_t count_or(const std::string& name, uint64_t missing, uint64_t low, uint64_t high);
  bool flag_or(const std::string& name, bool missing);
  /// One of `choices`, by position.
  size_t choice_or(const std::string& name, const std::vector<std::string>& choices, size_t missing);
  /// A text of 1 to 200 bytes without control characters.
  std::string text(const std::string& name);
  /// An array of `size` numbers, each as number() says.
  std::vector<double> numbers(const std::string& name, size_t size);
  /// An array of `low` to `high` entries.
  const nlohmann::json& array(const std::string& name, size_t low, size_t high);
  const nlohmann::json& value(const std::string& name);

  /// The path of a field of this object.
  std::string path_of(const std::string& name) const;
  [[noreturn]] void refuse(const std::string& name, const std::string& rule) const;

  void check_all_known() const;

 private:
  const nlohmann::json& object_;
  std::string path_;
  std::vector<std::string> asked_;
};

/// "devices[3]"
std::string entry_path(const std::string& array, size_t index);

}  // namespace tandem::detail
