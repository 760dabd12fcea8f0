#include "tandem/core/training/part_optimizer.h"

#include <utility>

namespace tandem {
namespace {

constexpr const char* kControlPrefix = "control.";

bool is_control(const NamedTensor& entry) {
  return entry.name.rfind(kControlPrefix, 0) == 0;
}

}  // namespace

PartOptimizer::PartOptimizer(Options options, ModelPart part)
    : options_(options),
      optimizer_(options.optimizer, part.parameters()),
      drift_(options.drift, part.parameters()) {}

Result<void> PartOptimizer::begin_round(const NamedTensors& control) {
  return drift_.begin_round(control);
}

void PartOptimizer::step() {
  const double factor = lr_factor(options_.lr_schedule, optimizer_.applied_steps());
  drift_.correct(options_.optimizer.learning_rate * factor);
  optimizer_.step(factor);
}

NamedTensors PartOptimizer::state() const {
  NamedTensors state = optimizer_.state();
  for (NamedTensor& entry : drift_.state()) state.push_back(std::move(entry));
  return state;
}

Result<void> PartOptimizer::load_state(const NamedTensors& state) {
  NamedTensors optimizer;
  NamedTensors drift;
  for (const NamedTensor& entry : state) (is_control(entry) ? drift : optimizer).push_back(entry);
  if (auto loaded = optimizer_.load_state(optimizer); !loaded) return loaded;
  return drift_.load_state(drift);
}

}  // namespace tandem
