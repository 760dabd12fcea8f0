// The table of the options of training: what is refused and why, what belongs to a run, and what a session
// makes of them.
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/run/temporary_folder.h"
#include "support/test.h"
#include "tandem/aggregator/program/aggregator_flags.h"

using namespace tandem;
using aggregator::TrainingFlags;

namespace {

using Change = std::function<void(TrainingFlags&)>;

/// The options with a change, in a table as a program has it.
struct Table {
  explicit Table(const Change& change) : flags("tandem-test", "Trains.") {
    training.add_to(flags);
    training.clients = 9;
    change(training);
  }
  TrainingFlags training;
  Flags flags;
};

/// The mistake in the table or in what the session makes of it, or nothing.
std::string refusal_of(const Change& change) {
  const Table table(change);
  if (const auto checked = table.flags.check(); !checked) return checked.error().message;
  const auto options = table.training.session_options();
  return options ? "" : options.error().message;
}

void federated(TrainingFlags& flags, const std::string& strategy) {
  flags.algorithm = "federated";
  flags.strategy = strategy;
}

}  // namespace

TEST_SUITE("aggregator/program/training_flags") {
  TEST_CASE("an option that would do nothing is refused: which, why, and what to do") {
    const std::vector<std::pair<Change, std::string>> cases = {
        {[](auto& flags) { flags.algorithm = "federated:window=4"; },
         "--algorithm: unknown parameter \"window\" of \"federated\"; it takes none"},
        {[](auto& flags) { flags.edge_objective = "end-to-end:head=mlp"; },
         "--edge-objective: unknown parameter \"head\" of \"end-to-end\"; it takes none"},
        {[](auto& flags) { flags.edge_objective = "local:every=2"; },
         "--edge-objective: unknown parameter \"every\" of \"local\"; known are head, tail-interval"},
        {[](auto& flags) { flags.edge_objective = "aligned:tail-interval=5,epochs=0,learning-rate=0.5"; },
         "--edge-objective aligned:learning-rate does nothing with epochs=0: the auxiliary head is not "
         "fitted; "
         "leave it out or give epochs=1 or more"},
        {[](auto& flags) { flags.strategy = "fedavg:order=planned"; },
         "--strategy: unknown parameter \"order\" of \"fedavg\"; it takes none"},
        {[](auto& flags) {
           federated(flags, "krum:f=2");
           flags.min_clients = 3;
         },
         "--min-clients 3 is below what --strategy krum needs, the updates of 7 clients in a round; leave it "
         "out "
         "or give at least 7"},
        {[](auto& flags) { flags.optimizer = "adam:momentum=0.9"; },
         "--optimizer: unknown parameter \"momentum\" of \"adam\"; known are weight-decay, clip-norm"},
        {[](auto& flags) {
           flags.local_steps = 10;
           flags.local_epochs = 2;
         },
         "--local-epochs 2 does nothing with --local-steps: a round is so many steps, not passes; leave it "
         "out or "
         "leave out --local-steps"},
        {[](auto& flags) { flags.stragglers = "wait:deadline=5s"; },
         "--stragglers: unknown parameter \"deadline\" of \"wait\"; known are round-deadline, "
         "update-deadline"},
    };
    for (const auto& [change, refusal] : cases) CHECK(refusal_of(change) == refusal);
  }

  TEST_CASE("the same options are taken where they count, and every option at its default everywhere") {
    const std::vector<Change> changes = {
        [](auto& flags) { flags.algorithm = "splitfed-v1:window=4"; },
        [](auto& flags) {
          flags.edge_objective = "local:head=mlp:hidden=8,tail-interval=3";
          flags.algorithm = "parallel:window=2";
        },
        [](auto& flags) {
          flags.edge_objective =
              "aligned:every=2,memory-mib=64,tail-epochs=2,epochs=2,learning-rate=0.5,head=conv:channels=4";
        },
        [](auto& flags) {
          federated(flags, "fedbuff:order=planned,buffer=3");
          flags.stragglers = "drop:deadline=5s";
        },
        [](auto& flags) {
          federated(flags, "krum:f=2");
          flags.min_clients = 7;
        },
        [](auto& flags) { federated(flags, "krum:f=2"); },
        [](auto& flags) { flags.optimizer = "sgd:momentum=0.9"; },
        [](auto& flags) { flags.local_epochs = 2; },
        [](auto& flags) { flags.stragglers = "late:deadline=5s"; },
        [](auto& flags) { flags.stragglers = "wait:round-deadline=5s"; },
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
      flags.cut = "2";
    };
    CHECK(refusal_of(change) == "");
    CHECK(Table(change).flags.notes() ==
          std::vector<std::string>{"--cut 2 does nothing with --algorithm federated: the whole model is on "
                                   "the device; leave it out"});
    CHECK(Table([](auto& flags) { flags.cut = "2"; }).flags.notes().empty());
    CHECK(Table([](auto& flags) { flags.algorithm = "federated"; }).flags.notes().empty());
  }

  TEST_CASE("numbers outside of their range are refused") {
    for (const auto& [change, refusal] : {
             std::pair<Change, std::string>{[](auto& flags) { flags.rounds = 0; },
                                            "--rounds must be >= 1, got 0"},
             {[](auto& flags) { flags.batch_size = 0; }, "--batch-size must be >= 1, got 0"},
             {[](auto& flags) { flags.learning_rate = 0; }, "--learning-rate must be > 0, got 0"},
             {[](auto& flags) { flags.client_timeout = 0; },
              "--client-timeout must be from 0.001 to 2592000, got 0"},
             {[](auto& flags) { flags.threads = -1; }, "--threads must be >= 0, got -1"},
             {[](auto& flags) { flags.checkpoint_steps = 1'000'001; },
              "--checkpoint-steps must be from 0 to 1000000, got 1000001"},
             {[](auto& flags) { flags.min_clients = 10; },
              "--min-clients must be between 1 and clients (9), got 10"},
         }) {
      CHECK(refusal_of(change) == refusal);
    }
  }

  TEST_CASE("a session gets what the specifications say") {
    const auto options = Table([](auto& flags) {
                           flags.algorithm = "splitfed-v2:window=3";
                           flags.edge_objective = "aligned:tail-interval=5,head=mlp:hidden=8";
                           flags.stragglers = "drop:deadline=2s,round-deadline=90s";
                         }).training.session_options();
    REQUIRE(options.has_value());
    CHECK(options->plan.algorithm == Algorithm::kSplitFedV2);
    CHECK(options->plan.window == 3);
    CHECK(options->plan.objective == EdgeObjective::kAligned);
    CHECK(options->plan.tail_interval == 5);
    CHECK(options->plan.auxiliary_head == "mlp:hidden=8");
    CHECK(options->alignment.tail_epochs == 4);
    CHECK(options->step_deadline == std::chrono::seconds(2));
    CHECK_FALSE(options->step_waits_for_transfers);
    CHECK(options->update_deadline == std::chrono::seconds(60));
    CHECK(options->update_waits_for_transfers);
    CHECK(options->round_deadline == std::chrono::seconds(90));
    const auto planned = Table([](auto& flags) { federated(flags, "fedbuff:order=planned"); });
    CHECK(planned.training.session_options()->update_order == aggregator::UpdateOrder::kPlanned);
    const auto arrival = Table([](auto& flags) { federated(flags, "fedbuff"); });
    CHECK(arrival.training.session_options()->update_order == aggregator::UpdateOrder::kArrival);
    CHECK(refusal_of([](auto& flags) { federated(flags, "fedbuff:order=late"); }) ==
          "--strategy: strategy fedbuff: order must be arrival or planned, got \"late\"");
  }

  TEST_CASE("nothing is aligned where neither the tail nor the head makes a pass") {
    CHECK(refusal_of([](auto& flags) {
            flags.edge_objective = "aligned:epochs=0";
          }).find("or nothing is aligned; else choose --edge-objective local") != std::string::npos);
    CHECK(refusal_of([](auto& flags) { flags.edge_objective = "aligned:epochs=0,tail-epochs=1"; }) == "");
  }

  TEST_CASE("how a run copes with its devices may change while it lasts, what it computes may not") {
    const TemporaryFolder folder;
    const auto differences = [&](const Change& before, const Change& now) {
      std::ofstream(folder.path / "config.toml") << Table(before).flags.to_toml();
      return Flags::text_of(Table(now).flags.differences_from(folder.path / "config.toml").value());
    };
    const Change nothing = [](auto&) {};
    CHECK(differences(nothing, [](auto& flags) {
            flags.stragglers = "wait";
            flags.min_clients = 2;
            flags.rounds = 9;
            flags.client_timeout = 3;
            flags.algorithm = "parallel:window=1";
            flags.edge_objective = "end-to-end";
          }) == "");
    CHECK(differences(nothing, [](auto& flags) {
            flags.algorithm = "parallel:window=2";
            flags.strategy = "fedavgm";
          }) == "--algorithm parallel, now parallel:window=2; --strategy fedavg, now fedavgm");
    const Change cosine = [](auto& flags) { flags.lr_schedule = "cosine"; };
    CHECK(differences(cosine, [](auto& flags) {
            flags.lr_schedule = "cosine:warmup=0";
            flags.rounds = 9;
          }) == "--rounds 5, now 9");
  }
}
