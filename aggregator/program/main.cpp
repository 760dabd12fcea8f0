// tandem-aggregator: trains the tail of a split model and merges the fronts of its clients.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tandem/aggregator/program/aggregator.h"
#include "tandem/aggregator/program/aggregator_flags.h"
#include "tandem/aggregator/program/cut_plan.h"
#include "tandem/aggregator/program/device_watch.h"
#include "tandem/aggregator/program/stored_run.h"
#include "tandem/aggregator/records/run_recorder.h"
#include "tandem/aggregator/records/status_observer.h"
#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/augment/pipeline.h"
#include "tandem/core/base/interrupt.h"
#include "tandem/core/base/open_files.h"
#include "tandem/core/base/running_clock.h"
#include "tandem/core/program/operation_flags.h"
#include "tandem/core/program/profile_command.h"
#include "tandem/core/program/program.h"
#include "tandem/core/run/address_file.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/core/transport/faulty_server.h"
#include "tandem/core/transport/zmq_server.h"
#include "tandem/datasets/data_source.h"

namespace tandem::aggregator {
namespace {

Result<int> run(TrainingFlags training, const NetworkFlags& network, const OperationFlags& operation,
                const Flags& flags) {
  const auto plan = plan_cuts(training);
  if (!plan) return plan.error();
  auto options = training.session_options();
  if (!options) return options.error();
  for (const std::string& note : flags.notes()) spdlog::warn("{}", note);
  const auto peers = parse_limits(network.limits, /*has_network=*/true);
  if (!peers) return peers.error();
  options->quarantine_after = peers->quarantine_after;
  auto server_options = network.server_options(options->plan.window);
  if (!server_options) return server_options.error();
  const auto faults = network.fault_options();
  if (!faults) return faults.error();

  std::shared_ptr<const Dataset> eval_data;
  if (!training.eval_data.empty()) {
    auto opened = datasets::open_dataset(training.eval_data, datasets::Split::kTest);
    if (!opened) return opened.error();
    eval_data = *opened;
  }
  auto stored = open_stored_run(training, flags);
  if (!stored) return stored.error();
  RunRecorder recorder(std::move(stored->directory), flags.to_toml(training.run_dir), training.quiet);
  const auto note = [&](const std::string& line) { recorder.progress().note(line); };
  auto status = operation.make_status("tandem-aggregator");
  if (!status) return status.error();
  const int fewest =
      std::max(options->min_clients, strategy_traits(options->strategy).value().minimum_updates);
  StatusObserver observer(recorder, **status, options->clients, fewest);
  auto status_server = operation.serve(**status, note);
  if (!status_server) return status_server.error();

  wire::Limits limits;
  limits.max_tensor_bytes = static_cast<uint64_t>(server_options->max_frame_bytes);
  const DeviceList devices = server_options->devices;
  auto made = ZmqServer::make(std::move(*server_options));
  if (!made) return made.error();
  ZmqServer& server = **made;
  const auto transport = with_faults(std::move(*made), *faults);
  AggregatorSession session(*options, {.transport = transport.get(),
                                       .observer = &observer,
                                       .eval_data = eval_data.get(),
                                       .make_augmenter = augment::build_pipeline,
                                       .initial_weights = std::move(stored->initial_weights),
                                       .now = RunningClock::now,
                                       .checkpoints = &stored->storage.checkpoints});
  Aggregator aggregator(session, *transport, limits);
  if (auto listening = aggregator.listen(); !listening) return listening.error();
  if (auto prepared = session.prepare(); !prepared) return prepared.error();
  if (stored->newest) {
    if (auto resumed = session.resume(*stored->newest); !resumed) return resumed.error();
    stored->newest.reset();
  }
  keep_plan(*plan, training.algorithm, recorder);
  note(describe_compute());
  note("listening on " + server.endpoint() + ", waiting for " + std::to_string(options->clients) +
       " client(s)");
  if (!network.endpoint_file.empty()) {
    auto written = write_address_file("--endpoint-file", network.endpoint_file, server.endpoint());
    if (!written) return written.error();
  }

  std::optional<DeviceWatch> watch;
  if (!network.insecure) {
    watch.emplace(network.devices_file, devices,
                  [&](DeviceList list) { server.set_devices(std::move(list)); });
  }
  observer.listening();
  const auto turn = [&] {
    observer.turn(session.started(), session.refused_messages());
    return stop_requested();
  };
  aggregator.run(turn, note);
  // A run that could not begin leaves its directory to the next attempt.
  if (session.failure() && !session.started()) return *session.failure();
  auto finished = recorder.finish(session, [&] {
    (*status)->beat();
    return stop_requested();
  });
  if (session.failure()) return *session.failure();
  if (!finished) return finished.error();
  return session.completed() ? kExitDone : kExitInterrupted;
}

}  // namespace
}  // namespace tandem::aggregator

int main(int argc, char** argv) {
  using namespace tandem;
  open_standard_descriptors();
  if (argc > 1 && std::string_view(argv[1]) == "profile") {
    return profile_command("tandem-aggregator", "aggregator", argc - 1, argv + 1, datasets::describe_dataset);
  }
  Flags flags("tandem-aggregator", "Trains the tail of a split model and merges the fronts of its clients.");
  aggregator::TrainingFlags training;
  aggregator::NetworkFlags network;
  network.add_to(flags);
  training.add_to(flags);
  OperationFlags operation;
  operation.add_log_format(flags);
  operation.add_status(flags);
  if (const auto status = flags.parse(argc, argv)) return *status;
  stop_on_signals();
  return run_program(
      "tandem-aggregator", training.threads,
      [&] { return aggregator::run(training, network, operation, flags); }, operation.format());
}
