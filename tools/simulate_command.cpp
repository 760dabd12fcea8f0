#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tandem/aggregator/program/aggregator_flags.h"
#include "tandem/aggregator/program/cut_plan.h"
#include "tandem/aggregator/program/stored_run.h"
#include "tandem/aggregator/records/run_recorder.h"
#include "tandem/aggregator/session/run_data.h"
#include "tandem/core/base/address_space.h"
#include "tandem/core/base/interrupt.h"
#include "tandem/core/base/usable_cores.h"
#include "tandem/core/program/operation_flags.h"
#include "tandem/core/program/program.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/datasets/data_source.h"
#include "tandem/tools/commands.h"
#include "tandem/tools/simulation.h"

namespace tandem::tools {
namespace {

struct SimulateFlags {
  aggregator::TrainingFlags training;
  std::string data;
  std::string partition = "iid";
  uint64_t partition_seed = 1;
  double hold_out = 0;
  int32_t workers = 0;
  std::string limits;

  void add_to(Flags& flags) {
    training.add_to(flags);
    flags.section("devices", "Simulated devices");
    flags.add_data("data", data,
                   "The data that the devices share out among them, such as idx:DIR or idx:DIR,classes=N");
    flags.add("partition", partition, "How the parts are drawn: iid or dirichlet:ALPHA");
    flags.add("partition-seed", partition_seed, "Seed of the parts");
    flags.add("hold-out", hold_out,
              "Fraction of each device's examples on which it only evaluates, without --eval-data");
    flags
        .add("workers", workers,
             "Threads on which the devices compute; 0: as many as cores that this program may use")
        .not_of_the_run();
    flags.add("limits", limits, "What is borne from the devices")
        .takes(aggregator::limit_forms(/*has_network=*/false))
        .not_of_the_run()
        .replaces("quarantine-after", "mistakes");
  }
};

/// Devices are named like the shards they hold, zero-padded so that names and numbers sort alike.
std::string device_name(int index, int count) {
  const size_t width = std::to_string(count).size();
  std::string number = std::to_string(index + 1);
  return "client-" + std::string(width - number.size(), '0') + number;
}

Result<std::vector<VirtualEdge>> make_edges(const SimulateFlags& flags) {
  if (flags.data.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--data is missing, for example --data idx:/usr/share/datasets/fashion-mnist"};
  }
  auto dataset = datasets::open_dataset(flags.data, datasets::Split::kTrain);
  if (!dataset) return dataset.error();
  std::vector<VirtualEdge> edges;
  for (int i = 0; i < flags.training.clients; ++i) {
    const std::string shard = std::to_string(i) + "/" + std::to_string(flags.training.clients);
    const datasets::ShardOptions options{
        .shard = shard, .partition = flags.partition, .seed = flags.partition_seed};
    auto part = datasets::take_shard(*dataset, options);
    if (!part) return part.error();
    auto data = datasets::hold_out(*part, flags.hold_out, options);
    if (!data) return data.error();
    VirtualEdge& edge = edges.emplace_back(VirtualEdge{.name = device_name(i, flags.training.clients),
                                                       .dataset = std::move(data->train),
                                                       .held_out = std::move(data->held_out)});
    if (flags.training.checkpoint_steps > 0) {
      edge.checkpoints = std::make_shared<CheckpointStore>(flags.training.run_dir / "edges" / edge.name, 3);
    }
  }
  return edges;
}

/// Gives exactly the simulated clients their cuts.
Result<void> settle_cuts(aggregator::SessionOptions& options, const std::vector<VirtualEdge>& edges) {
  if (!options.cuts) return {};
  std::vector<ClientId> clients;
  for (const VirtualEdge& edge : edges) clients.push_back({edge.name});
  const auto cuts = options.cuts->of_clients(clients);
  if (!cuts) return Error{cuts.error().code, "--cut: " + cuts.error().message};
  options.cuts = cuts->equal() ? std::nullopt : std::optional(*cuts);
  options.plan.cut = cuts->highest();
  return {};
}

Result<int> simulate(SimulateFlags flags, const Flags& all) {
  const auto plan = aggregator::plan_cuts(flags.training);
  if (!plan) return plan.error();
  auto options = flags.training.session_options();
  if (!options) return options.error();
  for (const std::string& note : all.notes()) spdlog::warn("{}", note);
  const auto limits = aggregator::parse_limits(flags.limits, /*has_network=*/false);
  if (!limits) return limits.error();
  options->quarantine_after = limits->quarantine_after;
  const int workers = flags.workers > 0 ? flags.workers : usable_cores().count;
  const int threads = flags.training.threads > 0 ? flags.training.threads : 1;
  if (auto checked = check_address_space_after_load(workers * threads); !checked) return checked.error();
  std::shared_ptr<const Dataset> eval_data;
  if (!flags.training.eval_data.empty()) {
    auto opened = datasets::open_dataset(flags.training.eval_data, datasets::Split::kTest);
    if (!opened) return opened.error();
    eval_data = *opened;
  }
  auto edges = make_edges(flags);
  if (!edges) return edges.error();
  if (auto settled = settle_cuts(*options, *edges); !settled) return settled.error();
  const DataDescription data = edges->front().dataset->describe();
  if (auto checked = aggregator::check_given(options->plan, data, "--data"); !checked) return checked.error();
  if (flags.training.resume && flags.training.checkpoint_steps == 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "--resume needs --checkpoint-steps, now and when the run began: only then the simulated "
                 "devices are kept too"};
  }
  auto stored = aggregator::open_stored_run(flags.training, all);
  if (!stored) return stored.error();
  aggregator::RunRecorder recorder(std::move(stored->directory), all.to_toml(flags.training.run_dir),
                                   flags.training.quiet);

  Simulation simulation(*options, recorder, eval_data.get(), std::move(stored->initial_weights),
                        std::move(*edges), {.workers = workers, .threads = threads},
                        &stored->storage.checkpoints);
  aggregator::keep_plan(*plan, flags.training.algorithm, recorder);
  recorder.progress().note(std::to_string(workers) + " worker(s), each " + describe_compute());
  auto ran = simulation.run(stop_requested, stored->newest ? &*stored->newest : nullptr);
  if (!ran && !simulation.session().started()) return ran.error();
  auto finished = recorder.finish(simulation.session(), stop_requested);
  if (!ran) return ran.error();
  if (!finished) return finished.error();
  return simulation.session().completed() ? kExitDone : kExitInterrupted;
}

}  // namespace

int simulate_command(int argc, const char* const* argv) {
  Flags flags("tandem simulate",
              "Runs an aggregator and many edges in one process: the same sessions, no network.");
  SimulateFlags values;
  values.add_to(flags);
  OperationFlags operation;
  operation.add_log_format(flags);
  if (const auto status = flags.parse(argc, argv)) return *status;
  stop_on_signals();
  // A simulation's parallelism is its workers; one thread an operation keeps them out of each other's way.
  const int threads = values.training.threads > 0 ? values.training.threads : 1;
  return run_program(
      "tandem simulate", threads, [&] { return simulate(values, flags); }, operation.format());
}

}  // namespace tandem::tools
