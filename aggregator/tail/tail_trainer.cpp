#include "tandem/aggregator/tail/tail_trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <utility>

namespace tandem::aggregator {
namespace {

using InputGradient = StageTrainer::InputGradient;

// A tail has one step under way.
constexpr Ticket kStep = 0;

at::Tensor join(const std::vector<at::Tensor>& parts) {
  // A single client's tensor stays what it is, so that one client equals the unsplit model to the bit.
  return parts.size() == 1 ? parts.front() : at::cat(parts, 0);
}

/// Client k's part of a joined gradient as that of its own mean: B/B_k times the slice.
at::Tensor own_slice(const at::Tensor& joined, int64_t offset, int64_t size, int64_t total) {
  if (size == joined.size(0)) return joined;
  return joined.narrow(0, offset, size) * (static_cast<double>(total) / static_cast<double>(size));
}

/// The clients whose examples go through a stage, as indices in their order, and where each begins.
struct Rows {
  std::vector<size_t> clients;
  std::vector<int64_t> offsets;
  std::vector<int64_t> sizes;
  int64_t total = 0;

  void add(size_t client, int64_t size) {
    clients.push_back(client);
    offsets.push_back(total);
    sizes.push_back(size);
    total += size;
  }
  std::optional<size_t> place_of(size_t client) const {
    const auto found = std::lower_bound(clients.begin(), clients.end(), client);
    if (found == clients.end() || *found != client) return std::nullopt;
    return static_cast<size_t>(found - clients.begin());
  }
  at::Tensor slice(const at::Tensor& tensor, size_t place) const {
    return clients.size() == 1 ? tensor : tensor.narrow(0, offsets[place], sizes[place]);
  }
};

/// The rows of a stage's inputs: those that the stage before it puts out, and those that enter.
Rows joined_rows(const Rows& before, const std::vector<size_t>& entering,
                 const std::vector<const ClientActivations*>& clients) {
  std::vector<size_t> all;
  std::merge(before.clients.begin(), before.clients.end(), entering.begin(), entering.end(),
             std::back_inserter(all));
  Rows rows;
  for (const size_t client : all) rows.add(client, clients[client]->examples());
  return rows;
}

at::Tensor joined_inputs(const Rows& rows, const Rows& before, const at::Tensor& outputs,
                         const std::vector<const ClientActivations*>& clients) {
  if (rows.clients.size() == before.clients.size()) return outputs;
  std::vector<at::Tensor> parts;
  for (const size_t client : rows.clients) {
    const auto place = before.place_of(client);
    parts.push_back(place ? before.slice(outputs, *place) : clients[client]->activations);
  }
  return join(parts);
}

/// The part of a stage's input gradient that belongs to the stage before it, as that of its own mean.
at::Tensor gradient_of_stage_before(const at::Tensor& gradient, const Rows& rows, const Rows& before) {
  if (rows.clients.size() == before.clients.size()) return gradient;
  std::vector<at::Tensor> parts;
  for (const size_t client : before.clients) parts.push_back(rows.slice(gradient, *rows.place_of(client)));
  return join(parts) * (static_cast<double>(rows.total) / static_cast<double>(before.total));
}

std::string prefix_of(const StageTrainer& stage) {
  return "entry-" + std::to_string(stage.stage().first()) + ".";
}

std::string describe_rejection(double loss, double limit) {
  return "its mean loss is " + std::to_string(loss) + ", expected a finite value up to " +
         std::to_string(limit);
}

}  // namespace

struct TailTrainer::Pass {
  size_t first_stage = 0;       // the stages from here on computed something
  std::vector<Rows> rows;       // by stage; empty before the first
  at::Tensor loss;              // with its graph
  std::vector<Figures> client;  // in the clients' order
};

TailTrainer::TailTrainer(ModelPart tail, std::vector<int> entries, TailTrainerOptions options)
    : options_(options), tail_(std::move(tail)) {
  const bool fits =
      !entries.empty() && entries.front() == tail_.first() && entries.back() < tail_.last() &&
      std::adjacent_find(entries.begin(), entries.end(), std::greater_equal<>()) == entries.end();
  if (!fits) throw std::invalid_argument("TailTrainer: the entries are not ascending blocks of the tail");
  for (size_t i = 0; i < entries.size(); ++i) {
    const bool is_last = i + 1 == entries.size();
    StageTrainerOptions stage{
        .optimizer = options.optimizer, .compute = options.compute, .keeps_statistics = true};
    if (is_last && entries.size() > 1) stage.optimizer.drift = {};
    stages_.emplace_back(tail_.slice(entries[i], is_last ? tail_.last() : entries[i + 1]), stage);
  }
}

TailTrainer::TailTrainer(ModelPart tail, TailTrainerOptions options)
    : TailTrainer(tail, {tail.first()}, options) {}

size_t TailTrainer::stage_of(int entry) const {
  if (entry == 0) return 0;
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    if (stages_[stage].stage().first() == entry) return stage;
  }
  throw std::invalid_argument("TailTrainer: activations cannot enter at block " + std::to_string(entry));
}

