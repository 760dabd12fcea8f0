#include "tandem/edge_client/program/edge_status.h"

#include <algorithm>

namespace tandem::edge_client {

EdgeStatus::EdgeStatus(RunStatus& status) : status_(status) {
  using enum Metrics::Kind;
  Metrics& metrics = status_.metrics();
  metrics.declare("tandem_connected", kGauge, "1 while the connection to the aggregator stands.");
  metrics.declare("tandem_connections_total", kCounter, "Connections made to the aggregator.");
  metrics.declare("tandem_rounds_planned", kGauge, "Rounds the run shall have.");
  metrics.declare("tandem_round", kGauge, "The round this device works on.");
  metrics.declare("tandem_steps_total", kCounter, "Steps done since the program started.");
  metrics.declare("tandem_examples_total", kCounter, "Examples trained on since the program started.");
  metrics.declare("tandem_loss", kGauge, "Mean training loss of this device in the round.");
  metrics.declare("tandem_accuracy", kGauge, "Training accuracy of this device in the round, 0 to 1.");
  metrics.declare("tandem_bytes_up_total", kCounter, "Bytes sent to the aggregator.");
  metrics.declare("tandem_bytes_down_total", kCounter, "Bytes received from the aggregator.");
  for (const char* name : {"tandem_connected", "tandem_connections_total", "tandem_steps_total",
                           "tandem_examples_total", "tandem_bytes_up_total", "tandem_bytes_down_total"}) {
    metrics.set(name, 0);
  }
  status_.set_waiting_for("not connected to the aggregator");
}

void EdgeStatus::turn(const EdgeSession& session, bool connected) {
  status_.beat();
  if (connected != connected_ || session.phase() != phase_) show(session, connected);
}

void EdgeStatus::show(const EdgeSession& session, bool connected) {
  Metrics& metrics = status_.metrics();
  if (connected && !connected_) metrics.add("tandem_connections_total");
  connected_ = connected;
  phase_ = session.phase();
  metrics.set("tandem_connected", connected ? 1 : 0);
  metrics.set("tandem_bytes_up_total", static_cast<double>(session.bytes_up()));
  metrics.set("tandem_bytes_down_total", static_cast<double>(session.bytes_down()));
  if (!connected) {
    status_.set_waiting_for("not connected to the aggregator");
  } else if (phase_ == EdgeSession::Phase::kConnecting) {
    status_.set_waiting_for("connected, not yet welcomed by the aggregator");
  } else {
    status_.set_waiting_for("");
  }
}

void EdgeStatus::step(const EdgeReport& report) {
  status_.beat();
  if (report.round != round_) {
    round_ = report.round;
    steps_ = 0;
    examples_ = 0;
  }
  Metrics& metrics = status_.metrics();
  if (report.steps_done > steps_) metrics.add("tandem_steps_total", report.steps_done - steps_);
  if (report.examples > examples_) {
    metrics.add("tandem_examples_total", static_cast<double>(report.examples - examples_));
  }
  steps_ = std::max(steps_, report.steps_done);
  examples_ = std::max(examples_, report.examples);
  metrics.set("tandem_rounds_planned", report.rounds);
  metrics.set("tandem_round", report.round);
  metrics.set("tandem_loss", report.loss);
  metrics.set("tandem_accuracy", report.accuracy);
  metrics.set("tandem_bytes_up_total", static_cast<double>(report.bytes_up));
  metrics.set("tandem_bytes_down_total", static_cast<double>(report.bytes_down));
}

}  // namespace tandem::edge_client
