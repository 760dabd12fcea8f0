#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tandem/core/base/form.h"
#include "tandem/core/base/result.h"

namespace tandem {

namespace detail {
struct Flag;
}

/// Says more about the option that Flags::add has just added: one chain of calls is the option's row in the
/// table. Its range, its forms, when it does nothing and why, and whether it belongs to the run give the
/// checks of Flags::check(), the comparison of a run that goes on, --help and the reference page.
///
/// Functions given here are called after the values have been read; what they capture must outlive the Flags.
class OptionRow {
 public:
  explicit OptionRow(detail::Flag& flag) : flag_(&flag) {}

  /// The range of a number, ends included.
  OptionRow& at_least(double low);
  OptionRow& between(double low, double high);
  OptionRow& within(const Range& range);

  /// The text is a specification of one of these forms.
  OptionRow& takes(std::vector<Form> forms);

  /// The argument without a name may be left out.
  OptionRow& may_be_left_out();

  /// The text may be a whole number alone: a file may have it without quotes.
  OptionRow& or_number();

  /// What else must hold, also together with other options.
  OptionRow& checked_by(std::function<Result<void>()> check);

  /// Refuses a value other than the default while `condition` holds: "--local-epochs 2 does nothing with
  /// --local-steps: a round is so many steps, not passes; leave it out or leave out --local-steps", of `when`
  /// ("with --local-steps"), `because` and `remedy`, which may be empty.
  OptionRow& does_nothing(std::string when, std::string because, std::string remedy,
                          std::function<bool()> condition);
  /// A value that does nothing is mentioned in Flags::notes() instead of refused.
  OptionRow& may_stay_unused();

  /// The option may be another where a run goes on: it says how the program works, not what it computes.
  OptionRow& not_of_the_run();
  /// The option belongs to the run only while `condition` holds; the reference page says `when` that is.
  OptionRow& of_the_run_while(std::string when, std::function<bool()> condition);

  /// Refuses an option of earlier versions, also as a key of a file: the error gives its value in the present
  /// spelling, which is `parameter` of this option's specification.
  OptionRow& replaces(const std::string& name, const std::string& parameter);
  /// The same where the present value follows from the earlier one and this option's text otherwise:
  /// `respelled` returns this option's whole text.
  OptionRow& replaces(
      const std::string& name,
      std::function<std::string(const std::string& value, const std::string& text)> respelled);

  /// The parameter of this name, in the text's part after the first comma, is a path: in a file it is
  /// relative to the file's folder.
  OptionRow& with_path(const std::string& parameter);

 private:
  detail::Flag* flag_;
};

/// Returns `text`, a specification, with `parameter` set to `value` in it. Where its form has no such
/// parameter, the first of `forms` that has it takes its place.
std::string with_parameter(const std::string& text, const std::string& parameter, const std::string& value,
                           const std::vector<Form>& forms);

}  // namespace tandem