Result<void> TailTrainer::begin_round(const NamedTensors& control) {
  for (StageTrainer& stage : stages_) {
    if (auto begun = stage.begin_round(control); !begun) return begun;
  }
  return {};
}

NamedTensors TailTrainer::end_round() {
  NamedTensors change;
  for (StageTrainer& stage : stages_) append(change, stage.end_round());
  return change;
}

// ---------------------------------------------------------------------------------------------------------
// A step on the loss.

TailTrainer::Pass TailTrainer::forward_with_loss(const std::vector<const ClientActivations*>& clients) {
  std::vector<std::vector<size_t>> entering(stages_.size());
  std::vector<at::Tensor> labels;
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < clients.size(); ++i) {
    entering[stage_of(clients[i]->entry)].push_back(i);
    labels.push_back(clients[i]->labels);
    sizes.push_back(clients[i]->labels.size(0));
  }
  Pass pass{.first_stage = stages_.size(), .rows = std::vector<Rows>(stages_.size())};
  at::Tensor outputs;
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    const Rows before = stage > 0 ? pass.rows[stage - 1] : Rows{};
    Rows& rows = pass.rows[stage] = joined_rows(before, entering[stage], clients);
    if (rows.clients.empty()) continue;
    pass.first_stage = std::min(pass.first_stage, stage);
    const bool wanted = options_.gradients_go_back || stage > pass.first_stage;
    outputs = stages_[stage].forward(kStep, joined_inputs(rows, before, outputs, clients),
                                     wanted ? InputGradient::kWanted : InputGradient::kNone);
  }
  const at::Tensor joined_labels = join(labels).to(options_.compute);
  const at::Tensor& logits = stages_.back().outputs(kStep);
  pass.loss = objective_.mean_loss(logits, joined_labels);
  pass.client = objective_.figures_of_pieces(logits, joined_labels, sizes);
  return pass;
}

void TailTrainer::undo(const Pass& pass) {
  for (size_t stage = pass.first_stage; stage < stages_.size(); ++stage) stages_[stage].undo(kStep);
}

/// Returns each client's gradient, in the clients' order; undefined where none was wanted.
std::vector<at::Tensor> TailTrainer::backward(const Pass& pass) {
  std::vector<at::Tensor> gradients(pass.client.size());
  at::Tensor of_outputs;
  for (size_t stage = stages_.size(); stage-- > pass.first_stage;) {
    const at::Tensor gradient = of_outputs.defined() ? stages_[stage].backward(kStep, of_outputs)
                                                     : stages_[stage].backward_from_loss(kStep, pass.loss);
    const Rows& rows = pass.rows[stage];
    const Rows before = stage > 0 ? pass.rows[stage - 1] : Rows{};
    for (size_t place = 0; place < rows.clients.size() && gradient.defined(); ++place) {
      if (before.place_of(rows.clients[place])) continue;
      gradients[rows.clients[place]] =
          own_slice(gradient, rows.offsets[place], rows.sizes[place], rows.total);
    }
    if (stage > pass.first_stage) of_outputs = gradient_of_stage_before(gradient, rows, before);
  }
  return gradients;
}

