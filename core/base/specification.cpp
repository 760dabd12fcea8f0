#include "tandem/core/base/specification.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "tandem/core/base/text.h"
#include "tandem/core/base/wording_detail.h"

namespace tandem {
namespace {

using detail::did_you_mean;
using detail::in_quotes;
using detail::invalid;
using detail::joined;

template <class T>
Error out_of_range(const std::string& what, const std::string& text, const char* kind, T low, T high) {
  const bool has_low = low > std::numeric_limits<T>::lowest();
  const bool has_high = high < std::numeric_limits<T>::max();
  std::string message = what + " must be " + kind;
  if (has_low && has_high) {
    message += " from " + number_text(low) + " to " + number_text(high);
  } else if (has_low) {
    message += " >= " + number_text(low);
  } else if (has_high) {
    message += " <= " + number_text(high);
  }
  return invalid(message + ", got " + in_quotes(text));
}

/// All of `text`, or nothing.
template <class T>
std::optional<T> parse_whole(const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

/// Returns `part`, an ARG or a VALUE of `text`, without its escapes.
Result<std::string> unescaped(std::string_view part, const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < part.size(); ++i) {
    const std::string_view escape = part.substr(i, 3);
    if (part[i] != '%') {
      plain += part[i];
      continue;
    }
    if (escape != "%2C" && escape != "%25") {
      return invalid(in_quotes(part) + " in " + in_quotes(text) +
                     " has a bare percent sign: write it %25, and a comma %2C");
    }
    plain += escape == "%2C" ? ',' : '%';
    i += 2;
  }
  return plain;
}

Result<void> parse_parameters(std::string_view items, const std::string& text, Specification& specification) {
  for (const std::string_view item : split(items, ',')) {
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return invalid(in_quotes(item) + " in " + in_quotes(text) + " is not key=value");
    }
    const std::string key(item.substr(0, equals));
    const auto value = unescaped(item.substr(equals + 1), text);
    if (!value) return value.error();
    if (!specification.parameters.emplace(key, *value).second) {
      return invalid("parameter " + in_quotes(key) + " is given twice in " + in_quotes(text));
    }
  }
  return {};
}

bool is_key(std::string_view text) {
  const auto fits = [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), fits);
}

/// Returns what a text of the earlier grammar, NAME?KEY=VALUE&KEY=VALUE or NAME:ARG?KEY=VALUE, is now;
/// nullopt for every other text.
std::optional<std::string> from_earlier_spelling(const std::string& text) {
  const size_t question = text.find('?');
  if (question == std::string::npos) return std::nullopt;
  const std::string_view query = std::string_view(text).substr(question + 1);
  const size_t equals = query.find('=');
  if (equals == std::string_view::npos || !is_key(query.substr(0, equals))) return std::nullopt;
  std::string now = escaped_for_specification(text.substr(0, question));
  char separator = now.find(':') == std::string::npos ? ':' : ',';
  for (const std::string_view parameter : split(query, '&')) {
    now += std::exchange(separator, ',') + escaped_for_specification(std::string(parameter));
  }
  return now;
}

/// Whether an item of a list begins a specification, rather than being a parameter of the one before it.
bool begins_specification(std::string_view item) {
  const size_t equals = item.find('=');
  return equals == std::string_view::npos || item.find(':') < equals;
}

std::string canonical_word(std::string_view word) {
  const std::string text(trimmed(word));
  if (const auto whole = parse_whole<int64_t>(text)) return std::to_string(*whole);
  const auto number = parse_whole<double>(text);
  return number && std::isfinite(*number) ? number_text(*number) : text;
}

/// Word by word; the signs between stay.
std::string canonical_words(std::string_view text) {
  std::string canonical;
  for (;;) {
    const size_t end = text.find_first_of(",:/=");
    canonical += canonical_word(text.substr(0, end));
    if (end == std::string_view::npos) return canonical;
    canonical += text[end];
    text.remove_prefix(end + 1);
  }
}

