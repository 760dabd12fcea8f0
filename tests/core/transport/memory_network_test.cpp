#include "tandem/core/transport/memory_network.h"

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/test.h"

namespace tandem {
namespace {

using Way = MemoryNetwork::Way;

wire::Frames text_message(const std::string& text) {
  return {wire::Frame::own(text)};
}

/// The next message that way; "-" where there is none.
std::string next(MemoryNetwork& network, size_t client, Way way) {
  const auto frames = network.take(client, way);
  if (!frames) return "-";
  return {reinterpret_cast<const char*>(frames->at(0).data()), frames->at(0).size()};
}

}  // namespace

TEST_SUITE("core/transport/memory_network") {
  TEST_CASE("messages wait in order, each client's and each way's apart") {
    MemoryNetwork network;
    for (size_t i = 0; i < 2; ++i) {
      CHECK(network.add_client() == i);
      CHECK(network.connect(i) == ConnectionId{i + 1});
    }
    CHECK(network.client(0).send(text_message("a")));
    CHECK(network.client(0).send(text_message("b")));
    CHECK(network.client(1).send(text_message("c")));
    CHECK(network.server().send({2}, text_message("d")));
    CHECK(network.has_message(0, Way::kUp));
    CHECK_FALSE(network.has_message(0, Way::kDown));
    CHECK(next(network, 1, Way::kUp) == "c");
    CHECK(next(network, 0, Way::kUp) == "a");
    CHECK(next(network, 0, Way::kUp) == "b");
    CHECK(next(network, 0, Way::kUp) == "-");
    CHECK(next(network, 1, Way::kDown) == "d");
    CHECK_FALSE(network.has_message(1, Way::kDown));
  }

  TEST_CASE("without a connection everything is lost, either way") {
    MemoryNetwork network;
    network.add_client();
    CHECK(network.connection(0) == ConnectionId{});
    network.client(0).send(text_message("too early"));
    network.server().send({}, text_message("to nobody"));
    network.server().send({1}, text_message("to nobody yet"));
    network.connect(0);
    CHECK_FALSE(network.has_message(0, Way::kUp));
    CHECK_FALSE(network.has_message(0, Way::kDown));
  }

  TEST_CASE("a new connection has a new number, and nothing of the old one reaches it") {
    MemoryNetwork network;
    network.add_client();
    const ConnectionId first = network.connect(0);
    network.client(0).send(text_message("up"));
    network.server().send(first, text_message("down"));
    const ConnectionId second = network.connect(0);
    CHECK(second == ConnectionId{2});
    CHECK(network.connection(0) == second);
    network.server().send(first, text_message("late"));
    CHECK(next(network, 0, Way::kUp) == "-");
    CHECK(next(network, 0, Way::kDown) == "-");
    network.disconnect(0);
    network.server().send(second, text_message("later still"));
    CHECK(next(network, 0, Way::kDown) == "-");
  }

  TEST_CASE("the filter sees what enters a connection, loses it, or ends the connection") {
    MemoryNetwork network;
    for (size_t i = 0; i < 2; ++i) network.connect(network.add_client());
    std::string seen;
    bool lose = true, end = false;
    network.filter = [&](size_t client, Way way, const wire::Frames&) {
      seen += std::to_string(client) + (way == Way::kUp ? "up " : "down ");
      if (end) network.disconnect(client);
      return !lose;
    };
    network.client(1).send(text_message("lost"));
    CHECK(next(network, 1, Way::kUp) == "-");
    lose = false;
    network.server().send({1}, text_message("kept"));
    CHECK(next(network, 0, Way::kDown) == "kept");
    end = true;
    network.client(1).send(text_message("its last"));
    CHECK(next(network, 1, Way::kUp) == "-");
    CHECK(network.connection(1) == ConnectionId{});
    network.client(1).send(text_message("unseen"));
    CHECK(seen == "1up 0down 1up ");
  }

  TEST_CASE("clients may send at the same time, each from its own thread") {
    constexpr int kMessages = 1000;
    MemoryNetwork network;
    for (size_t i = 0; i < 4; ++i) network.connect(network.add_client());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 4; ++i) {
      threads.emplace_back([&network, i] {
        for (int n = 0; n < kMessages; ++n) network.client(i).send(text_message(std::to_string(n)));
        if (i == 3) network.disconnect(i);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < 3; ++i) {
      for (int n = 0; n < kMessages; ++n) REQUIRE(next(network, i, Way::kUp) == std::to_string(n));
    }
    CHECK_FALSE(network.has_message(3, Way::kUp));
  }

  TEST_CASE("what was sent has left") {
    MemoryNetwork network;
    network.connect(network.add_client());
    const LinkState link = network.client(0).link();
    CHECK(link.sent_until == std::chrono::steady_clock::time_point::max());
    CHECK_FALSE(link.is_sending);
  }

  TEST_CASE("a message without a frame is the sender's mistake") {
    MemoryNetwork network;
    network.connect(network.add_client());
    CHECK_THROWS_AS(network.client(0).send({}), std::invalid_argument);
    CHECK_THROWS_AS(network.server().send({1}, {}), std::invalid_argument);
  }
}

}  // namespace tandem
