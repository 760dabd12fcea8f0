// 10,000 hostile messages from a listed key, over CURVE: none crashes the aggregator or grows its memory, and
// after each an honest client's step succeeds.
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tandem/aggregator/program/aggregator.h"
#include "tandem/augment/pipeline.h"
#include "tandem/core/base/random.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/core/transport/zmq_server.h"
//
#include "support/raw_peer.h"
#include "support/recording_observer.h"
#include "support/test.h"

using namespace tandem;
using aggregator::Aggregator;
using aggregator::AggregatorSession;
using aggregator::SessionOptions;
using testing::RawPeer;

namespace {

constexpr int kMessages = 10'000;

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kAllowedGrowth = int64_t{512} << 20;  // AddressSanitizer keeps freed memory back
#else
constexpr int64_t kAllowedGrowth = 8 << 20;
#endif

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * 4096;
}

/// An aggregator on its own thread, listening on loopback for "honest" and "mallory".
class Server {
 public:
  explicit Server(SessionOptions options)
      : keys(generate_key_pair()), honest(generate_key_pair()), mallory(generate_key_pair()) {
    transport =
        ZmqServer::make({.endpoint = "tcp://127.0.0.1:*",
                         .keys = keys,
                         .devices = {{honest.public_key, {"honest"}}, {mallory.public_key, {"mallory"}}},
                         .max_frame_bytes = 1 << 20})
            .value();
    session = std::make_unique<AggregatorSession>(
        options, aggregator::SessionDependencies{.transport = transport.get(),
                                                 .observer = &observer,
                                                 .make_augmenter = augment::build_pipeline,
                                                 .now = std::chrono::steady_clock::now});
    wire::Limits limits;
    limits.max_tensor_bytes = 1 << 20;
    server = std::make_unique<Aggregator>(*session, *transport, limits);
    session->prepare().value();
    server->listen().value();
    thread = std::thread([this] {
      configure_compute_thread(1);
      server->run([this] { return stop.load(); });
    });
  }
  ~Server() { join(); }
  void join() {
    stop = true;
    if (thread.joinable()) thread.join();
  }

  testing::RecordingObserver observer;
  KeyPair keys, honest, mallory;
  std::unique_ptr<ZmqServer> transport;
  std::unique_ptr<AggregatorSession> session;
  std::unique_ptr<Aggregator> server;
  std::atomic<bool> stop{false};
  std::thread thread;
};

wire::Message hello(uint64_t instance) {
  return {.body = wire::Hello{"test", instance, {{1, 4, 4}, 3, 1'000'000}}};
}

wire::Message step_message(wire::MessageKey key, uint32_t step, int64_t examples) {
  key.step = step;
  return {.key = key,
          .body = wire::Activations{.activations = at::full({examples, 8}, 0.5),
                                    .labels = at::zeros({examples}, at::kLong)}};
}

wire::Frames rewrite(const wire::Frames& frames, size_t index,
                     const std::function<void(std::string&)>& change, bool fix_checksum) {
  wire::Frames changed = frames;
  std::string bytes(reinterpret_cast<const char*>(frames[index].data()), frames[index].size());
  change(bytes);
  changed[index] = wire::Frame::own(std::move(bytes));
  if (fix_checksum && changed[0].size() >= wire::kHeaderBytes) {
    const uint64_t checksum = wire::message_checksum(changed);
    std::string first(reinterpret_cast<const char*>(changed[0].data()), changed[0].size());
    std::memcpy(first.data() + 56, &checksum, 8);
    changed[0] = wire::Frame::own(std::move(first));
  }
  return changed;
}

/// Endless hostile messages built from honest ones: cut short at every length, every header bit flipped,
/// absurd sizes with a correct checksum, frames missing, added and damaged, honest messages that no client
/// sends, wrong shapes, labels and values, other rounds and steps, noise.
class HostileMessages {
 public:
  explicit HostileMessages(wire::MessageKey key) : key_(key), random_(2026) {
    const NamedTensors front = {{"0.1.weight", at::zeros({8, 16})}, {"0.1.bias", at::zeros({8})}};
    messages_ = {step_message(key, 0, 4),
                 {.key = key, .body = wire::WeightUpdate{.examples = 4, .weights = front}},
                 hello(666),
                 {.key = key, .body = wire::Heartbeat{}},
                 {.key = key, .body = wire::Bye{wire::ByeReason::kLeaving, "x"}},
                 {.key = key, .body = wire::BeginRound{.batch_sizes = {1, 2}, .weights = front}},
                 {.key = key, .body = wire::Gradients{.gradient = at::zeros({4, 8})}},
                 {.key = key, .body = wire::EndRound{}},
                 {.key = key, .body = wire::Finish{0, 0, front}},
                 {.key = key, .body = wire::Skip{}},
                 {.key = key, .body = wire::Refuse{}},
                 {.key = key, .body = wire::Welcome{}}};
    for (const wire::Message& message : messages_) encoded_.push_back(wire::encode(message));
  }

