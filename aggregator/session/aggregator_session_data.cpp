// AggregatorSession before the first round: the model, the data it is for, and who decides what of them.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "tandem/aggregator/rounds/buffered_training.h"
#include "tandem/aggregator/rounds/training_rounds.h"
#include "tandem/aggregator/session/aggregator_session.h"
#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/core/transport/slowest_link.h"

namespace tandem::aggregator {

Result<void> AggregatorSession::prepare() {
  phase_ = Phase::kGathering;
  const std::optional<InitialWeights>& weights = dependencies_.initial_weights;
  auto checked = check_before_data(options_, weights, dependencies_.make_augmenter);
  if (!checked) return checked;
  auto given = RunData::given_by(options_, dependencies_.eval_data,
                                 weights ? classes_of(options_.plan, *weights) : std::nullopt);
  if (!given) return given.error();
  data_ = std::move(*given);
  if (!data_.is_fixed()) return {};
  auto built = build_model(data_);
  return built ? built : Error{built.error().code, built.error().message + " (" + data_.shape_origin() + ")"};
}

Result<void> AggregatorSession::build_model(const RunData& data) {
  TrainingPlan plan = options_.plan;
  plan.input_shape = data.shape();
  plan.num_classes = data.classes();
  auto model = build_trained_model(plan, options_.cuts, dependencies_.initial_weights,
                                   dependencies_.make_augmenter, options_.compute);
  if (!model) return model.error();
  auto strategy = make_strategy({.specification = options_.strategy,
                                 .buffers = buffers_of((*model)->whole),
                                 .momentum = plan.optimizer.momentum});
  if (!strategy) return strategy.error();
  training_.reset();  // refers to the model before
  model_ = std::move(*model);
  options_.plan = plan;
  // There and back, so that what one side sends without being asked puts nothing off for ever.
  longest_transfer_ = std::chrono::milliseconds(2 * 1000 * largest_message() / kSlowestLinkBytesPerSecond);
  if (options_.step_waits_for_transfers) options_.step_allowance = longest_transfer_;
  if (options_.update_waits_for_transfers) options_.update_allowance = longest_transfer_;
  const int buffer = strategy_traits(options_.strategy).value().buffer;
  if (buffer > 0) {
    training_ = std::make_unique<BufferedTraining>(options_, messenger_, *model_, std::move(*strategy),
                                                   buffer, dependencies_.eval_data, dependencies_.now,
                                                   [this] { keep_checkpoint(); });
  } else {
    training_ = std::make_unique<TrainingRounds>(options_, messenger_, *model_, std::move(*strategy),
                                                 dependencies_.eval_data, dependencies_.now,
                                                 [this] { keep_checkpoint(); });
  }
  data_ = data;
  messenger_.observe(dependencies_.observer->on_plan(plan, model_->definition.num_blocks()));
  return messenger_.failure() ? Result<void>(*messenger_.failure()) : Result<void>();
}

/// Whether a device's data are this run's; where they decide what is open, they are. Its error refuses the
/// device; where the run has failed it is the operator's mistake.
Result<void> AggregatorSession::meet(const ClientId& client, const DataDescription& data) {
  if (!started()) {
    if (auto possible = data_.check_possible(data); !possible) return possible;
    if (model_ == nullptr || may_decide_anew(client)) {
      if (auto decided = decide_by(client, data); !decided) return decided;
    }
  }
  if (auto checked = data_.check(data); !checked) return checked;
  return check_amount(options_, data, model_->minimum_batch);
}

/// Nobody is there, or may come back, whose data have decided the shape.
bool AggregatorSession::may_decide_anew(const ClientId& client) const {
  if (data_.has_fixed_shape()) return false;
  const auto& members = messenger_.roster().members();
  return std::all_of(members.begin(), members.end(), [&](const auto& entry) {
    return entry.first == client || (entry.second.said_bye && !entry.second.present);
  });
}

Result<void> AggregatorSession::decide_by(const ClientId& client, const DataDescription& data) {
  if (model_ != nullptr && data.input_shape == data_.shape()) return {};
  RunData decided = data_;
  decided.take(data, client.name);
  TrainingPlan plan = options_.plan;
  plan.input_shape = decided.shape();
  // Not this device's class count, of which nobody else need know: fewer make no setting wrong.
  plan.num_classes = decided.has_fixed_classes() ? decided.classes() : 2;
  auto checked = check_settings(plan, options_.cuts, dependencies_.make_augmenter);
  // Settings that have fitted another device's data are none.
  const bool is_mistake = model_ == nullptr && (!checked || dependencies_.initial_weights.has_value());
  if (checked) checked = build_model(decided);
  if (checked || messenger_.failure()) return checked;
  if (!is_mistake || (!decided.has_fixed_shape() && !is_ordinary(data.input_shape))) return checked;
  messenger_.fail({checked.error().code,
                   checked.error().message + "; " + decided.shape_origin() +
                       ", the first to say what it holds: change the setting, or give --input-shape where " +
                       "that device is the wrong one"});
  return *messenger_.failure();
}

/// The most that the data of anybody who is there need, where the devices decide.
int64_t AggregatorSession::classes_of_present() const {
  if (started() || data_.has_fixed_classes()) return options_.plan.num_classes;
  int64_t classes = 0;
  for (const auto& [client, member] : messenger_.roster().members()) {
    if (member.present) classes = std::max(classes, member.data.num_classes);
  }
  return classes;
}

/// A wrong label shows as a device that needs more classes than the others: said before anything is trained.
void AggregatorSession::say_how_classes_differ(const ClientId& client, const DataDescription& data) {
  if (started() || data_.has_fixed_classes()) return;
  for (const auto& [other, member] : messenger_.roster().members()) {
    if (other == client || !member.present || member.data.num_classes == data.num_classes) continue;
    const int64_t fewer = std::min(data.num_classes, member.data.num_classes);
    const int64_t more = std::max(data.num_classes, member.data.num_classes);
    return messenger_.event("class-counts", client.name,
                            "its labels need " + std::to_string(data.num_classes) + " classes, those of " +
                                other.name + " " + std::to_string(member.data.num_classes) +
                                ": the model gets the larger number; if label " + std::to_string(more - 1) +
                                " is a mistake, mend it or give --num-classes " + std::to_string(fewer));
  }
}

/// Before the first round begins: the model gets as many classes as those who are there need, and everybody
/// who was welcomed with another number is welcomed to a new run. False when that cannot be, and a device was
/// turned away for it.
bool AggregatorSession::settle_classes() {
  if (data_.has_fixed_classes()) return true;
  const int64_t classes = classes_of_present();
  const auto& members = messenger_.roster().members();
  const auto most = std::find_if(members.begin(), members.end(), [&](const auto& entry) {
    return entry.second.present && entry.second.data.num_classes == classes;
  });
  const ClientId device = most->first;
  RunData settled = data_;
  settled.take_classes(classes, device.name);
  if (classes == options_.plan.num_classes) {
    data_ = settled;
  } else if (const auto built = build_model(settled); !built) {
    if (messenger_.failure()) return false;
    const ConnectionId connection = most->second.connection;
    leave_for_good(device, "the model cannot be built for its data");
    turn_away(connection, device, messenger_.key(0), built.error());
    return false;
  }
  data_.fix();
  const auto knows_all = [&](const ClientId& client) {
    return messenger_.roster().find(client)->welcomed_classes == classes;
  };
  const std::vector<ClientId> present = messenger_.roster().present();
  if (std::all_of(present.begin(), present.end(), knows_all)) return true;
  messenger_.identify(++options_.run_id, options_.incarnation);
  for (const ClientId& client : present) {
    welcome(client, {.plan = options_.plan_of(client), .client = client.name});
    training_->join(client);
  }
  return true;
}

}  // namespace tandem::aggregator
