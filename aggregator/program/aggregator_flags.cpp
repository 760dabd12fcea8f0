#include "tandem/aggregator/program/aggregator_flags.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "tandem/aggregator/program/training_specifications.h"
#include "tandem/aggregator/program/unused_flags.h"
#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/core/base/endpoint.h"
#include "tandem/core/base/specification.h"
#include "tandem/core/storage/safetensors.h"
#include "tandem/core/training/compute_device.h"

namespace tandem::aggregator {
namespace {

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(std::llround(seconds * 1000)));
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts{""};
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// "1x28x28" -> {1, 28, 28}; "" -> {}.
Result<std::vector<int64_t>> parse_shape(const std::string& text) {
  std::vector<int64_t> shape;
  if (text.empty()) return shape;
  for (const std::string& part : split(text, 'x')) {
    const auto size = parse_integer("--input-shape CxHxW", part, 1, 65536);
    if (!size) return size.error();
    shape.push_back(*size);
  }
  return shape;
}

/// "OptimizerOptions.learning_rate must be ..." in the words of whoever gave it: "--learning-rate must be
/// ...".
std::string naming_the_flag(const std::string& mistake) {
  const size_t end = std::min(mistake.find(' '), mistake.size());
  std::string name = mistake.substr(0, end);
  name.erase(0, name.find('.') + 1);
  std::replace(name.begin(), name.end(), '_', '-');
  return "--" + name + mistake.substr(end);
}

uint64_t random_run_id() {
  std::random_device device;
  uint64_t id = 0;
  while (id == 0) id = (static_cast<uint64_t>(device()) << 32) | device();
  return id;
}

/// Of a tail that gets every so many batches; what is no interval at all is for the plan to refuse.
int passes_that_catch_up(uint32_t tail_interval) {
  return tail_interval < 1 || tail_interval > 1'000'000 ? 0 : static_cast<int>(tail_interval) - 1;
}

}  // namespace

