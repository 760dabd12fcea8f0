#include "tandem/edge_client/session/open_requests.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

//
#include "support/test.h"

using namespace tandem;
using namespace tandem::edge_client;
using namespace std::chrono_literals;

namespace {

const TimePoint kStart{1h};

wire::Message activations(uint32_t step) {
  return {.key = {.run_id = 42, .incarnation = 1, .round = 3, .step = step}, .body = wire::Activations{}};
}

wire::Message trained() {
  return {.key = {.run_id = 42, .incarnation = 1, .round = 3}, .body = wire::Trained{{.examples = 7}}};
}

/// The steps in the keys of what goes out again when it was asked for just now, or after so many messages.
std::vector<uint32_t> resent(OpenRequests& requests, const std::vector<wire::RequestId>& held = {},
                             std::optional<uint64_t> asked = std::nullopt) {
  std::vector<uint32_t> steps;
  const int count = requests.resend(asked.value_or(requests.sent()), held,
                                    [&](const wire::Message& message) { steps.push_back(message.key.step); });
  CHECK(count == static_cast<int>(steps.size()));
  return steps;
}

}  // namespace

TEST_SUITE("edge_client/session/open_requests") {
  TEST_CASE("what was answered is not sent again, what waits goes out in the order of the steps") {
    OpenRequests requests;
    for (const uint32_t step : {5u, 3u, 4u}) requests.open(step, activations(step), kStart);
    requests.close(4);
    requests.close(9);  // never asked
    CHECK((resent(requests) == std::vector<uint32_t>{3, 5}));
    requests.clear();
    CHECK(requests.empty());
    CHECK(resent(requests).empty());
  }

  TEST_CASE("what the aggregator holds, or what went out after it was asked, is not sent again") {
    OpenRequests requests;
    requests.open(0, activations(0), kStart);
    requests.open(1, activations(1), kStart);
    const uint64_t asked = requests.sent();
    requests.open(2, activations(2), kStart);
    requests.open(OpenRequests::kTrained, trained(), kStart);
    using wire::MessageType;
    CHECK((resent(requests, {{MessageType::kActivations, 3, 1}}, asked) == std::vector<uint32_t>{0}));
    // It went out a moment ago.
    CHECK(resent(requests, {{MessageType::kActivations, 3, 1}}, asked).empty());
    // The kind and the round count too.
    CHECK((resent(requests, {{MessageType::kOutputGradients, 3, 0},
                             {MessageType::kActivations, 2, 1},
                             {MessageType::kActivations, 3, 2},
                             {MessageType::kTrained, 3, 0}}) == std::vector<uint32_t>{0, 1}));
    std::vector<uint32_t> steps;
    requests.resend_all([&](const wire::Message& message) { steps.push_back(message.key.step); });
    CHECK((steps == std::vector<uint32_t>{0, 1, 2, 0}));
  }

  TEST_CASE("one request is sent again only if it went out before the question") {
    OpenRequests requests;
    requests.open(OpenRequests::kTrained, trained(), kStart);
    const uint64_t asked = requests.sent();
    int count = 0;
    const auto send = [&](const wire::Message&) { ++count; };
    requests.resend_one(OpenRequests::kTrained, asked, send);
    requests.resend_one(OpenRequests::kTrained, asked, send);
    CHECK(count == 1);
    requests.resend_one(OpenRequests::kTrained, requests.sent(), send);
    CHECK(count == 2);
  }

  TEST_CASE("a resend repeats key and body, and follows the aggregator's incarnation") {
    OpenRequests requests;
    requests.open(OpenRequests::kTrained, trained(), kStart);
    requests.set_incarnation(2);
    std::vector<wire::Message> sent;
    requests.resend_all([&](const wire::Message& message) { sent.push_back(message); });
    REQUIRE(sent.size() == 1);
    CHECK((sent[0].key == wire::MessageKey{.run_id = 42, .incarnation = 2, .round = 3, .step = 0}));
    CHECK(std::get<wire::Trained>(sent[0].body).figures.examples == 7);
  }

  TEST_CASE("the oldest is known by its step and by when it went out first") {
    OpenRequests requests;
    CHECK_FALSE(requests.oldest());
    requests.open(OpenRequests::kWeightUpdate, trained(), kStart);
    REQUIRE(requests.oldest());
    CHECK_FALSE(OpenRequests::is_step(requests.oldest()->step));
    requests.open(2, activations(2), kStart + 1s);
    (void)resent(requests);
    CHECK(requests.oldest()->step == 2);
    CHECK((requests.oldest()->since == kStart + 1s));
    requests.open(2, activations(2), kStart + 40s);  // asked anew
    CHECK((requests.oldest()->since == kStart + 40s));
    CHECK(requests.size() == 2);
  }

  TEST_CASE("the first unanswered step and what a checkpoint keeps leave out what belongs to no step") {
    OpenRequests requests;
    CHECK(requests.first_step(6) == 6);
    requests.open(OpenRequests::kTrained, trained(), kStart);
    requests.open(OpenRequests::kWeightUpdate, trained(), kStart);
    CHECK(requests.first_step(6) == 6);
    CHECK(requests.of_steps().empty());
    requests.open(8, activations(8), kStart);
    CHECK(requests.first_step(6) == 6);  // it went up, and the device has not come so far
    requests.open(4, activations(4), kStart);
    CHECK(requests.first_step(6) == 4);
    const auto kept = requests.of_steps();
    REQUIRE(kept.size() == 2);
    CHECK(kept.begin()->first == 4);
    CHECK(kept.at(8).key.step == 8);
    CHECK(requests.contains(8));
    CHECK(requests.find(5) == nullptr);
    CHECK(requests.find(8)->key.step == 8);
  }
}
