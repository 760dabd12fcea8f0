#include "tandem/core/transport/turns_detail.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "support/test.h"

namespace tandem::transport_detail {
namespace {

/// Whether it stays false for a while.
bool stays_false(const std::atomic<bool>& value) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  while (std::chrono::steady_clock::now() < until) {
    if (value) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace

TEST_SUITE("core/transport/turns") {
  TEST_CASE("a turn that began before it was asked for answers nobody, the next one does") {
    Turns turns;
    const uint64_t early = turns.begin();
    const uint64_t asked = turns.ask();
    std::atomic<bool> answered = false;
    std::thread waiting([&] {
      turns.await(asked);
      answered = true;
    });
    turns.end(early);
    CHECK(stays_false(answered));
    turns.end(turns.begin());
    waiting.join();
    CHECK(answered);
  }

  TEST_CASE("one turn answers everybody who asked before it") {
    Turns turns;
    const uint64_t first = turns.ask();
    const uint64_t second = turns.ask();
    turns.end(turns.begin());
    turns.await(first);
    turns.await(second);
  }

  TEST_CASE("where no turn follows nobody waits, whenever he asked") {
    Turns turns;
    std::thread waiting([&turns, asked = turns.ask()] { turns.await(asked); });
    turns.finish();
    waiting.join();
    turns.await(turns.ask());
  }
}

}  // namespace tandem::transport_detail
