// tandem-edge: trains the front of a split model on this device's own data.
#include <spdlog/spdlog.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "tandem/augment/pipeline.h"
#include "tandem/core/base/interrupt.h"
#include "tandem/core/base/open_files.h"
#include "tandem/core/base/running_clock.h"
#include "tandem/core/base/slowdown.h"
#include "tandem/core/program/operation_flags.h"
#include "tandem/core/program/profile_command.h"
#include "tandem/core/program/program.h"
#include "tandem/core/run/patient_write.h"
#include "tandem/core/run/progress.h"
#include "tandem/core/storage/safetensors.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/core/transport/faulty_client.h"
#include "tandem/core/transport/zmq_client.h"
#include "tandem/datasets/data_source.h"
#include "tandem/edge_client/program/edge_client.h"
#include "tandem/edge_client/program/edge_display.h"
#include "tandem/edge_client/program/edge_flags.h"
#include "tandem/edge_client/program/edge_status.h"
#include "tandem/edge_client/program/stored_device.h"

namespace tandem::edge_client {
namespace {

Result<datasets::HeldOutSplit> open_data(const EdgeFlags& flags) {
  auto dataset = datasets::open_dataset(flags.data, datasets::Split::kTrain);
  if (!dataset) return dataset.error();
  const datasets::ShardOptions shard{
      .shard = flags.shard, .partition = flags.partition, .seed = flags.partition_seed};
  auto part = datasets::take_shard(*dataset, shard);
  if (!part) return part.error();
  return datasets::hold_out(*part, flags.hold_out, shard);
}

Result<void> save_front(const EdgeFlags& flags, const EdgeSession& session, EdgeDisplay& display) {
  if (flags.save_front.empty()) return {};
  return write_patiently(
      [&] {
        return save_safetensors(
            flags.save_front, {session.final_front(), {{"format", "pt"}, {"model", session.plan()->model}}});
      },
      stop_requested, [&](const std::string& line) { display.warn(line); });
}

/// Found now rather than when the run is over.
Result<void> check_front_is_new(const std::filesystem::path& path) {
  std::error_code error;
  if (path.empty() || !std::filesystem::exists(std::filesystem::symlink_status(path, error))) return {};
  return Error{
      ErrorCode::kInvalidArgument,
      "--save-front " + path.string() +
          ": there is a file already, and it is not overwritten; choose another name or move it away"};
}

/// What the device says of itself before it connects.
std::string introduction(const EdgeFlags& flags, const datasets::HeldOutSplit& data) {
  const auto examples_of = [](const Dataset& dataset) {
    return std::to_string(dataset.describe().num_examples);
  };
  return (flags.name.empty() ? "this device" : flags.name) + " holds " + examples_of(*data.train) +
         " examples" +
         (data.held_out ? " and holds back " + examples_of(*data.held_out) + " more" : std::string()) +
         ", connecting to " + flags.endpoint;
}

/// Trains until the run is over or a signal stops the program, and saves the front.
Result<int> train(const EdgeFlags& flags, EdgeSession& session, EdgeClient& client, EdgeStatus& status,
                  EdgeDisplay& display) {
  if (flags.resume && !session.resume()) display.note("nothing to go on from in " + flags.run_dir.string());
  const auto turn = [&] {
    status.turn(session, client.connected());
    return stop_requested();
  };
  if (auto ran = client.run(turn); !ran) return ran.error();
  if (session.phase() != EdgeSession::Phase::kFinished) return kExitInterrupted;
  if (auto saved = save_front(flags, session, display); !saved) return saved.error();
  display.finished(session);
  return kExitDone;
}

Result<int> run(const EdgeFlags& flags, const OperationFlags& operation, const Flags& all) {
  set_slowdown(flags.slowdown);
  auto options = flags.client_options();
  if (!options) return options.error();
  const auto faults = flags.fault_options();
  if (!faults) return faults.error();
  EdgeDisplay display(flags.quiet);
  auto status = operation.make_status("tandem-edge");
  if (!status) return status.error();
  EdgeStatus edge_status(**status);
  auto status_server = operation.serve(**status, [&](const std::string& line) { display.note(line); });
  if (!status_server) return status_server.error();
  auto device = parse_device(flags.device);
  if (!device) return device.error();
  if (auto is_new = check_front_is_new(flags.save_front); !is_new) return is_new.error();
  auto data = open_data(flags);
  if (!data) return data.error();
  auto stored = open_stored_device(flags, all);
  if (!stored) return stored.error();

  wire::Limits limits;
  limits.max_tensor_bytes = static_cast<uint64_t>(options->max_frame_bytes);
  const std::string identity = flags.insecure ? flags.name : options->keys.public_key;
  auto made = ZmqClient::make(std::move(*options));
  if (!made) return made.error();
  const auto transport = with_faults(std::move(*made), *faults, identity);
  EdgeSession session({.instance = stored->instance,
                       .compute = *device,
                       .prefetch = flags.prefetch,
                       .resend_after = std::chrono::milliseconds(std::llround(flags.resend_after * 1000)),
                       .comes_back = !flags.run_dir.empty()},
                      {.transport = transport.get(),
                       .dataset = data->train.get(),
                       .held_out = data->held_out.get(),
                       .make_augmenter = augment::build_pipeline,
                       .now = RunningClock::now,
                       .checkpoints = stored->checkpoints.get(),
                       .on_step =
                           [&](const EdgeReport& report) {
                             edge_status.step(report);
                             display.step(report);
                           },
                       .on_note = [&](const std::string& line) { display.note(line); },
                       .on_warning = [&](const std::string& line) { display.warn(line); }});
  EdgeClient client(session, *transport,
                    {.endpoint = flags.endpoint,
                     .limits = limits,
                     .give_up_after = std::chrono::milliseconds(std::llround(flags.give_up_after * 1000))},
                    [&](const std::string& line) { display.note(line); });
  display.note(introduction(flags, *data));
  display.note(describe_compute());
  return train(flags, session, client, edge_status, display);
}

}  // namespace
}  // namespace tandem::edge_client

int main(int argc, char** argv) {
  using namespace tandem;
  open_standard_descriptors();
  if (argc > 1 && std::string_view(argv[1]) == "profile") {
    return profile_command("tandem-edge", "client", argc - 1, argv + 1, datasets::describe_dataset);
  }
  Flags flags("tandem-edge", "Trains the front of a split model on this device's own data.");
  edge_client::EdgeFlags edge;
  edge.add_to(flags);
  OperationFlags operation;
  operation.add_log_format(flags);
  operation.add_status(flags);
  if (const auto status = flags.parse(argc, argv)) return *status;
  stop_on_signals();
  return run_program(
      "tandem-edge", edge.threads, [&] { return edge_client::run(edge, operation, flags); },
      operation.format());
}