  wire::Frames next() {
    if (exhaustive_ < exhaustive_count()) return exhaustive(exhaustive_++);
    const size_t turn = turn_++;
    const wire::Frames& frames = encoded_[turn % encoded_.size()];
    const size_t variant = turn / encoded_.size();
    switch (turn % 7) {
      case 0: {  // cut short
        const size_t frame = variant % frames.size();
        const size_t length = frames[frame].size() > 0 ? variant % frames[frame].size() : 0;
        return rewrite(
            frames, frame, [&](std::string& bytes) { bytes.resize(length); }, variant % 2 == 0);
      }
      case 1: {  // one bit of the header
        const size_t bit = variant % (wire::kHeaderBytes * 8);
        return rewrite(
            frames, 0,
            [&](std::string& bytes) {
              bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
            },
            variant % 2 == 0);
      }
      case 2: {  // an absurd number anywhere
        return rewrite(
            frames, 0,
            [&](std::string& bytes) {
              const uint64_t absurd[] = {~0ull, 1ull << 31, 1ull << 40, 0x7FFFFFFFFFFFFFFFull};
              const size_t width = variant % 2 == 0 ? 4 : 8;
              if (bytes.size() < width) return;
              std::memcpy(bytes.data() + variant % (bytes.size() - width + 1), &absurd[variant % 4], width);
            },
            true);
      }
      case 3: {  // frames missing or too many
        wire::Frames changed = frames;
        if (variant % 2 == 0 && changed.size() > 1) changed.pop_back();
        for (size_t i = 0; i < variant % 40; ++i) changed.push_back(wire::Frame::own(std::string(i, 'x')));
        return changed;
      }
      case 4: {  // noise in a frame, with a correct checksum
        return rewrite(
            frames, variant % frames.size(),
            [&](std::string& bytes) {
              for (int i = 0; i < 3 && !bytes.empty(); ++i) {
                bytes[random_.below(bytes.size())] = static_cast<char>(random_.below(256));
              }
            },
            true);
      }
      case 5:
        return wire::encode(wrong_step(variant));
      default: {
        std::string noise(random_.below(300), '\0');
        for (char& c : noise) c = static_cast<char>(random_.below(256));
        return {wire::Frame::own(std::move(noise))};
      }
    }
  }

 private:
  /// A step's message cut short at every length and with every bit of the header flipped, each with the
  /// checksum as it was and with a correct one.
  size_t exhaustive_count() const { return 2 * (encoded_[0][0].size() + wire::kHeaderBytes * 8); }

  wire::Frames exhaustive(size_t number) const {
    const wire::Frames& frames = encoded_[0];
    const bool fix_checksum = number % 2 == 1;
    const size_t variant = number / 2;
    if (variant < frames[0].size()) {
      return rewrite(
          frames, 0, [&](std::string& bytes) { bytes.resize(variant); }, fix_checksum);
    }
    const size_t bit = variant - frames[0].size();
    return rewrite(
        frames, 0,
        [&](std::string& bytes) { bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8))); },
        fix_checksum);
  }

  wire::Message wrong_step(size_t variant) {
    wire::Message message = step_message(key_, static_cast<uint32_t>(random_.below(kMessages)), 4);
    auto& body = std::get<wire::Activations>(message.body);
    switch (variant % 8) {
      case 0:
        body.activations.fill_(std::nan(""));
        break;
      case 1:
        body.activations.fill_(1e30);
        break;
      case 2:
        body.activations = at::zeros({4, 9});
        break;
      case 3:
        body.activations = at::zeros({4, 8}, at::kDouble);
        break;
      case 4:
        body.labels.fill_(99);
        break;
      case 5:
        body.labels.fill_(-1);
        break;
      case 6:
        message.key.round = 7;
        break;
      default:
        message.key.run_id ^= 1;
        break;
    }
    return message;
  }

  wire::MessageKey key_;
  SplitMix64 random_;
  std::vector<wire::Message> messages_;
  std::vector<wire::Frames> encoded_;
  size_t exhaustive_ = 0;
  size_t turn_ = 0;
};

SessionOptions tiny_options() {
  SessionOptions options;
  options.plan.model = "mlp:hidden=8";
  options.plan.cut = 1;
  options.plan.optimizer.learning_rate = 1e-3;
  options.clients = 1;
  options.batch_size = 4;
  options.run_id = 4242;
  options.client_timeout = std::chrono::hours(1);
  return options;
}

}  // namespace

