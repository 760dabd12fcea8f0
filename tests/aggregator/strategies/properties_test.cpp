#include "merging.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using namespace tandem::aggregator::testing;

namespace {

const std::set<std::string> kBuffers = {"0.running_mean"};
constexpr int kClients = 7;

/// A model with a channels-last kernel, a double, a half, a scalar, an empty tensor, a buffer and a counter.
NamedTensors model(uint64_t seed) {
  torch::manual_seed(seed);
  return {{"0.weight", torch::randn({4, 3, 2, 2}).contiguous(at::MemoryFormat::ChannelsLast)},
          {"0.bias", torch::randn({4}, at::kDouble)},
          {"0.running_mean", torch::randn({4})},
          {"0.num_batches", torch::tensor(static_cast<int64_t>(seed))},
          {"1.weight", torch::randn({5}).to(at::kHalf)},
          {"1.scale", torch::randn({})},
          {"1.none", torch::empty({0, 2})}};
}

std::vector<ClientUpdate> model_updates(uint64_t seed) {
  std::vector<ClientUpdate> updates;
  for (int k = 0; k < kClients; ++k) {
    const auto own = seed + static_cast<uint64_t>(k);
    ClientUpdate made =
        update(std::string(1, static_cast<char>('a' + k)), model(own), static_cast<uint64_t>(3 + 5 * k));
    made.steps = static_cast<uint32_t>(1 + k);
    updates.push_back(std::move(made));
  }
  return updates;
}

/// Every strategy, where seven updates are enough.
std::vector<std::string> all_strategies() {
  return strategy_names();
}

void add_controls(std::vector<ClientUpdate>& updates) {
  for (ClientUpdate& one : updates) {
    for (const NamedTensor& entry : one.weights) {
      if (!at::isFloatingType(entry.tensor.scalar_type()) || kBuffers.count(entry.name) > 0) continue;
      one.control_change.push_back({entry.name, entry.tensor.to(at::kFloat) * 0.1});
    }
  }
}

NamedTensors run_rounds(const std::string& specification, bool reload) {
  auto strategy = make(specification, kBuffers);
  NamedTensors global = model(1);
  for (uint64_t round = 0; round < 3; ++round) {
    std::vector<ClientUpdate> updates = model_updates(100 * (round + 1));
    add_controls(updates);
    global = merged(*strategy, global, updates);
    if (!reload) continue;
    auto next = make(specification, kBuffers);
    next->load_state(strategy->state()).value();
    strategy = std::move(next);
  }
  // What is kept belongs to the comparison: control does not enter the server's weights.
  for (const NamedTensor& entry : strategy->state()) global.push_back(entry);
  return global;
}

}  // namespace

