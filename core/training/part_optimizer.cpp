#include "tandem/core/training/part_optimizer.h"

#include <utility>

namespace tandem {

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
  append(state, drift_.state());
  return state;
}

Result<void> PartOptimizer::load_state(const NamedTensors& state) {
  NamedTensors optimizer;
  NamedTensors drift;
  for (const NamedTensor& entry : state) {
    (DriftCorrection::owns(entry.name) ? drift : optimizer).push_back(entry);
  }
  if (auto loaded = optimizer_.load_state(optimizer); !loaded) return loaded;
  return drift_.load_state(drift);
}

}  // namespace tandem
