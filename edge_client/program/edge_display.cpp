#include "tandem/edge_client/program/edge_display.h"

#include <cmath>
#include <cstdio>

namespace tandem::edge_client {

void EdgeDisplay::step(const EdgeReport& report) {
  const auto now = std::chrono::steady_clock::now();
  if (report.round != round_) {
    round_ = report.round;
    round_started_ = now;
  }
  const double seconds = std::chrono::duration<double>(now - round_started_).count();
  progress_.update({.label = "round " + std::to_string(report.round) + "/" + std::to_string(report.rounds),
                    .done = report.steps_done,
                    .total = report.steps,
                    .loss = report.loss,
                    .accuracy = report.accuracy,
                    .examples_per_second = seconds > 0 ? static_cast<double>(report.examples) / seconds : 0,
                    .bytes_up = report.bytes_up,
                    .bytes_down = report.bytes_down});
}

void EdgeDisplay::finished(const EdgeSession& session) {
  std::string line = "the run is complete";
  if (!std::isnan(session.final_accuracy())) {
    char accuracy[32];
    std::snprintf(accuracy, sizeof accuracy, "%.2f %%", session.final_accuracy() * 100);
    line += ", the merged model reaches " + std::string(accuracy);
  }
  line += "; sent " + format_bytes(session.bytes_up()) + ", received " + format_bytes(session.bytes_down());
  progress_.note(line);
}

}  // namespace tandem::edge_client
