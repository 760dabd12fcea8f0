#include "tandem/core/wire/message_codec.h"

#include <array>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/wire/sample_messages.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::wire;

namespace {

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    text += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    text += "0123456789abcdef"[static_cast<unsigned char>(c) & 0xf];
  }
  return text;
}

Message round_trip(const Message& message) {
  auto decoded = decode(encode(message), {});
  REQUIRE_MESSAGE(decoded.has_value(), decoded.error().message);
  return *decoded;
}

Error refused(const Frames& frames, const Limits& limits = {}) {
  const auto decoded = decode(frames, limits);
  REQUIRE_FALSE(decoded.has_value());
  return decoded.error();
}

/// The body of an encoded message in hexadecimal.
std::string body_hex(const Body& body) {
  return hex(to_strings(encode({{}, body}))[0].substr(kHeaderBytes));
}

}  // namespace

TEST_SUITE("core/wire/message_codec") {
  TEST_CASE("every message comes back as it was, with its key") {
    for (const SampleMessage& sample : sample_messages()) {
      CAPTURE(sample.name);
      const Frames frames = encode(sample.message);
      const auto decoded = decode(frames, {});
      REQUIRE_MESSAGE(decoded.has_value(), decoded.error().message);
      check_same_message(sample.message, *decoded);
    }
  }

  TEST_CASE("bodies are the documented bytes") {
    // Each line by hand from docs/wire_format.md: byte order mark, version, fields.
    CHECK(body_hex(Heartbeat{}) ==
          "01"
          "01000000");
    CHECK(body_hex(EndRound{true}) ==
          "01"
          "01000000"
          "01");
    CHECK(body_hex(Bye{ByeReason::kShuttingDown, "bye"}) ==
          "01"
          "01000000"
          "03"
          "0300000000000000"
          "627965");
    CHECK(body_hex(Refuse{ErrorCode::kTooLarge, "no", true}) ==
          "01"
          "01000000"
          "04000000"
          "0200000000000000"
          "6e6f"
          "01");
    CHECK(body_hex(Skip{false, ""}) ==
          "01"
          "01000000"
          "00"
          "0000000000000000");
    CHECK(body_hex(Hello{"1", 0x0102030405060708u, {{3}, 10, 5}, 258, {{7, 12, 11}, {6, 9, 9}}}) ==
          "01"
          "01000000"
          "0100000000000000"
          "31"
          "0807060504030201"
          "01000000"
          "0100000000000000"
          "0300000000000000"
          "0a00000000000000"
          "0500000000000000"
          "0201000000000000"
          "0200000000000000"
          "01000000"
          "070000000c0000000b000000"
          "060000000900000009000000");
    CHECK(body_hex(Gradients{at::ones({2}), {2, 0.5, 1}}) ==
          "01"
          "01000000"
          "01000000"
          "01"
          "00"
          "00"
          "0100000000000000"
          "0200000000000000"
          "0800000000000000"
          "01000000"
          "0200000000000000"
          "000000000000e03f"
          "0100000000000000");
    // The descriptor's version stands before the first descriptor only.
    CHECK(body_hex(Activations{at::ones({1, 1, 1, 2}).contiguous(at::MemoryFormat::ChannelsLast),
                               at::scalar_tensor(1, at::kLong)}) ==
          "01"
          "01000000"
          "01000000"
          "01"
          "00"
          "00"
          "0400000000000000"
          "0100000000000000"
          "0100000000000000"
          "0100000000000000"
          "0200000000000000"
          "0800000000000000"
          "05"
          "00"
          "00"
          "0000000000000000"
          "0800000000000000");
  }

  TEST_CASE("the checksum is XXH3-64 as other implementations compute it") {
    // Computed apart from libxxhash, from the specification of XXH3 for 17 to 128 bytes.
    const std::vector<std::string> strings = to_strings(encode({{1, 2, 3, 4, 5}, Outputs{at::ones({2})}}));
    std::string joined;
    for (const std::string& bytes : strings) joined += bytes;
    CHECK(joined.size() == 64 + 36 + 8);
    CHECK(message_checksum(to_frames(strings)) == 0x1FF8A0B326541F52u);
  }

  TEST_CASE("type_of follows the order of the variant") {
    for (const SampleMessage& sample : sample_messages()) {
      CAPTURE(sample.name);
      CHECK(static_cast<size_t>(type_of(sample.message.body)) == sample.message.body.index() + 1);
    }
  }

  TEST_CASE("another version is refused for good, a damaged version byte is damage like any other") {
    std::vector<std::string> bytes = to_strings(encode({.body = Heartbeat{}}));
    bytes[0][6] = 2;
    const auto damaged = decode(to_frames(bytes), {});
    REQUIRE_FALSE(damaged.has_value());
    CHECK((damaged.error().code == ErrorCode::kCorrupt));
    CHECK(damaged.error().message ==
          "message header: protocol version: expected 1.x, found 2.0; run the same release on both sides, or "
          "the message is damaged");
    const auto newer = decode(with_checksum(to_frames(bytes)), {});
    REQUIRE_FALSE(newer.has_value());
    CHECK((newer.error().code == ErrorCode::kUnsupported));
    CHECK(newer.error().message ==
          "message header: protocol version: expected 1.x, found 2.0; run the same release on both sides");
  }

  TEST_CASE("the same message gives the same bytes, and any change another checksum") {
    std::set<uint64_t> checksums;
    std::vector<Message> messages;
    const auto gradients = [](float value) { return Gradients{at::full({2}, value), {2, 0.5, 1}}; };
    messages.push_back({{1, 2, 3, 4}, gradients(1)});
    messages.push_back({{9, 2, 3, 4}, gradients(1)});
    messages.push_back({{1, 9, 3, 4}, gradients(1)});
    messages.push_back({{1, 2, 9, 4}, gradients(1)});
    messages.push_back({{1, 2, 3, 9}, gradients(1)});
    messages.push_back({{1, 2, 3, 4, 9}, gradients(1)});
    messages.push_back({{1, 2, 3, 4}, gradients(2)});
    for (const Message& message : messages) {
      CHECK((to_strings(encode(message)) == to_strings(encode(message))));
      checksums.insert(message_checksum(encode(message)));
    }
    CHECK(checksums.size() == messages.size());
  }

  TEST_CASE("the payload hash is the content's alone: a request keeps it under another incarnation") {
    const auto gradients = [](float value, double loss) {
      return Gradients{at::full({2}, value), {2, loss, 1}};
    };
    const uint64_t hash = round_trip({{1, 2, 3, 4}, gradients(1, 0.5)}).payload_hash;
    CHECK(round_trip({{9, 8, 7, 6}, gradients(1, 0.5)}).payload_hash == hash);
    CHECK(round_trip({{1, 2, 3, 4}, gradients(2, 0.5)}).payload_hash != hash);
    CHECK(round_trip({{1, 2, 3, 4}, gradients(1, 0.25)}).payload_hash != hash);
  }

  TEST_CASE("tensor bytes moved between frames change the message") {
    const NamedTensors front{{"a", counting({2}, at::kByte)}, {"b", counting({2}, at::kByte)}};
    std::vector<std::string> frames = to_strings(encode({{}, WeightUpdate{1, 1, front, {}}}));
    frames[1] += frames[2][0];
    frames[2].erase(0, 1);
    // All bytes are there in the same order, so the checksum holds and the descriptors must object.
    const Error error = refused(to_frames(frames));
    CHECK((error.code == ErrorCode::kShapeMismatch));
    CHECK(error.message ==
          "WeightUpdate message: WeightUpdate.weights tensor \"a\": bytes in its frame: expected 2, found 3");
  }

  TEST_CASE("tensors are borrowed on the way out and in") {
    const at::Tensor weight = counting({32, 32});
    const Frames frames = encode({{}, WeightUpdate{1, 1, {{"w", weight}}, {}}});
    CHECK(static_cast<const void*>(frames[1].data()) == weight.data_ptr());
    const auto decoded = decode(frames, {});
    CHECK(std::get<WeightUpdate>(decoded->body).weights[0].tensor.data_ptr() == weight.data_ptr());
  }

  TEST_CASE("a decoded message outlives its frames") {
    Message decoded;
    {
      const std::vector<std::string> bytes = to_strings(encode(sample_messages()[3].message));
      decoded = *decode(to_frames(bytes), {});
    }
    check_same_message(sample_messages()[3].message, decoded);
  }

  TEST_CASE("limits hold exactly") {
    const Frames frames = encode({{}, WeightUpdate{1, 1, {{"a", counting({4})}, {"b", counting({2})}}, {}}});
    const uint64_t body = frames[0].size() - kHeaderBytes;
    const Limits exact{
        .max_body_bytes = body, .max_tensor_frames = 2, .max_tensor_bytes = 16, .max_message_bytes = 24};
    CHECK(decode(frames, exact).has_value());
    const auto text = [&](Limits limits) {
      const Error error = refused(frames, limits);
      CHECK((error.code == ErrorCode::kTooLarge));
      return error.message;
    };
    Limits limits = exact;
    limits.max_body_bytes = body - 1;
    CHECK(text(limits) == "WeightUpdate message: body bytes: expected at most " + std::to_string(body - 1) +
                              ", found " + std::to_string(body));
    limits = exact;
    limits.max_tensor_frames = 1;
    CHECK(text(limits) == "WeightUpdate message: tensor frames: expected at most 1, found 2");
    limits = exact;
    limits.max_tensor_bytes = 15;
    CHECK(text(limits) == "WeightUpdate message: bytes of tensor frame 1: expected at most 15, found 16");
    limits = exact;
    limits.max_message_bytes = 23;
    CHECK(text(limits) == "WeightUpdate message: tensor bytes: expected at most 23, found 24");
  }

  TEST_CASE("long reasons are cut between characters, long names are the caller's mistake") {
    const std::string ascii(5000, 'x');
    CHECK(std::get<Bye>(round_trip({{}, Bye{ByeReason::kLeaving, ascii}}).body).text ==
          std::string(4096, 'x'));
    // 4095 bytes, then a character of three bytes across the limit.
    const std::string dash = std::string(4095, 'x') + "\xE2\x80\x93!";
    CHECK(std::get<Skip>(round_trip({{}, Skip{false, dash}}).body).reason == std::string(4095, 'x'));
    CHECK(std::get<Refuse>(round_trip({{}, Refuse{ErrorCode::kIo, std::string(4096, 'y'), false}}).body)
              .reason == std::string(4096, 'y'));

    CHECK_THROWS_WITH_AS(encode({{}, Hello{std::string(257, 'v'), 1, {}}}),
                         "Hello.software_version has at most 256 bytes, got 257", std::invalid_argument);
    CHECK_THROWS_WITH_AS(encode({{}, WeightUpdate{1, 1, {{std::string(257, 'n'), at::ones({1})}}, {}}}),
                         "name of a tensor of WeightUpdate.weights has at most 256 bytes, got 257",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(encode({{}, Hello{"", 1, {std::vector<int64_t>(9, 1), 1, 1}}}),
                         "DataDescription.input_shape has at most 8 dimensions, got 9",
                         std::invalid_argument);
  }

  TEST_CASE("encode refuses values that decode would") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    BeginRound begin;
    begin.lr_schedule.step_factor = nan;
    CHECK_THROWS_WITH_AS(encode({{}, begin}), "LrScheduleOptions.step_factor must be finite, got nan",
                         std::invalid_argument);
    Welcome welcome;
    welcome.plan.optimizer.learning_rate = std::numeric_limits<double>::infinity();
    CHECK_THROWS_WITH_AS(encode({{}, welcome}), "OptimizerOptions.learning_rate must be finite, got inf",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(encode({{}, Bye{static_cast<ByeReason>(0), ""}}), "Bye.reason has no value 0",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(encode({{}, Gradients{}}), "Gradients.gradient: an undefined tensor cannot travel",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(encode({{}, WeightUpdate{1, 1, {{"0.bias", at::Tensor()}}, {}}}),
                         "WeightUpdate.weights tensor \"0.bias\": an undefined tensor cannot travel",
                         std::invalid_argument);
  }

  TEST_CASE("NaN travels where it is documented") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(std::isnan(std::get<Finish>(round_trip({{}, Finish{nan, 0.5, {}}}).body).eval_loss));
    CHECK(std::isnan(std::get<BeginRound>(round_trip({{}, BeginRound{1, 0, {}, 0.5, nan, {}, {}, {}}}).body)
                         .previous_accuracy));
  }

  TEST_CASE("a message of a newer minor version is read") {
    std::vector<std::string> bytes = to_strings(encode(sample_messages()[6].message));
    bytes[0][7] = 1;
    CHECK(decode(with_checksum(to_frames(bytes)), {}).has_value());
  }

  TEST_CASE("messages without tensors, steps or names travel") {
    const Message message{{}, BeginRound{}};
    check_same_message(message, round_trip(message));
    const Message unnamed{{}, WeightUpdate{0, 0, {{"", at::scalar_tensor(1.0)}}, {}}};
    check_same_message(unnamed, round_trip(unnamed));
  }

  TEST_CASE("threads may encode and decode at once") {
    const std::vector<SampleMessage> samples = sample_messages();
    std::vector<std::vector<std::string>> expected;
    for (const SampleMessage& sample : samples) expected.push_back(to_strings(encode(sample.message)));
    std::array<int, 4> good{};
    std::vector<std::thread> threads;
    for (int& count : good) {
      threads.emplace_back([&] {
        for (int repeat = 0; repeat < 50; ++repeat) {
          for (size_t i = 0; i < samples.size(); ++i) {
            const Frames frames = encode(samples[i].message);
            if (decode(frames, {}).has_value() && to_strings(frames) == expected[i]) ++count;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const int count : good) CHECK(count == 50 * static_cast<int>(samples.size()));
  }
}
