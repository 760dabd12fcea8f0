// Trains with Tandem and writes what an independent program needs to do the same: the initial weights, every
// batch, and the loss of every step. Usage: export_run MODEL CUT CLIENTS OPTIMIZER OUT_DIR
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "support/recording_observer.h"
#include "support/reference_data.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/safetensors.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/tools/simulation.h"

using namespace tandem;

int main(int argc, char** argv) {
  if (argc != 6) return std::fprintf(stderr, "usage: export_run MODEL CUT CLIENTS OPTIMIZER OUT_DIR\n"), 2;
  configure_compute_thread(1);
  const int clients = std::stoi(argv[3]);
  const std::string optimizer = argv[4];
  const std::filesystem::path out = argv[5];
  std::filesystem::create_directories(out);

  // One step a round: a round's loss is then the loss of one joined batch.
  aggregator::SessionOptions options;
  options.plan.model = argv[1];
  options.plan.cut = std::stoi(argv[2]);
  options.plan.num_classes = 4;
  options.plan.seed = 11;
  options.plan.rounds = 25;
  options.plan.augment = "crop:1,flip";
  options.plan.normalize = "0.5/0.25";
  options.clients = clients;
  options.batch_size = 16;
  options.local_steps = 1;
  if (optimizer == "sgd") {
    options.plan.optimizer = {.learning_rate = 0.05};
  } else if (optimizer == "momentum") {
    options.plan.optimizer = {.learning_rate = 0.02, .momentum = 0.9, .weight_decay = 1e-3};
  } else {
    options.plan.optimizer = {.kind = OptimizerKind::kAdam, .learning_rate = 1e-3};
  }

  const std::vector<int> all_examples = {40, 12, 25, 31};
  const std::vector<int> examples(all_examples.begin(), all_examples.begin() + clients);
  std::vector<tools::VirtualEdge> edges;
  for (int i = 0; i < clients; ++i) {
    edges.push_back(
        {testing::client_name(i), testing::images(examples[static_cast<size_t>(i)], 8, 1, i + 1)});
  }
  testing::RecordingObserver observer;
  tools::Simulation simulation(options, observer, nullptr, {}, std::move(edges), {});
  if (const auto ran = simulation.run(); !ran)
    return std::fprintf(stderr, "%s\n", ran.error().message.c_str()), 1;

  const auto definition = define_model(options.plan.model, {1, 8, 8}, options.plan.num_classes);
  save_safetensors(out / "initial.safetensors", {definition->build(options.plan.seed).state(), {}}).value();
  save_safetensors(out / "final.safetensors", {simulation.session().weights(), {}}).value();

  const bool batch_norm = definition->uses_batch_statistics(0, definition->num_blocks());
  testing::ReferenceData data(options, examples, batch_norm);
  NamedTensors batches;
  std::string losses;
  for (size_t round = 0; round < options.plan.rounds; ++round) {
    const Batch batch = data.next_round().at(0);
    batches.push_back({"inputs." + std::to_string(round), batch.inputs});
    batches.push_back({"labels." + std::to_string(round), batch.labels});
    char line[64];
    std::snprintf(line, sizeof line, "%.17g\n", observer.rounds[round].loss);
    losses += line;
  }
  save_safetensors(out / "batches.safetensors", {batches, {}}).value();
  write_file_atomically(out / "losses.txt", {losses}).value();
  return 0;
}
