#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/base/specification.h"

namespace tandem {

/// The numbers that an option or a parameter takes. Both ends are included unless the fields say otherwise.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool above_low = false;   ///< `low` itself is excluded
  bool below_high = false;  ///< `high` itself is excluded

  bool contains(double value) const;
  /// ">= 1", "from 0 to 64", "from 0 to below 1"; empty where every number is taken. `unit` follows each
  /// number.
  std::string text(const std::string& unit = "") const;
};

/// One row of a form's table: a parameter with its type, range, default and help.
struct FormParameter {
  enum class Kind {
    kWhole,   ///< a whole number
    kNumber,  ///< a finite number
    kTime,    ///< "10s" or "250ms"; `range` is in seconds
    kText,    ///< one of `choices`, or any text where there are none
  };

  std::string name;
  Kind kind = Kind::kNumber;
  Range range = {};
  /// What counts where the parameter is left out, as a person would write it; empty leaves it open.
  std::string default_text = {};
  std::string help = {};
  std::vector<std::string> choices = {};
  bool required = false;
};

/// One of the NAMEs that an option takes, with the parameters of this NAME and of no other. A form without a
/// name is a list of parameters alone: "frame-mib=64,connections=8".
struct Form {
  std::string name;
  std::string help = {};
  std::vector<FormParameter> parameters = {};

  const FormParameter* find(const std::string& parameter) const;
};

/// A text that follows one of an option's forms. Reading a parameter that the form lacks throws
/// std::logic_error.
class FormValue {
 public:
  const std::string& name() const { return form_.name; }
  /// Whether the text has the parameter.
  bool given(const std::string& parameter) const { return given_.contains(parameter); }
  /// The parameter's text, or its default's; empty where it is left open.
  const std::string& text(const std::string& parameter) const;
  /// These throw std::logic_error where the parameter is left open.
  int64_t whole(const std::string& parameter) const;
  double number(const std::string& parameter) const;
  std::chrono::milliseconds time(const std::string& parameter) const;
  /// Returns the form's name with every parameter, defaults included, each number in its shortest spelling:
  /// two texts mean the same exactly when their full texts are equal.
  std::string full_text() const;

 private:
  friend Result<FormValue> parse_form(const std::string&, const std::string&, const std::vector<Form>&);
  Form form_;
  std::map<std::string, std::string> given_;
};

/// Parses `text` as one of `forms`, none of which has an ARG. `label` names the option in errors:
/// "--optimizer". kInvalidArgument names an unknown form or parameter with the nearest known one, a missing
/// parameter, or a value and its range.
Result<FormValue> parse_form(const std::string& label, const std::string& text,
                             const std::vector<Form>& forms);

/// Returns the forms for a person, with the defaults: "sgd:momentum=0,weight-decay=0 or adam". A parameter
/// without a default shows what it takes: "step:every=N,factor=NUMBER".
std::string forms_text(const std::vector<Form>& forms);

/// Parses "10s" or "250ms". kInvalidArgument names `label`, the text and the range, which is in seconds.
Result<std::chrono::milliseconds> parse_time(const std::string& label, const std::string& text,
                                             const Range& seconds);

}  // namespace tandem
