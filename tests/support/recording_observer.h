#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "tandem/aggregator/session/run_observer.h"

namespace tandem::testing {

/// Keeps what a session reports.
class RecordingObserver : public aggregator::RunObserver {
 public:
  Result<void> on_plan(const TrainingPlan& plan, int) override {
    plans.push_back(plan);
    return {};
  }
  Result<void> on_event(const EventRecord& event) override {
    events.push_back(event);
    return {};
  }
  void on_step(const aggregator::StepReport& report) override { steps.push_back(report); }
  Result<void> on_round(const aggregator::RoundReport& report) override {
    rounds.push_back(report.record);
    clients.insert(clients.end(), report.clients.begin(), report.clients.end());
    return {};
  }

  int count(const std::string& name) const {
    return static_cast<int>(
        std::count_if(events.begin(), events.end(), [&](const EventRecord& e) { return e.event == name; }));
  }
  const EventRecord* find(const std::string& name, const std::string& client = "") const {
    for (const EventRecord& event : events) {
      if (event.event == name && (client.empty() || event.client == client)) return &event;
    }
    return nullptr;
  }

  std::vector<TrainingPlan> plans;
  std::vector<EventRecord> events;
  std::vector<aggregator::StepReport> steps;
  std::vector<RoundRecord> rounds;
  std::vector<ClientRecord> clients;
};

}  // namespace tandem::testing