/// The one spelling of one specification. What follows its colon is an ARG if it has no '='.
std::string canonical_single(const std::string& text) {
  const size_t name_end = text.find_first_of(":,=");
  if (name_end == std::string::npos || text[name_end] == '=') return canonical_words(text);
  std::string canonical = canonical_word(std::string_view(text).substr(0, name_end));
  std::vector<std::string_view> items = split(std::string_view(text).substr(name_end + 1), ',');
  char separator = ':';
  if (text[name_end] == ':' && items.front().find('=') == std::string_view::npos) {
    canonical += ':' + canonical_words(items.front());
    items.erase(items.begin());
    separator = ',';
  }
  std::vector<std::string> parameters;
  for (const std::string_view item : items) parameters.push_back(canonical_words(item));
  std::sort(parameters.begin(), parameters.end());
  for (const std::string& parameter : parameters) canonical += std::exchange(separator, ',') + parameter;
  return canonical;
}

/// Optimal string alignment: Levenshtein's distance that counts a swap of neighbours once.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> distance(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) distance[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) distance[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = distance[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      size_t best = std::min({distance[i - 1][j] + 1, distance[i][j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        best = std::min(best, distance[i - 2][j - 2] + 1);
      }
      distance[i][j] = best;
    }
  }
  return distance[a.size()][b.size()];
}

}  // namespace

Result<std::string> specification_name(const std::string& text) {
  if (text.empty()) return invalid("a specification must not be empty");
  if (const auto now = from_earlier_spelling(text)) return invalid(in_quotes(text) + ": write " + *now);
  return text.substr(0, text.find_first_of(":,"));
}

Result<Specification> parse_specification(const std::string& text, Argument argument) {
  const auto name = specification_name(text);
  if (!name) return name.error();
  Specification specification{.name = *name};
  size_t end = name->size();  // of what is parsed
  if (argument == Argument::kTaken && end < text.size() && text[end] == ':') {
    const size_t begin = end + 1;
    end = std::min(text.find(',', begin), text.size());
    const auto plain = unescaped(std::string_view(text).substr(begin, end - begin), text);
    if (!plain) return plain.error();
    specification.argument = *plain;
  }
  if (end == text.size()) return specification;
  const auto parsed = parse_parameters(std::string_view(text).substr(end + 1), text, specification);
  if (!parsed) return parsed.error();
  return specification;
}

std::vector<std::string> split_specifications(const std::string& text) {
  std::vector<std::string> specifications;
  for (const std::string_view part : split(text, ',')) {
    const std::string item(trimmed(part));
    if (specifications.empty() || begins_specification(item)) {
      specifications.push_back(item);
    } else {
      specifications.back() += ',' + item;
    }
  }
  return specifications;
}

std::string escaped_for_specification(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == ',') {
      escaped += "%2C";
    } else if (c == '%') {
      escaped += "%25";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

Result<void> check_parameters(const Specification& specification, const std::vector<std::string>& known) {
  for (const auto& [key, value] : specification.parameters) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string message =
        "unknown parameter " + in_quotes(key) + " of " + in_quotes(specification.name);
    if (const std::string near = did_you_mean(key, known); !near.empty()) return invalid(message + near);
    if (known.empty()) return invalid(message + "; it takes none");
    return invalid(message + "; known are " + joined(known));
  }
  return {};
}

bool names_files(const std::string& name) {
  return name == "idx";
}

std::string canonical_specification(const std::string& text) {
  std::string canonical;
  for (const std::string& specification : split_specifications(text)) {
    canonical += (canonical.empty() ? "" : ",") + canonical_single(specification);
  }
  return canonical;
}

Result<int64_t> parse_integer(const std::string& what, const std::string& text, int64_t low, int64_t high) {
  const auto value = parse_whole<int64_t>(text);
  if (!value || *value < low || *value > high) {
    return out_of_range<int64_t>(what, text, "a whole number", low, high);
  }
  return *value;
}

Result<double> parse_number(const std::string& what, const std::string& text, double low, double high) {
  const auto value = parse_whole<double>(text);
  if (!value || !std::isfinite(*value) || *value < low || *value > high) {
    return out_of_range<double>(what, text, "a finite number", low, high);
  }
  return *value;
}

std::optional<std::string> nearest_name(const std::string& word, const std::vector<std::string>& candidates) {
  const size_t limit = std::max<size_t>(1, word.size() / 3);
  std::optional<std::string> nearest;
  size_t smallest = limit + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > word.size() + limit || word.size() > candidate.size() + limit) continue;
    const size_t distance = edit_distance(word, candidate);
    if (distance >= smallest) continue;
    smallest = distance;
    nearest = candidate;
  }
  return nearest;
}

}  // namespace tandem