void TrainingFlags::add_to(Flags& flags) {
  flags.group("Model and data");
  flags.add("model", model, "Model: mlp, lenet5, cnn or resnet18, with options as in mlp:hidden=256-128");
  flags.add("cut", cut, "Blocks on the edge: blocks before the cut are the front, the others the tail");
  flags.add("head-blocks", head_blocks,
            "U-shaped: so many last blocks and the loss are on the edge too, and labels stay there");
  flags.add("num-classes", num_classes,
            "Number of classes; 0 takes it from --init, --eval-data or the devices: the most that any needs "
            "of those that are there when the first round begins");
  flags.add("input-shape", input_shape,
            "Shape of an example as CxHxW or F; empty takes it from --eval-data or the first device");
  flags.add_path(
      "init", init,
      "Start from the weights of this .safetensors file: tensors are taken by name, half and double "
      "precision are converted");
  flags.add_data(
      "eval-data", eval_data,
      "Evaluate the merged model on the test split of this data, such as idx:DIR or idx:DIR,classes=N");
  flags.add("augment", augment, "Augmentation on the devices: crop:P,flip,cutout:S");
  flags.add("normalize", normalize, "Per-channel MEAN/STD of inputs scaled to 0..1, comma separated");

  flags.group("Training");
  flags.add_choice("algorithm", algorithm, {"parallel", "splitfed-v1", "splitfed-v2", "relay", "federated"},
                   "How fronts and tail are scheduled; with federated the whole model is on the edge");
  flags.add("strategy", strategy,
            "How the edges' weights are merged: fedavg, fedprox:mu=0.01, fedavgm, fedadam, fedyogi, "
            "fedadagrad, fednova, scaffold, median, trimmed-mean, krum:f=1, multi-krum, bulyan; "
            "fedbuff:buffer=10 is asynchronous");
  flags.add_choice("update-order", update_order, {"arrival", "planned"},
                   "fedbuff: updates are taken as they arrive, or as if all devices were equally fast, so "
                   "that a run can be repeated");
  flags.add_choice("edge-objective", edge_objective, {"end-to-end", "local", "aligned"},
                   "What the front learns on: the tail's gradient, an auxiliary head's loss (CSE-FSL), or "
                   "that of a head fitted to the tail's gradients (FSL-SAGE)");
  flags.add("tail-interval", tail_interval, "Without the tail's gradient: every so many batches one goes up");
  flags.add("auxiliary-head", auxiliary_head,
            "Without the tail's gradient: linear, mlp:hidden=N or conv:channels=N");
  flags.add("align-interval", align_interval, "aligned: rounds between two alignments");
  flags.add(
      "align-memory-mib", align_memory_mib,
      "aligned: the newest of a round's smashed data that the aggregator keeps, MiB; while it uses them it "
      "needs up to three times as much, and each checkpoint within a round holds them");
  flags.add(
      "align-tail-epochs", align_tail_epochs,
      "aligned: a tail's passes over what it was sent, at the end of a round, in mixed order; 0 as in the "
      "paper, -1 the tail interval less one: as many steps as if all batches went up");
  flags.add("align-epochs", align_epochs,
            "aligned: passes over them in which the auxiliary head is fitted to the tail");
  flags.add("align-learning-rate", align_learning_rate, "aligned: learning rate of that fit");
  flags.add_choice("batch-norm", batch_norm, {"average", "local", "freeze"},
                   "Batch norm at the merge: averaged, kept on each device (FedBN), or never changed");
  flags.add("rounds", rounds, "Rounds; the fronts are merged at the end of each");
  flags.add("local-epochs", local_epochs, "Passes over the data in a round");
  flags.add("local-steps", local_steps, "Steps in a round, instead of passes; 0 means passes");
  flags.add("batch-size", batch_size,
            "Examples in a batch: of all clients together for parallel, of each for the other algorithms");
  flags.add("window", window,
            "Steps a client may have in flight; 1 is exact, W gives gradients W-1 steps old");
  flags.add("optimizer", optimizer,
            "Optimiser of fronts and tail: sgd:momentum=0,weight-decay=0,clip-norm=0, or adam or adamw "
            "(decoupled decay) with weight-decay and clip-norm, the largest norm of a part's gradients");
  flags.add("learning-rate", learning_rate, "Base learning rate");
  for (const char* parameter : {"momentum", "weight-decay", "clip-norm"}) {
    flags.add_removed(parameter, "optimizer", parameter);
  }
  flags.add("lr-schedule", lr_schedule,
            "constant, cosine (over the steps that a device, or a tail, is expected to make in the run), "
            "cosine:steps=N or step:every=N,factor=F; each takes warmup=N, steps of linear warm-up");
  flags.add_removed("warmup-steps", "lr-schedule", "warmup");
  flags.add("seed", seed, "Seed of everything random in the run");

  flags.group("Participation");
  flags.add("clients", clients, "Clients to wait for before the first round");
  flags.add("min-clients", min_clients,
            "Fewest clients with which the run goes on: with fewer it waits, also within a round");
  flags.add("clients-per-round", clients_per_round,
            "Clients that take part in a round, drawn by the seed; 0 takes all");
  flags.add("fraction", fraction, "The same as a fraction of --clients, in (0, 1]");
  flags.add(
      "step-deadline", step_deadline,
      "Seconds a step waits for a client before it goes on without it; 0: 30, and longer while its data "
      "is on its way");
  flags.add_choice("stragglers", stragglers, {"drop", "wait", "late"},
                   "A client that misses a step's deadline: its batch is dropped (the second time it is out "
                   "of the round), everybody waits for it, or its batch joins the step open when it comes");
  flags.add("round-deadline", round_deadline,
            "Seconds after which a round ends and each client sends its front as it stands; 0: never");
  flags.add(
      "update-deadline", update_deadline,
      "Seconds the end of a round waits for a client's front; 0: 60, and longer while it is on its way");
  flags.add("client-timeout", client_timeout, "Seconds of silence after which a client has left");
  flags.add("quarantine-after", quarantine_after,
            "Messages that make no sense after which nothing of a client is taken any more; 0: never");

  flags.group("Machine and files");
  flags.add("device", device, "cpu, cuda or cuda:N");
  flags.add(
      "threads", threads,
      "Threads of one tensor operation; 0: as many as cores that this program may use (affinity, CPU quota)");
  flags.add_path("run-dir", run_dir,
                 "Directory the run leaves its files in; must not hold a run yet, unless --resume");
  flags.add(
      "checkpoint-steps", checkpoint_steps,
      "Both sides keep where they stand every so many steps (fedbuff: at every update); 0 only at the end "
      "of a round");
  flags.add("resume", resume,
            "Go on with the run in --run-dir from its newest good checkpoint; begins it where no run is");
  flags.add_path("seal-key", seal_key,
                 "Seal the checkpoints with the key in this file (tandem seal-key makes one)");
  flags.add("quiet", quiet, "No progress, only warnings and the closing table");
  // More rounds prolong a run; how it copes with its devices may have to change.
  flags.not_of_the_run({"rounds", "min-clients", "step-deadline", "stragglers", "round-deadline",
                        "update-deadline", "client-timeout", "quarantine-after", "device", "threads",
                        "run-dir", "resume", "seal-key", "quiet"});
}

