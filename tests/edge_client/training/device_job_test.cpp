#include "tandem/edge_client/training/device_job.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tandem/augment/pipeline.h"
#include "tandem/datasets/data_source.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::edge_client;

namespace {

const Dataset& twenty_examples() {
  static const auto dataset =
      datasets::open_dataset("synthetic:images,examples=20,classes=3,size=8", datasets::Split::kTrain)
          .value();
  return *dataset;
}

Result<std::unique_ptr<DeviceJob>> create(const std::function<void(TrainingPlan&)>& change = {}) {
  wire::Welcome welcome{.client = "cam"};
  welcome.plan.model = "cnn";
  welcome.plan.cut = 1;
  welcome.plan.input_shape = {1, 8, 8};
  welcome.plan.num_classes = 3;
  welcome.plan.rounds = 2;
  if (change) change(welcome.plan);
  return DeviceJob::create(welcome, twenty_examples(), augment::build_pipeline, 0);
}

void make_u_shaped(TrainingPlan& plan) {
  plan.head_blocks = 1;
}

void make_local(TrainingPlan& plan) {
  plan.objective = EdgeObjective::kLocal;
  plan.tail_interval = 3;
}

}  // namespace

TEST_SUITE("edge_client/training/device_job") {
  TEST_CASE("a run on other examples is refused with both shapes") {
    const auto job = create([](TrainingPlan& plan) { plan.input_shape = {1, 28, 28}; });
    REQUIRE_FALSE(job);
    CHECK((job.error().code == ErrorCode::kShapeMismatch));
    CHECK(job.error().message == "this device's examples have shape 1x8x8, the run trains on 1x28x28");
  }

  TEST_CASE("a run of fewer classes than the labels need is refused with both counts") {
    const auto job = create([](TrainingPlan& plan) { plan.num_classes = 2; });
    REQUIRE_FALSE(job);
    CHECK(job.error().message ==
          "this device's labels need 3 classes, the run has 2; mend the labels, or start the aggregator with "
          "--num-classes 3");
    CHECK(create([](TrainingPlan& plan) { plan.num_classes = 7; }));
  }

  TEST_CASE("a plan that leaves nothing for the tail, or names no model, is refused") {
    CHECK_FALSE(create([](TrainingPlan& plan) { plan.cut = 100; }));
    CHECK_FALSE(create([](TrainingPlan& plan) { plan.model = "no-such-model"; }));
  }

  TEST_CASE("labels go up with the activations, but stay where the model is U-shaped") {
    const at::Tensor labels = at::tensor({2, 0, 1}, at::kLong);
    CHECK(at::equal((*create())->labels_to_send(labels), labels));
    const auto u_shaped = create(make_u_shaped);
    REQUIRE_MESSAGE(u_shaped.has_value(), u_shaped.error().message);
    const at::Tensor sent = (*u_shaped)->labels_to_send(labels);
    CHECK(sent.sizes() == at::IntArrayRef({0}));
    CHECK((sent.scalar_type() == at::kLong));
  }

  TEST_CASE("outputs of the tail are checked for shape and type, and come only where the head is here") {
    const auto u_shaped = create(make_u_shaped);
    REQUIRE_MESSAGE(u_shaped.has_value(), u_shaped.error().message);
    const at::Tensor outputs = at::zeros({4, 128});
    CHECK((*u_shaped)->check_outputs(outputs, 4));
    const auto message = [&](const at::Tensor& wrong) {
      const auto checked = (*u_shaped)->check_outputs(wrong, 4);
      return checked ? std::string("accepted") : checked.error().message;
    };
    CHECK(message(at::zeros({3, 128})) ==
          "the tail's outputs have shape 3x128 and type Float, expected 4x128 Float");
    CHECK(message(outputs.to(at::kLong)) ==
          "the tail's outputs have shape 4x128 and type Long, expected 4x128 Float");
    const auto plain = (*create())->check_outputs(outputs, 4);
    REQUIRE_FALSE(plain);
    CHECK((plain.error().code == ErrorCode::kProtocol));
  }

  TEST_CASE("every tail-interval-th step trains the tail, and none where there is no tail") {
    const auto job = create(make_local);
    REQUIRE_MESSAGE(job.has_value(), job.error().message);
    std::vector<uint32_t> up;
    for (uint32_t step = 0; step < 7; ++step) {
      if ((*job)->goes_up(step)) up.push_back(step);
    }
    CHECK((up == std::vector<uint32_t>{2, 5}));
    const auto federated = create([](TrainingPlan& plan) {
      plan.algorithm = Algorithm::kFederated;
      plan.cut = define_model("cnn", {1, 8, 8}, 3)->num_blocks();
    });
    REQUIRE_MESSAGE(federated.has_value(), federated.error().message);
    CHECK_FALSE((*federated)->has_tail());
    CHECK_FALSE((*federated)->goes_up(0));
  }

  TEST_CASE("a round asks for no batch larger than the data, and its schedule makes sense") {
    const auto job = create().value();
    CHECK(job->check({.batch_sizes = {20, 0, 1}}).has_value());
    const auto too_large = job->check({.batch_sizes = {4, 21}});
    REQUIRE_FALSE(too_large);
    CHECK((too_large.error().code == ErrorCode::kTooLarge));
    CHECK(too_large.error().message == "a batch of 21 examples, this device holds 20");
    CHECK_FALSE(job->check({.batch_sizes = {4}, .lr_schedule = {.warmup_steps = -1}}));
  }

  TEST_CASE("the trainer is built as the plan says") {
    const auto trainer = create(make_u_shaped).value()->build_trainer({}, at::kCPU);
    REQUIRE_MESSAGE(trainer.has_value(), trainer.error().message);
    CHECK(find_tensor((*trainer)->weights(), "0.0.weight") != nullptr);
  }

  TEST_CASE("batches follow the client's name and the seed") {
    const auto first_labels = [](const std::function<void(TrainingPlan&)>& change) {
      const auto job = create(change).value();
      job->loader().start(0, {20});
      return job->loader().next().labels;
    };
    CHECK(at::equal(first_labels({}), first_labels({})));
    CHECK_FALSE(at::equal(first_labels({}), first_labels([](TrainingPlan& plan) { plan.seed = 99; })));
  }
}
