#include "tandem/core/base/random.h"

#include <xxhash.h>

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace tandem {
namespace {

uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

constexpr uint64_t kGoldenGamma = 0x9E3779B97F4A7C15ull;

}  // namespace

uint64_t derive_seed(uint64_t run_seed, RandomPurpose purpose, std::initializer_list<uint64_t> path) {
  // Mixing after every element makes the path's order matter: (1, 2) and (2, 1) are different streams.
  uint64_t seed = mix(run_seed + kGoldenGamma);
  seed = mix((seed ^ static_cast<uint64_t>(purpose)) + kGoldenGamma);
  for (const uint64_t element : path) seed = mix((seed ^ mix(element + kGoldenGamma)) + kGoldenGamma);
  return seed;
}

uint64_t hash_name(std::string_view name) {
  return XXH3_64bits(name.data(), name.size());
}

uint64_t SplitMix64::operator()() {
  return mix(state_ += kGoldenGamma);
}

uint64_t SplitMix64::below(uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  Wide product = static_cast<Wide>((*this)()) * bound;
  if (static_cast<uint64_t>(product) < bound) {
    const uint64_t threshold = (0 - bound) % bound;
    while (static_cast<uint64_t>(product) < threshold) product = static_cast<Wide>((*this)()) * bound;
  }
  return static_cast<uint64_t>(product >> 64);
}

double SplitMix64::uniform() {
  return static_cast<double>((*this)() >> 11) * 0x1.0p-53;
}

double SplitMix64::normal() {
  const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

double SplitMix64::gamma(double shape) {
  if (shape < 1.0) {
    const double boosted = gamma(shape + 1.0);
    return boosted * std::pow(1.0 - uniform(), 1.0 / shape);
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = normal();
    const double v = std::pow(1.0 + c * x, 3);
    if (v <= 0.0) continue;
    const double u = 1.0 - uniform();
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

std::vector<int64_t> random_permutation(int64_t n, uint64_t seed) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  SplitMix64 random(seed);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

}  // namespace tandem
