#include "tandem/core/base/specification.h"

#include <algorithm>
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

Result<void> parse_parameters(std::string_view query, const std::string& text, Specification& specification) {
  while (true) {
    const size_t end = query.find('&');
    const std::string_view part = query.substr(0, end);
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return invalid(in_quotes(part) + " in " + in_quotes(text) + " is not key=value");
    }
    const std::string key(part.substr(0, equals));
    if (!specification.parameters.emplace(key, part.substr(equals + 1)).second) {
      return invalid("parameter " + in_quotes(key) + " is given twice in " + in_quotes(text));
    }
    if (end == std::string_view::npos) return {};
    query.remove_prefix(end + 1);
  }
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

Result<Specification> parse_specification(const std::string& text) {
  if (text.empty()) return invalid("a specification must not be empty");
  Specification specification;
  const size_t question = text.find('?');
  const std::string head = text.substr(0, question);
  const size_t colon = head.find(':');
  if (colon != std::string::npos) specification.scheme = head.substr(0, colon);
  specification.location = colon == std::string::npos ? head : head.substr(colon + 1);
  if (question != std::string::npos) {
    const auto parsed = parse_parameters(std::string_view(text).substr(question + 1), text, specification);
    if (!parsed) return parsed.error();
  }
  return specification;
}

Result<void> check_parameters(const Specification& specification, const std::vector<std::string>& known) {
  const std::string owner = specification.scheme.empty() ? specification.location : specification.scheme;
  for (const auto& [key, value] : specification.parameters) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string message = "unknown parameter " + in_quotes(key) + " of " + in_quotes(owner);
    if (const std::string near = did_you_mean(key, known); !near.empty()) return invalid(message + near);
    if (known.empty()) return invalid(message + "; it takes none");
    return invalid(message + "; known are " + joined(known));
  }
  return {};
}

bool names_files(const std::string& scheme) {
  return scheme == "idx";
}

std::string canonical_specification(const std::string& text) {
  const size_t question = text.find('?');
  std::string canonical = canonical_words(std::string_view(text).substr(0, question));
  if (question == std::string::npos) return canonical;
  std::vector<std::string> parameters;
  std::string_view query = std::string_view(text).substr(question + 1);
  for (;;) {
    const size_t end = query.find('&');
    parameters.push_back(canonical_words(query.substr(0, end)));
    if (end == std::string_view::npos) break;
    query.remove_prefix(end + 1);
  }
  std::sort(parameters.begin(), parameters.end());
  char separator = '?';
  for (const std::string& parameter : parameters) canonical += std::exchange(separator, '&') + parameter;
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
