#include "tandem/core/data/data_description.h"

#include "tandem/core/base/specification.h"
#include "tandem/core/base/text.h"

namespace tandem {

std::string shape_to_string(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) {
    if (!text.empty()) text += 'x';
    text += std::to_string(size);
  }
  return text.empty() ? "scalar" : text;
}

Result<std::vector<int64_t>> parse_shape(const std::string& what, const std::string& text) {
  std::vector<int64_t> shape;
  for (const std::string_view part : split(text, 'x')) {
    const auto size = parse_integer(what, std::string(part), 1, 65536);
    if (!size) return size.error();
    shape.push_back(*size);
  }
  return shape;
}

}  // namespace tandem
