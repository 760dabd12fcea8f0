#include "tandem/core/model/model_registry.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>

#include "tandem/core/data/data_description.h"
#include "tandem/core/model/model_detail.h"

namespace tandem {
namespace {

using Shape = std::vector<int64_t>;

constexpr int64_t kMaxSize = 65536;
constexpr int64_t kMaxClasses = 1'000'000;
constexpr int64_t kMaxInputValues = int64_t{1} << 28;

Error invalid(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}

/// The families of this program: those of the zoo, then those that were registered.
class Registry {
 public:
  static Registry& instance() {
    static Registry registry;
    return registry;
  }

  Result<void> add(ModelFamily family) {
    const std::lock_guard lock(mutex_);
    const std::string name = family.name;
    if (name.empty() || name.find_first_of(":,=%") != std::string::npos) {
      return invalid("\"" + name + "\" cannot be a model's name: it is empty or holds one of : , = %");
    }
    if (place_of(name) != families_.end()) {
      return invalid("model " + name + " is known already; give yours another name");
    }
    families_.push_back(std::move(family));
    return {};
  }

  std::optional<ModelFamily> find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = place_of(name);
    return found == families_.end() ? std::nullopt : std::optional(*found);
  }

  std::vector<std::string> names() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const ModelFamily& family : families_) names.push_back(family.name);
    return names;
  }

 private:
  Registry() : families_(detail::zoo()) {}

  std::vector<ModelFamily>::const_iterator place_of(const std::string& name) const {
    return std::find_if(families_.begin(), families_.end(),
                        [&](const ModelFamily& family) { return family.name == name; });
  }

  mutable std::mutex mutex_;
  std::vector<ModelFamily> families_;
};

Error unknown_model(const std::string& name) {
  const std::vector<std::string> names = model_names();
  std::string list;
  for (const std::string& known : names) list += (list.empty() ? "" : ", ") + known;
  const auto nearest = nearest_name(name, names);
  const std::string hint = nearest ? ", did you mean " + *nearest + "?" : ".";
  return invalid("unknown model \"" + name + "\"" + hint + " Known models: " + list);
}

Result<void> check_sizes(const Shape& input, int64_t num_classes) {
  if (input.size() != 1 && input.size() != 3) {
    return invalid("examples must have shape {C,H,W} or {F}, got " + shape_to_string(input));
  }
  for (const int64_t size : input) {
    if (size < 1 || size > kMaxSize) {
      return invalid("each dimension of an example must be 1.." + std::to_string(kMaxSize) + ", got shape " +
                     shape_to_string(input));
    }
  }
  if (std::accumulate(input.begin(), input.end(), int64_t{1}, std::multiplies<>()) > kMaxInputValues) {
    return invalid("an example may hold at most " + std::to_string(kMaxInputValues) + " values, got shape " +
                   shape_to_string(input));
  }
  if (num_classes < 2 || num_classes > kMaxClasses) {
    return invalid("the number of classes must be 2.." + std::to_string(kMaxClasses) + ", got " +
                   std::to_string(num_classes));
  }
  return {};
}

/// What a family of somebody else's may have got wrong.
Result<void> check_blocks(const std::string& name, const std::vector<BlockDefinition>& blocks,
                          int64_t num_classes) {
  if (blocks.empty()) return invalid("model " + name + " has no blocks");
  const Shape& output = blocks.back().info.output_shape;
  if (output == Shape{num_classes}) return {};
  return invalid("the last block of model " + name + " puts out " + shape_to_string(output) + ", expected " +
                 std::to_string(num_classes) + ": a number for each class");
}

}  // namespace

Result<void> register_model(ModelFamily family) {
  return Registry::instance().add(std::move(family));
}

std::vector<std::string> model_names() {
  return Registry::instance().names();
}

Result<ModelDefinition> define_model(const std::string& specification,
                                     const std::vector<int64_t>& input_shape, int64_t num_classes) {
  const auto name = specification_name(specification);
  if (!name) return name.error();
  const auto family = Registry::instance().find(*name);
  if (!family) return unknown_model(*name);
  const auto parsed = parse_specification(specification, Argument::kNone);
  if (!parsed) return parsed.error();
  if (auto checked = check_parameters(*parsed, family->parameters); !checked) return checked.error();
  if (auto checked = check_sizes(input_shape, num_classes); !checked) return checked.error();
  auto blocks = family->make(*parsed, input_shape, num_classes);
  if (!blocks) return blocks.error();
  if (auto checked = check_blocks(*name, *blocks, num_classes); !checked) return checked.error();
  return ModelDefinition(std::make_shared<const ModelDefinition::Impl>(
      ModelDefinition::Impl{specification, input_shape, num_classes, *std::move(blocks)}));
}

}  // namespace tandem
