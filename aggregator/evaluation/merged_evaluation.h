#pragma once

#include "tandem/aggregator/rounds/training.h"
#include "tandem/aggregator/session/messenger.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/aggregator/tail/trained_model.h"
#include "tandem/core/data/dataset.h"

namespace tandem::aggregator {

/// What trainings share of evaluating the merged model after a merge.

/// Evaluates it on the aggregator's own data, null when there is none, into `figures`. False, and no
/// figures, where only devices can: without data, or when a part of the model stays with them.
bool evaluate_here(const SessionOptions& options, TrainedModel& model, const Dataset* eval_data,
                   TrainingFigures& figures);

/// After the first merge of a run whose data here are of no use, says that nobody holds back examples either.
void say_that_nobody_evaluates(Messenger& messenger, const Dataset* eval_data,
                               const TrainingFigures& figures);

}  // namespace tandem::aggregator
