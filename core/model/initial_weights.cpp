#include "tandem/core/model/initial_weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "tandem/core/base/wording_detail.h"
#include "tandem/core/data/data_description.h"

namespace tandem {
namespace {

/// As other programs write it: "float16".
std::string type_name(at::ScalarType type) {
  switch (type) {
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kFloat:
      return "float32";
    case at::kDouble:
      return "float64";
    case at::kBool:
      return "bool";
    case at::kByte:
      return "uint8";
    default:
      return "int" + std::to_string(8 * c10::elementSize(type));
  }
}

/// "16x144", or with its kind where that is not what weights have.
std::string describe(const at::Tensor& tensor) {
  const std::string shape = shape_to_string(tensor.sizes().vec());
  return at::isFloatingType(tensor.scalar_type()) ? shape : type_name(tensor.scalar_type()) + " " + shape;
}

/// Adds "TITLE a, b, c" to a list of such, with at most so many items and how many more there are.
void append_list(std::string& text, const std::string& title, const std::vector<std::string>& items) {
  constexpr size_t kMost = 6;
  if (items.empty()) return;
  text += (text.empty() ? "" : "; ") + title + " ";
  for (size_t i = 0; i < std::min(items.size(), kMost); ++i) text += (i == 0 ? "" : ", ") + items[i];
  if (items.size() > kMost) text += " and " + std::to_string(items.size() - kMost) + " more";
}

/// The prefix behind which most of the layout's names are found, and at least half of them.
std::string shared_prefix(const NamedTensors& layout, const NamedTensors& found) {
  std::set<std::string> names;
  for (const NamedTensor& entry : layout) names.insert(entry.name);
  std::map<std::string, size_t> matches;  // of each prefix
  for (const NamedTensor& entry : found) {
    if (names.contains(entry.name)) return "";
    for (size_t dot = entry.name.find('.'); dot != std::string::npos; dot = entry.name.find('.', dot + 1)) {
      if (names.contains(entry.name.substr(dot + 1))) ++matches[entry.name.substr(0, dot + 1)];
    }
  }
  const auto most = std::max_element(matches.begin(), matches.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most != matches.end() && 2 * most->second >= layout.size() ? most->first : "";
}

/// The found tensors under the names that the layout would have for them, in the order of the file.
NamedTensors renamed(const NamedTensors& found, const std::string& prefix) {
  NamedTensors tensors = found;
  for (NamedTensor& entry : tensors) {
    if (entry.name.starts_with(prefix)) entry.name.erase(0, prefix.size());
  }
  return tensors;
}

/// What the file and the model do not have in common.
struct Differences {
  NamedTensors missing;  ///< of the model
  NamedTensors unknown;  ///< of the file
};

Differences compare_names(const NamedTensors& layout, const NamedTensors& found) {
  Differences differences;
  std::set<std::string> wanted;
  std::set<std::string> there;
  for (const NamedTensor& entry : layout) wanted.insert(entry.name);
  for (const NamedTensor& entry : found) there.insert(entry.name);
  for (const NamedTensor& entry : layout) {
    if (!there.contains(entry.name)) differences.missing.push_back(entry);
  }
  for (const NamedTensor& entry : found) {
    if (!wanted.contains(entry.name)) differences.unknown.push_back(entry);
  }
  return differences;
}

std::string names_text(const Differences& differences, bool with_shapes) {
  const auto item = [&](const NamedTensor& entry) {
    return entry.name + (with_shapes ? " (" + describe(entry.tensor) + ")" : "");
  };
  std::vector<std::string> missing;
  std::vector<std::string> missing_names;
  for (const NamedTensor& entry : differences.missing) {
    missing.push_back(item(entry));
    missing_names.push_back(entry.name);
  }
  std::vector<std::string> unknown;
  for (const NamedTensor& entry : differences.unknown) {
    const auto near = nearest_name(entry.name, missing_names);
    unknown.push_back(item(entry) + (near ? " (for " + *near + "?)" : ""));
  }
  std::string text;
  append_list(text, "the file lacks", missing);
  append_list(text, "the model has no", unknown);
  return text;
}

std::string block_of(const std::string& name) {
  return name.substr(0, name.find('.'));
}

/// For a file with some whole blocks of the model and nothing else.
std::string part_hint(const NamedTensors& layout, const Differences& differences) {
  if (!differences.unknown.empty() || differences.missing.empty()) return "";
  std::set<std::string> lacking;
  for (const NamedTensor& entry : differences.missing) lacking.insert(block_of(entry.name));
  std::vector<std::string> held;
  for (const NamedTensor& entry : layout) {
    const std::string block = block_of(entry.name);
    if (lacking.contains(block)) {
      if (find_tensor(differences.missing, entry.name) == nullptr) return "";  // a part of a block
    } else if (held.empty() || held.back() != block) {
      held.push_back(block);
    }
  }
  if (held.empty()) return "";
  return "; it holds only block(s) " + detail::joined(held) +
         " of the model, as a front.safetensors or tail.safetensors does: give the model.safetensors of the "
         "run";
}

bool is_transposed(const at::Tensor& a, const at::Tensor& b) {
  return a.dim() == 2 && b.dim() == 2 && a.size(0) == b.size(1) && a.size(1) == b.size(0);
}

/// Whether values of that kind can be taken for what the model holds.
bool convertible(at::ScalarType from, at::ScalarType to) {
  if (from == to) return true;
  if (at::isFloatingType(to)) return at::isFloatingType(from);
  return at::isIntegralType(to, /*includeBool=*/false) && from != at::kBool;
}

/// Of tensors with the layout's names.
std::vector<std::string> misfits(const NamedTensors& layout, const NamedTensors& found) {
  std::vector<std::string> items;
  for (const NamedTensor& wanted : layout) {
    const at::Tensor* tensor = find_tensor(found, wanted.name);
    if (tensor == nullptr) continue;
    const bool same_shape = tensor->sizes() == wanted.tensor.sizes();
    if (same_shape && convertible(tensor->scalar_type(), wanted.tensor.scalar_type())) continue;
    items.push_back(wanted.name + " " + describe(*tensor) + " for " + describe(wanted.tensor) +
                    (!same_shape && is_transposed(*tensor, wanted.tensor) ? " (transposed)" : ""));
  }
  return items;
}

/// The tensor as `wanted` is, or nothing if a value does not fit: NaN, infinity, beyond the range, not whole.
std::optional<at::Tensor> converted(const at::Tensor& tensor, const at::Tensor& wanted) {
  if (!at::isFloatingType(wanted.scalar_type()) && at::isFloatingType(tensor.scalar_type())) {
    const at::Tensor wide = tensor.to(at::kDouble);
    if (!wide.eq(wide.trunc()).logical_and(wide.abs().lt(9e15)).all().item<bool>()) return std::nullopt;
  }
  const at::Tensor fitted = tensor.to(wanted.scalar_type());
  if (!check_finite({{"", fitted}})) return std::nullopt;
  return fitted;
}

std::string note_about(const std::map<std::string, int>& conversions, const std::string& prefix) {
  std::string note;
  if (!prefix.empty()) note = "the prefix \"" + prefix + "\" was taken off the names";
  for (const auto& [change, count] : conversions) {
    note += (note.empty() ? "" : "; ") + std::to_string(count) + " tensor" + (count == 1 ? "" : "s") +
            " converted from " + change;
  }
  return note;
}

}  // namespace

Result<FittedWeights> fit_weights(const NamedTensors& layout, const InitialWeights& weights) {
  const at::NoGradGuard no_grad;
  const std::string prefix = shared_prefix(layout, weights.tensors);
  const NamedTensors found = renamed(weights.tensors, prefix);
  const Differences differences = compare_names(layout, found);
  std::string problems = names_text(differences, /*with_shapes=*/true);
  append_list(problems, "other shapes or kinds:", misfits(layout, found));
  if (!problems.empty()) return Error{ErrorCode::kShapeMismatch, problems + part_hint(layout, differences)};

  FittedWeights fitted;
  std::vector<std::string> not_finite;
  std::map<std::string, int> conversions;  // "float16 to float32" -> how many
  for (const NamedTensor& wanted : layout) {
    const at::Tensor& tensor = *find_tensor(found, wanted.name);
    const auto value = converted(tensor, wanted.tensor);
    if (!value) {
      not_finite.push_back(wanted.name);
      continue;
    }
    fitted.tensors.push_back({wanted.name, *value});
    if (tensor.scalar_type() == wanted.tensor.scalar_type()) continue;
    ++conversions[type_name(tensor.scalar_type()) + " to " + type_name(wanted.tensor.scalar_type())];
  }
  std::string text;
  append_list(text, "NaN, infinity or values that cannot be converted in", not_finite);
  if (!text.empty()) return Error{ErrorCode::kNonFinite, text};
  fitted.note = note_about(conversions, prefix);
  return fitted;
}

Result<void> check_weight_names(const NamedTensors& layout, const InitialWeights& weights) {
  const NamedTensors found = renamed(weights.tensors, shared_prefix(layout, weights.tensors));
  const Differences differences = compare_names(layout, found);
  const std::string problems = names_text(differences, /*with_shapes=*/false);
  if (problems.empty()) return {};
  return Error{ErrorCode::kShapeMismatch, problems + part_hint(layout, differences)};
}

}  // namespace tandem
