#include "tandem/edge_client/session/held_out_evaluation.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace tandem::edge_client {

HeldOutEvaluation::HeldOutEvaluation(uint32_t round, const Dataset& examples, int64_t batch_size)
    : round_(round), examples_(&examples), batch_size_(batch_size) {}

std::optional<Batch> HeldOutEvaluation::next_batch() {
  const int64_t all = examples_->describe().num_examples;
  const auto first = static_cast<int64_t>(totals_.examples);
  if (first >= all) return std::nullopt;
  std::vector<int64_t> indices(static_cast<size_t>(std::min(batch_size_, all - first)));
  std::iota(indices.begin(), indices.end(), first);
  Batch batch = examples_->get(indices);
  labels_ = batch.labels;
  return batch;
}

void HeldOutEvaluation::count(const Figures& figures) {
  totals_ += figures;
  ++step_;
}

}  // namespace tandem::edge_client
