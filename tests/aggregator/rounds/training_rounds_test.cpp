// Rounds under time pressure and with clients that vanish: what each rule for stragglers does, what a round's
// deadline leaves behind, and that the others always finish.
#include "tandem/aggregator/rounds/training_rounds.h"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "support/session_network.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;
using aggregator::StragglerRule;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const std::vector<int> kExamples = {40, 40, 40};

/// The sizes of the batches that each client was planned to bring, by round and client.
using Plans = std::map<uint32_t, std::map<size_t, std::vector<uint32_t>>>;

void keep_plans(Plans& plans, size_t edge, const wire::Message& message) {
  if (const auto* begin = std::get_if<wire::BeginRound>(&message.body))
    plans[begin->ordinal][edge] = begin->batch_sizes;
}

int64_t sum(const std::vector<uint32_t>& sizes) {
  int64_t total = 0;
  for (const uint32_t size : sizes) total += size;
  return total;
}

const ClientRecord* record_of(const SessionNetwork& network, uint32_t round, const std::string& client) {
  const auto& records = network.observer.clients;
  const auto found = std::find_if(records.begin(), records.end(), [&](const ClientRecord& record) {
    return record.round == round && record.client == client;
  });
  REQUIRE(found != records.end());
  return &*found;
}

bool in_first_round(const wire::Message& message) {
  return message.key.round == 1;
}

/// Flows in which something of each step goes up.
std::vector<Flow> flows_with_steps() {
  std::vector<Flow> flows;
  for (const Flow& flow : all_flows()) {
    if (flow.algorithm != "federated") flows.push_back(flow);
  }
  return flows;
}

/// Loses the first `steps` different steps that client-2 sends in round 1 in messages of type T, with every
/// repeat of them.
template <class T>
auto lose_steps(size_t steps, Plans& plans) {
  return [steps, &plans, lost = std::set<uint32_t>()](size_t edge, bool up, wire::Message& message) mutable {
    keep_plans(plans, edge, message);
    if (edge != 1 || !up || !in_first_round(message) || !std::holds_alternative<T>(message.body))
      return Fate::kDeliver;
    if (lost.size() < steps) lost.insert(message.key.step);
    return lost.contains(message.key.step) ? Fate::kLose : Fate::kDeliver;
  };
}

}  // namespace

