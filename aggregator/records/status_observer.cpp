#include "tandem/aggregator/records/status_observer.h"

#include <algorithm>
#include <chrono>

namespace tandem::aggregator {
namespace {

void declare_metrics(Metrics& metrics) {
  using enum Metrics::Kind;
  metrics.declare("tandem_rounds_planned", kGauge, "Rounds the run shall have.");
  metrics.declare("tandem_rounds_completed", kGauge, "Rounds of the run that are complete.");
  metrics.declare("tandem_steps_total", kCounter, "Steps applied since the program started.");
  metrics.declare("tandem_examples_total", kCounter,
                  "Examples whose gradients were applied since the program started.");
  metrics.declare("tandem_loss", kGauge, "Mean training loss of the round under way, or of the last one.");
  metrics.declare("tandem_accuracy", kGauge,
                  "Training accuracy of the round under way, or of the last one, 0 to 1.");
  metrics.declare("tandem_eval_loss", kGauge,
                  "Loss of the merged model on evaluation data after the last round.");
  metrics.declare("tandem_eval_accuracy", kGauge,
                  "Accuracy of the merged model on evaluation data after the last round, 0 to 1.");
  metrics.declare("tandem_clients_present", kGauge, "Clients that are there now.");
  metrics.declare("tandem_clients_merged", kGauge, "Clients whose fronts were merged in the last round.");
  metrics.declare("tandem_bytes_up_total", kCounter, "Bytes received from clients.");
  metrics.declare("tandem_bytes_down_total", kCounter, "Bytes sent to clients.");
  metrics.declare("tandem_messages_refused_total", kCounter, "Messages refused, dropped or taken out.");
  metrics.declare("tandem_client_missed_steps_total", kCounter, "Steps that went on without this client.");
  metrics.declare("tandem_events_total", kCounter,
                  "Events of metrics.jsonl by name: join, leave, reconnect, ...");
  metrics.declare("tandem_round_seconds", kGauge, "Training, merging and evaluation of the last round.");
  metrics.declare("tandem_checkpoint_seconds", kGauge, "Time that keeping the last checkpoint took.");
  for (const char* name :
       {"tandem_rounds_completed", "tandem_steps_total", "tandem_examples_total", "tandem_clients_present",
        "tandem_bytes_up_total", "tandem_bytes_down_total", "tandem_messages_refused_total"}) {
    metrics.set(name, 0);
  }
}

}  // namespace

StatusObserver::StatusObserver(RunObserver& next, RunStatus& status, int clients, int fewest)
    : next_(next), status_(status), clients_(clients), fewest_(fewest) {
  declare_metrics(status_.metrics());
}

void StatusObserver::listening() {
  listening_ = true;
  show_readiness();
}

void StatusObserver::turn(bool started, uint64_t refused_messages) {
  status_.beat();
  if (started != started_) {
    started_ = started;
    show_readiness();
  }
  if (refused_messages == refused_messages_) return;
  refused_messages_ = refused_messages;
  status_.metrics().set("tandem_messages_refused_total", static_cast<double>(refused_messages));
}

Result<void> StatusObserver::on_plan(const TrainingPlan& plan, int num_blocks) {
  status_.metrics().set("tandem_rounds_planned", plan.rounds);
  return next_.on_plan(plan, num_blocks);
}

Result<void> StatusObserver::on_event(const EventRecord& event) {
  status_.metrics().add("tandem_events_total", 1, {{"event", event.event}});
  if (event.event == "missed-step") {
    status_.metrics().add("tandem_client_missed_steps_total", 1, {{"client", event.client}});
  } else if (event.event == "join" || event.event == "reconnect") {
    present_.insert(event.client);
    show_readiness();
  } else if (event.event == "leave" || event.event == "pause") {
    present_.erase(event.client);
    show_readiness();
  }
  return next_.on_event(event);
}

void StatusObserver::on_step(const StepReport& report) {
  status_.beat();
  if (report.round != round_) {
    round_ = report.round;
    steps_ = 0;
    examples_ = 0;
  }
  count(report.steps_done, report.examples);
  Metrics& metrics = status_.metrics();
  metrics.set("tandem_loss", report.loss);
  metrics.set("tandem_accuracy", report.accuracy);
  metrics.set("tandem_bytes_up_total", static_cast<double>(report.bytes_up));
  metrics.set("tandem_bytes_down_total", static_cast<double>(report.bytes_down));
  next_.on_step(report);
}

Result<void> StatusObserver::on_round(const RoundReport& report) {
  const RoundRecord& record = report.record;
  status_.beat();
  if (record.round != round_) {
    steps_ = 0;
    examples_ = 0;
  }
  count(record.steps, record.examples);
  round_ = 0;  // the next round, whatever its number, counts from zero
  Metrics& metrics = status_.metrics();
  metrics.set("tandem_rounds_completed", record.round);
  metrics.set("tandem_loss", record.loss);
  metrics.set("tandem_accuracy", record.accuracy);
  if (record.eval_loss) metrics.set("tandem_eval_loss", *record.eval_loss);
  if (record.eval_accuracy) metrics.set("tandem_eval_accuracy", *record.eval_accuracy);
  metrics.set("tandem_clients_merged", record.clients);
  metrics.set("tandem_round_seconds", record.seconds);
  auto recorded = next_.on_round(report);
  status_.beat();
  show_readiness();
  return recorded;
}

void StatusObserver::on_checkpoint(double seconds) {
  status_.metrics().set("tandem_checkpoint_seconds", seconds);
  next_.on_checkpoint(seconds);
}

void StatusObserver::count(uint32_t steps, int64_t examples) {
  // A step taken back (a client's part was taken out) does not make a counter fall.
  if (steps > steps_) status_.metrics().add("tandem_steps_total", steps - steps_);
  if (examples > examples_) {
    status_.metrics().add("tandem_examples_total", static_cast<double>(examples - examples_));
  }
  steps_ = std::max(steps_, steps);
  examples_ = std::max(examples_, examples);
}

void StatusObserver::show_readiness() {
  const int present = static_cast<int>(present_.size());
  const int needed = started_ ? fewest_ : clients_;
  status_.metrics().set("tandem_clients_present", present);
  if (!listening_) return;
  status_.set_waiting_for(present >= needed ? ""
                                            : "waiting for clients: " + std::to_string(present) + " of " +
                                                  std::to_string(needed) + " are there");
}

}  // namespace tandem::aggregator
