#include "tandem/core/training/example_pool.h"

#include <cmath>
#include <stdexcept>

#include "support/test.h"

namespace tandem {
namespace {

using Counts = std::map<ClientId, int64_t>;
using Batch = std::map<ClientId, uint32_t>;

const ClientId kA{"a"};
const ClientId kB{"b"};
const ClientId kC{"c"};

uint32_t share_of(const Batch& batch, const ClientId& client) {
  const auto found = batch.find(client);
  return found == batch.end() ? 0 : found->second;
}

int64_t batch_sum(const Batch& batch) {
  int64_t sum = 0;
  for (const auto& [client, count] : batch) sum += count;
  return sum;
}

Counts many_clients(int clients, int64_t examples) {
  Counts counts;
  for (int i = 0; i < clients; ++i) counts[ClientId{"client-" + std::to_string(i)}] = examples + i % 5;
  return counts;
}

}  // namespace

TEST_SUITE("core/training/example_pool") {
  TEST_CASE("each draw sums to the batch size, the last to the rest, then there is nothing") {
    ExamplePool pool(1, 1);
    pool.refill({{kA, 50}, {kB, 30}, {kC, 21}});
    CHECK(pool.remaining() == 101);
    for (int i = 0; i < 10; ++i) CHECK(batch_sum(pool.draw(10)) == 10);
    CHECK(pool.remaining() == 1);
    CHECK(batch_sum(pool.draw(10)) == 1);
    CHECK(pool.remaining() == 0);
    CHECK(pool.draw(10).empty());
  }

  TEST_CASE("each epoch uses each example exactly once") {
    for (const uint32_t minimum : {1u, 2u, 3u}) {
      CAPTURE(minimum);
      const Counts counts = many_clients(40, 7);
      ExamplePool pool(9, minimum);
      for (int epoch = 0; epoch < 5; ++epoch) {
        pool.refill(counts);
        Counts used;
        while (pool.remaining() > 0) {
          for (const auto& [client, count] : pool.draw(16)) used[client] += count;
        }
        CHECK((used == counts));
      }
    }
  }

  TEST_CASE("means and variances are those of the multivariate hypergeometric distribution") {
    const Counts counts{{kA, 100}, {kB, 50}, {kC, 10}};
    constexpr double kPool = 160.0;
    constexpr double kBatch = 32.0;
    constexpr int kDraws = 8000;
    ExamplePool pool(2026, 1);
    std::map<ClientId, double> sums;
    std::map<ClientId, double> squares;
    for (int i = 0; i < kDraws; ++i) {
      pool.refill(counts);
      const Batch batch = pool.draw(static_cast<uint32_t>(kBatch));
      for (const auto& [client, n] : counts) {
        const double share = share_of(batch, client);
        sums[client] += share;
        squares[client] += share * share;
      }
    }
    for (const auto& [client, n] : counts) {
      CAPTURE(client.name);
      const double p = static_cast<double>(n) / kPool;
      const double mean = kBatch * p;
      const double variance = kBatch * p * (1.0 - p) * (kPool - kBatch) / (kPool - 1.0);
      const double found = sums[client] / kDraws;
      CHECK(std::abs(found - mean) < 4.0 * std::sqrt(variance / kDraws));
      // The relative standard deviation of a sample variance is about sqrt(2 / draws) = 1.6 %.
      CHECK(squares[client] / kDraws - found * found == doctest::Approx(variance).epsilon(0.08));
    }
  }

  TEST_CASE("later draws of an epoch are distributed as the first") {
    constexpr int kEpochs = 4000;
    ExamplePool pool(7, 1);
    double sum = 0.0;
    for (int i = 0; i < kEpochs; ++i) {
      pool.refill({{kA, 30}, {kB, 10}});
      (void)pool.draw(16);
      sum += share_of(pool.draw(16), kB);
    }
    // Exchangeable: mean 16 / 4, variance 16 * (1/4) * (3/4) * 24 / 39.
    CHECK(std::abs(sum / kEpochs - 4.0) < 4.0 * std::sqrt(16.0 * 0.1875 * 24.0 / 39.0 / kEpochs));
  }

  TEST_CASE("with a minimum of 2 nobody brings one example, is left with one, or waits for ever") {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      CAPTURE(seed);
      ExamplePool pool(seed, 2);
      pool.refill({{kA, 65}, {kB, 9}, {kC, 2}, {ClientId{"d"}, 3}, {ClientId{"single"}, 1}});
      CHECK(pool.remaining() == 79);
      int64_t used = 0;
      while (pool.remaining() > 0) {
        const int64_t before = pool.remaining();
        const Batch batch = pool.draw(8);
        for (const auto& [client, count] : batch) CHECK(count >= 2);
        for (const auto& [client, count] : pool.state().remaining) CHECK(count != 1);
        CHECK(share_of(batch, ClientId{"single"}) == 0);
        CHECK(batch_sum(batch) >= std::min<int64_t>(8, before));
        CHECK(batch_sum(batch) <= 10);
        used += batch_sum(batch);
      }
      CHECK(used == 79);
    }
  }

