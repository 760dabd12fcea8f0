#include "tandem/edge_client/session/held_out_evaluation.h"

#include <memory>
#include <string>
#include <vector>

#include "tandem/datasets/data_source.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::edge_client;

namespace {

std::shared_ptr<const Dataset> examples(int count) {
  return datasets::open_dataset("synthetic:images,examples=" + std::to_string(count) + ",classes=3,size=8",
                                datasets::Split::kTrain)
      .value();
}

}  // namespace

TEST_SUITE("edge_client/session/held_out_evaluation") {
  TEST_CASE("every example comes once and in order, the last batch is what is left") {
    const auto held_out = examples(10);
    HeldOutEvaluation evaluation(7, *held_out, 4);
    CHECK(evaluation.round() == 7);
    std::vector<at::Tensor> inputs;
    std::vector<int64_t> sizes;
    while (const auto batch = evaluation.next_batch()) {
      CHECK(evaluation.step() == inputs.size());
      CHECK(at::equal(evaluation.labels(), batch->labels));
      inputs.push_back(batch->inputs);
      sizes.push_back(batch->labels.size(0));
      evaluation.count({.examples = static_cast<uint64_t>(batch->labels.size(0))});
    }
    CHECK((sizes == std::vector<int64_t>{4, 4, 2}));
    CHECK(
        at::equal(at::cat(inputs), held_out->get(std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}).inputs));
    CHECK(evaluation.step() == 3);  // which nothing was asked for
  }

  TEST_CASE("the figures of batches add up") {
    const auto held_out = examples(5);
    HeldOutEvaluation evaluation(1, *held_out, 3);
    REQUIRE(evaluation.next_batch());
    evaluation.count({3, 6.0, 1});
    REQUIRE(evaluation.next_batch());
    evaluation.count({2, 1.0, 2});
    CHECK_FALSE(evaluation.next_batch());
    CHECK(evaluation.totals().examples == 5);
    CHECK(evaluation.totals().loss_sum == 3 * 2.0 + 2 * 0.5);
    CHECK(evaluation.totals().correct == 3);
  }

  TEST_CASE("a batch that was not counted comes again") {
    const auto held_out = examples(5);
    HeldOutEvaluation evaluation(1, *held_out, 3);
    const auto first = evaluation.next_batch(), again = evaluation.next_batch();
    REQUIRE((first && again));
    CHECK(at::equal(first->inputs, again->inputs));
    CHECK(evaluation.step() == 0);
    CHECK(evaluation.totals().examples == 0);
  }

  TEST_CASE("one that has not begun is of no round") {
    CHECK(HeldOutEvaluation().round() == 0);
    CHECK(HeldOutEvaluation().totals().examples == 0);
  }
}
