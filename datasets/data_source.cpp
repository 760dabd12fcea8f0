#include "tandem/datasets/data_source.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tandem/core/base/random.h"
#include "tandem/core/base/specification.h"
#include "tandem/datasets/class_count.h"
#include "tandem/datasets/idx.h"
#include "tandem/datasets/partition.h"
#include "tandem/datasets/subset.h"
#include "tandem/datasets/synthetic.h"

namespace tandem::datasets {
namespace {

using Opened = Result<std::shared_ptr<const Dataset>>;

Opened as_dataset(Result<std::shared_ptr<const TensorDataset>> read) {
  if (!read) return read.error();
  return std::shared_ptr<const Dataset>(std::move(*read));
}

Opened open_idx(const Specification& specification, Split split) {
  if (Result<void> checked = check_parameters(specification, {"classes"}); !checked) return checked.error();
  if (specification.argument.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "idx: needs a folder, for example idx:/usr/share/datasets/fashion-mnist"};
  }
  int64_t classes = 0;
  if (const auto given = specification.parameters.find("classes"); given != specification.parameters.end()) {
    const Result<int64_t> parsed = parse_integer("idx: classes", given->second, 2, kMaxClasses);
    if (!parsed) return parsed.error();
    classes = *parsed;
  }
  return as_dataset(read_idx(specification.argument, split, classes));
}

Opened open_synthetic_data(const Specification& specification, Split split) {
  return as_dataset(open_synthetic(specification, split));
}

/// One way to name data. Every reader takes an ARG.
struct Reader {
  std::string name;
  std::string example;  ///< for the message about an unknown one
  Opened (*open)(const Specification& specification, Split split);
};

const std::vector<Reader>& readers() {
  static const std::vector<Reader> all = {{"idx", "idx:DIR", open_idx},
                                          {"synthetic", "synthetic:NAME", open_synthetic_data}};
  return all;
}

Error unknown_scheme(const std::string& text, const std::string& scheme) {
  std::vector<std::string> names;
  std::string examples;
  for (const Reader& reader : readers()) {
    examples += (names.empty() ? "" : &reader == &readers().back() ? " and " : ", ") + reader.example;
    names.push_back(reader.name);
  }
  std::string message = "data \"" + text + "\": ";
  if (text.find(':') == std::string::npos) {
    message += "no scheme before a ':'; ";
  } else {
    message += "unknown scheme \"" + scheme + "\"; ";
    if (const auto nearest = nearest_name(scheme, names)) message += "did you mean " + *nearest + ":? ";
  }
  return {ErrorCode::kInvalidArgument, message + "Known are " + examples};
}

struct Shard {
  int64_t index;
  int64_t count;
};

Result<Shard> parse_shard(const std::string& text) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos) {
    return Error{ErrorCode::kInvalidArgument,
                 "--shard must be I/N with 0 <= I < N, for example 0/4, got \"" + text + "\""};
  }
  const Result<int64_t> count = parse_integer("--shard I/N: N", text.substr(slash + 1), 1, 1'000'000);
  if (!count) return count.error();
  const Result<int64_t> index = parse_integer("--shard I/N: I", text.substr(0, slash), 0, *count - 1);
  if (!index) return index.error();
  return Shard{*index, *count};
}

}  // namespace

Result<std::shared_ptr<const Dataset>> open_dataset(const std::string& specification, Split split) {
  const Result<std::string> name = specification_name(specification);
  if (!name) return name.error();
  const auto reader = std::find_if(readers().begin(), readers().end(),
                                   [&](const Reader& known) { return known.name == *name; });
  if (reader == readers().end()) return unknown_scheme(specification, *name);
  const Result<Specification> parsed = parse_specification(specification, Argument::kTaken);
  if (!parsed) return parsed.error();
  return reader->open(*parsed, split);
}

Result<DataDescription> describe_dataset(const std::string& specification) {
  const auto dataset = open_dataset(specification, Split::kTrain);
  if (!dataset) return dataset.error();
  return (*dataset)->describe();
}

Result<std::shared_ptr<const Dataset>> take_shard(std::shared_ptr<const Dataset> dataset,
                                                  const ShardOptions& options) {
  if (!dataset) throw std::invalid_argument("take_shard: no data set");
  const Result<Partition> partition = parse_partition(options.partition);
  if (!partition) return partition.error();
  if (options.shard.empty()) return dataset;
  const Result<Shard> shard = parse_shard(options.shard);
  if (!shard) return shard.error();
  const auto parts = partition_indices(read_labels(*dataset), *partition, shard->count, options.seed);
  if (!parts) return parts.error();
  return std::shared_ptr<const Dataset>(copy_examples(*dataset, (*parts)[static_cast<size_t>(shard->index)]));
}

Result<HeldOutSplit> hold_out(std::shared_ptr<const Dataset> part, double fraction,
                              const ShardOptions& options) {
  if (!(fraction >= 0 && fraction < 1)) {
    return Error{ErrorCode::kInvalidArgument,
                 "--hold-out must be a fraction of at least 0 and below 1, got " + std::to_string(fraction)};
  }
  if (fraction == 0) return HeldOutSplit{.train = std::move(part)};
  const int64_t count = part->describe().num_examples;
  if (count < 2) {
    return Error{ErrorCode::kInvalidArgument,
                 "--hold-out needs a device with at least 2 examples, this one has " + std::to_string(count)};
  }
  const auto wanted = std::llround(fraction * static_cast<double>(count));
  const int64_t held = std::clamp<int64_t>(wanted, 1, count - 1);
  const uint64_t seed = derive_seed(options.seed, RandomPurpose::kHoldOut, {hash_name(options.shard)});
  const std::vector<int64_t> order = random_permutation(count, seed);
  return HeldOutSplit{
      .train = std::make_shared<Subset>(part, std::vector<int64_t>(order.begin() + held, order.end())),
      .held_out = std::make_shared<Subset>(part, std::vector<int64_t>(order.begin(), order.begin() + held))};
}

}  // namespace tandem::datasets
