#include "tandem/core/partition/model_partition.h"

#include <vector>

#include "support/test.h"
#include "tandem/core/partition/client_partitions.h"

using namespace tandem;

namespace {

ModelDefinition lenet() {
  return define_model("lenet5", {1, 28, 28}, 10).value();
}

}  // namespace

TEST_SUITE("model partition") {
  TEST_CASE("a cut makes two stages, head blocks a third, and none makes one") {
    const auto two = ModelPartition::cut_at(lenet(), 2).value();
    CHECK((two.stages() == std::vector<Stage>{{Place::kClient, 0, 2}, {Place::kAggregator, 2, 5}}));
    CHECK((two.loss_stage() == *two.tail()));
    CHECK_FALSE(two.head().has_value());
    const auto three = ModelPartition::cut_at(lenet(), 1, 2).value();
    CHECK((three.stages() ==
           std::vector<Stage>{{Place::kClient, 0, 1}, {Place::kAggregator, 1, 3}, {Place::kClient, 3, 5}}));
    CHECK((three.loss_stage() == *three.head()));
    const auto one = ModelPartition::on_client(lenet());
    CHECK((one.stages() == std::vector<Stage>{{Place::kClient, 0, 5}}));
    CHECK_FALSE(one.tail().has_value());
    CHECK((one.loss_stage() == one.front()));
    for (const ModelPartition& each : {one, two, three}) CHECK(each.blocks() == 5);
  }

  TEST_CASE("shapes of what crosses from stage to stage") {
    const auto partition = ModelPartition::cut_at(lenet(), 1, 1).value();
    CHECK(partition.activation_shape(lenet(), 7) == std::vector<int64_t>{7, 6, 14, 14});
    CHECK(partition.output_shape(lenet(), 7) == std::vector<int64_t>{7, 84});
    CHECK(partition.evaluation_batch_size(lenet()) == 256);
    const auto large = define_model("cnn", {3, 512, 512}, 10).value();
    // 32 x 256 x 256 values an example, 2^22 in all.
    CHECK(ModelPartition::cut_at(large, 1)->evaluation_batch_size(large) == 2);
  }

  TEST_CASE("a cut outside the model, or no block for the aggregator, is refused") {
    for (const int cut : {-1, 0, 5, 6}) {
      CAPTURE(cut);
      CHECK(ModelPartition::cut_at(lenet(), cut).error().code == ErrorCode::kInvalidArgument);
    }
    const auto none_left = ModelPartition::cut_at(lenet(), 3, 2);
    REQUIRE_FALSE(none_left);
    CHECK(none_left.error().message.find("head-blocks must be 0..1") != std::string::npos);
  }

  TEST_CASE("clients of different cuts: each has its own, and the aggregator has entries") {
    const auto cuts = ClientCuts::parse("ann=3,bob=1,*=2").value();
    const auto partitions = ClientPartitions::cut_at(lenet(), cuts, 0).value();
    CHECK_FALSE(partitions.equal());
    CHECK(partitions.of({"ann"}).front().last == 3);
    CHECK(partitions.of({"bob"}).front().last == 1);
    CHECK(partitions.of({"carl"}).front().last == 2);
    CHECK(partitions.entries() == std::vector<int>{1, 2, 3});
    CHECK((partitions.longest_front() == partitions.of({"ann"})));
    CHECK_FALSE(ClientPartitions::cut_at(lenet(), ClientCuts::parse("ann=5,*=2").value(), 0));
    const ClientPartitions federated(ModelPartition::on_client(lenet()));
    CHECK(federated.equal());
    CHECK(federated.entries().empty());
  }
}
