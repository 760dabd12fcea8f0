#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tandem/aggregator/roster.h"
#include "tandem/core/base/ids.h"
#include "tandem/core/wire/messages.h"

namespace tandem::aggregator {

/// Figures of a run that its training adds to.
struct TrainingFigures {
  uint32_t completed_rounds = 0;  ///< merges, where updates come one by one
  int64_t applied_examples = 0;
  double training_seconds = 0;
  std::optional<double> eval_loss;
  std::optional<double> eval_accuracy;
};

/// What happens in a run between the gathering of the clients and the end: messages in, messages out, no
/// thread, no socket, no clock. Not thread-safe.
class Training {
 public:
  virtual ~Training() = default;

  /// Nothing is under way: `begin` may be called, if rounds are left.
  virtual bool idle() const = 0;
  /// Begins the next round, or the training as such, with some or all of the clients that are there.
  virtual void begin(const std::vector<ClientId>& present) = 0;

  /// A message of this run from a client that is there; false when it is of no kind that training knows.
  virtual bool receive(const ClientId& client, wire::Message message) = 0;
  /// A client came, for the first time, again, or as another program under the same name: nothing that it
  /// did before counts any more.
  virtual void join(const ClientId& client) = 0;
  /// The same program is back on a new connection and was at `progress`: what got lost is sent again.
  virtual void resume(const ClientId& client, const wire::MessageKey& progress) = 0;
  virtual void leave(const ClientId& client) = 0;

  virtual void tick(TimePoint as_of) = 0;
  virtual std::optional<TimePoint> next_deadline() const = 0;

  virtual const TrainingFigures& figures() const = 0;
  /// The round in message keys: counts whatever was begun.
  virtual uint32_t sequence() const = 0;
};

}  // namespace tandem::aggregator
