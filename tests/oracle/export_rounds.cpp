// Runs a simulation with the aggregator's own flags and writes what an independent program needs to compute
// the same: the initial weights, who took part in each round and in which order, every client's batches, the
// losses and the final weights. Usage: export_rounds OUT_DIR EXAMPLES[,EXAMPLES...] [FLAG...]
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/recording_observer.h"
#include "support/reference_data.h"
#include "tandem/aggregator/program/aggregator_flags.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/safetensors.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/tools/simulation.h"

using namespace tandem;

namespace {

constexpr int kClasses = 4;

std::vector<int> numbers_in(const std::string& text) {
  std::vector<int> numbers;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) numbers.push_back(std::stoi(part));
  return numbers;
}

/// One client's data as the run sees it.
class ClientBatches {
 public:
  ClientBatches(const aggregator::SessionOptions& options, std::shared_ptr<const Dataset> dataset,
                const std::string& name)
      : dataset_(std::move(dataset)),
        augmenter_(augment::build_pipeline(options.plan.augment, options.plan.normalize,
                                           dataset_->describe().input_shape)
                       .value()),
        loader_(*dataset_, *augmenter_,
                {.run_seed = options.plan.seed, .client_hash = hash_name(name), .prefetch = 0}) {}

  aggregator::RoundPlanner::ClientData data() const {
    return {.examples = dataset_->describe().num_examples, .position = position_};
  }

  /// Adds the batches of a round of these sizes, each under its step.
  void export_round(const std::string& prefix, const std::vector<uint32_t>& sizes, NamedTensors& batches) {
    loader_.start(position_, sizes);
    for (size_t step = 0; step < sizes.size(); ++step) {
      const Batch batch = loader_.next();
      position_ += sizes[step];
      if (sizes[step] == 0) continue;
      batches.push_back({prefix + std::to_string(step) + "/inputs", batch.inputs.contiguous()});
      batches.push_back({prefix + std::to_string(step) + "/labels", batch.labels});
    }
  }

 private:
  std::shared_ptr<const Dataset> dataset_;
  std::unique_ptr<const Augmenter> augmenter_;
  BatchLoader loader_;
  uint64_t position_ = 0;
};

/// The rounds as they were: whoever took part, planned anew.
nlohmann::json export_rounds(const aggregator::SessionOptions& options, uint32_t minimum_batch,
                             const testing::RecordingObserver& observer,
                             std::map<std::string, ClientBatches>& clients, NamedTensors& batches) {
  aggregator::RoundPlanner planner(aggregator::planner_options(options, minimum_batch));
  nlohmann::json rounds = nlohmann::json::array();
  for (const RoundRecord& record : observer.rounds) {
    std::map<ClientId, aggregator::RoundPlanner::ClientData> drawn;
    for (const ClientRecord& client : observer.clients) {
      if (client.round == record.round) drawn[{client.client}] = clients.at(client.client).data();
    }
    const aggregator::RoundPlan plan = planner.plan(drawn, record.round);
    nlohmann::json round = {
        {"loss", record.loss}, {"clients", nlohmann::json::object()}, {"turns", nlohmann::json::array()}};
    for (const auto& [client, sizes] : plan.batch_sizes) {
      clients.at(client.name)
          .export_round(std::to_string(record.round) + "/" + client.name + "/", sizes, batches);
      round["clients"][client.name] = sizes;
    }
    for (const ClientId& client : plan.turns) round["turns"].push_back(client.name);
    rounds.push_back(std::move(round));
  }
  return rounds;
}

int export_run(const std::filesystem::path& out, const std::vector<int>& examples,
               const aggregator::TrainingFlags& flags) {
  const auto options = flags.session_options();
  if (!options) return std::fprintf(stderr, "%s\n", options.error().message.c_str()), 1;
  auto init = flags.load_initial_weights();
  if (!init) return std::fprintf(stderr, "%s\n", init.error().message.c_str()), 1;

  std::vector<tools::VirtualEdge> edges;
  std::map<std::string, ClientBatches> clients;
  for (size_t i = 0; i < examples.size(); ++i) {
    const std::string name = testing::client_name(static_cast<int>(i));
    const auto dataset = testing::images(examples[i], 8, 1, static_cast<int>(i) + 1);
    edges.push_back({name, dataset});
    clients.try_emplace(name, *options, dataset, name);
  }
  const auto definition = define_model(options->plan.model, {1, 8, 8}, kClasses).value();
  NamedTensors initial = definition.build(options->plan.seed).state();
  if (*init) {
    auto fitted = fit_weights(initial, **init);
    if (!fitted) return std::fprintf(stderr, "%s\n", fitted.error().message.c_str()), 1;
    initial = std::move(fitted->tensors);
  }
  initial = snapshot(initial);
  testing::RecordingObserver observer;
  tools::Simulation simulation(*options, observer, nullptr, std::move(*init), std::move(edges), {});
  if (const auto ran = simulation.run(); !ran)
    return std::fprintf(stderr, "%s\n", ran.error().message.c_str()), 1;

  const bool statistics = options->plan.batch_norm != BatchNormMode::kFreeze &&
                          definition.uses_batch_statistics(0, definition.num_blocks());
  NamedTensors batches;
  const nlohmann::json rounds = export_rounds(*options, statistics ? 2 : 1, observer, clients, batches);
  std::filesystem::create_directories(out);
  save_safetensors(out / "initial.safetensors", {std::move(initial), {}}).value();
  save_safetensors(out / "final.safetensors", {simulation.session().weights(), {}}).value();
  save_safetensors(out / "batches.safetensors", {std::move(batches), {}}).value();
  write_file_atomically(out / "rounds.json", {rounds.dump(1)}).value();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags("export_rounds",
              "Runs a simulation and writes what an independent program needs to repeat it.");
  std::string out, examples;
  aggregator::TrainingFlags training;
  flags.add_positional("out", out, "Folder for the files");
  flags.add_positional("examples", examples, "Examples of each client, comma separated");
  training.add_to(flags);
  if (const auto status = flags.parse(argc, argv)) return *status;
  configure_compute_thread(1);
  return export_run(out, numbers_in(examples), training);
}
