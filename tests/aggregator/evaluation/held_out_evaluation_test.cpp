// Evaluation on examples that the clients hold back: the figures against an independent computation on the
// merged weights, clients that die or lie, and what follows it.
#include "tandem/aggregator/evaluation/held_out_evaluation.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "tandem/core/training/device_model.h"
#include "tandem/core/training/federated_average.h"
#include "tandem/core/training/optimizer.h"
//
#include "support/session_network.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

// More than one batch of an evaluation, a few, none.
const std::vector<int> kHeldOut = {300, 20, 0};
const std::vector<int> kExamples = {24, 24, 24};

/// One example at a time, in evaluation mode.
Figures figures_of(ModelPart model, const aggregator::SessionOptions& options, const Dataset& data) {
  const torch::NoGradGuard no_grad;
  const auto augmenter =
      augment::build_pipeline(options.plan.augment, options.plan.normalize, {1, 8, 8}).value();
  model.set_training(false);
  Figures figures;
  for (int64_t i = 0; i < data.describe().num_examples; ++i) {
    const std::vector<int64_t> index = {i};
    const Batch one = data.get(index);
    const at::Tensor logits = model.forward(augmenter->prepare(one.inputs)).to(at::kDouble)[0];
    const int64_t label = one.labels[0].item<int64_t>();
    figures.loss_sum += (logits.logsumexp(0) - logits[label]).item<double>();
    figures.correct += logits.argmax().item<int64_t>() == label;
    ++figures.examples;
  }
  model.set_training(true);
  return figures;
}

Figures figures_of_client(const ModelPart& model, const aggregator::SessionOptions& options, int client) {
  return figures_of(model, options, *images(kHeldOut.at(static_cast<size_t>(client)), 8, 1, 100 + client));
}

ModelPart merged_model(SessionNetwork& network, const aggregator::SessionOptions& options) {
  ModelPart model = whole_model(options);
  copy_values(weights_of(network), model.state());
  return model;
}

/// The run came to its end with a record of each round and of each client in it.
void run_to_end(SessionNetwork& network, size_t rounds) {
  REQUIRE(network.run());
  REQUIRE(network.session().completed());
  REQUIRE(network.observer.rounds.size() == rounds);
  REQUIRE(network.observer.clients.size() == network.edges() * rounds);
}

void check_figures(const std::optional<double>& loss, const std::optional<double>& accuracy,
                   const Figures& expected) {
  REQUIRE(loss.has_value());
  REQUIRE(accuracy.has_value());
  CHECK(*loss == doctest::Approx(expected.mean_loss()).epsilon(1e-5));
  CHECK(*accuracy == doctest::Approx(expected.accuracy()).epsilon(1e-12));
}

aggregator::SessionOptions one_round(const Flow& flow) {
  auto options = flow_options(flow);
  options.plan.rounds = 1;
  return options;
}

const Flow kFederated{"federated", "federated"};
const Flow kParallel{"parallel", "parallel"};
const Flow kShaped{"parallel U", "parallel", 1};

bool everybody_finished(SessionNetwork& network) {
  for (size_t i = 0; i < network.edges(); ++i) {
    if (network.edge(i).phase() != edge_client::EdgeSession::Phase::kFinished) return false;
  }
  return true;
}

/// Two merges of two updates each.
aggregator::SessionOptions fedbuff_options(
    aggregator::UpdateOrder order = aggregator::UpdateOrder::kPlanned) {
  auto options = flow_options(kFederated);
  options.strategy = "fedbuff:buffer=2";
  options.update_order = order;
  return options;
}

bool is_evaluated(const wire::Message& message) {
  return std::holds_alternative<wire::Evaluated>(message.body);
}

/// Records of this client in the last merge that have its figures.
std::vector<ClientRecord> evaluated_records(SessionNetwork& network, int client) {
  std::vector<ClientRecord> records;
  for (const ClientRecord& record : network.observer.clients) {
    if (record.client == client_name(client) && record.eval_loss) records.push_back(record);
  }
  return records;
}

