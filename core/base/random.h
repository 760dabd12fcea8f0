#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string_view>
#include <vector>

namespace tandem {

/// What a stream of random numbers is for. Streams of different purposes never overlap in their seeds.
/// Values are part of what makes a run repeatable: never renumber.
enum class RandomPurpose : uint64_t {
  kInitialise = 1,  ///< model weights: (run, block, parameter)
  kShuffle = 2,     ///< order of a client's examples: (run, client, epoch)
  kAugment = 3,     ///< augmentation of one example: (run, client, epoch, example)
  kBatchDraw = 4,   ///< who brings how many examples: (run, round)
  kPartition = 5,   ///< which examples belong to which shard: (run)
  kSynthetic = 6,   ///< synthetic data: (run, example)
  kNetwork = 7,     ///< simulated arrival orders and jitter of reconnection
  kSample = 8,      ///< which clients take part: (run, round)
  kTurn = 9,        ///< in which order clients take turns: (run, round)
  kAlign = 10,      ///< order of the examples on which an auxiliary head is fitted: (run, round)
  kHoldOut = 11,    ///< which examples a client holds back: (run, client)
};

/// A well-mixed seed from a run's seed, a purpose and a path such as (client, epoch, example).
/// A pure function: the same arguments give the same seed on every machine.
uint64_t derive_seed(uint64_t run_seed, RandomPurpose purpose, std::initializer_list<uint64_t> path);

/// A stable 64-bit hash of a name, for seed paths that contain a client.
uint64_t hash_name(std::string_view name);

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, the same on every platform. Statistical quality,
/// not secrecy: what privacy rests on comes from OpenSSL.
class SplitMix64 {
 public:
  using result_type = uint64_t;

  explicit SplitMix64(uint64_t seed) : state_(seed) {}

  uint64_t operator()();
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return std::numeric_limits<uint64_t>::max(); }

  /// Uniform in [0, bound), without modulo bias (Lemire 2019); bound >= 1.
  uint64_t below(uint64_t bound);
  /// Uniform in [0, 1) with 53 random bits.
  double uniform();
  /// Standard normal (Box-Muller).
  double normal();
  /// Gamma(shape, 1) (Marsaglia and Tsang 2000); shape > 0.
  double gamma(double shape);

 private:
  uint64_t state_;
};

/// A uniformly random order of 0..n-1 (Fisher-Yates), the same on every platform.
std::vector<int64_t> random_permutation(int64_t n, uint64_t seed);

}  // namespace tandem
