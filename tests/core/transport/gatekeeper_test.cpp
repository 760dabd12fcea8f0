#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

#include "core/transport/peers.h"
#include "support/tcp_relay.h"
#include "support/test.h"
#include "tandem/core/transport/gatekeeper_detail.h"

namespace tandem {
namespace {

using namespace test;  // NOLINT: the helpers of this test

constexpr int64_t kMaxMessage = 4 << 20;
#if defined(__SANITIZE_ADDRESS__)
// AddressSanitizer keeps what was freed in quarantine, 256 MiB of it.
constexpr int64_t kMemoryBound = int64_t{64 + 256} << 20;
#else
constexpr int64_t kMemoryBound = int64_t{64} << 20;
#endif

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// A server that echoes, an honest client, and a listed key for the attacker.
class Arena {
 public:
  explicit Arena(const std::function<void(ZmqServerOptions&)>& change = [](ZmqServerOptions&) {})
      : sink_(std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)),
        logger_before_(spdlog::default_logger()) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("captured", sink_));
    auto options = fleet.server_options();
    options.devices[attacker.public_key] = ClientId{"rogue"};
    change(options);
    server = start_server(options, [this](ReceivedFrames message) {
               if (message.client.name == "cam-1")
                 replies_.push({message.connection, std::move(message.frames)});
             }).value();
    server->set_max_message_bytes(kMaxMessage);
    echo_ = std::thread([this] {
      while (auto reply = replies_.pop()) server->send(reply->first, std::move(reply->second));
    });
    // Counted and dropped: what is kept would count as the server's memory.
    client = start_client(fleet.client_options(server->endpoint()), [this](ClientEvent event) {
               events_.push("cdfr"[event.index()]);
             }).value();
    REQUIRE(next_event() == 'c');
  }
  ~Arena() {
    client.reset();
    replies_.close();
    echo_.join();
    server.reset();
    spdlog::set_default_logger(logger_before_);
  }

  std::string port() const { return std::to_string(port_of(server->endpoint())); }
  std::string listed_arguments() const {
    return port() + " '" + fleet.server.public_key + "' '" + attacker.public_key + "' '" +
           attacker.secret_key + "'";
  }

  /// Mean time of so many round trips of 64 KiB, which all must come back.
  double round_trip_ms(int count) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < count; ++i) {
      REQUIRE(client->send(text_message(std::string(65536, 'x'))));
      REQUIRE(next_event() == 'r');  // and not 'd': it is never cut off
    }
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    return took.count() / count;
  }

  /// The log, with the server stopped.
  std::string log() {
    server->stop(milliseconds(0));
    return log_.str();
  }

  Fleet fleet;
  KeyPair attacker = generate_key_pair();
  std::unique_ptr<ZmqServer> server;
  std::unique_ptr<ZmqClient> client;

 private:
  char next_event() { return events_.pop_until(soon()).value_or('-'); }

  std::ostringstream log_;
  std::shared_ptr<spdlog::sinks::ostream_sink_mt> sink_;
  std::shared_ptr<spdlog::logger> logger_before_;
  Mailbox<std::pair<ConnectionId, wire::Frames>> replies_{1024};
  std::thread echo_;
  Mailbox<char> events_{1024};
};

/// The program tests/support/attack.cpp at work; it ends when its input does.
class Attack {
 public:
  explicit Attack(const std::string& arguments)
      : pipe_(popen((std::string(TANDEM_ATTACK_PROGRAM) + " " + arguments).c_str(), "we")) {
    REQUIRE(pipe_ != nullptr);
  }
  ~Attack() { CHECK(pclose(pipe_) == 0); }
  Attack(const Attack&) = delete;
  Attack& operator=(const Attack&) = delete;

 private:
  FILE* pipe_;
};

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0;
  int64_t resident = 0;
  statm >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

/// Highest resident memory beyond that at its making, looked at every 2 ms.
class MemoryWatch {
 public:
  MemoryWatch()
      : before_(resident_bytes()), thread_([this] {
          std::unique_lock lock(mutex_);
          while (!stopped_.wait_for(lock, milliseconds(2), [&] { return done_; }))
            grown_ = std::max(grown_, resident_bytes() - before_);
        }) {}
  ~MemoryWatch() { (void)stop(); }
  int64_t stop() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    stopped_.notify_all();
    if (thread_.joinable()) thread_.join();
    return grown_;
  }

 private:
  const int64_t before_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool done_ = false;
  int64_t grown_ = 0;
  std::thread thread_;
};

/// Memory and round trips under two seconds of an attack, against those without.
void withstand(Arena& arena, const std::string& arguments) {
  constexpr int kTrips = 30;
  arena.round_trip_ms(kTrips);
  const double quiet = arena.round_trip_ms(5 * kTrips);
  MemoryWatch memory;
  double attacked = 0;
  {
    const Attack attack(arguments);
    const auto until = soon(milliseconds(2000));
    int measured = 0;
    for (; std::chrono::steady_clock::now() < until; ++measured) attacked += arena.round_trip_ms(kTrips);
    attacked /= measured;
  }
  const int64_t grown = memory.stop();
  std::printf("  %.1f MiB more memory, round trip %.2f ms against %.2f ms without: %.2f times\n",
              static_cast<double>(grown) / (1 << 20), attacked, quiet, attacked / quiet);
  CHECK(grown < kMemoryBound);
}

}  // namespace

TEST_SUITE("core/transport/gatekeeper") {
  TEST_CASE("half-open handshakes beyond the connection limit go, the client stays") {
    Arena arena;
    withstand(arena, "half-open " + arena.port());
    CHECK(
        contains(arena.log(), "cut off a peer at 127.0.0.1: there are more than 64 connections (--limits)"));
  }

  TEST_CASE("a giant frame in the handshake is cut off at once") {
    Arena arena;
    withstand(arena, "giant-frame " + arena.port());
    const std::string log = arena.log();
    CHECK(contains(log, "cut off a peer at 127.0.0.1: "));
    CHECK(contains(log, " bytes came before its handshake was complete"));
  }

  TEST_CASE("a listed client's endless message costs it the connection, and it is named") {
    Arena arena;
    withstand(arena, "endless " + arena.listed_arguments());
    const std::string log = arena.log();
    CHECK(contains(log, "cut off rogue at 127.0.0.1: "));
    CHECK(contains(log,
                   " bytes came without a complete message, and the largest accepted has 4194304 bytes; kept "
                   "out for 1 s"));
  }

  TEST_CASE("an endless first message is cut off too, and its sender named by when it was let in") {
    Arena arena;
    withstand(arena, "silent-endless " + arena.listed_arguments());
    const std::string log = arena.log();
    CHECK(contains(log, "cut off rogue at 127.0.0.1: "));
    CHECK(contains(log, " bytes came without a complete message"));
  }

  TEST_CASE("a flood of connections from an unlisted key changes nothing for the listed") {
    Arena arena;
    withstand(arena, "unlisted " + arena.port() + " '" + arena.fleet.server.public_key + "'");
    CHECK(contains(arena.log(), "is not in the device list"));
  }
}

}  // namespace tandem
