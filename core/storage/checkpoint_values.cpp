#include "tandem/core/storage/checkpoint_values.h"

#include <ATen/ATen.h>

#include <cstring>
#include <exception>
#include <utility>

#include <nlohmann/json.hpp>

namespace tandem {
namespace {

constexpr const char* kValues = "state";

}  // namespace

Checkpoint make_checkpoint(CheckpointPosition position, const nlohmann::json& values, NamedTensors tensors,
                           std::map<std::string, std::string> metadata) {
  const std::string text = values.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  at::Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  std::memcpy(bytes.data_ptr(), text.data(), text.size());
  tensors.push_back({kValues, std::move(bytes)});
  return {.position = position, .tensors = std::move(tensors), .metadata = std::move(metadata)};
}

Result<void> load_checkpoint_values(const Checkpoint& checkpoint,
                                    const std::function<Result<void>(const nlohmann::json&)>& load) {
  const at::Tensor* bytes = find_tensor(checkpoint.tensors, kValues);
  if (bytes == nullptr || bytes->scalar_type() != at::kByte || bytes->dim() != 1) {
    return Error{ErrorCode::kCorrupt, "the checkpoint holds no state to go on from"};
  }
  const at::Tensor dense = bytes->contiguous();
  const auto* begin = static_cast<const char*>(dense.data_ptr());
  try {
    return load(nlohmann::json::parse(begin, begin + dense.numel()));
  } catch (const std::exception& error) {
    return Error{ErrorCode::kCorrupt,
                 std::string("the checkpoint's state is not as expected: ") + error.what()};
  }
}

}  // namespace tandem
