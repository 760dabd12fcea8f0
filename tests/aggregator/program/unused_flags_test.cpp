// Flags that would change nothing in a run are refused with what to do, and all others are not.
#include "tandem/aggregator/program/unused_flags.h"

#include <functional>
#include <string>
#include <vector>

#include "support/test.h"

using namespace tandem;
using aggregator::TrainingFlags;

namespace {

using Change = std::function<void(TrainingFlags&)>;

TrainingFlags flags_with(const Change& change) {
  TrainingFlags flags;
  flags.clients = 9;
  change(flags);
  return flags;
}

std::string refusal_of(const Change& change) {
  const auto options = flags_with(change).session_options();
  return options ? "" : options.error().message;
}

void federated(TrainingFlags& flags, const std::string& strategy) {
  flags.algorithm = "federated";
  flags.strategy = strategy;
}

}  // namespace

TEST_SUITE("aggregator/program/unused_flags") {
  TEST_CASE("a flag that would do nothing is refused: which, why, and what to do") {
    struct Case {
      Change change;
      std::string refusal;
    };
    const std::vector<Case> cases = {
        {[](auto& flags) {
           flags.algorithm = "federated";
           flags.window = 4;
         },
         "--window 4 does nothing with --algorithm federated: no step crosses the network, the whole model "
         "is "
         "on the device; leave it out or choose another algorithm"},
        {[](auto& flags) { flags.auxiliary_head = "mlp:hidden=8"; },
         "--auxiliary-head mlp:hidden=8 does nothing with --edge-objective end-to-end: the front learns on "
         "the "
         "tail's gradient; leave it out or choose local or aligned"},
        {[](auto& flags) {
           flags.edge_objective = "local";
           flags.align_interval = 2;
         },
         "--align-interval 2 does nothing with --edge-objective local: no auxiliary head is fitted to the "
         "tail's gradients; leave it out or choose aligned"},
        {[](auto& flags) { flags.align_tail_epochs = 2; },
         "--align-tail-epochs 2 does nothing with --edge-objective end-to-end: the aggregator keeps no "
         "smashed "
         "data; leave it out or choose aligned"},
        {[](auto& flags) { flags.align_memory_mib = 64; },
         "--align-memory-mib 64 does nothing with --edge-objective end-to-end: the aggregator keeps no "
         "smashed "
         "data; leave it out or choose aligned"},
        {[](auto& flags) { flags.align_epochs = 2; },
         "--align-epochs 2 does nothing with --edge-objective end-to-end: no auxiliary head is fitted to the "
         "tail's gradients; leave it out or choose aligned"},
        {[](auto& flags) { flags.align_learning_rate = 0.5; },
         "--align-learning-rate 0.5 does nothing with --edge-objective end-to-end: no auxiliary head is "
         "fitted to the tail's gradients; leave it out or choose aligned"},
        {[](auto& flags) { flags.update_order = "planned"; },
         "--update-order planned does nothing with --strategy fedavg: updates are merged once a round, in "
         "the "
         "order of names; leave it out or choose fedbuff"},
        {[](auto& flags) {
           federated(flags, "krum:f=2");
           flags.min_clients = 3;
         },
         "--min-clients 3 is below what --strategy krum needs, the updates of 7 clients in a round; leave it "
         "out or give at least 7"},
        {[](auto& flags) { flags.optimizer = "adam:momentum=0.9"; },
         "--optimizer: unknown parameter \"momentum\" of \"adam\"; known are weight-decay, clip-norm"},
        {[](auto& flags) {
           flags.local_steps = 10;
           flags.local_epochs = 2;
         },
         "--local-epochs 2 does nothing with --local-steps 10: a round is so many steps, not passes; leave "
         "it "
         "out or leave out --local-steps"},
        {[](auto& flags) {
           flags.stragglers = "wait";
           flags.step_deadline = 5;
         },
         "--step-deadline 5 does nothing with --stragglers wait: no step goes on without a client; leave it "
         "out or choose drop"},
    };
    for (const Case& one : cases) CHECK(refusal_of(one.change) == one.refusal);
  }

  TEST_CASE("the tail's passes over smashed data follow the tail interval unless given") {
    const auto passes = [](int32_t given) {
      return flags_with([&](auto& flags) {
               flags.edge_objective = "aligned";
               flags.tail_interval = 5;
               flags.align_tail_epochs = given;
             })
          .session_options();
    };
    CHECK(passes(-1)->alignment.tail_epochs == 4);
    CHECK(passes(0)->alignment.tail_epochs == 0);
    CHECK(passes(7)->alignment.tail_epochs == 7);
    CHECK(passes(-2).error().message ==
          "--align-tail-epochs must be >= 0, or -1 for the tail interval less one, got -2");
    CHECK(refusal_of([](auto& flags) {
            flags.edge_objective = "aligned";
            flags.align_epochs = 0;
          }).find("or nothing is aligned; else choose --edge-objective local") != std::string::npos);
    CHECK(refusal_of([](auto& flags) {
            flags.edge_objective = "aligned";
            flags.tail_interval = 5;
            flags.align_epochs = 0;
            flags.align_learning_rate = 0.5;
          }) ==
          "--align-learning-rate 0.5 does nothing with --align-epochs 0: the auxiliary head is not fitted; "
          "leave it out or give --align-epochs 1 or more");
    CHECK(passes(2'000'000).error().message == "--align-tail-epochs must be 0..1000000, got 2000000");
    for (const uint32_t interval : {0u, 3'000'000'000u}) {  // the plan says so, not this flag
      CHECK(refusal_of([&](auto& flags) { flags.tail_interval = interval; }).find("align") ==
            std::string::npos);
    }
  }

  TEST_CASE("the same flags are taken where they count, and every flag at its default everywhere") {
    const std::vector<Change> changes = {
        [](auto& flags) { flags.window = 4; },
        [](auto& flags) {
          flags.edge_objective = "local";
          flags.auxiliary_head = "mlp:hidden=8";
          flags.window = 2;
          flags.tail_interval = 3;
        },
        [](auto& flags) {
          flags.edge_objective = "aligned";
          flags.align_interval = 2;
          flags.align_memory_mib = 64;
          flags.align_tail_epochs = 2;
          flags.align_epochs = 2;
          flags.align_learning_rate = 0.5;
        },
        [](auto& flags) {
          federated(flags, "fedbuff");
          flags.update_order = "planned";
          flags.step_deadline = 5;
        },
        [](auto& flags) {
          federated(flags, "krum:f=2");
          flags.min_clients = 7;
        },
        [](auto& flags) { federated(flags, "krum:f=2"); },
        [](auto& flags) { flags.optimizer = "sgd:momentum=0.9"; },
        [](auto& flags) { flags.local_epochs = 2; },
        [](auto& flags) {
          flags.stragglers = "late";
          flags.step_deadline = 5;
        },
        [](auto& flags) {
          flags.stragglers = "wait";
          flags.round_deadline = 5;
        },
    };
    for (const Change& change : changes) CHECK(refusal_of(change) == "");
    for (const char* algorithm : {"parallel", "splitfed-v1", "splitfed-v2", "relay", "federated"}) {
      CHECK(refusal_of([&](auto& flags) { flags.algorithm = algorithm; }) == "");
    }
  }

  TEST_CASE(
      "the cut may stay when algorithms are compared: with federated it is taken, and said to do nothing") {
    const Change change = [](auto& flags) {
      flags.algorithm = "federated";
      flags.cut = 2;
    };
    CHECK(refusal_of(change) == "");
    CHECK(aggregator::harmless_unused_flag(flags_with(change)) ==
          "--cut 2 does nothing with --algorithm federated: the whole model is on the device; leave it out");
    CHECK_FALSE(aggregator::harmless_unused_flag(flags_with([](auto& flags) { flags.cut = 2; })).has_value());
    CHECK_FALSE(aggregator::harmless_unused_flag(flags_with([](auto& flags) {
                  flags.algorithm = "federated";
                })).has_value());
  }
}
