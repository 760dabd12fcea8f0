// Every schedule against a reference written straight from its definition, and against each other where they
// must agree. Runs go through the same sessions and the same bytes as separate processes.
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/aggregator/tail/auxiliary_alignment.h"
#include "tandem/core/base/random.h"
#include "tandem/core/model/auxiliary_head.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/core/training/federated_average.h"
#include "tandem/core/training/optimizer.h"
#include "tandem/core/wire/message_codec.h"
//
#include "support/reference_data.h"
#include "support/simulated_runs.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const std::vector<int> kUnequal = {40, 12, 25};

aggregator::SessionOptions options_for(const std::string& algorithm, const std::string& model = "cnn",
                                       int cut = 2, int clients = 3) {
  configure_compute_thread(1);
  auto options = base_options(model, cut, clients);
  options.plan.algorithm = find_algorithm(algorithm).value();
  options.local_epochs = 2;
  return options;
}

aggregator::SessionOptions with_strategy(aggregator::SessionOptions options, const std::string& strategy) {
  const auto traits = aggregator::strategy_traits(strategy).value();
  options.strategy = strategy;
  options.plan.proximal_mu = traits.proximal_mu;
  options.plan.control_variates = traits.control_variates;
  return options;
}

/// One step of a model that is in one piece, its loss the mean over the batch.
void train_step(ModelPart& model, Optimizer& optimizer, const Batch& batch) {
  model.zero_grad();
  torch::cross_entropy_loss(model.forward(batch.inputs), batch.labels).backward();
  optimizer.step(1.0);
}

/// A split model's step: the tail on the activations, the front on what comes back.
void split_step(ModelPart& front, Optimizer& front_optimizer, ModelPart& tail, Optimizer& tail_optimizer,
                const Batch& batch) {
  const at::Tensor smashed = front.forward(batch.inputs);
  const at::Tensor leaf = smashed.detach().requires_grad_();
  tail.zero_grad();
  torch::cross_entropy_loss(tail.forward(leaf), batch.labels).backward();
  tail_optimizer.step(1.0);
  front.zero_grad();
  smashed.backward(leaf.grad());
  front_optimizer.step(1.0);
}

/// Weights of clients that start each round from the mean of the last.
class Fronts {
 public:
  Fronts(const ModelPart& merged, const OptimizerOptions& options, size_t clients) : merged_(merged) {
    for (size_t i = 0; i < clients; ++i) {
      fronts_.push_back(merged.clone());
      fronts_.back().set_training(true);
      optimizers_.push_back(std::make_unique<Optimizer>(options, fronts_.back().parameters()));
    }
  }
  void begin_round() {
    for (ModelPart& front : fronts_) copy_values(merged_.state(), front.state());
  }
  void end_round(const std::vector<int>& examples) {
    FederatedAverage mean(snapshot(merged_.state()));
    for (size_t i = 0; i < fronts_.size(); ++i) {
      REQUIRE(mean.add({client_name(static_cast<int>(i))}, fronts_[i].state(),
                       static_cast<uint64_t>(examples[i])));
    }
    copy_values(mean.mean(), merged_.state());
  }
  ModelPart& front(size_t i) { return fronts_[i]; }
  Optimizer& optimizer(size_t i) { return *optimizers_[i]; }

 private:
  ModelPart merged_;
  std::vector<ModelPart> fronts_;
  std::vector<std::unique_ptr<Optimizer>> optimizers_;
};

/// Plain federated learning, from the definition.
NamedTensors train_federated(const aggregator::SessionOptions& options, const std::vector<int>& examples) {
  ModelPart merged = whole_model(options);
  Fronts clients(merged, options.plan.optimizer, examples.size());
  ReferenceData data(options, examples, false);
  for (uint32_t round = 0; round < options.plan.rounds; ++round) {
    clients.begin_round();
    const auto batches = data.next_round_of_each();
    for (size_t i = 0; i < examples.size(); ++i) {
      for (const Batch& batch : batches.of_client[i]) {
        train_step(clients.front(i), clients.optimizer(i), batch);
      }
    }
    clients.end_round(examples);
  }
  return snapshot(merged.state());
}

