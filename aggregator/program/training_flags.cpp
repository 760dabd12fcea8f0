// The table of the options that say what is trained and how.
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "tandem/aggregator/program/aggregator_flags.h"
#include "tandem/aggregator/program/training_specifications.h"
#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/core/base/specification.h"
#include "tandem/core/program/compute_options.h"

namespace tandem::aggregator {
namespace {

template <class T>
Result<void> outcome(const Result<T>& result) {
  return result ? Result<void>() : Result<void>(result.error());
}

/// The parameter's value of an earlier flag that held a number of seconds, of which 0 stood for the default.
std::function<std::string(const std::string&, const std::string&)> as_time(const std::string& parameter) {
  return [parameter](const std::string& seconds, const std::string& text) {
    return seconds == "0" ? text : with_parameter(text, parameter, seconds + "s", straggler_forms());
  };
}

}  // namespace

bool TrainingFlags::is_federated() const {
  const auto choice = parse_algorithm(algorithm);
  return choice && choice->algorithm == Algorithm::kFederated;
}

Result<void> TrainingFlags::check_min_clients() const {
  const auto traits = strategy_traits(strategy);
  if (!traits || min_clients == TrainingFlags().min_clients || min_clients >= traits->minimum_updates)
    return {};
  const std::string fewest = std::to_string(traits->minimum_updates);
  return Error{ErrorCode::kInvalidArgument,
               "--min-clients " + std::to_string(min_clients) + " is below what --strategy " + traits->name +
                   " needs, the updates of " + fewest +
                   " clients in a round; leave it out or give at least " + fewest};
}

void TrainingFlags::add_to(Flags& flags) {
  add_model(flags);
  add_training(flags);
  add_steps(flags);
  add_participation(flags);
  add_machine(flags);
}

void TrainingFlags::add_model(Flags& flags) {
  flags.section("model", "Model and data");
  flags.add("model", model, "Model: mlp, lenet5, cnn or resnet18, with options as in mlp:hidden=256-128");
  flags
      .add(
          "cut", cut,
          "Blocks on the edge: blocks before the cut are the front, the others the tail. NAME=N,...,*=N "
          "gives clients cuts of their own; auto:FROM plans the best for all and per-client:FROM the best of "
          "each, from a folder of profiles or a problem file")
      .or_number()
      .does_nothing("with --algorithm federated", "the whole model is on the device", "",
                    [this] { return is_federated(); })
      .may_stay_unused();
  flags.add("head-blocks", head_blocks,
            "U-shaped: so many last blocks and the loss are on the edge too, and labels stay there");
  flags
      .add("num-classes", num_classes,
           "Number of classes; 0 takes it from --init, --eval-data or the devices: the most that any needs "
           "of those that are there when the first round begins")
      .at_least(0);
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
}

void TrainingFlags::add_training(Flags& flags) {
  flags.section("training", "Training");
  flags.add("algorithm", algorithm, "How fronts and tail are scheduled")
      .takes(algorithm_forms())
      .replaces("window", "window");
  flags
      .add("strategy", strategy,
           "How the edges' weights are merged: fedavg, fedprox:mu=0.01, fedavgm, fedadam, fedyogi, "
           "fedadagrad, fednova, scaffold, median, trimmed-mean, krum:f=1, multi-krum, bulyan; "
           "fedbuff:buffer=10 is asynchronous, with order=planned as if all devices were equally fast, so "
           "that a run can be repeated")
      .checked_by([this]() -> Result<void> {
        const auto traits = strategy_traits(strategy);
        if (traits) return {};
        return Error{traits.error().code, "--strategy: " + traits.error().message};
      })
      .replaces("update-order", [](const std::string& order, const std::string& text) {
        return with_parameter(text.starts_with("fedbuff") ? text : "fedbuff", "order", order, {});
      });
  flags.add("edge-objective", edge_objective, "What the front learns on")
      .takes(edge_objective_forms())
      .checked_by([this] { return outcome(parse_edge_objective(edge_objective)); })
      .replaces("tail-interval", "tail-interval")
      .replaces("auxiliary-head", "head")
      .replaces("align-interval", "every")
      .replaces("align-memory-mib", "memory-mib")
      .replaces("align-tail-epochs",
                [](const std::string& passes, const std::string& text) {
                  if (passes == "-1") return text;  // as if left out
                  return with_parameter(text, "tail-epochs", passes, edge_objective_forms());
                })
      .replaces("align-epochs", "epochs")
      .replaces("align-learning-rate", "learning-rate");
  flags.add_choice("batch-norm", batch_norm, {"average", "local", "freeze"},
                   "Batch norm at the merge: averaged, kept on each device (FedBN), or never changed");
}

void TrainingFlags::add_steps(Flags& flags) {
  flags.add("rounds", rounds, "Rounds; the fronts are merged at the end of each")
      .at_least(1)
      // More rounds prolong a run, unless its schedule depends on how long that is.
      .of_the_run_while("with a cosine that ends with the run", [this] {
        const auto schedule = parse_lr_schedule(lr_schedule);
        return schedule && schedule->spans_run;
      });
  flags.add("local-epochs", local_epochs, "Passes over the data in a round")
      .does_nothing("with --local-steps", "a round is so many steps, not passes", "leave out --local-steps",
                    [this] { return local_steps > 0; });
  flags.add("local-steps", local_steps, "Steps in a round, instead of passes; 0 means passes");
  flags
      .add("batch-size", batch_size,
           "Examples in a batch: of all clients together for parallel, of each for the other algorithms")
      .at_least(1);
  flags.add("optimizer", optimizer, "Optimiser of fronts and tail")
      .takes(optimizer_forms())
      .replaces("momentum", "momentum")
      .replaces("weight-decay", "weight-decay")
      .replaces("clip-norm", "clip-norm");
  flags.add("learning-rate", learning_rate, "Base learning rate").within({.low = 0, .above_low = true});
  flags.add("lr-schedule", lr_schedule, "How the learning rate changes")
      .takes(lr_schedule_forms())
      .checked_by([this] { return outcome(parse_lr_schedule(lr_schedule)); })
      .replaces("warmup-steps", "warmup");
  flags.add("seed", seed, "Seed of everything random in the run");
}

void TrainingFlags::add_participation(Flags& flags) {
  flags.section("participation", "Participation");
  flags.add("clients", clients, "Clients to wait for before the first round").at_least(1);
  flags
      .add("min-clients", min_clients,
           "Fewest clients with which the run goes on: with fewer it waits, also within a round")
      .at_least(1)
      .checked_by([this] { return check_min_clients(); })
      .not_of_the_run();
  flags
      .add("clients-per-round", clients_per_round,
           "Clients that take part in a round, drawn by the seed; 0 takes all")
      .at_least(0)
      .replaces("fraction", [this](const std::string& fraction, const std::string&) {
        const auto part = parse_number("--fraction", fraction, 0, 1);
        if (!part) return "ROUND(" + fraction + " * " + std::to_string(clients) + ")";
        return *part == 1 ? "0" : std::to_string(std::max(1L, std::lround(*part * clients)));
      });
  // How a run copes with its devices may have to change while it lasts.
  flags.add("stragglers", stragglers, "What happens to a client that misses a step's deadline")
      .takes(straggler_forms())
      .not_of_the_run()
      .replaces("step-deadline", as_time("deadline"))
      .replaces("round-deadline", as_time("round-deadline"))
      .replaces("update-deadline", as_time("update-deadline"));
  flags.add("client-timeout", client_timeout, "Seconds of silence after which a client has left")
      .between(0.001, 30.0 * 24 * 3600)
      .not_of_the_run();
}

void TrainingFlags::add_machine(Flags& flags) {
  flags.section("machine", "Machine and files");
  add_device(flags, device).not_of_the_run();
  add_threads(flags, threads).not_of_the_run();
  flags
      .add_path("run-dir", run_dir,
                "Directory the run leaves its files in; must not hold a run yet, unless --resume")
      .not_of_the_run();
  flags
      .add("checkpoint-steps", checkpoint_steps,
           "Both sides keep where they stand every so many steps (fedbuff: at every update); 0 only at the "
           "end of a round")
      .between(0, 1e6);
  flags
      .add("resume", resume,
           "Go on with the run in --run-dir from its newest good checkpoint; begins it where no run is")
      .not_of_the_run();
  flags
      .add_path("seal-key", seal_key,
                "Seal the checkpoints with the key in this file (tandem seal-key makes one)")
      .not_of_the_run();
  flags.add("quiet", quiet, "No progress, only warnings and the closing table").not_of_the_run();
}

}  // namespace tandem::aggregator
