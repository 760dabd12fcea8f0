#include "tandem/aggregator/session_options.h"

#include <stdexcept>
#include <string>

namespace tandem::aggregator {
namespace {

void require(bool holds, const std::string& rule, const std::string& found) {
  if (!holds) throw std::invalid_argument(rule + ", got " + found);
}

}  // namespace

SessionOptions SessionOptions::validated() const {
  require(clients >= 1, "clients must be >= 1", std::to_string(clients));
  require(min_clients >= 1 && min_clients <= clients,
          "min-clients must be between 1 and clients (" + std::to_string(clients) + ")",
          std::to_string(min_clients));
  require(batch_size >= 1, "batch-size must be >= 1", std::to_string(batch_size));
  require(local_steps > 0 || local_epochs >= 1, "local-epochs must be >= 1", std::to_string(local_epochs));
  require(step_deadline.count() > 0, "step-deadline must be > 0", std::to_string(step_deadline.count()));
  require(update_deadline.count() > 0, "update-deadline must be > 0",
          std::to_string(update_deadline.count()));
  require(client_timeout.count() > 0, "client-timeout must be > 0", std::to_string(client_timeout.count()));
  require(activation_limit > 0, "activation-limit must be > 0", std::to_string(activation_limit));
  require(eval_batch_size >= 1, "eval-batch-size must be >= 1", std::to_string(eval_batch_size));
  SessionOptions checked = *this;
  checked.plan.optimizer = plan.optimizer.validated();
  checked.plan.lr_schedule = plan.lr_schedule.validated();
  return checked;
}

}  // namespace tandem::aggregator
