#include "tandem/aggregator/tail/auxiliary_alignment.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "tandem/core/base/random.h"
#include "tandem/core/training/objective.h"
#include "tandem/core/training/optimizer.h"

namespace tandem::aggregator {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

void check(const std::vector<SmashedBatch>& smashed, const AlignmentOptions& options) {
  require(options.epochs >= 1, "AlignmentOptions.epochs must be >= 1, got " + std::to_string(options.epochs));
  require(options.batch_size >= 1,
          "AlignmentOptions.batch_size must be >= 1, got " + std::to_string(options.batch_size));
  int64_t examples = 0;
  for (const SmashedBatch& batch : smashed) {
    require(batch.activations.size(0) == batch.labels.size(0),
            "align_auxiliary_head: a batch has " + std::to_string(batch.activations.size(0)) +
                " activations and " + std::to_string(batch.labels.size(0)) + " labels");
    examples += batch.labels.size(0);
  }
  require(examples >= 1, "align_auxiliary_head needs at least one example");
}

/// Evaluation mode while it lives, training mode after.
class EvaluationMode {
 public:
  explicit EvaluationMode(ModelPart part) : part_(std::move(part)) { part_.set_training(false); }
  ~EvaluationMode() { part_.set_training(true); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  ModelPart part_;
};

enum class Graph { kDrop, kKeep };

/// Each example's own gradient: the summed loss carries no 1/n, and no example sees another.
at::Tensor gradients_at_cut(const ModelPart& part, const SmashedBatch& batch, Graph graph) {
  const at::Tensor activations = batch.activations.detach().requires_grad_();
  const at::Tensor loss = Objective().summed_loss(part.forward(activations), batch.labels);
  const bool keep = graph == Graph::kKeep;
  return torch::autograd::grad({loss}, {activations}, {}, keep, /*create_graph=*/keep).front();
}

/// Calls `visit(begin, size)` for consecutive pieces of [0, count) of `size` at most.
template <class Visit>
void for_each_piece(int64_t count, int64_t size, Visit visit) {
  for (int64_t begin = 0; begin < count; begin += size) visit(begin, std::min(size, count - begin));
}

class Alignment {
 public:
  Alignment(ModelPart auxiliary, SmashedBatch examples, const AlignmentOptions& options)
      : auxiliary_(std::move(auxiliary)), examples_(std::move(examples)), options_(options) {}

  /// Fills in the targets; afterwards `mean_square` is known.
  void compute_targets(const ModelPart& tail) {
    targets_ = at::empty_like(examples_.activations);
    for_each_piece(examples_.examples(), options_.batch_size, [&](int64_t begin, int64_t size) {
      const SmashedBatch batch = on_device(narrow(begin, size));
      targets_.narrow(0, begin, size).copy_(gradients_at_cut(tail, batch, Graph::kDrop));
    });
    mean_square_ = sum_of_squares(targets_) / static_cast<double>(examples_.examples());
  }

  /// mean_i |g_i|^2 of the tail's gradients.
  double mean_square() const { return mean_square_; }

  double error() const {
    double sum = 0;
    for_each_piece(examples_.examples(), options_.batch_size, [&](int64_t begin, int64_t size) {
      const SmashedBatch batch = on_device(narrow(begin, size));
      const at::Tensor target = targets_.narrow(0, begin, size).to(options_.compute);
      sum += sum_of_squares(gradients_at_cut(auxiliary_, batch, Graph::kDrop) - target);
    });
    return sum / (static_cast<double>(examples_.examples()) * scale());
  }

  void run() {
    Optimizer optimizer({.kind = OptimizerKind::kAdam, .learning_rate = options_.learning_rate},
                        auxiliary_.parameters());
    for (int epoch = 0; epoch < options_.epochs; ++epoch) {
      const uint64_t seed = derive_seed(options_.seed, RandomPurpose::kShuffle,
                                        {hash_name("auxiliary_alignment"), static_cast<uint64_t>(epoch)});
      for (const at::Tensor& places : shuffled_places(examples_, options_.batch_size, seed)) {
        step(places, optimizer);
      }
    }
    auxiliary_.zero_grad();
  }

 private:
  static double sum_of_squares(const at::Tensor& values) {
    return values.detach().square().sum(at::kDouble).item<double>();
  }

  /// A tail that has nothing to say leaves nothing to divide by.
  double scale() const { return mean_square_ > 0 ? mean_square_ : 1.0; }

  SmashedBatch narrow(int64_t begin, int64_t size) const {
    return {examples_.activations.narrow(0, begin, size), examples_.labels.narrow(0, begin, size)};
  }

  SmashedBatch on_device(const SmashedBatch& batch) const {
    return {batch.activations.to(options_.compute), batch.labels.to(options_.compute)};
  }

  void step(const at::Tensor& places, Optimizer& optimizer) {
    const SmashedBatch batch = on_device(examples_.select(places));
    const at::Tensor target = targets_.index_select(0, places).to(options_.compute);
    const at::Tensor difference = gradients_at_cut(auxiliary_, batch, Graph::kKeep) - target;
    const at::Tensor objective =
        difference.square().sum() / (static_cast<double>(batch.examples()) * scale());
    set_gradients(objective);
    optimizer.step(1.0);
  }

  /// As backward(), which would also compute the activations' gradient of the objective.
  void set_gradients(const at::Tensor& objective) {
    NamedTensors parameters = auxiliary_.parameters();
    std::vector<at::Tensor> inputs;
    for (const NamedTensor& entry : parameters) inputs.push_back(entry.tensor);
    const auto gradients = torch::autograd::grad({objective}, inputs, {}, /*retain_graph=*/false,
                                                 /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i].tensor.mutable_grad() = gradients[i];
  }

  ModelPart auxiliary_;
  SmashedBatch examples_;
  AlignmentOptions options_;
  at::Tensor targets_;
  double mean_square_ = 0;
};

}  // namespace

AlignmentReport align_auxiliary_head(ModelPart auxiliary, ModelPart tail,
                                     const std::vector<SmashedBatch>& smashed,
                                     const AlignmentOptions& options) {
  check(smashed, options);
  const torch::AutoGradMode gradients_on(true);
  Alignment alignment(std::move(auxiliary), join(smashed), options);
  {
    const EvaluationMode evaluation(tail);
    alignment.compute_targets(tail);
  }
  if (!std::isfinite(alignment.mean_square())) {
    const double unknown = std::numeric_limits<double>::quiet_NaN();
    return {unknown, unknown};
  }
  AlignmentReport report;
  report.error_before = alignment.error();
  alignment.run();
  report.error_after = alignment.error();
  return report;
}

}  // namespace tandem::aggregator
