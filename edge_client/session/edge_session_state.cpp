// EdgeSession in a checkpoint, and how it goes back to one.
#include <numeric>
#include <utility>

#include "tandem/edge_client/session/edge_session.h"

namespace tandem::edge_client {
namespace {

constexpr std::chrono::seconds kSaveComplaintInterval{60};

}  // namespace

bool EdgeSession::resume() {
  const auto owner = kept_.find([this](const std::string& line) { note(line); });
  if (!owner) return false;
  run_.run_id = owner->run_id;
  options_.instance = owner->instance;
  note("going on from the checkpoint after " + std::to_string(kept_.newest()->step) + " steps of round " +
       std::to_string(kept_.newest()->round));
  return true;
}

wire::DevicePosition EdgeSession::here() const {
  return {.round = round_.number,
          .step = round_.next_apply,
          .unanswered = open_requests_.first_step(round_.next_apply)};
}

/// Where this device stands, when it could begin anew from there.
std::optional<wire::DevicePosition> EdgeSession::live_position() const {
  if (!job_ || round_.excluded) return std::nullopt;
  if (phase_ != Phase::kWaiting && phase_ != Phase::kTraining && phase_ != Phase::kUpdating)
    return std::nullopt;
  // U-shaped: the head has made its step, the front has not.
  if (plan()->u_shaped() && phase_ == Phase::kTraining &&
      round_.labels.size() < trainer_->front().open_tickets()) {
    return std::nullopt;
  }
  return here();
}

EdgeCheckpoint EdgeSession::state() const {
  return {.run_id = run_.run_id,
          .instance = options_.instance,
          .position = here(),
          .round = round_,
          .lr_schedule = lr_schedule_,
          .trainer = trainer_->state(),
          .requests = open_requests_.of_steps()};
}

void EdgeSession::save_checkpoint(bool front_sent, const NamedTensors& control_change) {
  if (!kept_.active()) return;
  EdgeCheckpoint current = state();
  current.front_sent = front_sent;
  current.control_change = control_change;
  const auto saved = kept_.save(current);
  // Training goes on; what is kept already stays good.
  const bool was_unkept = std::exchange(unkept_, !saved);
  if (saved) {
    if (was_unkept) note("the disk takes checkpoints again");
  } else if (!was_unkept || dependencies_.now() >= next_save_complaint_) {
    next_save_complaint_ = dependencies_.now() + kSaveComplaintInterval;
    const auto& say = dependencies_.on_warning ? dependencies_.on_warning : dependencies_.on_note;
    if (say) say("this moment cannot be kept: " + saved.error().message);
  }
}

Result<void> EdgeSession::go_to(const wire::DevicePosition& position) {
  if (live_position() == position) return {};
  expect_nothing();
  evaluation_ = {};
  round_ = {};
  phase_ = Phase::kWaiting;
  if (position == wire::DevicePosition{}) {
    trainer_.reset();
    own_state_.reset();
    return {};
  }
  auto state = kept_.load(position);
  if (!state) return state.error();
  note("going back to step " + std::to_string(position.step) + " of round " +
       std::to_string(state->round.ordinal));
  return load(std::move(*state));
}

Result<void> EdgeSession::load(EdgeCheckpoint checkpoint) {
  if (auto built = build_trainer(checkpoint.lr_schedule); !built) return built;
  if (auto loaded = trainer_->load_state(checkpoint.trainer); !loaded) {
    return Error{loaded.error().code, "the checkpoint does not fit this run: " + loaded.error().message};
  }
  static_cast<DeviceRound&>(round_) = std::move(checkpoint.round);
  const TimePoint now = dependencies_.now();
  for (auto& [step, message] : checkpoint.requests) {
    open_requests_.open(step, std::move(message), now);
  }
  const bool done = round_.next_apply == round_.batch_sizes.size();
  phase_ = done && open_requests_.empty() ? Phase::kUpdating : Phase::kTraining;
  if (checkpoint.front_sent) {
    // As after send_front: the front is still that of the round's end.
    wire::Message update{.key = run_, .body = weight_update(checkpoint.control_change)};
    update.key.round = round_.number;
    open_requests_.open(OpenRequests::kWeightUpdate, std::move(update), now);
  }
  if (phase_ == Phase::kTraining) reopen_steps(checkpoint.trainer);
  return {};
}

/// Prepares the batches from the first open step on, and computes the open ones again.
void EdgeSession::reopen_steps(const NamedTensors& trainer) {
  const std::vector<uint32_t>& sizes = round_.batch_sizes;
  const uint32_t first = plan()->trains_locally() ? round_.next_forward : round_.next_apply;
  const uint64_t before = std::accumulate(sizes.begin(), sizes.begin() + first, uint64_t{0});
  job_->loader().start(round_.first_example + before, {sizes.begin() + first, sizes.end()});
  const NamedTensors front = without_prefix(trainer, "front.");
  size_t open = 0;
  for (uint32_t step = first; step < round_.next_forward; ++step) {
    const Batch batch = job_->loader().next();
    if (sizes[step] > 0) (void)trainer_->front().reopen(front, open++, step, batch.inputs).value();
  }
}

/// From where this device stands now, under the aggregator's present incarnation.
void EdgeSession::go_on() {
  note("going on with round " + std::to_string(round_.ordinal) + ", step " +
       std::to_string(round_.next_apply));
  open_requests_.set_incarnation(run_.incarnation);
  open_requests_.resend_all([this](const auto& message) { transmit(message); });
  if (phase_ == Phase::kTraining && !plan()->trains_locally()) return forward_open_steps();
  if (phase_ == Phase::kTraining) return report_trained();
  // The aggregator may have forgotten that this device is done.
  if (phase_ == Phase::kUpdating && plan()->trains_locally())
    request(wire::Trained{round_.figures}, OpenRequests::kTrained);
}

}  // namespace tandem::edge_client