at::Tensor squared_distance(const NamedTensors& a, const NamedTensors& b) {
  at::Tensor sum = at::zeros({});
  for (size_t i = 0; i < a.size(); ++i) sum = sum + (a[i].tensor - b[i].tensor).square().sum();
  return sum;
}

/// FedProx (Li et al. 2020) with its term in the loss, or SCAFFOLD (Karimireddy et al. 2020, algorithm 1,
/// option II, a global step of 1) over plain SGD; of a model without buffers.
ModelPart train_corrected(const aggregator::SessionOptions& options, const std::vector<int>& examples) {
  const double eta = options.plan.optimizer.learning_rate;
  const ModelPart merged = whole_model(options);
  const NamedTensors x = merged.parameters();
  Fronts clients(merged, options.plan.optimizer, examples.size());
  const auto zeros = [&] {
    NamedTensors all = snapshot(x);
    for (NamedTensor& entry : all) entry.tensor.zero_();
    return all;
  };
  const NamedTensors c = zeros();
  std::vector<NamedTensors> c_of(examples.size());
  for (NamedTensors& own : c_of) own = zeros();
  ReferenceData data(options, examples, false);
  for (uint32_t round = 0; round < options.plan.rounds; ++round) {
    clients.begin_round();
    const NamedTensors start = snapshot(x);
    const NamedTensors sum_of_y = zeros(), sum_of_changes = zeros();
    const auto batches = data.next_round_of_each();
    for (size_t i = 0; i < examples.size(); ++i) {
      ModelPart& client = clients.front(i);
      const NamedTensors y = client.parameters();
      for (const Batch& batch : batches.of_client[i]) {
        client.zero_grad();
        at::Tensor loss = torch::cross_entropy_loss(client.forward(batch.inputs), batch.labels);
        if (options.plan.proximal_mu > 0)
          loss = loss + options.plan.proximal_mu / 2 * squared_distance(y, start);
        loss.backward();
        const torch::NoGradGuard no_grad;
        for (size_t t = 0; t < y.size(); ++t) {
          const at::Tensor direction = y[t].tensor.grad() - c_of[i][t].tensor + c[t].tensor;
          at::Tensor(y[t].tensor).sub_(eta * direction);
        }
      }
      if (!options.plan.control_variates) continue;
      const torch::NoGradGuard no_grad;
      const double path = eta * static_cast<double>(batches.of_client[i].size());
      for (size_t t = 0; t < y.size(); ++t) {
        const at::Tensor change = (start[t].tensor - y[t].tensor) / path - c[t].tensor;
        at::Tensor(sum_of_changes[t].tensor).add_(change);
        at::Tensor(sum_of_y[t].tensor).add_(y[t].tensor);
        at::Tensor(c_of[i][t].tensor).add_(change);
      }
    }
    if (!options.plan.control_variates) {
      clients.end_round(examples);
      continue;
    }
    const torch::NoGradGuard no_grad;
    const auto n = static_cast<double>(examples.size());
    for (size_t t = 0; t < x.size(); ++t) {
      at::Tensor(x[t].tensor).copy_(sum_of_y[t].tensor / n);
      at::Tensor(c[t].tensor).add_(sum_of_changes[t].tensor / n);
    }
  }
  return merged;
}

/// One tail, client after client in the round's order; `relay` hands the front on, otherwise all start from
/// the merged one and are averaged.
NamedTensors train_in_turns(const aggregator::SessionOptions& options, const std::vector<int>& examples) {
  ModelPart whole = whole_model(options);
  whole.set_training(true);
  const int blocks = define_model(options.plan.model, {1, 8, 8}, 4)->num_blocks();
  const bool relay = options.plan.algorithm == Algorithm::kRelay;
  ModelPart merged = whole.slice(0, options.plan.cut);
  ModelPart tail = whole.slice(options.plan.cut, blocks);
  Optimizer tail_optimizer(options.plan.optimizer, tail.parameters());
  Fronts clients(merged, options.plan.optimizer, examples.size());
  ReferenceData data(options, examples, false);
  for (uint32_t round = 0; round < options.plan.rounds; ++round) {
    clients.begin_round();
    const auto batches = data.next_round_of_each();
    for (const size_t i : batches.turns) {
      if (relay) copy_values(merged.state(), clients.front(i).state());
      for (const Batch& batch : batches.of_client[i]) {
        split_step(clients.front(i), clients.optimizer(i), tail, tail_optimizer, batch);
      }
      if (relay) copy_values(clients.front(i).state(), merged.state());
    }
    if (!relay) clients.end_round(examples);
  }
  return snapshot(whole.state());
}

