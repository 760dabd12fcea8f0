#pragma once

#include <optional>
#include <string>

#include "tandem/aggregator/program/aggregator_flags.h"
#include "tandem/aggregator/records/run_recorder.h"
#include "tandem/core/base/result.h"
#include "tandem/core/partition/client_cuts.h"

namespace tandem::aggregator {

/// The cuts that `--cut auto:FROM` (one for all clients) and `--cut per-client:FROM` stand for. FROM is a
/// folder of profiles, or a problem file with clients (docs/planning.md).
struct CutPlan {
  ClientCuts cuts;
  /// The plan for a person, lines that end with '\n'; empty where the run had one already.
  std::string table;
  /// The content of plan.json.
  std::string file;
};

/// Plans, and puts the cuts in the place of --cut. Returns nullopt where that says the cuts itself. A run
/// that is resumed keeps the cuts in the plan.json of its directory, whatever FROM holds by now.
/// kInvalidArgument names what is missing or does not fit the run: the model, the batch size of a client, the
/// number of clients, an algorithm of which there is no plan, a problem that has none.
Result<std::optional<CutPlan>> plan_cuts(TrainingFlags& training);

/// Shows the plan, line by line, and gives it to the run's recorder. Does nothing for nullopt.
void keep_plan(const std::optional<CutPlan>& plan, const std::string& algorithm, RunRecorder& recorder);

}  // namespace tandem::aggregator
