#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "tandem/aggregator/evaluation/device_evaluation.h"
#include "tandem/aggregator/rounds/round.h"
#include "tandem/aggregator/session/messenger.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem::aggregator {

/// Tells a training that diverges from one client that sends what cannot be. Both show in the same way:
/// values that are not finite or beyond their limits. The difference is how many clients they come from.
///
/// A client's training in a round (with fedbuff each of its trainings) is useless when its mean loss is above
/// `loss_limit()`, when its result or its front is not finite, or when half or more of the batches that it
/// sent to the tail were refused for their values. One useless training costs its client the round. The run
/// ends as diverged when
///  * more than half of the trainings that came to something were useless, of at least two clients or of the
///    only one that is there. Trainings count from the last merge on; with fedbuff the last one of each
///    client counts, and clients that are there and have not sent any yet count as useful;
///  * the merged weights, or those of a tail, are not finite;
///  * the evaluation of the final weights gives a loss that is not finite or above the options' `loss_limit`,
///  or
///    more than half of the devices that evaluate give none for such a reason.
/// Every error is of kNonFinite and names the rates that can be lowered. Not thread-safe.
class Divergence {
 public:
  explicit Divergence(const SessionOptions& options) : options_(options) {}

  /// Largest mean loss of a client's training: 100 times ln(classes), which is what guessing costs.
  double loss_limit() const;
  /// kNonFinite when the mean loss is above the limit, or not finite.
  Result<void> check_loss(const Figures& figures) const;

  /// Notes what a client's update is worth. Errors that are no matter of values say nothing of the training.
  void note(const ClientId& client, const Result<void>& outcome) {
    if (outcome) return useful(client);
    if (outcome.error().code == ErrorCode::kNonFinite) useless(client, outcome.error().message);
  }
  void useful(const ClientId& client) { outcomes_[client].reset(); }
  void useless(const ClientId& client, const std::string& reason) { outcomes_[client] = reason; }
  /// What the steps of a round say of its clients: only those whose training was useless are noted.
  void judge(const Round& round);
  /// Something was learned: what was noted before does not count any more.
  void merged() { outcomes_.clear(); }

  /// The reason to end the run, if there is one. `others`: trainings that count as useful without a note.
  /// `present`: clients that are there.
  std::optional<Error> verdict(size_t others, size_t present) const;
  /// Clients whose training is noted.
  bool knows(const ClientId& client) const { return outcomes_.contains(client); }

  /// `what`: "the merged weights", for example.
  Result<void> check_weights(const std::string& what, const NamedTensors& weights) const;
  /// The aggregator's own evaluation of the final weights; nothing to check without one.
  Result<void> check_evaluation(const std::optional<double>& loss) const;
  /// The devices' evaluation of the final weights, which includes devices that were refused.
  Result<void> check_evaluation(const DeviceEvaluation& evaluation) const;
  /// "the training diverges: <what>; lower --learning-rate (now 0.05)"
  Error error(const std::string& what) const;

 private:
  std::optional<std::string> uselessness(const Participant& part) const;

  const SessionOptions& options_;
  std::map<ClientId, std::optional<std::string>> outcomes_;  // the reason where the training was useless
};

/// Records that the training diverges, and fails the run; does nothing where `checked` holds.
void fail_unless(Messenger& messenger, const Result<void>& checked);

}  // namespace tandem::aggregator