Result<SessionOptions> TrainingFlags::session_options() const {
  SessionOptions options;
  TrainingPlan& plan = options.plan;
  plan.model = model;
  plan.cut = cut;
  plan.head_blocks = head_blocks;
  plan.tail_interval = tail_interval;
  plan.auxiliary_head = auxiliary_head;
  plan.objective = edge_objective == "local"     ? EdgeObjective::kLocal
                   : edge_objective == "aligned" ? EdgeObjective::kAligned
                                                 : EdgeObjective::kEndToEnd;
  plan.batch_norm = batch_norm == "local"    ? BatchNormMode::kLocal
                    : batch_norm == "freeze" ? BatchNormMode::kFreeze
                                             : BatchNormMode::kAverage;
  plan.num_classes = num_classes;
  const auto shape = parse_shape(input_shape);
  if (!shape) return shape.error();
  plan.input_shape = *shape;
  plan.algorithm = find_algorithm(algorithm).value();  // one of the flag's choices
  plan.seed = seed;
  plan.rounds = rounds;
  plan.augment = augment;
  plan.normalize = normalize;
  plan.window = window;
  plan.checkpoint_steps = checkpoint_steps;

  const auto parsed_optimizer = parse_optimizer(optimizer);
  if (!parsed_optimizer) return parsed_optimizer.error();
  plan.optimizer = *parsed_optimizer;
  plan.optimizer.learning_rate = learning_rate;
  const auto schedule = parse_lr_schedule(lr_schedule);
  if (!schedule) return schedule.error();
  plan.lr_schedule = schedule->options;
  options.schedule_spans_run = schedule->spans_run;

  options.clients = clients;
  options.min_clients = min_clients;
  if (auto chosen = choose_strategy(options); !chosen) return chosen.error();
  options.update_order = update_order == "planned" ? UpdateOrder::kPlanned : UpdateOrder::kArrival;
  if (align_tail_epochs < -1) {
    return Error{ErrorCode::kInvalidArgument,
                 "--align-tail-epochs must be >= 0, or -1 for the tail interval less one, got " +
                     std::to_string(align_tail_epochs)};
  }
  options.alignment = {
      .interval = align_interval,
      .max_bytes = int64_t{align_memory_mib} << 20,
      .tail_epochs = align_tail_epochs < 0 ? passes_that_catch_up(tail_interval) : align_tail_epochs,
      .epochs = align_epochs,
      .learning_rate = align_learning_rate};
  options.stragglers = stragglers == "wait"   ? StragglerRule::kWait
                       : stragglers == "late" ? StragglerRule::kLate
                                              : StragglerRule::kDrop;
  options.batch_size = batch_size;
  options.local_steps = local_steps;
  options.local_epochs = local_epochs;
  constexpr double kLongest = 30.0 * 24 * 3600;
  for (const auto& [flag, seconds, may_be_left_open] :
       {std::tuple{"--step-deadline", step_deadline, true},
        std::tuple{"--update-deadline", update_deadline, true},
        std::tuple{"--client-timeout", client_timeout, false}}) {
    if ((seconds >= 0.001 && seconds <= kLongest) || (may_be_left_open && seconds == 0)) continue;
    return Error{ErrorCode::kInvalidArgument, std::string(flag) + " must be between 0.001 and " +
                                                  std::to_string(static_cast<int64_t>(kLongest)) +
                                                  " seconds" + (may_be_left_open ? " (or 0)" : "") +
                                                  ", got " + std::to_string(seconds)};
  }
  if (!(round_deadline >= 0 && round_deadline <= kLongest)) {
    return Error{ErrorCode::kInvalidArgument, "--round-deadline must be between 0 (none) and " +
                                                  std::to_string(static_cast<int64_t>(kLongest)) +
                                                  " seconds, got " + std::to_string(round_deadline)};
  }
  options.round_deadline = milliseconds(round_deadline);
  options.step_waits_for_transfers = step_deadline == 0;
  options.update_waits_for_transfers = update_deadline == 0;
  if (step_deadline > 0) options.step_deadline = milliseconds(step_deadline);
  if (update_deadline > 0) options.update_deadline = milliseconds(update_deadline);
  options.client_timeout = milliseconds(client_timeout);
  options.quarantine_after = quarantine_after;
  options.run_id = random_run_id();
  const auto compute_device = parse_device(device);
  if (!compute_device) return compute_device.error();
  options.compute = *compute_device;
  try {
    options = options.validated();
  } catch (const std::invalid_argument& mistake) {
    return Error{ErrorCode::kInvalidArgument, naming_the_flag(mistake.what())};
  }
  if (auto checked = check_no_flag_is_unused(*this); !checked) return checked.error();
  return options;
}