TEST_SUITE("aggregator/strategies/properties") {
  TEST_CASE("a merge keeps names, dtypes, shapes and memory formats, in storage of its own") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      const auto strategy = make(name, kBuffers);
      const NamedTensors global = model(1);
      const NamedTensors before = snapshot(global);
      std::vector<ClientUpdate> updates = model_updates(10);
      // A client's own memory format does not matter.
      updates[2].weights[0].tensor = updates[2].weights[0].tensor.contiguous();
      std::vector<NamedTensors> sent;
      for (const ClientUpdate& one : updates) sent.push_back(snapshot(one.weights));
      const NamedTensors result = merged(*strategy, global, updates);
      REQUIRE(check_same_layout(global, result));
      CHECK(check_finite(result));
      CHECK(result[0].tensor.is_contiguous(at::MemoryFormat::ChannelsLast));
      CHECK_FALSE(result[0].tensor.is_contiguous());
      for (const NamedTensor& entry : result) entry.tensor.fill_(0);
      CHECK(same(global, before));
      for (size_t k = 0; k < updates.size(); ++k) CHECK(same(updates[k].weights, sent[k]));
    }
  }

  TEST_CASE("the memory format of an update does not change the result") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      std::vector<ClientUpdate> updates = model_updates(10);
      const NamedTensors expected = merged(*make(name, kBuffers), model(1), updates);
      for (ClientUpdate& one : updates) one.weights[0].tensor = one.weights[0].tensor.contiguous();
      CHECK(same(merged(*make(name, kBuffers), model(1), updates), expected));
    }
  }

  TEST_CASE("the order of updates changes nothing beyond rounding") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      std::vector<ClientUpdate> updates = model_updates(10);
      const NamedTensors expected = merged(*make(name, kBuffers), model(1), updates);
      std::reverse(updates.begin(), updates.end());
      const NamedTensors reversed = merged(*make(name, kBuffers), model(1), updates);
      for (size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(expected[i].name);
        CHECK(at::allclose(reversed[i].tensor, expected[i].tensor, 1e-6, 1e-7));
      }
      if (make(name)->needs_single_updates()) CHECK(same(reversed, expected));
    }
  }

  TEST_CASE("counters take the maximum, buffers of streaming strategies the mean by examples") {
    const NamedTensors global = {
        {"w", vec({0})}, {"running_mean", vec({90})}, {"count", torch::tensor({900})}};
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      const auto strategy = make(name, {"running_mean"});
      std::vector<ClientUpdate> updates;
      for (int k = 0; k < kClients; ++k) {
        updates.push_back(update(std::string(1, static_cast<char>('a' + k)),
                                 {{"w", vec({1})},
                                  {"running_mean", vec({k == 0 ? 9. : 2.})},
                                  {"count", torch::tensor({k == 0 ? 12 : 5})}},
                                 k == 0 ? 6 : 1));
        updates.back().steps = 1;
      }
      const NamedTensors result = merged(*strategy, global, updates);
      CHECK(result[2].tensor.item<int64_t>() == 12);
      if (!strategy->needs_single_updates()) CHECK(error_of(result[1].tensor, {5.5}) < 1e-6);
    }
  }

  TEST_CASE("three rounds with the state saved and loaded between equal three without") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      CHECK(same(run_rounds(name, true), run_rounds(name, false)));
    }
  }

  TEST_CASE("the strategies with memory keep one tensor for each parameter and kind") {
    const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
        {"fedavgm", {"m"}},
        {"fedadam", {"m", "v"}},
        {"fedyogi", {"m", "v"}},
        {"fedadagrad", {"m", "v"}},
        {"scaffold", {"c"}},
        {"fedavg", {}},
        {"krum", {}},
        {"fedbuff", {}},
    };
    for (const auto& [name, kinds] : cases) {
      CAPTURE(name);
      const auto strategy = make(name, kBuffers);
      CHECK(strategy->state().empty());
      (void)merged(*strategy, model(1), model_updates(10));
      std::vector<std::string> expected;
      for (const std::string& kind : kinds) {
        for (const char* parameter : {"0.weight", "0.bias", "1.weight", "1.scale", "1.none"}) {
          expected.push_back(kind + "." + parameter);
        }
      }
      std::vector<std::string> names;
      for (const NamedTensor& entry : strategy->state()) names.push_back(entry.name);
      CHECK(names == expected);
    }
  }

  TEST_CASE("state is copied on its way out and in, and an empty one starts anew") {
    const auto strategy = make("fedavgm");
    (void)merged(*strategy, weights({0}), scalars({1}));
    strategy->state()[0].tensor.fill_(77);
    CHECK(error_of(strategy->state()[0].tensor, {-1}) == 0);
    const NamedTensors loaded = {{"m.w", vec({5}, at::kDouble)}};
    REQUIRE(strategy->load_state(loaded));
    loaded[0].tensor.fill_(77);
    CHECK(error_of(strategy->state()[0].tensor, {5}) == 0);
    REQUIRE(strategy->load_state({}));
    CHECK(strategy->state().empty());
    CHECK(error_of(merged(*strategy, weights({0}), scalars({1}))[0].tensor, {1}) < 1e-6);
  }

  TEST_CASE("state that does not fit is refused by name and leaves the old one") {
    const at::Tensor one = vec({1}, at::kDouble);
    struct Case {
      const char* strategy;
      NamedTensors state;
      ErrorCode code;
      const char* message;
    };
    const Case cases[] = {
        {"fedavg", {{"m.w", one}}, ErrorCode::kInvalidArgument, "fedavg keeps no state, got m.w"},
        {"fedavgm",
         {{"x.w", one}},
         ErrorCode::kInvalidArgument,
         "state of fedavgm: x.w does not begin with m."},
        {"fedavgm",
         {{"m.w", vec({1})}},
         ErrorCode::kShapeMismatch,
         "state of fedavgm: m.w must be Double, got Float"},
        {"fedavgm",
         {{"m.w", at::Tensor()}},
         ErrorCode::kShapeMismatch,
         "state of fedavgm: m.w must be Double, got an undefined tensor"},
        {"fedavgm",
         {{"m.w", vec({NAN}, at::kDouble)}},
         ErrorCode::kNonFinite,
         "state of fedavgm: tensor m.w holds NaN or infinity"},
        {"fedadam",
         {{"m.w", one}},
         ErrorCode::kShapeMismatch,
         "state of fedadam: v against m: tensor 1 of 1: expected w (Double [1]), got none"},
        {"fedadam",
         {{"m.w", one}, {"v.b", one}},
         ErrorCode::kShapeMismatch,
         "state of fedadam: v against m: tensor 1 of 1: expected w (Double [1]), got b (Double [1])"},
    };
    for (const Case& each : cases) {
      CAPTURE(each.message);
      const auto strategy = make(each.strategy);
      (void)merged(*strategy, weights({0}), scalars({2}));
      const NamedTensors before = strategy->state();
      const auto loaded = strategy->load_state(each.state);
      REQUIRE_FALSE(loaded);
      CHECK(loaded.error().code == each.code);
      CHECK(loaded.error().message == each.message);
      CHECK(same(strategy->state(), before));
    }
  }

  TEST_CASE("state of another model is refused when merging") {
    const auto strategy = make("fedavgm");
    REQUIRE(strategy->load_state({{"m.w", vec({1, 2}, at::kDouble)}}));
    strategy->begin(weights({0}));
    REQUIRE(strategy->add(update("a", weights({1}))));
    const auto result = strategy->merge();
    REQUIRE_FALSE(result);
    CHECK(result.error().code == ErrorCode::kShapeMismatch);
    CHECK(result.error().message ==
          "state of fedavgm (m) does not fit the model: tensor 1 of 1: expected w (Double [1]), got w "
          "(Double [2])");
  }

  TEST_CASE("a merge without updates is refused and leaves the state alone") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      const auto strategy = make(name, kBuffers);
      (void)merged(*strategy, model(1), model_updates(10));
      const NamedTensors before = strategy->state();
      const auto left_out = strategy->left_out();
      strategy->begin(model(1));
      const auto result = strategy->merge();
      REQUIRE_FALSE(result);
      CHECK(result.error().code == ErrorCode::kInvalidArgument);
      CHECK(result.error().message.find(name + " needs at least ") == 0);
      CHECK(result.error().message.find(", got 0") != std::string::npos);
      CHECK(same(strategy->state(), before));
      CHECK(strategy->left_out() == left_out);
      CHECK_THROWS_WITH((void)strategy->merge(), "Strategy.merge: begin was not called");
    }
  }

  TEST_CASE("an update that does not fit or is not finite is left out and named") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      const std::vector<ClientUpdate> updates = model_updates(10);
      const NamedTensors expected = merged(*make(name, kBuffers), model(1), updates);
      const auto strategy = make(name, kBuffers);
      strategy->begin(model(1));
      for (const ClientUpdate& one : updates) {
        ClientUpdate wrong = update("eve", snapshot(one.weights), 1000);
        wrong.steps = 1;
        wrong.weights[1].tensor = at::zeros({3}, at::kDouble);
        const auto mismatch = strategy->add(wrong);
        REQUIRE_FALSE(mismatch);
        CHECK(mismatch.error().code == ErrorCode::kShapeMismatch);
        CHECK(mismatch.error().message ==
              "update of client eve: tensor 2 of 7: expected 0.bias (Double [4]), got 0.bias (Double [3])");
        wrong.weights = snapshot(one.weights);
        wrong.weights[2].tensor[1].fill_(NAN);
        const auto infinite = strategy->add(wrong);
        REQUIRE_FALSE(infinite);
        CHECK(infinite.error().code == ErrorCode::kNonFinite);
        CHECK(infinite.error().message ==
              "update of client eve: tensor 0.running_mean holds NaN or infinity");
        REQUIRE(strategy->add(one));
      }
      CHECK(strategy->updates() == kClients);
      const auto result = strategy->merge();
      REQUIRE(result);
      CHECK(same(*result, expected));
      CHECK(strategy->updates() == 0);
    }
  }

  TEST_CASE("a result beyond its dtype is refused and leaves the state alone") {
    for (const char* specification : {"fedavgm:eta=2", "scaffold:eta=2", "fedbuff:eta=2"}) {
      CAPTURE(specification);
      const auto strategy = make(specification);
      (void)merged(*strategy, weights({0}), scalars({1}));
      const NamedTensors before = strategy->state();
      strategy->begin(weights({0}));
      REQUIRE(strategy->add(update("eve", weights({3e38}))));
      const auto result = strategy->merge();
      REQUIRE_FALSE(result);
      CHECK(result.error().code == ErrorCode::kNonFinite);
      CHECK(result.error().message ==
            "merge by " + strategy->name() + " overflows: tensor w holds NaN or infinity");
      CHECK(same(strategy->state(), before));
    }
  }

  TEST_CASE("a control beyond float32 is refused and stays as it was") {
    const auto strategy = make("scaffold");
    ClientUpdate huge = update("eve", weights({1}));
    huge.control_change = weights({3e38});
    (void)merged(*strategy, weights({0}), {huge});
    strategy->begin(weights({0}));
    REQUIRE(strategy->add(huge));
    const auto result = strategy->merge();
    REQUIRE_FALSE(result);
    CHECK(result.error().message == "merge by scaffold overflows: tensor w holds NaN or infinity");
    CHECK(error_of(strategy->control()[0].tensor, {static_cast<double>(3e38f)}) == 0);
  }

  TEST_CASE("begin drops the updates of a merge under way") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      const auto strategy = make(name, kBuffers);
      strategy->begin(model(50));
      for (const ClientUpdate& one : model_updates(60)) REQUIRE(strategy->add(one));
      CHECK(strategy->updates() == kClients);
      const NamedTensors expected = merged(*make(name, kBuffers), model(1), model_updates(10));
      CHECK(same(merged(*strategy, model(1), model_updates(10)), expected));
    }
  }

  TEST_CASE("the global weights may change after begin") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      const NamedTensors expected = merged(*make(name, kBuffers), model(1), model_updates(10));
      const auto strategy = make(name, kBuffers);
      const NamedTensors global = model(1);
      strategy->begin(global);
      for (const NamedTensor& entry : global) entry.tensor.fill_(5);
      for (const ClientUpdate& one : model_updates(10)) REQUIRE(strategy->add(one));
      CHECK(same(strategy->merge().value(), expected));
    }
  }

  TEST_CASE("streaming strategies hold no update, the others all until the merge") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      const auto strategy = make(name, kBuffers);
      strategy->begin(model(1));
      std::vector<ClientUpdate> updates = model_updates(10);
      add_controls(updates);
      NamedTensors tensors;
      for (ClientUpdate& one : updates) {
        for (const NamedTensor& entry : one.weights) tensors.push_back(entry);
        for (const NamedTensor& entry : one.control_change) tensors.push_back(entry);
        REQUIRE(strategy->add(std::move(one)));
      }
      updates.clear();
      const auto held = [&] {
        return std::count_if(tensors.begin(), tensors.end(), [](const NamedTensor& entry) {
          return entry.tensor.use_count() > 1 || entry.tensor.storage().use_count() > 1;
        });
      };
      CHECK(held() == (strategy->needs_single_updates() ? static_cast<std::ptrdiff_t>(tensors.size()) : 0));
      REQUIRE(strategy->merge());
      CHECK(held() == 0);
    }
  }

  TEST_CASE("misuse throws") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      const auto strategy = make(name);
      CHECK_THROWS_WITH((void)strategy->add(update("a", weights({1}))), "Strategy.add: begin was not called");
      CHECK_THROWS_WITH((void)strategy->merge(), "Strategy.merge: begin was not called");
      strategy->begin(weights({0}));
      CHECK_THROWS_WITH((void)strategy->add(update("ann", weights({1}), 0)),
                        "ClientUpdate.examples of client ann must be >= 1, got 0");
    }
  }

  TEST_CASE("weights that require gradients are merged without a graph") {
    for (const std::string& name : all_strategies()) {
      CAPTURE(name);
      const auto strategy = make(name);
      NamedTensors global = weights({1, 2});
      global[0].tensor.requires_grad_();
      std::vector<ClientUpdate> updates;
      for (int k = 0; k < kClients; ++k) {
        updates.push_back(update(std::string(1, static_cast<char>('a' + k)), weights({1. * k, 2})));
        updates.back().weights[0].tensor.requires_grad_();
        updates.back().steps = 1;
      }
      CHECK_FALSE(merged(*strategy, global, updates)[0].tensor.requires_grad());
      for (const NamedTensor& entry : strategy->state()) CHECK_FALSE(entry.tensor.requires_grad());
    }
  }
}