/// A complete run of two merges, of which only the last was evaluated, on the final weights by these clients.
void check_last_merge(SessionNetwork& network, const aggregator::SessionOptions& options,
                      const std::vector<int>& evaluated_by) {
  REQUIRE(network.session().completed());
  REQUIRE(network.observer.rounds.size() == 2);
  CHECK_FALSE(network.observer.rounds[0].eval_loss.has_value());
  CHECK_FALSE(network.observer.rounds[0].eval_accuracy.has_value());
  CHECK(network.observer.rounds[1].clients == 2);
  const ModelPart merged = merged_model(network, options);
  Figures all;
  for (int client = 0; client < 3; ++client) {
    CAPTURE(client);
    const std::vector<ClientRecord> records = evaluated_records(network, client);
    const bool evaluated = std::find(evaluated_by.begin(), evaluated_by.end(), client) != evaluated_by.end();
    REQUIRE(records.size() == (evaluated ? 1 : 0));
    if (!evaluated) continue;
    CHECK(records[0].round == 2);
    const Figures own = figures_of_client(merged, options, client);
    check_figures(records[0].eval_loss, records[0].eval_accuracy, own);
    all += own;
  }
  check_figures(network.observer.rounds[1].eval_loss, network.observer.rounds[1].eval_accuracy, all);
  check_figures(network.session().summary().eval_loss, network.session().summary().eval_accuracy, all);
}

using Lie = std::function<bool(wire::Message&)>;

/// Runs with a client-2 whose messages of the evaluation a lie changes; true from it means it did.
void check_liar(const Flow& flow, const Lie& lie, const std::string& reason) {
  const auto options = one_round(flow);
  SessionNetwork network(options);
  add_clients(network, kExamples, kHeldOut);
  int lies = 0;
  network.on_message = [&](size_t edge, bool up, wire::Message& message) {
    if (up && edge == 1 && message.key.round == 2 && lie(message)) ++lies;
    return Fate::kDeliver;
  };
  network.connect_all();
  run_to_end(network, 1);
  CHECK(lies >= 1);
  const EventRecord* event = network.observer.find("bad-evaluation", "client-2");
  REQUIRE(event != nullptr);
  CHECK(event->detail.find(reason) != std::string::npos);
  CHECK(network.session().refused_messages() >= 1);
  const auto expected = figures_of_client(merged_model(network, options), options, 0);
  check_figures(network.observer.rounds[0].eval_loss, network.observer.rounds[0].eval_accuracy, expected);
}

}  // namespace