const std::map<std::string, OptimizerOptions> kOptimizers = {
    {"sgd", {.learning_rate = 0.05}},
    {"momentum", {.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3}},
    {"adam", {.kind = OptimizerKind::kAdam, .learning_rate = 0.005}}};

}  // namespace

TEST_SUITE("schedules") {
  TEST_CASE("federated equals its definition, bit for bit") {
    for (const auto& [name, optimizer] : kOptimizers) {
      CAPTURE(name);
      auto options = options_for("federated");
      options.plan.optimizer = optimizer;
      check_bitwise_equal(run(options, kUnequal), train_federated(options, kUnequal));
    }
  }

  TEST_CASE("fedprox and scaffold in a whole run equal their definitions, to rounding") {
    for (const std::string strategy : {"fedprox:mu=0.5", "scaffold"}) {
      CAPTURE(strategy);
      auto options = with_strategy(options_for("federated"), strategy);
      options.plan.optimizer = {.learning_rate = 0.05};
      options.plan.rounds = 3;
      const NamedTensors result = run(options, kUnequal);
      const ModelPart expected = train_corrected(options, kUnequal);
      CHECK(largest_difference(result, expected.state()) < 2e-6);
      // Without the correction it would be far from it.
      CHECK(largest_difference(run(with_strategy(options, "fedavg"), kUnequal), expected.state()) > 1e-3);
    }
  }

  TEST_CASE("splitfed-v1 equals federated, bit for bit: every optimiser, cut and several epochs") {
    for (const auto& [name, optimizer] : kOptimizers) {
      for (const std::string model : {"cnn", "resnet18:norm=batch,width=8"}) {
        auto options = options_for("federated", model);
        options.plan.optimizer = optimizer;
        options.plan.rounds = 3;
        const NamedTensors expected = run(options, kUnequal);
        options.plan.algorithm = Algorithm::kSplitFedV1;
        for (const int cut : {1, 3}) {
          CAPTURE(name);
          CAPTURE(model);
          CAPTURE(cut);
          options.plan.cut = cut;
          check_bitwise_equal(run(options, kUnequal), expected);
        }
      }
    }
  }

  TEST_CASE("splitfed-v1 equals federated under every strategy") {
    const std::vector<int> examples = {40, 12, 25, 31, 18, 22, 9};
    for (const std::string strategy :
         {"fedprox:mu=0.1", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "fednova", "scaffold", "median",
          "trimmed-mean:fraction=0.2", "krum:f=1", "multi-krum:f=1", "bulyan:f=1"}) {
      CAPTURE(strategy);
      auto options = with_strategy(options_for("federated", "mlp:hidden=32-16", 1, 7), strategy);
      options.plan.optimizer = {.learning_rate = 0.05};
      options.plan.rounds = 3;
      const NamedTensors expected = run(options, examples);
      options.plan.algorithm = Algorithm::kSplitFedV1;
      check_bitwise_equal(run(options, examples), expected);
      auto plain = with_strategy(options, "fedavg");
      CHECK(largest_difference(run(plain, examples), expected) > 1e-7);  // the strategy did something
    }
  }

  TEST_CASE("batch norm kept local or frozen: splitfed-v1 equals federated, and the choice matters") {
    std::map<BatchNormMode, NamedTensors> results;
    for (const BatchNormMode mode :
         {BatchNormMode::kAverage, BatchNormMode::kLocal, BatchNormMode::kFreeze}) {
      CAPTURE(static_cast<int>(mode));
      auto options = options_for("federated", "resnet18:norm=batch,width=8", 3);
      options.plan.batch_norm = mode;
      results[mode] = run(options, kUnequal);
      options.plan.algorithm = Algorithm::kSplitFedV1;
      options.plan.cut = 3;
      check_bitwise_equal(run(options, kUnequal), results[mode]);
    }
    CHECK(largest_difference(results[BatchNormMode::kAverage], results[BatchNormMode::kLocal]) > 1e-4);
    // What is frozen stays what it was.
    const auto untouched = options_for("federated", "resnet18:norm=batch,width=8", 3);
    const ModelPart initial = whole_model(untouched);
    for (const NamedTensor& entry : initial.batch_norm_state()) {
      CAPTURE(entry.name);
      CHECK(at::equal(*find_tensor(results[BatchNormMode::kFreeze], entry.name), entry.tensor));
    }
  }

  TEST_CASE("clients that are drawn for a round keep what is theirs while others use their model") {
    for (const auto& [name, optimizer] : kOptimizers) {
      for (const BatchNormMode mode : {BatchNormMode::kAverage, BatchNormMode::kLocal}) {
        CAPTURE(name);
        CAPTURE(static_cast<int>(mode));
        auto options = options_for("federated", "resnet18:norm=batch,width=8", 3);
        options.plan.optimizer = optimizer;
        options.plan.batch_norm = mode;
        options.plan.rounds = 5;
        options.clients_per_round = 2;
        const NamedTensors expected = run(options, kUnequal, {.shares_models = false});
        check_bitwise_equal(run(options, kUnequal), expected);
        // A tail's replica is put away between its client's rounds too.
        options.plan.algorithm = Algorithm::kSplitFedV1;
        options.plan.cut = 3;
        check_bitwise_equal(run(options, kUnequal), expected);
      }
    }
  }

  TEST_CASE("splitfed-v2 and relay equal their definitions, bit for bit") {
    for (const std::string algorithm : {"splitfed-v2", "relay"}) {
      for (const auto& [name, optimizer] : kOptimizers) {
        CAPTURE(algorithm);
        CAPTURE(name);
        auto options = options_for(algorithm);
        options.plan.optimizer = optimizer;
        options.plan.rounds = 3;
        check_bitwise_equal(run(options, kUnequal), train_in_turns(options, kUnequal));
      }
    }
  }

  TEST_CASE("with one client every schedule that is exact equals the model in one piece") {
    for (const std::string algorithm : {"relay", "splitfed-v1", "splitfed-v2", "federated", "parallel"}) {
      CAPTURE(algorithm);
      auto options = options_for(algorithm, "cnn", 2, 1);
      ModelPart model = whole_model(options);
      model.set_training(true);
      Optimizer optimizer(options.plan.optimizer, model.parameters());
      ReferenceData data(options, {40}, false);
      for (uint32_t round = 0; round < options.plan.rounds; ++round) {
        const auto batches = data.next_round_of_each();
        for (const Batch& batch : batches.of_client[0]) train_step(model, optimizer, batch);
      }
      check_bitwise_equal(run(options, {40}), snapshot(model.state()));
    }
  }

  TEST_CASE("U-shaped equals plain, bit for bit: one client, relay, splitfed-v1") {
    struct Case {
      std::string algorithm;
      std::vector<int> examples;
    };
    for (const auto& [algorithm, examples] : {Case{"parallel", {40}}, Case{"relay", kUnequal},
                                              Case{"splitfed-v1", kUnequal}, Case{"splitfed-v2", {40}}}) {
      for (const std::string model : {"cnn", "resnet18:norm=batch,width=8"}) {
        CAPTURE(algorithm);
        CAPTURE(model);
        auto options = options_for(algorithm, model, 1, static_cast<int>(examples.size()));
        // In relay the head travels without its momentum, which belongs to each device.
        if (algorithm == "relay") options.plan.optimizer.momentum = 0;
        const NamedTensors expected = run(options, examples);
        for (const int head : {1, 2}) {
          CAPTURE(head);
          options.plan.head_blocks = head;
          check_bitwise_equal(run(options, examples), expected);
        }
      }
    }
  }

  TEST_CASE("U-shaped equals plain to rounding for parallel with one local step a round and SGD") {
    auto options = options_for("parallel", "cnn", 1, 3);
    options.plan.optimizer = {.learning_rate = 0.05};
    options.plan.rounds = 12;
    options.local_steps = 1;
    const NamedTensors expected = run(options, kUnequal);
    options.plan.head_blocks = 1;
    const NamedTensors shaped = run(options, kUnequal);
    CHECK(largest_difference(shaped, expected) < 2e-6);
    CHECK(largest_difference(snapshot(whole_model(options).state()), expected) > 1e-3);
  }

  TEST_CASE("the local and the aligned objective equal their definitions, bit for bit") {
    struct Case {
      EdgeObjective objective;
      uint32_t interval;
      uint32_t align_interval = 1;
      int tail_epochs = 0;
    };
    for (const auto& [objective, interval, align_interval, tail_epochs] :
         {Case{EdgeObjective::kLocal, 1}, Case{EdgeObjective::kLocal, 3}, Case{EdgeObjective::kAligned, 1},
          Case{EdgeObjective::kAligned, 2, 2}, Case{EdgeObjective::kAligned, 2, 1, 2}}) {
      CAPTURE(static_cast<int>(objective));
      CAPTURE(interval);
      auto options = options_for("splitfed-v2");
      options.plan.rounds = 3;
      options.plan.objective = objective;
      options.plan.tail_interval = interval;
      options.alignment.interval = align_interval;
      options.alignment.tail_epochs = tail_epochs;
      options.batch_size = 8;

      // Each device steps its front and its head on the head's loss; every h-th batch's activations train
      // the one tail, a batch of each client in turn; fronts and heads are averaged. FSL-SAGE then fits the
      // merged head to the tail on what went up in the round, which the tail may have gone over again.
      ModelPart whole = whole_model(options);
      whole.set_training(true);
      const auto definition = define_model(options.plan.model, {1, 8, 8}, 4);
      ModelPart merged = whole.slice(0, 2), tail = whole.slice(2, definition->num_blocks());
      ModelPart head = build_auxiliary_head("linear", definition->block(1).output_shape, 4, 7).value();
      Optimizer tail_optimizer(options.plan.optimizer, tail.parameters());
      Fronts fronts(merged, options.plan.optimizer, 3), heads(head, options.plan.optimizer, 3);
      ReferenceData data(options, kUnequal, false);
      for (uint32_t round = 0; round < options.plan.rounds; ++round) {
        fronts.begin_round();
        heads.begin_round();
        const auto batches = data.next_round_of_each();
        std::vector<std::vector<Batch>> uploads(3);
        for (size_t i = 0; i < 3; ++i) {
          for (size_t step = 0; step < batches.of_client[i].size(); ++step) {
            const Batch& batch = batches.of_client[i][step];
            const at::Tensor smashed = fronts.front(i).forward(batch.inputs);
            const at::Tensor loss = torch::cross_entropy_loss(heads.front(i).forward(smashed), batch.labels);
            fronts.front(i).zero_grad();
            heads.front(i).zero_grad();
            loss.backward();
            fronts.optimizer(i).step(1.0);
            heads.optimizer(i).step(1.0);
            if ((step + 1) % interval == 0) uploads[i].push_back({smashed.detach(), batch.labels});
          }
        }
        for (size_t upload = 0; upload < uploads[0].size(); ++upload) {
          for (const size_t i : batches.turns) {
            if (upload < uploads[i].size()) train_step(tail, tail_optimizer, uploads[i][upload]);
          }
        }
        fronts.end_round(kUnequal);
        heads.end_round(kUnequal);
        if (objective != EdgeObjective::kAligned || (round + 1) % align_interval != 0) continue;
        std::vector<aggregator::SmashedBatch> smashed;
        for (const auto& own : uploads) {
          for (const Batch& batch : own) smashed.push_back({batch.inputs, batch.labels});
        }
        const uint64_t seed = derive_seed(options.plan.seed, RandomPurpose::kAlign, {round + 1u});
        const aggregator::SmashedBatch all = aggregator::join(smashed);
        for (int epoch = 0; epoch < tail_epochs; ++epoch) {
          const at::Tensor order = at::tensor(
              random_permutation(all.examples(),
                                 derive_seed(seed, RandomPurpose::kShuffle,
                                             {hash_name("tail_replay"), static_cast<uint64_t>(epoch)})),
              at::kLong);
          for (const at::Tensor& places : order.split(options.batch_size)) {
            train_step(tail, tail_optimizer,
                       {all.activations.index_select(0, places), all.labels.index_select(0, places)});
          }
        }
        (void)aggregator::align_auxiliary_head(head, tail, smashed,
                                               {.epochs = options.alignment.epochs,
                                                .learning_rate = options.alignment.learning_rate,
                                                .seed = seed});
      }
      check_bitwise_equal(run(options, kUnequal), snapshot(whole.state()));
      if (objective == EdgeObjective::kAligned) {
        auto unaligned = options;
        unaligned.plan.objective = EdgeObjective::kLocal;
        CHECK(largest_difference(run(unaligned, kUnequal), snapshot(whole.state())) > 1e-5);
      }
      options.plan.window = 3;  // nothing is old where nothing comes back
      check_bitwise_equal(run(options, kUnequal), snapshot(whole.state()));
    }
  }

  TEST_CASE("fedbuff in planned order equals its definition, to rounding, and itself to the bit") {
    auto options = with_strategy(options_for("federated"), "fedbuff:buffer=2,eta=0.5");
    options.update_order = aggregator::UpdateOrder::kPlanned;
    options.local_epochs = 1;
    options.plan.rounds = 5;
    const NamedTensors result = run(options, kUnequal, {.workers = 1, .arrival_seed = 0});
    check_bitwise_equal(run(options, kUnequal, {.workers = 2, .arrival_seed = 3}), result);

    // Each client trains from the newest weights as soon as its update is taken; one with fewer steps comes
    // more often. Every second update moves the weights by the mean of both differences, each damped by how
    // many such moves it missed.
    ModelPart global = whole_model(options);
    Fronts clients(global, options.plan.optimizer, 3);
    ReferenceData data(options, kUnequal, false);
    std::vector<ReferenceData::OwnBatches> tasks;
    for (int i = 0; i < 12; ++i) tasks.push_back(data.next_round_of_each());
    struct Client {
      size_t task = 0, finish = 0, version = 0;
      NamedTensors base;
    };
    std::vector<Client> states(3);
    for (size_t i = 0; i < 3; ++i) {
      states[i] = {.finish = tasks[0].of_client[i].size(), .base = snapshot(global.state())};
    }
    size_t version = 0, stale = 0;
    std::vector<std::pair<double, NamedTensors>> buffer;
    while (version < options.plan.rounds) {
      size_t next = 0;
      for (size_t i = 1; i < 3; ++i) next = states[i].finish < states[next].finish ? i : next;
      Client& client = states[next];
      copy_values(client.base, clients.front(next).state());
      for (const Batch& batch : tasks[client.task].of_client[next]) {
        train_step(clients.front(next), clients.optimizer(next), batch);
      }
      NamedTensors difference = snapshot(clients.front(next).state());
      for (size_t t = 0; t < difference.size(); ++t) difference[t].tensor.sub_(client.base[t].tensor);
      stale += version - client.version;
      buffer.emplace_back(1.0 / std::sqrt(1.0 + static_cast<double>(version - client.version)), difference);
      if (buffer.size() == 2) {
        const torch::NoGradGuard no_grad;
        NamedTensors weights = global.state();
        for (size_t t = 0; t < weights.size(); ++t) {
          for (const auto& [damping, delta] : buffer) weights[t].tensor.add_(delta[t].tensor, 0.25 * damping);
        }
        buffer.clear();
        ++version;
      }
      client.task += 1;
      client.version = version;
      client.base = snapshot(global.state());
      client.finish += tasks[client.task].of_client[next].size();
    }
    CHECK(stale > 0);
    CHECK(largest_difference(result, global.state()) < 1e-6);
    CHECK(largest_difference(snapshot(whole_model(options).state()), result) > 1e-2);
  }

  TEST_CASE("fedbuff: a cosine over the run spans the steps that each device is expected to make") {
    // 3, 1 and 2 steps an update; in the time of 6 steps the devices send 2, 6 and 3 of the 10 updates.
    for (const auto order : {aggregator::UpdateOrder::kPlanned, aggregator::UpdateOrder::kArrival}) {
      auto options = with_strategy(options_for("federated"), "fedbuff:buffer=2");
      options.update_order = order;
      options.local_epochs = 1;
      options.plan.rounds = 5;
      options.plan.lr_schedule = {.kind = LrScheduleKind::kCosine, .warmup_steps = 2};
      options.schedule_spans_run = true;
      RecordingObserver observer;
      tools::Simulation simulation(options, observer, nullptr, {}, make_edges(kUnequal), {});
      int told = 0;
      simulation.filter = [&](size_t, bool to_aggregator, const wire::Frames& frames) {
        const wire::Message message = wire::decode(frames, {}).value();
        if (const auto* begin = std::get_if<wire::BeginRound>(&message.body); begin && !to_aggregator) {
          CHECK(begin->lr_schedule.period_steps == doctest::Approx(10 * 6.0 / 11 - 2));
          ++told;
        }
        return true;
      };
      REQUIRE(simulation.run().has_value());
      CHECK(told > 3);
    }
  }

  TEST_CASE("fedbuff as updates arrive completes with every client") {
    auto options = with_strategy(options_for("federated"), "fedbuff:buffer=2");
    options.plan.rounds = 5;
    RecordingObserver observer;
    (void)run(options, kUnequal, {.workers = 2, .arrival_seed = 1}, &observer);
    CHECK(observer.rounds.size() == 5);
    for (const RoundRecord& round : observer.rounds) CHECK(round.clients == 2);
    CHECK(observer.clients.size() == 10);
  }

  TEST_CASE("every combination gives the same weights whatever the order of arrival") {
    struct Case {
      std::string algorithm;
      std::function<void(aggregator::SessionOptions&)> change;
    };
    const std::vector<Case> cases = {
        {"splitfed-v1", [](auto&) {}},
        {"splitfed-v2", [](auto&) {}},
        {"relay", [](auto&) {}},
        {"federated", [](auto&) {}},
        {"parallel", [](auto& options) { options.plan.head_blocks = 1; }},
        {"splitfed-v1", [](auto& options) { options.plan.head_blocks = 1; }},
        {"relay", [](auto& options) { options.plan.head_blocks = 1; }},
        {"parallel",
         [](auto& options) {
           options.plan.objective = EdgeObjective::kLocal;
           options.plan.tail_interval = 2;
         }},
        {"splitfed-v1", [](auto& options) { options.plan.objective = EdgeObjective::kLocal; }},
        {"relay", [](auto& options) { options.plan.objective = EdgeObjective::kLocal; }},
        {"splitfed-v2",
         [](auto& options) {
           options.plan.objective = EdgeObjective::kAligned;
           options.plan.window = 2;
         }},
        {"splitfed-v1",
         [](auto& options) {
           options.plan.objective = EdgeObjective::kAligned;
           options.alignment.tail_epochs = 2;
         }},
        {"splitfed-v1", [](auto& options) { options.plan.window = 3; }},
        {"federated", [](auto& options) { options.clients_per_round = 2; }},
        {"parallel", [](auto& options) { options.clients_per_round = 2; }},
    };
    int number = 0;
    for (const Case& one : cases) {
      CAPTURE(number++);
      auto options = options_for(one.algorithm, "cnn", 1, 4);
      options.local_epochs = 1;
      one.change(options);
      const std::vector<int> examples = {40, 12, 25, 31};
      const NamedTensors expected = run(options, examples, {.workers = 1, .arrival_seed = 0});
      for (uint64_t arrival = 1; arrival <= 2; ++arrival) {
        check_bitwise_equal(run(options, examples, {.workers = 2, .arrival_seed = arrival}), expected);
      }
      CHECK(largest_difference(snapshot(whole_model(options).state()), expected) > 1e-4);
    }
  }
}
