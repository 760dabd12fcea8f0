#include "tandem/core/base/mailbox.h"

#include <memory>
#include <numeric>
#include <thread>
#include <vector>
//
#include "support/test.h"

using tandem::Mailbox;

namespace {
constexpr std::chrono::seconds kPatience{20};
auto soon() {
  return std::chrono::steady_clock::now() + kPatience;
}
}  // namespace

TEST_SUITE("core/base/mailbox") {
  TEST_CASE("values come out in the order they went in") {
    Mailbox<int> mailbox(4);
    CHECK(mailbox.push(1));
    CHECK(mailbox.try_push(2));
    CHECK(mailbox.size() == 2);
    CHECK(mailbox.pop() == 1);
    CHECK(mailbox.try_pop() == 2);
    CHECK_FALSE(mailbox.try_pop().has_value());
  }

  TEST_CASE("a full mailbox takes nothing more until something was taken out") {
    Mailbox<int> mailbox(1);
    CHECK(mailbox.try_push(1));
    CHECK_FALSE(mailbox.try_push(2));
    std::thread producer([&] { mailbox.push(3); });  // waits for room
    CHECK(mailbox.pop() == 1);
    CHECK(mailbox.pop_until(soon()) == 3);
    producer.join();
  }

  TEST_CASE("an empty mailbox gives up at the deadline") {
    Mailbox<int> mailbox(1);
    CHECK_FALSE(mailbox.pop_until(std::chrono::steady_clock::now()).has_value());
  }

  TEST_CASE("closing wakes those who wait, keeps what is inside and lets nothing in") {
    Mailbox<int> mailbox(1);
    CHECK(mailbox.push(7));
    bool pushed = true;
    std::thread producer([&] { pushed = mailbox.push(8); });
    std::thread closer([&] { mailbox.close(); });
    closer.join();
    producer.join();
    CHECK_FALSE(pushed);
    CHECK_FALSE(mailbox.try_push(9));
    CHECK(mailbox.pop() == 7);
    CHECK_FALSE(mailbox.pop().has_value());
    CHECK(mailbox.closed());
  }

  TEST_CASE("values that can only be moved pass through") {
    Mailbox<std::unique_ptr<int>> mailbox(1);
    CHECK(mailbox.push(std::make_unique<int>(5)));
    CHECK(**mailbox.pop() == 5);
  }

  TEST_CASE("several producers and consumers lose and double nothing") {
    constexpr int kThreads = 4, kEach = 2000;
    Mailbox<int> mailbox(8);
    std::vector<std::thread> producers, consumers;
    std::vector<std::vector<int>> taken(kThreads);
    for (int t = 0; t < kThreads; ++t) {
      producers.emplace_back([&, t] {
        for (int i = 0; i < kEach; ++i) mailbox.push(t * kEach + i);
      });
      consumers.emplace_back([&, t] {
        while (auto value = mailbox.pop()) taken[static_cast<size_t>(t)].push_back(*value);
      });
    }
    for (auto& thread : producers) thread.join();
    mailbox.close();
    for (auto& thread : consumers) thread.join();
    std::vector<int> seen(kThreads * kEach);
    for (const auto& values : taken) {
      for (const int value : values) ++seen[static_cast<size_t>(value)];
    }
    CHECK(std::accumulate(seen.begin(), seen.end(), 0) == kThreads * kEach);
    CHECK(*std::min_element(seen.begin(), seen.end()) == 1);
  }
}