TEST_SUITE("aggregator/rounds/training_rounds") {
  TEST_CASE("drop: a lost step goes on without that client, which stays in the round") {
    for (const Flow& flow : flows_with_steps()) {
      CAPTURE(flow.name);
      Plans plans;
      auto options = flow_options(flow);
      options.step_deadline = seconds(5);
      SessionNetwork network(options);
      add_clients(network, kExamples);
      network.on_message = lose_steps<wire::Activations>(1, plans);
      network.connect_all();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(network.observer.count("missed-step") == 1);
      REQUIRE(network.observer.find("missed-step", "client-2") != nullptr);
      CHECK(network.observer.find("missed-step")
                ->detail.find("nothing came within the step deadline of 5000 ms") != std::string::npos);
      CHECK(network.observer.count("excluded") == 0);
      CHECK(network.observer.rounds[0].clients == 3);
      const ClientRecord* late = record_of(network, 1, "client-2");
      const bool local = flow.objective != EdgeObjective::kEndToEnd;
      CHECK(late->missed_steps == (local ? 0 : 1));
      CHECK((late->examples == sum(plans[1][1])) == local);
      for (const std::string other : {"client-1", "client-3"}) {
        CHECK(record_of(network, 1, other)->missed_steps == 0);
        CHECK(record_of(network, 1, other)->examples == sum(plans[1][other == "client-1" ? 0 : 2]));
      }
      CHECK(record_of(network, 2, "client-2")->missed_steps == 0);
    }
  }

  TEST_CASE("drop: a client that loses two steps is out until the next round") {
    for (const Flow& flow : flows_with_steps()) {
      CAPTURE(flow.name);
      Plans plans;
      auto options = flow_options(flow);
      options.step_deadline = seconds(5);
      SessionNetwork network(options);
      add_clients(network, kExamples);
      network.on_message = lose_steps<wire::Activations>(2, plans);
      network.connect_all();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(network.observer.count("missed-step") == 2);
      CHECK(network.observer.count("excluded") == 1);
      CHECK(network.observer.find("excluded", "client-2") != nullptr);
      CHECK(network.observer.rounds[0].clients == 2);
      CHECK(network.observer.rounds[1].clients == 3);
      CHECK(record_of(network, 2, "client-2")->missed_steps == 0);
    }
  }

  TEST_CASE("drop: a U-shaped step whose output gradients get lost counts as one missed step") {
    for (const Flow& flow : all_flows()) {
      if (flow.head_blocks == 0) continue;
      CAPTURE(flow.name);
      for (const size_t steps : {1u, 2u}) {
        CAPTURE(steps);
        Plans plans;
        auto options = flow_options(flow);
        options.step_deadline = seconds(5);
        SessionNetwork network(options);
        add_clients(network, kExamples);
        network.on_message = lose_steps<wire::OutputGradients>(steps, plans);
        network.connect_all();
        REQUIRE(network.run());
        REQUIRE(network.session().completed());
        CHECK(network.observer.count("missed-step") == static_cast<int>(steps));
        CHECK(network.observer.count("excluded") == (steps == 2 ? 1 : 0));
        CHECK(network.observer.rounds[0].clients == (steps == 2 ? 2 : 3));
        if (steps == 1) CHECK(record_of(network, 1, "client-2")->missed_steps == 1);
        CHECK(record_of(network, 1, "client-1")->examples == sum(plans[1][0]));
        CHECK(record_of(network, 1, "client-3")->examples == sum(plans[1][2]));
        CHECK(network.observer.rounds[1].clients == 3);
      }
    }
  }

  TEST_CASE("wait: nobody goes on without a client, and in the end the weights are those of a calm run") {
    for (const Flow& flow : flows_with_steps()) {
      CAPTURE(flow.name);
      auto options = flow_options(flow);
      options.step_deadline = seconds(5);
      options.stragglers = StragglerRule::kWait;
      SessionNetwork calm(options);
      add_clients(calm, kExamples);
      calm.connect_all();
      REQUIRE(calm.run());

      SessionNetwork network(options);
      add_clients(network, kExamples);
      const auto start = network.now();
      bool lost_activations = false, lost_gradients = false;
      network.on_message = [&](size_t edge, bool up, wire::Message& message) {
        if (edge != 1 || !up) return Fate::kDeliver;
        bool* lost = std::holds_alternative<wire::Activations>(message.body)       ? &lost_activations
                     : std::holds_alternative<wire::OutputGradients>(message.body) ? &lost_gradients
                                                                                   : nullptr;
        return lost != nullptr && !std::exchange(*lost, true) ? Fate::kLose : Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run([&] { return network.now() - start >= seconds(14); }));
      CHECK(network.observer.rounds.empty());  // the client sends again after 15 s
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(network.observer.count("missed-step") == 0);
      CHECK(network.observer.count("late-step") == 0);
      check_bitwise_equal(weights_of(network), weights_of(calm));
    }
  }

  TEST_CASE("late: a batch joins the step that is open when it arrives") {
    auto options = flow_options({"parallel", "parallel"});
    options.step_deadline = seconds(10);
    options.stragglers = StragglerRule::kLate;
    SessionNetwork network(options);
    add_clients(network, kExamples);
    const auto start = network.now();
    std::map<size_t, std::map<uint32_t, int64_t>> answered;  // by client and its own step: seconds
    Plans plans;
    bool lost = false;
    network.on_message = [&](size_t edge, bool up, wire::Message& message) {
      keep_plans(plans, edge, message);
      if (up && edge == 1 && std::holds_alternative<wire::Activations>(message.body) &&
          !std::exchange(lost, true)) {
        return Fate::kLose;
      }
      if (std::holds_alternative<wire::Gradients>(message.body) && in_first_round(message)) {
        answered[edge][message.key.step] = std::chrono::duration_cast<seconds>(network.now() - start).count();
      }
      return Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run());
    for (size_t edge = 0; edge < 3; ++edge) {
      for (const uint32_t size : plans[1][edge]) REQUIRE(size > 0);
    }
    // Sent again after 15 s. The steps of the others went on from 10 s on without it.
    CHECK(answered[0][0] == 10);
    CHECK(answered[0][1] == 10);
    CHECK(answered[1][0] == 15);
    CHECK(answered[2][1] == 10);
    CHECK(answered[1].size() == plans[1][1].size());
    CHECK(network.observer.count("late-step") == 1);
  }

  TEST_CASE("late: every batch counts in the end, nobody misses a step or is excluded") {
    for (const Flow& flow : flows_with_steps()) {
      if (flow.algorithm != "parallel") continue;
      for (const size_t steps : {1u, 2u}) {
        CAPTURE(flow.name);
        CAPTURE(steps);
        auto options = flow_options(flow);
        options.step_deadline = seconds(4);
        options.stragglers = StragglerRule::kLate;
        SessionNetwork network(options);
        add_clients(network, kExamples);
        std::set<uint32_t> lost;
        network.on_message = [&](size_t edge, bool up, wire::Message& message) {
          if (!up || edge != 1 || !in_first_round(message) || lost.size() >= steps ||
              !std::holds_alternative<wire::Activations>(message.body)) {
            return Fate::kDeliver;
          }
          return lost.insert(message.key.step).second ? Fate::kLose : Fate::kDeliver;
        };
        network.connect_all();
        REQUIRE(network.run());
        REQUIRE(network.session().completed());
        CHECK(network.observer.count("late-step") >= 1);
        CHECK(network.observer.find("late-step", "client-1") == nullptr);
        CHECK(network.observer.count("missed-step") == 0);
        CHECK(network.observer.count("excluded") == 0);
        CHECK(network.observer.rounds[0].examples == 120);
        CHECK(network.observer.rounds[0].clients == 3);
        for (const ClientRecord& record : network.observer.clients) CHECK(record.missed_steps == 0);
      }
    }
  }

  TEST_CASE("late: a client that never sends cannot hold up a round with a deadline") {
    auto options = flow_options({"parallel", "parallel"});
    options.step_deadline = seconds(4);
    options.round_deadline = seconds(60);
    options.stragglers = StragglerRule::kLate;
    SessionNetwork network(options);
    add_clients(network, kExamples);
    network.on_message = [&](size_t edge, bool up, wire::Message& message) {
      return up && edge == 1 && std::holds_alternative<wire::Activations>(message.body) ? Fate::kLose
                                                                                        : Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    CHECK(network.observer.count("round-deadline") == 2);
    CHECK(network.observer.rounds[0].clients == 2);
    CHECK(network.observer.rounds[0].examples == 80);
  }

  TEST_CASE("at the round's deadline every client sends its front as it stands, weighed by what it applied") {
    for (const Flow& flow : all_flows()) {
      if (flow.algorithm == "relay") continue;
      CAPTURE(flow.name);
      auto options = flow_options(flow);
      options.plan.rounds = 1;
      options.local_epochs = 8;
      options.round_deadline = seconds(6);
      SessionNetwork network(options);
      add_clients(network, {40, 24, 56});
      network.event_time = milliseconds(100);
      Plans plans;
      std::map<size_t, uint64_t> applied;
      std::map<size_t, NamedTensors> fronts;
      int cut_short = 0;
      network.on_message = [&](size_t edge, bool, wire::Message& message) {
        keep_plans(plans, edge, message);
        if (const auto* end = std::get_if<wire::EndRound>(&message.body)) {
          CHECK(end->now);
          ++cut_short;
        } else if (const auto* gradients = std::get_if<wire::Gradients>(&message.body)) {
          (void)gradients;
          applied[edge] += plans[1][edge][message.key.step];
        } else if (const auto* update = std::get_if<wire::WeightUpdate>(&message.body)) {
          fronts[edge] = snapshot(update->weights);
          if (flow.objective != EdgeObjective::kEndToEnd || flow.algorithm == "federated")
            applied[edge] = update->examples;
          CHECK(update->examples == applied[edge]);
        }
        return Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(network.observer.count("round-deadline") == 1);
      REQUIRE(network.observer.find("round-deadline") != nullptr);
      CHECK(network.observer.find("round-deadline")->detail.find("6000 ms") != std::string::npos);
      REQUIRE(fronts.size() >= 1);
      CHECK(cut_short == static_cast<int>(fronts.size()));
      CHECK(network.observer.rounds[0].clients == static_cast<int>(fronts.size()));
      // Independent of the program's average: in double, one tensor at a time.
      const NamedTensors merged = weights_of(network);
      double total = 0;
      for (const auto& [edge, front] : fronts) {
        CHECK(applied[edge] > 0);
        CHECK(applied[edge] < static_cast<uint64_t>(sum(plans[1][edge])));
        total += static_cast<double>(applied[edge]);
        const ClientRecord* record = record_of(network, 1, client_name(static_cast<int>(edge)));
        CHECK(record->examples == static_cast<int64_t>(applied[edge]));
      }
      NamedTensors of_devices = fronts.begin()->second;
      // The aggregator has copies of what only some devices hold (different_cuts_test.cpp).
      if (options.cuts) of_devices = tensors_of_blocks(of_devices, 0, options.cuts->lowest());
      for (const NamedTensor& entry : of_devices) {
        const at::Tensor* actual = find_tensor(merged, entry.name);
        if (actual == nullptr) continue;  // an auxiliary head
        at::Tensor expected = at::zeros_like(entry.tensor, at::kDouble);
        for (const auto& [edge, front] : fronts) {
          expected +=
              find_tensor(front, entry.name)->to(at::kDouble) * static_cast<double>(applied[edge]) / total;
        }
        CHECK((actual->to(at::kDouble) - expected).abs().max().item<double>() < 1e-7);
      }
      CHECK(network.observer.rounds[0].examples == static_cast<int64_t>(total));
      // About ln 4 at the start, four classes: a mean over the examples that were trained on.
      CHECK(network.observer.rounds[0].loss > 0.2);
      CHECK(network.observer.rounds[0].loss < 3.0);
    }
  }

  TEST_CASE("at the round's deadline relay takes back the front from the client whose turn it is") {
    for (const Flow& flow : all_flows()) {
      if (flow.algorithm != "relay") continue;
      CAPTURE(flow.name);
      auto options = flow_options(flow);
      options.plan.rounds = 2;
      options.local_epochs = 4;
      options.round_deadline = seconds(flow.head_blocks > 0 ? 10 : 5);
      SessionNetwork network(options);
      add_clients(network, kExamples);
      network.event_time = milliseconds(100);
      std::vector<size_t> turns;
      NamedTensors last, begun;
      network.on_message = [&](size_t edge, bool, wire::Message& message) {
        if (!in_first_round(message)) {
          if (const auto* begin = std::get_if<wire::BeginRound>(&message.body); begin && begun.empty())
            begun = snapshot(begin->weights);
          return Fate::kDeliver;
        }
        if (std::holds_alternative<wire::BeginRound>(message.body)) turns.push_back(edge);
        if (const auto* update = std::get_if<wire::WeightUpdate>(&message.body))
          last = snapshot(update->weights);
        return Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      REQUIRE(network.observer.find("round-deadline") != nullptr);
      CHECK(network.observer.find("round-deadline")->round == 1);
      REQUIRE(turns.size() >= 1);
      CHECK(turns.size() < 3);
      CHECK(network.observer.rounds[0].clients == static_cast<int>(turns.size()));
      CHECK(network.observer.rounds[0].examples < 480);
      check_bitwise_equal(begun, last);
      CHECK(network.observer.rounds[0].loss > 0.2);
      CHECK(network.observer.rounds[0].loss < 3.0);
    }
  }

  TEST_CASE("a round whose deadline passes before anybody applied anything leaves the weights as they were") {
    for (const std::string algorithm : {"parallel", "splitfed-v1", "splitfed-v2", "federated"}) {
      CAPTURE(algorithm);
      auto options = flow_options({algorithm, algorithm});
      options.plan.rounds = 1;
      options.round_deadline = seconds(2);
      SessionNetwork network(options);
      add_clients(network, kExamples);
      network.on_message = [&](size_t, bool up, wire::Message& message) {
        const bool lose =
            up ? std::holds_alternative<wire::Activations>(message.body)
               : std::holds_alternative<wire::BeginRound>(message.body) && algorithm == "federated";
        return lose ? Fate::kLose : Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(network.observer.find("merge-empty") != nullptr);
      check_bitwise_equal(weights_of(network), snapshot(whole_model(options).state()));
    }
  }

  TEST_CASE("whenever a client dies the others finish the run") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      for (int at = 3; at <= 31; at += 4) {  // 2 are Hello and Welcome
        CAPTURE(at);
        SessionNetwork network(flow_options(flow));
        add_clients(network, {24, 24, 24});
        int messages = 0;
        network.on_message = [&](size_t edge, bool, wire::Message&) {
          if (edge == 1 && ++messages == at) network.kill(1);
          return Fate::kDeliver;
        };
        network.connect_all();
        REQUIRE(network.run());
        REQUIRE(network.session().completed());
        REQUIRE(network.observer.rounds.size() == 2);
        CHECK(network.observer.rounds[1].clients >= 2);
        CHECK(finite(weights_of(network)));
        for (const size_t survivor : {0u, 2u}) {
          CHECK(network.edge(survivor).phase() == edge_client::EdgeSession::Phase::kFinished);
        }
        if (messages < at) break;  // it had finished
        const EventRecord* leave = network.observer.find("leave", "client-2");
        if (network.observer.rounds[1].clients == 2) REQUIRE(leave != nullptr);
        // Its goodbye may have been the last that arrived.
        if (leave != nullptr && leave->detail != "the run is complete")
          CHECK(leave->detail == "silent for 10000 ms");
      }
    }
  }

  TEST_CASE("whenever a client's program starts anew it is back in the next round and the run completes") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      for (int at = 3; at <= 27; at += 6) {
        CAPTURE(at);
        auto options = flow_options(flow);
        options.plan.rounds = 3;
        SessionNetwork network(options);
        add_clients(network, {24, 24, 24});
        int messages = 0;
        bool restart = false;
        network.on_message = [&](size_t edge, bool, wire::Message&) {
          if (edge == 1 && ++messages == at) restart = true;
          return restart && edge == 1 ? Fate::kLose : Fate::kDeliver;
        };
        network.connect_all();
        REQUIRE(network.run([&] {
          if (std::exchange(restart, false)) network.restart(1);
          return false;
        }));
        REQUIRE(network.session().completed());
        uint32_t back_in = 0;  // the round under way when it last came
        for (const EventRecord& event : network.observer.events) {
          if (event.event == "join" && event.client == "client-2") back_in = event.round;
        }
        if (back_in < options.plan.rounds) CHECK(network.observer.rounds.back().clients == 3);
        for (size_t i = 0; i < 3; ++i) {
          CHECK(network.edge(i).phase() == edge_client::EdgeSession::Phase::kFinished);
        }
      }
    }
  }

  TEST_CASE(
      "relay: a client that dies in its turn hands nothing on, the next one starts from the front before") {
    auto options = flow_options({"relay", "relay"});
    options.plan.rounds = 1;
    SessionNetwork network(options);
    add_clients(network, kExamples);
    std::vector<size_t> turns;
    std::vector<NamedTensors> sent;
    NamedTensors first;
    network.on_message = [&](size_t edge, bool up, wire::Message& message) {
      if (const auto* begin = std::get_if<wire::BeginRound>(&message.body)) {
        turns.push_back(edge);
        sent.push_back(snapshot(begin->weights));
      }
      if (const auto* update = std::get_if<wire::WeightUpdate>(&message.body); update && turns.size() == 1)
        first = snapshot(update->weights);
      const bool second = turns.size() == 2 && edge == turns[1];
      if (second && up && std::holds_alternative<wire::Activations>(message.body) && message.key.step == 2)
        network.kill(edge);
      return Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    REQUIRE(turns.size() == 3);
    check_bitwise_equal(sent[1], first);
    check_bitwise_equal(sent[2], first);
    CHECK(network.observer.rounds[0].clients == 2);
    CHECK(network.observer.rounds[0].examples == 40 + 16 + 40);
  }

  TEST_CASE("relay: while a front is on its way nobody whose turn has not come misses a step") {
    for (const Flow& flow : all_flows()) {
      if (flow.algorithm != "relay") continue;
      CAPTURE(flow.name);
      auto options = flow_options(flow);
      options.step_deadline = seconds(5);
      SessionNetwork network(options);
      add_clients(network, kExamples);
      int lost = 0;
      network.on_message = [&](size_t, bool, wire::Message& message) {
        // The first turn's front; it comes after 30 s, within the update deadline of 60 s.
        const bool lose = std::holds_alternative<wire::WeightUpdate>(message.body) && lost < 2;
        lost += lose;
        return lose ? Fate::kLose : Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(network.observer.count("missed-merge") == 0);
      CHECK(network.observer.count("missed-step") == 0);
      CHECK(network.observer.count("late-step") == 0);
      CHECK(network.observer.count("excluded") == 0);
      CHECK(network.observer.rounds[0].clients == 3);
      CHECK(network.observer.rounds[0].examples == 120);
    }
  }

  TEST_CASE("late is for algorithms that join batches, and refused elsewhere with the reason") {
    for (const std::string algorithm : {"splitfed-v1", "splitfed-v2", "relay", "federated"}) {
      CAPTURE(algorithm);
      auto options = flow_options({algorithm, algorithm});
      options.stragglers = StragglerRule::kLate;
      CHECK_THROWS_WITH_AS((void)options.validated(),
                           doctest::Contains("a late batch joins others', and only parallel joins batches"),
                           std::invalid_argument);
    }
  }

  TEST_CASE("U-shaped: a client that dies between outputs and output gradients is left out of that step") {
    for (const Flow& flow : all_flows()) {
      if (flow.head_blocks == 0) continue;
      CAPTURE(flow.name);
      SessionNetwork network(flow_options(flow));
      add_clients(network, kExamples);
      network.on_message = [&](size_t edge, bool up, wire::Message& message) {
        if (edge == 1 && up && std::holds_alternative<wire::OutputGradients>(message.body) &&
            message.key.step == 1) {
          network.kill(1);
        }
        return Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      REQUIRE(network.observer.find("leave", "client-2") != nullptr);
      CHECK(network.observer.find("leave", "client-2")->round == 1);
      CHECK(network.observer.rounds[0].clients == 2);
      CHECK(record_of(network, 1, "client-2")->steps == 1);
      CHECK(record_of(network, 1, "client-1")->missed_steps == 0);
      CHECK(record_of(network, 1, "client-3")->missed_steps == 0);
      CHECK(network.observer.rounds[1].examples == 80);
    }
  }
}
