// Uses an installed Tandem as another project would; exits 0 when the figures are right.
#include <cstdint>
#include <cstdio>
#include <string>

#include "tandem/core/base/random.h"
#include "tandem/core/data/data_description.h"

int main() {
  const uint64_t first = tandem::derive_seed(7, tandem::RandomPurpose::kShuffle, {1, 2});
  const uint64_t again = tandem::derive_seed(7, tandem::RandomPurpose::kShuffle, {1, 2});
  const uint64_t other = tandem::derive_seed(7, tandem::RandomPurpose::kShuffle, {2, 1});
  const std::string shape = tandem::shape_to_string({1, 28, 28});
  const uint64_t name = tandem::hash_name("cam-1");  // xxHash: a private dependency has to link
  std::printf("seed %llu, name %llu, shape %s\n", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(name), shape.c_str());
  const bool is_right = first == again && first != other && name != 0 && shape == "1x28x28";
  return is_right ? 0 : 1;
}
