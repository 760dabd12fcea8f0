#include "tandem/core/data/data_description.h"

namespace tandem {

std::string shape_to_string(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) {
    if (!text.empty()) text += 'x';
    text += std::to_string(size);
  }
  return text.empty() ? "scalar" : text;
}

}  // namespace tandem