TEST_SUITE("aggregator/evaluation/held_out_evaluation") {
  TEST_CASE("the figures are those of the merged weights on everybody's held-out examples") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      const auto options = one_round(flow);
      SessionNetwork network(options);
      add_clients(network, kExamples, kHeldOut);
      network.connect_all();
      run_to_end(network, 1);
      const ModelPart merged = merged_model(network, options);
      Figures all;
      for (const int client : {0, 1}) {
        const Figures own = figures_of_client(merged, options, client);
        check_figures(network.observer.clients[static_cast<size_t>(client)].eval_loss,
                      network.observer.clients[static_cast<size_t>(client)].eval_accuracy, own);
        all += own;
      }
      CHECK_FALSE(network.observer.clients[2].eval_loss.has_value());
      CHECK_FALSE(network.observer.clients[2].eval_accuracy.has_value());
      check_figures(network.observer.rounds[0].eval_loss, network.observer.rounds[0].eval_accuracy, all);
      check_figures(network.session().summary().eval_loss, network.session().summary().eval_accuracy, all);
    }
  }

  TEST_CASE(
      "after an evaluation the next round trains on, and every device gets Finish and the final front") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      SessionNetwork plain(flow_options(flow));
      add_clients(plain, kExamples);
      plain.connect_all();
      REQUIRE(plain.run());

      SessionNetwork network(flow_options(flow));
      add_clients(network, kExamples, kHeldOut);
      network.connect_all();
      const auto start = network.now();
      REQUIRE(network.run());
      CHECK(network.session().completed());
      CHECK(everybody_finished(network));
      CHECK(network.now() == start);  // nobody waited for anything
      CHECK_FALSE(network.edge(0).final_front().empty());
      CHECK(network.edge(0).final_accuracy() ==
            doctest::Approx(network.session().summary().eval_accuracy.value()));
      check_bitwise_equal(weights_of(network), weights_of(plain));
    }
  }

  TEST_CASE("splitfed-v1 with local batch norm: each client is evaluated with its own statistics") {
    for (const int head : {0, 1}) {
      CAPTURE(head);
      auto options = one_round({"splitfed-v1", "splitfed-v1", head});
      options.plan.model = "resnet18:norm=batch,width=8";
      options.plan.batch_norm = BatchNormMode::kLocal;
      SessionNetwork network(options);
      add_clients(network, kExamples, kHeldOut);
      network.connect_all();
      run_to_end(network, 1);

      // splitfed-v1 equals federated learning: each client trains a whole model, all but batch norm is
      // merged.
      const ModelPart initial = whole_model(options);
      ReferenceData data(options, kExamples, true);
      const auto batches = data.next_round_of_each();
      FederatedAverage mean(snapshot(exchanged_state(initial, BatchNormMode::kLocal)));
      std::vector<ModelPart> models;
      for (size_t i = 0; i < kExamples.size(); ++i) {
        ModelPart model = initial.clone();
        model.set_training(true);
        Optimizer optimizer(options.plan.optimizer, model.parameters());
        for (const Batch& batch : batches.of_client[i]) {
          model.zero_grad();
          torch::cross_entropy_loss(model.forward(batch.inputs), batch.labels).backward();
          optimizer.step(1.0);
        }
        REQUIRE(
            mean.add({client_name(static_cast<int>(i))}, exchanged_state(model, BatchNormMode::kLocal), 24));
        models.push_back(model);
      }
      Figures all;
      for (const int client : {0, 1}) {
        const ModelPart& model = models[static_cast<size_t>(client)];
        copy_values(mean.mean(), exchanged_state(model, BatchNormMode::kLocal));
        const Figures own = figures_of_client(model, options, client);
        check_figures(network.observer.clients[static_cast<size_t>(client)].eval_loss,
                      network.observer.clients[static_cast<size_t>(client)].eval_accuracy, own);
        all += own;
      }
      check_figures(network.observer.rounds[0].eval_loss, network.observer.rounds[0].eval_accuracy, all);
    }
  }

  TEST_CASE("a client that dies during the evaluation is left out of it") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      const auto options = one_round(flow);
      SessionNetwork network(options);
      add_clients(network, kExamples, kHeldOut);
      network.on_message = [&](size_t edge, bool up, wire::Message& message) {
        if (up && edge == 1 && message.key.round == 2) network.kill(1);
        return Fate::kDeliver;
      };
      network.connect_all();
      run_to_end(network, 1);
      CHECK(network.observer.find("leave", "client-2") != nullptr);
      const auto expected = figures_of_client(merged_model(network, options), options, 0);
      check_figures(network.observer.rounds[0].eval_loss, network.observer.rounds[0].eval_accuracy, expected);
      CHECK_FALSE(network.observer.clients[1].eval_loss.has_value());
      CHECK(network.observer.rounds[0].clients == 3);  // its front had been merged
    }
  }

  TEST_CASE("a client whose evaluation never comes is given up after the update deadline") {
    const auto options = one_round(kFederated);
    SessionNetwork network(options);
    add_clients(network, kExamples, kHeldOut);
    network.on_message = [&](size_t edge, bool up, wire::Message& message) {
      return up && edge == 1 && message.key.round == 2 ? Fate::kLose : Fate::kDeliver;
    };
    network.connect_all();
    run_to_end(network, 1);
    REQUIRE(network.observer.find("missed-evaluation", "client-2") != nullptr);
    const auto expected = figures_of_client(merged_model(network, options), options, 0);
    check_figures(network.observer.rounds[0].eval_loss, network.observer.rounds[0].eval_accuracy, expected);
  }

  TEST_CASE("figures that cannot be are refused with the reason, and do not count") {
    const auto evaluated = [](const std::function<void(wire::Evaluated&)>& change) -> Lie {
      return [change](wire::Message& message) {
        auto* body = std::get_if<wire::Evaluated>(&message.body);
        if (body != nullptr) change(*body);
        return body != nullptr;
      };
    };
    const auto nan = std::numeric_limits<double>::quiet_NaN();
    for (const Flow& flow : {kFederated, kParallel, kShaped}) {
      CAPTURE(flow.name);
      check_liar(flow, evaluated([](auto& body) { body.figures.examples += 1000; }),
                 "of 1020 right and a loss of");
      check_liar(flow, evaluated([](auto& body) { body.figures.examples = body.figures.correct = 0; }),
                 "expected finite figures of the 20 examples it holds back");
      check_liar(flow, evaluated([](auto& body) { body.figures.correct = 21; }), "says 21 of 20 right");
      check_liar(flow, evaluated([&](auto& body) { body.figures.loss_sum = nan; }), "a loss of nan");
      check_liar(flow, evaluated([](auto& body) { body.figures.loss_sum = -INFINITY; }), "a loss of -inf");
    }
  }

  TEST_CASE("activations of an evaluation are checked like those of a step") {
    const auto activations = [](const std::function<void(wire::Activations&)>& change) -> Lie {
      return [change](wire::Message& message) {
        auto* body = std::get_if<wire::Activations>(&message.body);
        if (body != nullptr) change(*body);
        return body != nullptr;
      };
    };
    for (const Flow& flow : {kParallel, kShaped}) {
      CAPTURE(flow.name);
      check_liar(flow,
                 activations([](auto& body) { body.activations = at::full_like(body.activations, NAN); }),
                 "expected finite values");
      check_liar(flow, activations([](auto& body) {
                   body.activations = at::zeros({20, 3});
                 }),
                 "activations have shape 20x3 Float");
      check_liar(flow, activations([](auto& body) { body.activations = at::zeros({}); }),
                 "activations have shape");
      check_liar(flow, activations([](auto& body) { body.labels = at::full({20}, 99, at::kLong); }),
                 flow.head_blocks > 0 ? "they stay on the device" : "labels range from 99 to 99");
    }
  }

  TEST_CASE("a round without evaluation has no figures, not those of the round before") {
    auto options = flow_options(kFederated);
    options.plan.rounds = 3;
    SessionNetwork network(options);
    add_clients(network, kExamples, {20, 0, 0});
    network.connect_all();
    REQUIRE(network.run([&] { return network.observer.rounds.size() == 1; }));
    CHECK(network.observer.rounds[0].eval_loss.has_value());
    network.edge(0).leave("off");
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    REQUIRE(network.observer.rounds.size() == 3);
    CHECK_FALSE(network.observer.rounds[2].eval_loss.has_value());
    CHECK_FALSE(network.observer.rounds[2].eval_accuracy.has_value());
  }

  TEST_CASE("fedbuff: the final weights are evaluated once, by everybody who holds examples back") {
    for (const auto order : {aggregator::UpdateOrder::kPlanned, aggregator::UpdateOrder::kArrival}) {
      CAPTURE(static_cast<int>(order));
      const auto options = fedbuff_options(order);
      SessionNetwork network(options);
      add_clients(network, kExamples, kHeldOut);
      bool evaluating = false;
      int skipped = 0;
      bool begun_after = false;
      network.on_message = [&](size_t, bool up, wire::Message& message) {
        evaluating = evaluating || std::holds_alternative<wire::Evaluate>(message.body);
        if (!up && std::holds_alternative<wire::Skip>(message.body)) ++skipped;
        begun_after = begun_after || (evaluating && std::holds_alternative<wire::BeginRound>(message.body));
        return Fate::kDeliver;
      };
      network.connect_all();
      const auto start = network.now();
      REQUIRE(network.run());
      check_last_merge(network, options, {0, 1});
      CHECK(everybody_finished(network));
      CHECK(network.now() == start);  // nobody waited for anything
      CHECK_FALSE(begun_after);
      CHECK(skipped == 2);  // of three clients one had just brought the last update
      CHECK(network.session().refused_messages() == 0);
      CHECK(network.edge(2).final_accuracy() ==
            doctest::Approx(network.session().summary().eval_accuracy.value()));
    }
  }

  TEST_CASE("fedbuff: in planned order the evaluation changes no weight, and its figures repeat") {
    const auto options = fedbuff_options();
    std::optional<double> loss;
    std::optional<NamedTensors> weights;
    for (const uint64_t seed : {0, 1, 2}) {
      SessionNetwork network(options, nullptr, seed);
      add_clients(network, kExamples, kHeldOut);
      network.connect_all();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      if (!loss) loss = network.session().summary().eval_loss;
      CHECK(network.session().summary().eval_loss.value() == loss.value());
      if (!weights) weights = weights_of(network);
      check_bitwise_equal(weights_of(network), *weights);
    }
    SessionNetwork plain(options);
    add_clients(plain, kExamples);
    plain.connect_all();
    REQUIRE(plain.run());
    CHECK_FALSE(plain.session().summary().eval_loss.has_value());
    check_bitwise_equal(weights_of(plain), *weights);
  }

  TEST_CASE("fedbuff with local batch norm: in planned order the figures repeat, to the bit") {
    for (const auto rule : {aggregator::StragglerRule::kDrop, aggregator::StragglerRule::kWait}) {
      CAPTURE(static_cast<int>(rule));
      auto options = fedbuff_options();
      options.plan.model = "resnet18:norm=batch,width=8";
      options.plan.batch_norm = BatchNormMode::kLocal;
      options.stragglers = rule;
      std::optional<std::vector<double>> losses;
      for (const uint64_t seed : {0, 1, 2, 3, 4, 5}) {
        SessionNetwork network(options, nullptr, seed);
        add_clients(network, {24, 40, 56}, {20, 20, 20});
        network.connect_all();
        REQUIRE(network.run());
        REQUIRE(network.session().completed());
        CHECK(everybody_finished(network));
        std::vector<double> own;
        for (int client = 0; client < 3; ++client) {
          const std::vector<ClientRecord> records = evaluated_records(network, client);
          REQUIRE(records.size() == 1);
          own.push_back(records[0].eval_loss.value());
        }
        if (!losses) losses = own;
        CHECK(own == *losses);
      }
      CHECK(std::set<double>(losses->begin(), losses->end()).size() == 3);
    }
  }

  TEST_CASE("fedbuff with local batch norm: who never finishes its training is given up too") {
    auto options = fedbuff_options();
    options.plan.model = "resnet18:norm=batch,width=8";
    options.plan.batch_norm = BatchNormMode::kLocal;
    SessionNetwork network(options);
    add_clients(network, {24, 40, 56}, {20, 20, 20});
    // It starts again and again; the merges are those of the others.
    network.on_message = [&](size_t edge, bool up, wire::Message& message) {
      return up && edge == 2 && std::holds_alternative<wire::Trained>(message.body) ? Fate::kLose
                                                                                    : Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    CHECK(network.observer.find("missed-evaluation", "client-3") != nullptr);
    CHECK(evaluated_records(network, 0).size() == 1);
    CHECK(evaluated_records(network, 2).empty());
  }

  TEST_CASE("fedbuff with local batch norm: who reconnects or dies while it finishes its training") {
    for (const bool dies : {true, false}) {
      CAPTURE(dies);
      auto options = fedbuff_options();
      options.plan.model = "resnet18:norm=batch,width=8";
      options.plan.batch_norm = BatchNormMode::kLocal;
      SessionNetwork network(options);
      add_clients(network, {24, 40, 400}, {20, 20, 20});  // the last one is far from done
      bool evaluating = false, trained_since = false;
      network.on_message = [&](size_t edge, bool up, wire::Message& message) {
        evaluating = evaluating || std::holds_alternative<wire::Evaluate>(message.body);
        trained_since = trained_since || (evaluating && up && edge == 2 &&
                                          std::holds_alternative<wire::Trained>(message.body));
        return Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run([&] { return evaluating; }));
      REQUIRE_FALSE(trained_since);
      if (dies) {
        network.kill(2);
      } else {
        network.connect(2);
      }
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(trained_since == !dies);
      CHECK(evaluated_records(network, 0).size() == 1);
      CHECK(evaluated_records(network, 2).size() == (dies ? 0 : 1));
      CHECK(network.observer.find("missed-evaluation") == nullptr);
    }
  }

  TEST_CASE(
      "fedbuff: where the aggregator has data of its own it evaluates every merge, and no device does") {
    const auto options = fedbuff_options();
    const auto data = images(40, 8, 1, 55);
    SessionNetwork network(options, data.get());
    add_clients(network, kExamples, kHeldOut);
    int asked = 0;
    network.on_message = [&](size_t, bool, wire::Message& message) {
      if (std::holds_alternative<wire::Evaluate>(message.body)) ++asked;
      return Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run());
    CHECK(asked == 0);
    REQUIRE(network.observer.rounds.size() == 2);
    CHECK(network.observer.rounds[0].eval_loss.has_value());
    check_figures(network.observer.rounds[1].eval_loss, network.observer.rounds[1].eval_accuracy,
                  figures_of(merged_model(network, options), options, *data));
  }

  TEST_CASE("fedbuff: a client that dies or leaves during the evaluation is left out of it") {
    for (const bool dies : {true, false}) {
      CAPTURE(dies);
      const auto options = fedbuff_options();
      SessionNetwork network(options);
      add_clients(network, kExamples, kHeldOut);
      network.on_message = [&](size_t edge, bool up, wire::Message& message) {
        if (!up || edge != 1 || !is_evaluated(message)) return Fate::kDeliver;
        if (dies) {
          network.kill(1);
        } else {
          network.edge(1).leave("off");
        }
        return Fate::kLose;
      };
      network.connect_all();
      REQUIRE(network.run());
      CHECK(network.observer.find("leave", "client-2") != nullptr);
      check_last_merge(network, options, {0});
    }
  }

  TEST_CASE("fedbuff: the last merge in the middle of what a deadline sets going is the last") {
    auto options = fedbuff_options();
    options.strategy = "fedbuff:buffer=1";
    options.plan.rounds = 1;
    options.client_timeout = std::chrono::hours(5);
    SessionNetwork network(options);
    add_clients(network, {24, 24, 24}, {20, 20, 20});
    network.connect_all();
    bool finished = false;
    network.on_message = [&](size_t edge, bool up, wire::Message& message) {
      finished = finished || (up && edge == 1 && std::holds_alternative<wire::WeightUpdate>(message.body));
      return up && edge != 1 && std::holds_alternative<wire::Trained>(message.body) ? Fate::kLose
                                                                                    : Fate::kDeliver;
    };
    REQUIRE(network.run([&] { return finished; }));
    // client-2's update waits behind client-1, and both others miss their deadlines in the same moment.
    network.kill(0);
    network.kill(2);
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    CHECK(network.observer.rounds.size() == 1);
    CHECK(network.observer.count("excluded") == 1);
    CHECK(network.session().summary().eval_accuracy.has_value());
  }

  TEST_CASE("fedbuff: an evaluation that never comes is given up after the update deadline") {
    for (const auto rule : {aggregator::StragglerRule::kDrop, aggregator::StragglerRule::kWait}) {
      CAPTURE(static_cast<int>(rule));
      auto options = fedbuff_options();
      options.stragglers = rule;
      SessionNetwork network(options);
      add_clients(network, kExamples, kHeldOut);
      network.on_message = [&](size_t edge, bool up, wire::Message& message) {
        return up && edge == 1 && is_evaluated(message) ? Fate::kLose : Fate::kDeliver;
      };
      network.connect_all();
      const auto start = network.now();
      REQUIRE(network.run());
      const EventRecord* missed = network.observer.find("missed-evaluation", "client-2");
      REQUIRE(missed != nullptr);
      CHECK(missed->detail == "nothing came within the update deadline");
      CHECK(network.now() - start == options.update_deadline);
      CHECK(network.session().refused_messages() == 0);
      check_last_merge(network, options, {0});
    }
  }

  TEST_CASE("fedbuff: an evaluation that was lost with the connection comes again") {
    const auto options = fedbuff_options();
    for (const bool up : {true, false}) {
      CAPTURE(up);
      int lost = 0;
      SessionNetwork network(options);
      add_clients(network, kExamples, kHeldOut);
      network.on_message = [&](size_t edge, bool upwards, wire::Message& message) {
        const bool chosen = up ? is_evaluated(message) : std::holds_alternative<wire::Evaluate>(message.body);
        if (edge != 1 || upwards != up || !chosen || lost > 0) return Fate::kDeliver;
        ++lost;
        return Fate::kLose;
      };
      network.connect_all();
      REQUIRE(network.run([&] { return lost > 0; }));
      network.connect(1);
      REQUIRE(network.run());
      CHECK(network.observer.find("reconnect", "client-2") != nullptr);
      CHECK(network.observer.find("missed-evaluation") == nullptr);
      check_last_merge(network, options, {0, 1});
    }
  }

  TEST_CASE("fedbuff: a program that starts anew during the evaluation waits for the final weights") {
    const auto options = fedbuff_options();
    SessionNetwork network(options);
    add_clients(network, kExamples, kHeldOut);
    bool hold = false;
    network.on_message = [&](size_t edge, bool up, wire::Message& message) {
      if (!up || !is_evaluated(message)) return Fate::kDeliver;
      hold = hold || edge == 1;
      return edge == 1 ? Fate::kLose : Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run([&] { return hold; }));
    network.restart(1);
    REQUIRE(network.run());
    CHECK(everybody_finished(network));
    check_last_merge(network, options, {0});
    check_bitwise_equal(network.edge(1).final_front(), weights_of(network));
  }

  TEST_CASE("fedbuff: figures that cannot be are refused with the reason, and do not count") {
    const auto options = fedbuff_options();
    SessionNetwork network(options);
    add_clients(network, kExamples, kHeldOut);
    network.on_message = [&](size_t edge, bool up, wire::Message& message) {
      auto* body = std::get_if<wire::Evaluated>(&message.body);
      if (up && edge == 1 && body != nullptr) body->figures.correct = 21;
      return Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run());
    const EventRecord* event = network.observer.find("bad-evaluation", "client-2");
    REQUIRE(event != nullptr);
    CHECK(event->detail.find("says 21 of 20 right") != std::string::npos);
    CHECK(network.session().refused_messages() == 1);
    check_last_merge(network, options, {0});
  }

  TEST_CASE("fedbuff: an aggregator that dies during the evaluation goes through the last merge again") {
    const auto options = fedbuff_options();
    SessionNetwork network(options);
    add_clients(network, kExamples, kHeldOut);
    bool evaluated = false;
    network.on_message = [&](size_t, bool up, wire::Message& message) {
      evaluated = evaluated || (up && is_evaluated(message));
      return Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run([&] { return evaluated; }));
    REQUIRE(network.observer.rounds.size() == 1);  // the record waits for the figures
    network.restart_aggregator();
    network.connect_all();
    REQUIRE(network.run());
    CHECK(everybody_finished(network));
    check_last_merge(network, options, {0, 1});
  }

  TEST_CASE("fedbuff: the figures outlive an aggregator that dies while it hands out the final weights") {
    const auto options = fedbuff_options();
    SessionNetwork network(options);
    add_clients(network, kExamples, kHeldOut);
    network.connect_all();
    REQUIRE(network.run([&] { return network.observer.rounds.size() == 2; }));
    network.restart_aggregator();
    network.connect_all();
    REQUIRE(network.run());
    CHECK(everybody_finished(network));
    check_last_merge(network, options, {0, 1});
  }
}
