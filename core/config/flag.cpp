#include "tandem/core/config/flag_detail.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "tandem/core/config/toml_text_detail.h"
#include "tandem/core/config/wording_detail.h"

namespace tandem::detail {
namespace {

/// Stores one flag's texts into its variable. `label` is how the reader knows the flag.
struct Assign {
  const Flag& flag;
  const std::string& label;
  const Texts& texts;

  const std::string& text() const { return texts.front(); }

  Result<void> operator()(std::string* value) const {
    if (!flag.choices.empty() &&
        std::find(flag.choices.begin(), flag.choices.end(), text()) == flag.choices.end()) {
      return invalid(label + " must be one of " + joined(flag.choices) + ", got " + in_quotes(text()) +
                     did_you_mean(text(), flag.choices));
    }
    *value = text();
    return {};
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
    *value = text();
    return {};
  }
};

}  // namespace

Result<void> assign(Flag& flag, const std::string& label, const Texts& texts) {
  for (const std::string& text : texts) {
    // Both the configuration and the metrics are UTF-8 files; other bytes could not be written back.
    if (!is_utf8(text)) return invalid(label + " is not valid UTF-8");
  }
  const auto stored = std::visit(Assign{flag, label, texts}, flag.target);
  if (stored) flag.given = true;
  return stored;
}

}  // namespace tandem::detail
