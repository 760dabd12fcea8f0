#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tandem/aggregator/session/roster.h"
#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"
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
  /// The same program is back on a new connection and is at `progress`: what got lost is sent again. With
  /// `went_back` it stands where `position_for` said.
  virtual void resume(const ClientId& client, const wire::MessageKey& progress, bool went_back) = 0;
  virtual void leave(const ClientId& client) = 0;
  /// Too few clients are there: until `go_on` nothing that was learned is applied, and no deadline passes.
  /// Messages are still taken.
  virtual void pause() = 0;
  /// After a pause; whatever had a deadline has as long as was left then.
  virtual void go_on() = 0;
  /// Where a device whose past is not this incarnation's, or that died, goes on: the newest of the positions
  /// it offers from which every answer it lacks can still be given. Nothing: it joins as if for the first
  /// time.
  virtual std::optional<wire::DevicePosition> position_for(
      const ClientId& client, const std::vector<wire::DevicePosition>& offered) const = 0;

  /// Requests of this client that have come and need no repeat: what they ask for follows.
  virtual std::vector<wire::RequestId> held_requests(const ClientId& client) const = 0;

  virtual void tick(TimePoint as_of) = 0;
  virtual std::optional<TimePoint> next_deadline() const = 0;

  virtual const TrainingFigures& figures() const = 0;
  /// The round in message keys: counts whatever was begun.
  virtual uint32_t sequence() const = 0;

  /// Whether `state` may be called: not while the end of a round is under way.
  virtual bool settled() const = 0;
  /// Steps applied since the last complete round: with it, where a checkpoint stands.
  virtual uint32_t steps_since_round() const = 0;
  /// What a checkpoint keeps: values, and the model and other tensors, aliases, added to `tensors`.
  virtual nlohmann::json state(NamedTensors& tensors) const = 0;
  /// The reverse, on a training that has done nothing, of the same options and with the members of the run
  /// restored. Nothing is sent: who is to act hears of it by `resume`. Errors, and what nlohmann throws,
  /// leave it unusable.
  virtual Result<void> load_state(const nlohmann::json& state, const NamedTensors& tensors) = 0;
};

}  // namespace tandem::aggregator
