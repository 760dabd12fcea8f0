// The specifications that people type and that plans carry. The first byte says of what: m a model, d data,
// a augmentation, n normalization, s a strategy, p a partition; the rest is the text.
#include <string>
#include <vector>

#include <ATen/ops/zeros.h>

#include "fuzz/support.h"
#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/augment/pipeline.h"
#include "tandem/core/base/specification.h"
#include "tandem/core/model/model.h"
#include "tandem/datasets/data_source.h"
#include "tandem/datasets/partition.h"

using namespace tandem;
using tandem::fuzz::Input;
using tandem::fuzz::require;

namespace {

template <class T>
void check_error(const Result<T>& result) {
  if (!result) require(!result.error().message.empty(), "an error has a text");
}

void read_model(const std::string& text) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{4}, {1, 8, 8}, {3, 33, 5}}) {
    const auto model = define_model(text, shape, 3);  // nothing is built: it may be large
    check_error(model);
    if (!model) continue;
    require(model->num_blocks() >= 1, "a model has blocks");
    for (int cut = -1; cut <= model->num_blocks(); ++cut) check_error(model->check_cut(cut));
    for (int i = 0; i < model->num_blocks(); ++i) {
      for (const int64_t size : model->block(i).output_shape) require(size > 0, "a block has an output");
    }
  }
}

/// Synthetic data is drawn when it is opened, and much of it takes long: only small sizes are let through.
bool is_small(const std::string& text) {
  const auto parsed = parse_specification(text, Argument::kTaken);
  if (!parsed || parsed->name != "synthetic") return true;
  if (!parsed->parameters.contains("examples")) return false;
  for (const auto& [key, value] : parsed->parameters) {
    const auto number = parse_integer(key, value, 10, INT64_MAX);
    if (number) return false;
  }
  return true;
}

void read_data(const std::string& text) {
  if (!is_small(text)) return;
  const auto data = datasets::open_dataset(text, datasets::Split::kTrain);
  check_error(data);
  if (data) require((*data)->describe().num_examples > 0, "a data set that was opened has examples");
}

void read_pipeline(const std::string& operations, const std::string& normalize) {
  const std::vector<int64_t> shape{2, 5, 7};
  const auto pipeline = augment::build_pipeline(operations, normalize, shape);
  check_error(pipeline);
  if (!pipeline) return;
  const std::vector<uint64_t> seeds{1, 2};
  const at::Tensor images = at::zeros({2, 2, 5, 7}, at::kByte);
  require((*pipeline)->augment(images, seeds).sizes() == images.sizes(), "augmentation keeps the shape");
}

void read_strategy(const std::string& text) {
  const auto strategy = aggregator::make_strategy({.specification = text});
  const auto traits = aggregator::strategy_traits(text);
  check_error(strategy);
  require(strategy.has_value() == traits.has_value(), "a strategy is either known or not");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const char kind = static_cast<char>(input.byte());
  const std::string text(input.rest());
  if (kind == 'm') read_model(text);
  if (kind == 'd') read_data(text);
  if (kind == 'a') read_pipeline(text, "none");
  if (kind == 'n') read_pipeline("none", text);
  if (kind == 's') read_strategy(text);
  if (kind == 'p') check_error(datasets::parse_partition(text));
  return 0;
}