Result<void> TrainingFlags::choose_strategy(SessionOptions& options) const {
  options.strategy = strategy;
  if (!(fraction > 0 && fraction <= 1)) {
    return Error{ErrorCode::kInvalidArgument,
                 "--fraction must be above 0 and at most 1, got " + std::to_string(fraction)};
  }
  if (fraction < 1 && clients_per_round > 0) {
    return Error{ErrorCode::kInvalidArgument, "--fraction and --clients-per-round say the same; give one"};
  }
  options.clients_per_round = clients_per_round;
  if (fraction < 1) {
    options.clients_per_round = std::max(1, static_cast<int>(std::lround(fraction * clients)));
  }
  const auto traits = strategy_traits(strategy);
  if (!traits) return Error{traits.error().code, "--strategy: " + traits.error().message};
  options.plan.proximal_mu = traits->proximal_mu;
  options.plan.control_variates = traits->control_variates;
  return {};
}

Result<std::optional<InitialWeights>> TrainingFlags::load_initial_weights() const {
  if (init.empty()) return std::optional<InitialWeights>();
  auto loaded = load_safetensors(init);
  if (!loaded) return Error{loaded.error().code, "--init: " + loaded.error().message};
  return std::optional(InitialWeights{.tensors = std::move(loaded->tensors),
                                      .source = "--init " + init.string(),
                                      .model = loaded->metadata["model"]});
}

void NetworkFlags::add_to(Flags& flags) {
  flags.group("Network");
  flags.add(
      "endpoint", endpoint,
      "Address to listen on, such as tcp://192.0.2.1:5555, tcp://[::1]:5555 or tcp://*:5555 (every address)");
  flags.add_path("key-file", key_file, "This aggregator's key pair (made by tandem provision)");
  flags.add_path("devices-file", devices_file,
                 "List of the devices that may connect; a change takes effect within a second");
  flags.add("insecure", insecure, "No encryption and no authentication; loopback addresses only");
  flags.add("max-frame-mib", max_frame_mib, "Largest tensor accepted from a device, MiB");
  flags.add("max-connections", max_connections,
            "Connections at a time, also of strangers; 0: two for each listed device and 16, at least 64");
  flags.add_path("endpoint-file", endpoint_file,
                 "Write the address that was bound to this file (for port *)");
  flags.add("fault", fault,
            "Disturb this program's own messages, for a trial: drop=P, duplicate=P, reorder or reorder=P, "
            "corrupt=P, delay=TIME, disconnect=TIME, comma separated, such as drop=0.01,delay=50ms");
  flags.add("fault-seed", fault_seed, "Seed of --fault");
  flags.not_of_the_run({"endpoint", "key-file", "devices-file", "insecure", "max-frame-mib",
                        "max-connections", "endpoint-file", "fault", "fault-seed"});
}

Result<ZmqServerOptions> NetworkFlags::server_options(uint32_t window) const {
  if (auto checked = parse_endpoint("--endpoint", endpoint, EndpointUse::kListen); !checked)
    return checked.error();
  ZmqServerOptions options;
  options.endpoint = endpoint;
  options.insecure = insecure;
  if (max_frame_mib < 1 || max_frame_mib > 16384) {
    return Error{ErrorCode::kInvalidArgument,
                 "--max-frame-mib must be between 1 and 16384, got " + std::to_string(max_frame_mib)};
  }
  options.max_frame_bytes = max_frame_mib << 20;
  if (fault.empty() && fault_seed != NetworkFlags().fault_seed) {
    return Error{ErrorCode::kInvalidArgument,
                 "--fault-seed " + std::to_string(fault_seed) +
                     " does nothing without --fault: nothing is disturbed; leave it out or give --fault"};
  }
  if (insecure && !(key_file.empty() && devices_file.empty())) {
    return Error{ErrorCode::kInvalidArgument,
                 "--insecure and " + std::string(key_file.empty() ? "--devices-file" : "--key-file") +
                     " cannot be combined: without encryption nobody shows a key and anybody is let in; "
                     "leave out --insecure (or, for a trial, the keys and the device list)"};
  }
  if (max_connections < 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "--max-connections must be at least 1, or 0 to follow the device list, got " +
                     std::to_string(max_connections)};
  }
  options.max_connections = max_connections;
  options.high_water_mark = static_cast<int>(window) + 2;
  auto faults = parse_faults(fault, fault_seed);
  if (!faults) return Error{faults.error().code, "--fault: " + faults.error().message};
  options.fault = *faults;
  if (insecure) return options;
  if (key_file.empty() || devices_file.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--key-file and --devices-file are missing; \"tandem provision\" makes both and a "
                 "configuration for --config (or --insecure on a loopback address, for a trial)"};
  }
  auto keys = load_key_pair(key_file);
  if (!keys) return keys.error();
  auto devices = load_device_list(devices_file);
  if (!devices) return devices.error();
  options.keys = std::move(*keys);
  options.devices = std::move(*devices);
  return options;
}

}  // namespace tandem::aggregator
