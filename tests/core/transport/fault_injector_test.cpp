#include "tandem/core/transport/fault_injector.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "core/wire/sample_messages.h"
#include "support/test.h"
#include "tandem/core/wire/message_codec.h"

namespace tandem {
namespace {

using std::chrono::milliseconds;
using Direction = FaultInjector::Direction;
using TimePoint = FaultInjector::TimePoint;

constexpr TimePoint kStart{std::chrono::hours(1)};
constexpr TimePoint kEver = TimePoint::max();

wire::Frames numbered(int number) {
  return {wire::Frame::own(std::to_string(number))};
}

int number_of(const wire::Frames& frames) {
  return std::stoi(std::string(reinterpret_cast<const char*>(frames.at(0).data()), frames.at(0).size()));
}

/// The numbers that come out, in order, when 0..count-1 are put in, one a millisecond.
std::vector<int> pass(FaultInjector& injector, int count, Direction direction = Direction::kOut) {
  std::vector<int> numbers;
  for (int i = 0; i < count; ++i) {
    const TimePoint now = kStart + milliseconds(i);
    injector.put(direction, numbered(i), now);
    while (const auto frames = injector.take(direction, now)) numbers.push_back(number_of(*frames));
  }
  while (const auto frames = injector.take(direction, kEver)) numbers.push_back(number_of(*frames));
  return numbers;
}

std::vector<int> pass(const FaultOptions& options, int count, uint64_t stream, FaultCounts& counts) {
  FaultInjector injector(options, stream, kStart, counts);
  return pass(injector, count);
}

std::vector<int> zero_to(int count) {
  std::vector<int> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

/// Within five standard deviations of a binomial distribution.
bool is_about(uint64_t count, double probability, double trials) {
  const double deviation = std::sqrt(trials * probability * (1 - probability));
  return std::abs(static_cast<double>(count) - trials * probability) < 5 * deviation;
}

std::string in_quotes(const std::string& text) {
  std::string quoted = text;
  quoted.insert(0, 1, '"');
  return quoted += '"';
}

std::string refusal(const std::string& text) {
  const auto parsed = parse_faults(text, 1);
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == ErrorCode::kInvalidArgument);
  return parsed.error().message;
}

}  // namespace

TEST_SUITE("core/transport/fault_injector") {
  TEST_CASE("a specification is read, any part of it") {
    const auto all =
        parse_faults("drop=0.01,duplicate=0.02,delay=50ms,reorder,corrupt=0.001,disconnect=30s", /*seed=*/7);
    REQUIRE(all);
    CHECK(all->drop == 0.01);
    CHECK(all->duplicate == 0.02);
    CHECK(all->reorder == 0.01);
    CHECK(all->corrupt == 0.001);
    CHECK(all->delay == milliseconds(50));
    CHECK(all->disconnect == milliseconds(30'000));
    CHECK(all->seed == 7);
    CHECK(all->any());
    CHECK(all->text() == "drop=0.01,duplicate=0.02,reorder=0.01,corrupt=0.001,delay=50ms,disconnect=30000ms");
    CHECK(parse_faults(all->text(), 7)->text() == all->text());
    const auto some = parse_faults("reorder=0.05,delay=0.25s", 1);
    REQUIRE(some);
    CHECK(some->reorder == 0.05);
    CHECK(some->delay == milliseconds(250));
    CHECK(some->drop == 0);
    const auto none = parse_faults("", 1);
    REQUIRE(none);
    CHECK_FALSE(none->any());
  }

  TEST_CASE("a wrong specification is refused with what was expected") {
    CHECK(refusal("dorp=0.01").starts_with("\"dorp\" is no fault; did you mean drop? (known: drop,"));
    CHECK(refusal("loss=0.01") ==
          "\"loss\" is no fault (known: drop, duplicate, reorder, corrupt, delay, disconnect)");
    for (const char* part : {"drop=1", "drop=-0.1", "drop", "drop=", "drop=x", "drop=nan", "reorder=1"}) {
      CAPTURE(part);
      CHECK(refusal(part) ==
            in_quotes(part) + ": a probability from 0 to below 1 was expected, as in drop=0.01");
    }
    for (const char* part : {"delay", "delay=50", "delay=ms", "delay=-1ms", "delay=2h", "delay=5000s"}) {
      CAPTURE(part);
      CHECK(refusal(part) == in_quotes(part) +
                                 ": a time from 0s to 3600s with its unit was expected, as in "
                                 "delay=50ms or disconnect=30s");
    }
    CHECK(refusal("disconnect=0s").find("a time from 0.01s to") != std::string::npos);
    CHECK(refusal("drop=0.1,drop=0.2") == "\"drop\" is given twice");
    CHECK(refusal("drop=0.1,,delay=5ms").starts_with("\"\" is no fault"));
  }

  TEST_CASE("without faults everything passes at once and in order") {
    FaultCounts counts;
    CHECK(pass(FaultOptions{}, 1000, 1, counts) == zero_to(1000));
    CHECK(counts.messages == 1000);
    CHECK(counts.delivered == 1000);
    CHECK(counts.delayed + counts.dropped + counts.duplicated + counts.reordered + counts.corrupted == 0);
  }

  TEST_CASE("each fault comes as often as it was asked for") {
    constexpr int kMessages = 100'000;
    for (const double probability : {0.001, 0.01, 0.3}) {
      CAPTURE(probability);
      FaultCounts counts;
      const auto dropped = pass({.drop = probability}, kMessages, 1, counts);
      CHECK(is_about(counts.dropped, probability, kMessages));
      CHECK(dropped.size() == kMessages - counts.dropped);
      counts = {};
      const auto duplicated = pass({.duplicate = probability}, kMessages, 2, counts);
      CHECK(is_about(counts.duplicated, probability, kMessages));
      CHECK(duplicated.size() == kMessages + counts.duplicated);
      counts = {};
      FaultInjector corrupting({.corrupt = probability}, 3, kStart, counts);
      for (int i = 0; i < kMessages; ++i) corrupting.put(Direction::kOut, numbered(i), kStart);
      CHECK(is_about(counts.corrupted, probability, kMessages));
      counts = {};
      const auto reordered = pass({.reorder = probability}, kMessages, 4, counts);
      CHECK(is_about(counts.reordered + counts.delayed, probability, kMessages));
      CHECK(counts.delayed <= 1);  // the last one has nobody to overtake it
      CHECK(reordered.size() == kMessages);
    }
  }

  TEST_CASE("reordered messages are overtaken by one to three, and all others keep their order") {
    FaultCounts counts;
    const auto numbers = pass({.reorder = 0.05}, 10'000, 1, counts);
    REQUIRE(numbers.size() == 10'000);
    CHECK(numbers != zero_to(10'000));
    std::map<int, int> by_overtakers;
    int latest = -1;
    for (size_t at = 0; at < numbers.size(); ++at) {
      if (numbers[at] > latest) {
        latest = numbers[at];
        continue;
      }
      const auto begin = numbers.begin();
      const auto overtakers = std::count_if(begin, begin + static_cast<std::ptrdiff_t>(at),
                                            [&](int other) { return other > numbers[at]; });
      ++by_overtakers[static_cast<int>(overtakers)];
    }
    for (const int overtakers : {1, 2, 3}) CHECK(by_overtakers[overtakers] > 100);
    // More than three only where several wait at the same time.
    CHECK(by_overtakers[1] + by_overtakers[2] + by_overtakers[3] > 9 * by_overtakers[4]);
    CHECK(by_overtakers.rbegin()->first <= 6);
  }

  TEST_CASE("a message that nobody overtakes waits for the limit and no longer") {
    FaultCounts counts;
    FaultInjector injector({.reorder = 0.999}, 1, kStart, counts);
    injector.put(Direction::kOut, numbered(0), kStart);
    CHECK(injector.next_due() == kStart + FaultInjector::kOvertakeLimit);
    CHECK_FALSE(injector.take(Direction::kOut, kStart + FaultInjector::kOvertakeLimit - milliseconds(1)));
    CHECK(injector.take(Direction::kOut, kStart + FaultInjector::kOvertakeLimit));
    CHECK(counts.delayed == 1);
    CHECK(counts.reordered == 0);
  }

  TEST_CASE("delayed messages come when they are due, evenly spread, and in order") {
    constexpr int kMessages = 20'000;
    FaultCounts counts;
    double mean = 0;
    for (int i = 0; i < kMessages; ++i) {
      FaultInjector injector({.delay = milliseconds(50)}, static_cast<uint64_t>(i), kStart, counts);
      injector.put(Direction::kIn, numbered(i), kStart);
      const auto due = injector.next_due();
      CHECK(due >= kStart);
      CHECK(due < kStart + milliseconds(50));
      CHECK_FALSE(injector.take(Direction::kIn, due - std::chrono::nanoseconds(1)));
      CHECK(injector.take(Direction::kIn, due));
      mean += std::chrono::duration<double, std::milli>(due - kStart).count() / kMessages;
    }
    // The mean of n uniform draws from [0, 50): 25, with a standard deviation of 50 / sqrt(12 n).
    CHECK(std::abs(mean - 25) < 5 * 50 / std::sqrt(12.0 * kMessages));
    counts = {};
    CHECK(pass({.delay = milliseconds(50)}, 1000, 1, counts) == zero_to(1000));
    CHECK(counts.delayed == 1000);
  }

  TEST_CASE("the order is kept under drops, duplicates, delays and corruption") {
    FaultCounts counts;
    // Corrupted numbers cannot be read; their place is tested with real messages.
    const auto numbers = pass({.drop = 0.1, .duplicate = 0.1, .delay = milliseconds(20)}, 10'000, 1, counts);
    CHECK(std::is_sorted(numbers.begin(), numbers.end()));
    const std::set<int> different(numbers.begin(), numbers.end());
    CHECK(different.size() == 10'000 - counts.dropped);
  }

  TEST_CASE("the same seed gives the same faults, another seed, stream or direction others") {
    FaultOptions options{.drop = 0.1, .duplicate = 0.1, .reorder = 0.1, .delay = milliseconds(5)};
    FaultCounts counts;
    const auto first = pass(options, 1000, 1, counts);
    CHECK(pass(options, 1000, 1, counts) == first);
    CHECK(pass(options, 1000, 2, counts) != first);
    FaultInjector both(options, 1, kStart, counts);
    const auto incoming = pass(both, 1000, Direction::kIn);
    CHECK(incoming != first);
    // What the other direction did has changed nothing.
    CHECK(pass(both, 1000, Direction::kOut) == first);
    options.seed = 2;
    CHECK(pass(options, 1000, 1, counts) != first);
  }

  TEST_CASE("one fault's share does not change which messages another one hits") {
    FaultCounts counts;
    const auto dropped_by = [&](const FaultOptions& options) {
      const auto numbers = pass(options, 1000, 1, counts);
      return std::set<int>(numbers.begin(), numbers.end());
    };
    CHECK(dropped_by({.drop = 0.1}) == dropped_by({.drop = 0.1, .delay = milliseconds(5)}));
  }

  TEST_CASE("nothing is lost that is not counted") {
    FaultCounts counts;
    const FaultOptions options{.drop = 0.2,
                               .duplicate = 0.2,
                               .reorder = 0.2,
                               .corrupt = 0.2,
                               .delay = milliseconds(30),
                               .disconnect = milliseconds(50)};
    uint64_t delivered = 0;
    for (uint64_t connection = 0; connection < 100; ++connection) {
      FaultInjector injector(options, connection, kStart, counts);
      for (int i = 0; i < 100; ++i) {
        const TimePoint now = kStart + milliseconds(i);
        if (injector.cut_due(now)) injector.cut();
        for (const Direction direction : {Direction::kOut, Direction::kIn}) {
          injector.put(direction, numbered(i), now);
          while (injector.take(direction, now)) ++delivered;
        }
      }
    }
    CHECK(counts.messages == 100 * 100 * 2);
    CHECK(counts.delivered == delivered);
    CHECK(counts.discarded > 0);
    CHECK(counts.delivered == counts.messages - counts.dropped + counts.duplicated - counts.discarded);
    CHECK(counts.text() ==
          "of 20000 messages " + std::to_string(counts.dropped) + " were dropped, " +
              std::to_string(counts.duplicated) + " duplicated, " + std::to_string(counts.delayed) +
              " delayed, " + std::to_string(counts.reordered) + " reordered and " +
              std::to_string(counts.corrupted) + " corrupted; " + std::to_string(counts.disconnected) +
              " connections were cut, and " + std::to_string(counts.discarded) +
              " messages were on their way when a connection ended");
  }

  TEST_CASE("cuts come at exponentially distributed moments, once") {
    constexpr int kConnections = 20'000;
    FaultCounts counts;
    double mean = 0;
    int later_than_mean = 0;
    for (uint64_t stream = 0; stream < kConnections; ++stream) {
      FaultInjector injector({.disconnect = milliseconds(1000)}, stream, kStart, counts);
      const auto due = injector.next_due();
      CHECK(due >= kStart);
      const double seconds = std::chrono::duration<double>(due - kStart).count();
      mean += seconds / kConnections;
      later_than_mean += seconds > 1;
      if (stream > 0) continue;
      CHECK_FALSE(injector.cut_due(due - std::chrono::nanoseconds(1)));
      CHECK(injector.cut_due(due));
      injector.cut();
      CHECK_FALSE(injector.cut_due(kEver - std::chrono::nanoseconds(1)));
      CHECK(injector.next_due() == kEver);
    }
    CHECK(counts.disconnected == 1);
    CHECK(std::abs(mean - 1) < 5 / std::sqrt(double{kConnections}));
    CHECK(is_about(static_cast<uint64_t>(later_than_mean), std::exp(-1.0), kConnections));
  }

  TEST_CASE("a corrupted message never decodes, and the frames it was made of stay whole") {
    FaultCounts counts;
    const FaultOptions options{.corrupt = 0.999};
    FaultInjector injector(options, 1, kStart, counts);
    int kinds = 0;
    for (const wire::SampleMessage& sample : wire::sample_messages()) {
      const wire::Frames frames = wire::encode(sample.message);
      ++kinds;
      for (int i = 0; i < 200; ++i) {
        const uint64_t before = counts.corrupted;
        injector.put(Direction::kOut, frames, kStart);
        const auto damaged = injector.take(Direction::kOut, kStart);
        REQUIRE(damaged);
        REQUIRE(damaged->size() == frames.size());
        CHECK(wire::total_bytes(*damaged) == wire::total_bytes(frames));
        CHECK(wire::decode(*damaged, {}).has_value() == (counts.corrupted == before));
      }
      CHECK(wire::decode(frames, {}).has_value());
    }
    CHECK(counts.corrupted > 190 * static_cast<uint64_t>(kinds));
  }
}

}  // namespace tandem