TEST_SUITE("aggregator/session/hostile_client") {
  TEST_CASE(
      "10,000 hostile messages from a listed key: after each an honest step succeeds, memory stays flat") {
    configure_compute_thread(1);
    SessionOptions options = tiny_options();
    options.local_steps = kMessages + 1;
    Server server(options);
    RawPeer honest(server.transport->endpoint(), server.keys.public_key, server.honest);
    RawPeer mallory(server.transport->endpoint(), server.keys.public_key, server.mallory);
    REQUIRE(honest.wait_connected());
    REQUIRE(mallory.wait_connected());
    honest.send(hello(1));
    const auto begin = honest.await<wire::BeginRound>();
    REQUIRE(begin.has_value());
    mallory.send(hello(2));
    REQUIRE(mallory.await<wire::Welcome>().has_value());

    HostileMessages hostile(begin->first);
    int64_t warm_bytes = 0;
    const auto honest_step = [&](uint32_t step) {
      honest.send(step_message(begin->first, step, begin->second.batch_sizes[step]));
      return honest.await<wire::Gradients>();
    };
    for (uint32_t i = 0; i < kMessages; ++i) {
      mallory.send(hostile.next());
      const auto answer = honest_step(i);
      REQUIRE_MESSAGE(answer.has_value(), "no answer after hostile message " << i);
      REQUIRE(answer->first.step == i);
      mallory.drain();
      if (i == 1000) warm_bytes = resident_bytes();
    }
    const int64_t growth = resident_bytes() - warm_bytes;
    MESSAGE("resident memory grew by " << growth / 1024 << " KiB over 9,000 hostile messages");
    CHECK(growth < kAllowedGrowth);

    REQUIRE(honest_step(kMessages).has_value());
    REQUIRE(honest.await<wire::EndRound>().has_value());
    NamedTensors front = snapshot(begin->second.weights);
    honest.send({.key = begin->first, .body = wire::WeightUpdate{.examples = 4, .weights = front}});
    REQUIRE(honest.await<wire::Finish>().has_value());
    honest.send({.key = begin->first, .body = wire::Bye{wire::ByeReason::kLeaving, ""}});
    mallory.send({.key = begin->first, .body = wire::Bye{wire::ByeReason::kLeaving, ""}});
    server.join();
    CHECK(server.session->completed());
    CHECK(server.session->refused_messages() > 5000);
    for (const NamedTensor& entry : server.session->weights())
      CHECK(at::isfinite(entry.tensor).all().item<bool>());
  }

  TEST_CASE("a participant's bad steps are left out one by one, and it is back in the next round") {
    SessionOptions options = tiny_options();
    options.clients = 2;
    options.min_clients = 2;
    options.plan.rounds = 20;
    options.local_steps = 4;
    options.batch_size = 64;
    options.step_deadline = std::chrono::milliseconds(200);
    Server server(options);
    RawPeer honest(server.transport->endpoint(), server.keys.public_key, server.honest);
    RawPeer mallory(server.transport->endpoint(), server.keys.public_key, server.mallory);
    REQUIRE(honest.wait_connected());
    REQUIRE(mallory.wait_connected());
    honest.send(hello(1));
    mallory.send(hello(2));
    for (uint32_t round = 1; round <= options.plan.rounds; ++round) {
      CAPTURE(round);
      const auto begin = honest.await<wire::BeginRound>();
      const auto hostile_begin = mallory.await<wire::BeginRound>();
      REQUIRE(begin.has_value());
      REQUIRE(hostile_begin.has_value());
      CHECK(begin->first.round == round);
      for (uint32_t step = 0; step < 4; ++step) {
        const uint32_t hostile_size = hostile_begin->second.batch_sizes[step];
        if (step < 2 && hostile_size > 0) {
          auto bad = step_message(hostile_begin->first, step, hostile_size);
          auto& body = std::get<wire::Activations>(bad.body);
          if (round % 3 == 0) body.activations.fill_(std::nan(""));
          if (round % 3 == 1) body.labels.fill_(77);
          if (round % 3 == 2) body.activations = at::zeros({hostile_size, 9});
          mallory.send(bad);
          const auto skip = mallory.await<wire::Skip>();
          REQUIRE(skip.has_value());
          CHECK(skip->second.until_next_round == (step == 1));
        }
        if (begin->second.batch_sizes[step] == 0) continue;
        honest.send(step_message(begin->first, step, begin->second.batch_sizes[step]));
        REQUIRE(honest.await<wire::Gradients>().has_value());
      }
      REQUIRE(honest.await<wire::EndRound>().has_value());
      honest.send({.key = begin->first,
                   .body = wire::WeightUpdate{.examples = 4, .weights = snapshot(begin->second.weights)}});
    }
    REQUIRE(honest.await<wire::Finish>().has_value());
    CHECK(server.observer.count("excluded") == 20);
  }
}