std::vector<ClientGradient> TailTrainer::step(const std::vector<ClientActivations>& clients) {
  std::vector<ClientGradient> results(clients.size());
  std::vector<const ClientActivations*> included;
  std::vector<size_t> places;
  for (size_t i = 0; i < clients.size(); ++i) {
    results[i].client = clients[i].client;
    included.push_back(&clients[i]);
    places.push_back(i);
  }

  Pass pass;
  for (;;) {
    if (included.empty()) return results;
    pass = forward_with_loss(included);
    std::vector<const ClientActivations*> kept;
    std::vector<size_t> kept_places;
    for (size_t i = 0; i < included.size(); ++i) {
      const double loss = pass.client[i].mean_loss();
      if (std::isfinite(loss) && loss <= options_.loss_limit) {
        kept.push_back(included[i]);
        kept_places.push_back(places[i]);
      } else {
        results[places[i]].rejection = describe_rejection(loss, options_.loss_limit);
      }
    }
    if (kept.size() == included.size()) break;
    // A forward pass moves batch-norm statistics; a pass that is thrown away must not.
    undo(pass);
    included = std::move(kept);
    places = std::move(kept_places);
  }

  std::vector<at::Tensor> gradients = backward(pass);
  for (size_t i = 0; i < included.size(); ++i) {
    ClientGradient& result = results[places[i]];
    result.figures = pass.client[i];
    result.gradient = std::move(gradients[i]);
  }
  return results;
}

// ---------------------------------------------------------------------------------------------------------
// A step of a U-shaped model.

std::vector<at::Tensor> TailTrainer::forward(const std::vector<ClientActivations>& clients) {
  std::vector<at::Tensor> parts;
  stages_.front().drop_all();  // a step whose second half never came
  open_sizes_.clear();
  for (const ClientActivations& client : clients) {
    parts.push_back(client.activations);
    open_sizes_.push_back(client.examples());
  }
  const at::Tensor outputs = stages_.front().forward(kStep, join(parts), InputGradient::kWanted);
  std::vector<at::Tensor> slices;
  int64_t offset = 0;
  for (const int64_t size : open_sizes_) {
    slices.push_back(size == outputs.size(0) ? outputs : outputs.narrow(0, offset, size));
    offset += size;
  }
  return slices;
}

std::vector<at::Tensor> TailTrainer::backward(const std::vector<at::Tensor>& gradients) {
  std::vector<at::Tensor> results(gradients.size());
  int64_t total = 0;
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].defined()) total += open_sizes_[i];
  }
  if (total == 0) {
    stages_.front().undo(kStep);
    return results;
  }
  at::Tensor joined =
      gradients.size() == 1 ? gradients[0] : at::zeros_like(stages_.front().outputs(kStep), at::kCPU);
  int64_t offset = 0;
  for (size_t i = 0; i < gradients.size() && gradients.size() > 1; offset += open_sizes_[i++]) {
    if (!gradients[i].defined()) continue;
    const double share = static_cast<double>(open_sizes_[i]) / static_cast<double>(total);
    joined.narrow(0, offset, open_sizes_[i]).copy_(gradients[i] * share);
  }
  const at::Tensor gradient = stages_.front().backward(kStep, joined);
  offset = 0;
  for (size_t i = 0; i < gradients.size(); offset += open_sizes_[i++]) {
    if (gradients[i].defined()) results[i] = own_slice(gradient, offset, open_sizes_[i], total);
  }
  return results;
}

// ---------------------------------------------------------------------------------------------------------
// Evaluation and state.

at::Tensor TailTrainer::evaluate(const at::Tensor& activations, int entry) {
  at::Tensor outputs = activations;
  for (size_t stage = stage_of(entry); stage < stages_.size(); ++stage) {
    outputs = stages_[stage].evaluate(outputs);
  }
  return outputs;
}

NamedTensors TailTrainer::settled_state() const {
  NamedTensors state;
  for (const StageTrainer& stage : stages_) append(state, stage.settled_weights());
  return state;
}

NamedTensors TailTrainer::optimizer_state() const {
  if (stages_.size() == 1) return stages_.front().optimizer().state();
  NamedTensors state;
  for (const StageTrainer& stage : stages_) append(state, stage.optimizer().state(), prefix_of(stage));
  return state;
}

Result<void> TailTrainer::load_optimizer_state(const NamedTensors& state) {
  if (stages_.size() == 1) return stages_.front().optimizer().load_state(state);
  for (StageTrainer& stage : stages_) {
    auto loaded = stage.optimizer().load_state(without_prefix(state, prefix_of(stage)));
    if (!loaded) return loaded;
  }
  return {};
}

}  // namespace tandem::aggregator
