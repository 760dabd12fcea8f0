#include "tandem/aggregator/evaluation/merged_evaluation.h"

#include "tandem/core/training/evaluation.h"

namespace tandem::aggregator {

bool evaluate_here(const SessionOptions& options, TrainedModel& model, const Dataset* eval_data,
                   TrainingFigures& figures) {
  figures.eval_loss.reset();
  figures.eval_accuracy.reset();
  // What stays on the devices the aggregator cannot evaluate.
  if (eval_data == nullptr || model.device.keeps_something()) return false;
  const Figures evaluation =
      evaluate(model.whole, *eval_data, *model.augmenter, options.eval_batch_size, options.compute);
  figures.eval_loss = evaluation.mean_loss();
  figures.eval_accuracy = evaluation.accuracy();
  return true;
}

void say_that_nobody_evaluates(Messenger& messenger, const Dataset* eval_data,
                               const TrainingFigures& figures) {
  if (eval_data == nullptr || figures.completed_rounds > 0) return;
  messenger.event("no-evaluation", "",
                  "with --batch-norm local the merged model is whole on the devices only, and none holds "
                  "back examples (--hold-out)");
}

}  // namespace tandem::aggregator
