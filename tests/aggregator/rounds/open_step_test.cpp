#include "tandem/aggregator/rounds/open_step.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};
const ClientId kEve{"eve"};
using State = OpenStep::AnswerState;

/// Ann's step 4 joined with bob's step 7, as when bob sat some out.
OpenStep ann_and_bob() {
  return OpenStep({{.client = kAnn, .step = 4, .activations = at::zeros({2, 3})},
                   {.client = kBob, .step = 7, .activations = at::zeros({1, 3})}});
}

OpenStep::Answer answer(double value, uint64_t payload_hash = 1) {
  return {.gradient = at::full({2}, value), .figures = {2, 2 * value, 0}, .payload_hash = payload_hash};
}

std::vector<ClientId> missing(const OpenStep& step) {
  std::vector<ClientId> clients;
  for (const TailEntry& entry : step.missing()) clients.push_back(entry.client);
  return clients;
}

}  // namespace

TEST_SUITE("aggregator/rounds/open_step") {
  TEST_CASE("every client of the step is awaited until its answer came or it was given up") {
    OpenStep step = ann_and_bob();
    CHECK(missing(step) == std::vector<ClientId>{kAnn, kBob});
    CHECK(step.missing()[1].step == 7);
    step.answer(kBob, answer(2));
    CHECK(missing(step) == std::vector<ClientId>{kAnn});
    CHECK((step.state_of(kAnn) == State::kAwaited));
    CHECK((step.state_of(kBob) == State::kAnswered));
    step.give_up(kAnn);
    CHECK(step.missing().empty());
    CHECK((step.state_of(kAnn) == State::kGivenUp));
    CHECK(step.answer_of(kAnn) == nullptr);
  }

  TEST_CASE("a client takes part with its own step and no other") {
    const OpenStep step = ann_and_bob();
    REQUIRE(step.find(kAnn, 4) != nullptr);
    CHECK(step.find(kAnn, 4)->examples() == 2);
    CHECK(step.find(kAnn, 7) == nullptr);
    CHECK(step.find(kEve, 4) == nullptr);
  }

  TEST_CASE("a client's first answer stands, and one that comes too late is none") {
    OpenStep step = ann_and_bob();
    step.answer(kAnn, answer(1, 11));
    step.answer(kAnn, answer(9, 99));
    step.give_up(kAnn);
    step.give_up(kBob);
    step.answer(kBob, answer(2));
    REQUIRE(step.answer_of(kAnn) != nullptr);
    CHECK(step.answer_of(kAnn)->payload_hash == 11);
    CHECK(step.answer_of(kAnn)->figures.mean_loss() == 1);
    CHECK(step.answer_of(kBob) == nullptr);
    CHECK((step.state_of(kBob) == State::kGivenUp));
  }

  TEST_CASE("gradients are in the clients' order, and undefined where the step goes on without one") {
    OpenStep step = ann_and_bob();
    step.answer(kBob, answer(2));
    CHECK_FALSE(step.gradients()[0].defined());  // she left, and nobody gave her up
    step.answer(kAnn, answer(1));
    auto gradients = step.gradients();
    REQUIRE(gradients.size() == 2);
    CHECK(gradients[0].eq(1).all().item<bool>());
    CHECK(gradients[1].eq(2).all().item<bool>());

    OpenStep other = ann_and_bob();
    other.answer(kAnn, {.payload_hash = 5});  // what came was not usable
    other.give_up(kBob);
    for (const at::Tensor& gradient : other.gradients()) CHECK_FALSE(gradient.defined());
    CHECK(other.answer_of(kAnn)->payload_hash == 5);
  }
}
