// AggregatorSession in a checkpoint, and where its clients go on after it.
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tandem/aggregator/rounds/round_figures.h"
#include "tandem/aggregator/session/aggregator_session.h"
#include "tandem/core/storage/checkpoint_values.h"
#include "tandem/core/wire/message_codec.h"

namespace tandem::aggregator {
namespace {

constexpr std::chrono::minutes kSaveComplaintInterval{1};

}  // namespace

/// A disk that does not take a checkpoint ends no run: what was kept before stays good, and the next moment
/// is tried again.
void AggregatorSession::keep_checkpoint() {
  const auto saved = save_checkpoint();
  if (!saved && saved.error().code != ErrorCode::kIo) return messenger_.observe(saved);
  const bool was_unkept = std::exchange(unkept_, !saved);
  if (saved) {
    if (was_unkept) messenger_.event("kept-again", "", "the disk takes checkpoints again");
  } else if (!was_unkept || dependencies_.now() >= next_save_complaint_) {
    next_save_complaint_ = dependencies_.now() + kSaveComplaintInterval;
    messenger_.event(kNotKept, "",
                     "the run goes on, its checkpoint stays the one before: " + saved.error().message);
  }
}

Result<void> AggregatorSession::save_checkpoint() {
  if (dependencies_.checkpoints == nullptr || messenger_.failure()) return {};
  NamedTensors tensors;
  const TrainingPlan& plan = options_.plan;
  const nlohmann::json values = {
      {"run_id", options_.run_id},
      {"incarnation", options_.incarnation},
      {"input_shape", plan.input_shape},
      {"num_classes", plan.num_classes},
      {"shape_by", data_.shape_by()},
      {"classes_by", data_.classes_by()},
      {"seconds", seconds_before_ + seconds_between(run_started_, dependencies_.now())},
      {"training", training_->state(tensors)},
      {"clients", messenger_.state(tensors)}};
  const TimePoint begun = dependencies_.now();
  auto saved = dependencies_.checkpoints->save(make_checkpoint(
      {.round = training_->figures().completed_rounds, .step = training_->steps_since_round()}, values,
      std::move(tensors),
      {{"model", plan.model},
       {"cut", options_.cuts ? options_.cuts->text() : std::to_string(plan.cut)},
       {"algorithm", algorithm_name(plan.algorithm)},
       {"seed", std::to_string(plan.seed)}}));
  if (saved) dependencies_.observer->on_checkpoint(seconds_between(begun, dependencies_.now()));
  return saved;
}

Result<void> AggregatorSession::resume(const Checkpoint& checkpoint) {
  auto loaded = load_checkpoint_values(
      checkpoint, [&](const nlohmann::json& values) { return load(values, checkpoint); });
  if (!loaded) return loaded;
  phase_ = training_->idle() ? Phase::kGathering : Phase::kRound;
  messenger_.event("resume", "",
                   "incarnation " + std::to_string(options_.incarnation) + ", after round " +
                       std::to_string(checkpoint.position.round) + " and " +
                       std::to_string(checkpoint.position.step) + " steps more");
  // Before anybody hears of this incarnation: the next start must take another one.
  if (auto saved = save_checkpoint(); !saved) return saved;
  return messenger_.failure() ? Result<void>(*messenger_.failure()) : Result<void>();
}

Result<void> AggregatorSession::load(const nlohmann::json& values, const Checkpoint& checkpoint) {
  options_.run_id = values.at("run_id").get<uint64_t>();
  first_run_id_ = options_.run_id;
  options_.incarnation = values.at("incarnation").get<uint32_t>() + 1;
  messenger_.identify(options_.run_id, options_.incarnation);
  seconds_before_ = values.at("seconds").get<double>();
  const DataDescription data{.input_shape = values.at("input_shape").get<std::vector<int64_t>>(),
                             .num_classes = values.at("num_classes").get<int64_t>()};
  if ((data_.has_fixed_shape() && data.input_shape != data_.shape()) ||
      (data_.has_fixed_classes() && data.num_classes != data_.classes())) {
    const auto now = [](bool is_given, const std::string& value, const std::string& by) {
      return is_given ? ", now it is " + value + " (" + by + ")" : std::string();
    };
    return Error{ErrorCode::kShapeMismatch,
                 "--resume: the shape of the run is " + shape_to_string(data.input_shape) +
                     now(data_.has_fixed_shape(), shape_to_string(data_.shape()), data_.shape_by()) +
                     ", its class count " + std::to_string(data.num_classes) +
                     now(data_.has_fixed_classes(), std::to_string(data_.classes()), data_.classes_by())};
  }
  RunData restored;
  constexpr const char* kBefore = "the run that goes on";
  restored.restore(data, values.value("shape_by", kBefore), values.value("classes_by", kBefore));
  if (model_ == nullptr) {
    if (auto built = build_model(restored); !built) return built;
  }
  data_ = restored;
  const TimePoint now = dependencies_.now();
  if (auto loaded = messenger_.load_state(values.at("clients"), checkpoint.tensors, now); !loaded)
    return loaded;
  return training_->load_state(values.at("training"), checkpoint.tensors);
}

/// Says where a device goes on. The same program on a new connection is where it was, with all that it waits
/// for. One that knows another incarnation, or that died and was started again, goes where both sides can.
/// With `answered_already` what it lacks was sent before its Hello came: if that got lost, it asks again.
void AggregatorSession::greet(const ClientId& client, const wire::Message& hello, bool same_program,
                              bool answered_already) {
  // Of what stays on the devices this side keeps what the run began with.
  wire::Welcome answer{.plan = options_.plan_of(client),
                       .client = client.name,
                       .resumed = same_program,
                       .kept = cpu_snapshot(model_->device.kept())};
  answer.plan.num_classes = classes_of_present();
  wire::MessageKey progress = hello.key;
  const bool knows_all = messenger_.is_of_this_run(hello.key);
  if (same_program && !knows_all) {
    const bool of_run = hello.key.run_id == options_.run_id;
    // One that died before it heard of the run, or knows it from before its class count grew, has nothing of
    // it, and may have lost nothing.
    const bool is_early =
        hello.key.run_id == 0 || hello.key.run_id - first_run_id_ < options_.run_id - first_run_id_;
    const std::vector<wire::DevicePosition> nothing(is_early ? 1 : 0);
    const auto position =
        training_->position_for(client, of_run ? std::get<wire::Hello>(hello.body).positions : nothing);
    answer.resumed = position.has_value();
    if (position) {
      answer.position = *position;
      progress = messenger_.key(position->round, position->step);
    } else if (of_run && started()) {
      messenger_.event("not-resumed", client.name,
                       "it cannot go back to where this run goes on; it takes part from the next round on");
    }
  }
  if (knows_all) answer.held = training_->held_requests(client);
  if (answer.held.size() > wire::kMaxHeldRequests) answer.held.resize(wire::kMaxHeldRequests);
  welcome(client, answer);
  if (answered_already) return;
  if (answer.resumed) {
    training_->resume(client, progress, !knows_all);
  } else {
    training_->join(client);
  }
}

void AggregatorSession::welcome(const ClientId& client, wire::Welcome welcome) {
  messenger_.roster().find(client)->welcomed_classes = welcome.plan.num_classes;
  messenger_.send(client, std::move(welcome), sequence());
}

}  // namespace tandem::aggregator