  TEST_CASE("with a minimum of 2 one client takes its last example along, and many do not swell the batch") {
    ExamplePool single(1, 2);
    single.refill({{kA, 65}});
    CHECK((single.draw(64) == Batch{{kA, 65}}));
    CHECK(single.remaining() == 0);

    ExamplePool pool(1, 2);
    pool.refill(many_clients(1000, 100));
    for (int i = 0; i < 20; ++i) {
      const int64_t sum = batch_sum(pool.draw(64));
      CHECK(sum >= 64);
      CHECK(sum <= 66);
    }
  }

  TEST_CASE("the draws depend only on the seed and the sequence of refills and draws") {
    const auto sequence = [](uint64_t seed) {
      ExamplePool pool(seed, 1);
      std::vector<Batch> batches;
      for (int epoch = 0; epoch < 2; ++epoch) {
        pool.refill(many_clients(20, 10));
        while (pool.remaining() > 0) batches.push_back(pool.draw(32));
      }
      return batches;
    };
    CHECK((sequence(5) == sequence(5)));
    CHECK((sequence(5) != sequence(6)));
    const std::vector<Batch> batches = sequence(5);
    CHECK((batches.front() != batches[batches.size() / 2]));  // the second epoch draws anew
  }

  TEST_CASE("a restored pool draws on as the original") {
    ExamplePool pool(5, 2);
    pool.refill(many_clients(20, 10));
    (void)pool.draw(32);
    const ExamplePool::State saved = pool.state();
    ExamplePool other(5, 2);
    other.restore(saved);
    while (pool.remaining() > 0) CHECK((pool.draw(32) == other.draw(32)));
    CHECK(other.remaining() == 0);
  }

  TEST_CASE("a refill replaces what was left; clients without examples take no part") {
    ExamplePool pool(5, 1);
    pool.refill({{kA, 10}});
    pool.refill({{kB, 3}, {kC, 0}});
    CHECK((pool.draw(100) == Batch{{kB, 3}}));
  }

  TEST_CASE("misuse throws and says what was wrong") {
    CHECK_THROWS_WITH_AS(ExamplePool(1, 0), "ExamplePool: minimum_batch must be 1..1024, got 0",
                         std::invalid_argument);
    ExamplePool pool(1, 2);
    CHECK_THROWS_WITH_AS(pool.refill({{kA, -4}}), "ExamplePool.refill: client a cannot have -4 examples",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS((void)pool.draw(0), "ExamplePool.draw: batch_size must be >= 1, got 0",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(pool.restore({0, {{kA, 1}}}),
                         "ExamplePool.restore: client a cannot have 1 examples left, the minimum is 2",
                         std::invalid_argument);
  }
}

}  // namespace tandem
