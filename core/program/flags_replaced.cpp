#include "tandem/core/base/toml_text_detail.h"
#include "tandem/core/base/wording_detail.h"
#include "tandem/core/program/flag_detail.h"

namespace tandem::detail {

Replacement find_replaced(const FlagTable& flags, const std::string& name) {
  for (const Flag& flag : flags) {
    for (const ReplacedFlag& replaced : flag.replaced) {
      if (replaced.name == name) return {&flag, &replaced};
    }
  }
  return {};
}

Error replaced_error(const std::vector<GivenReplaced>& given) {
  const Flag& flag = *given.front().replacement.flag;
  std::string text = plain_text(flag.target);
  std::string labels;
  size_t count = 0;
  for (const GivenReplaced& each : given) {
    if (each.replacement.flag != &flag) continue;
    text = each.replacement.replaced->respelled(each.value, text);
    labels += (count++ > 0 ? " and " : "") + each.label;
  }
  const std::string is = labels + (count > 1 ? " are" : " is") + " now part of ";
  if (!given.front().in_file) return invalid(is + flag.label() + ": " + flag.label() + " " + text);
  const bool quoted = std::holds_alternative<std::string*>(flag.target);
  return invalid(is + in_quotes(flag.name) + ": " + flag.name + " = " + (quoted ? toml_string(text) : text));
}

}  // namespace tandem::detail
