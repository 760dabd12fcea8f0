// Uses an installed Tandem as another project would; exits 0 when the figures are right.
#include <torch/torch.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "tandem/core/base/random.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/model/model_registry.h"

namespace {

/// A model of this project's own: two blocks, so that there is a cut.
tandem::Result<std::vector<tandem::BlockDefinition>> tiny(const tandem::Specification&,
                                                          const std::vector<int64_t>& input,
                                                          int64_t classes) {
  int64_t values = 1;
  for (const int64_t side : input) values *= side;
  return std::vector<tandem::BlockDefinition>{
      {{"hidden", {8}},
       false,
       [values] {
         return torch::nn::Sequential(torch::nn::Flatten(), torch::nn::Linear(values, 8), torch::nn::Tanh());
       }},
      {{"classes", {classes}}, false, [classes] {
         return torch::nn::Sequential(torch::nn::Linear(8, classes));
       }}};
}

/// Whether the model is known by its name, and its two halves compute what it computes in one piece.
bool own_model_works() {
  if (!tandem::register_model({"tiny", {}, tiny})) return false;
  const auto model = tandem::define_model("tiny", {1, 4, 4}, 3);
  if (!model || !model->check_cut(1)) return false;
  const at::Tensor input = at::rand({5, 1, 4, 4});
  const at::Tensor whole = model->build(7).forward(input);
  const at::Tensor halves = model->build(7, 1, 2).forward(model->build(7, 0, 1).forward(input));
  return at::equal(whole, halves) && whole.size(1) == 3;
}

}  // namespace

int main() {
  const uint64_t first = tandem::derive_seed(7, tandem::RandomPurpose::kShuffle, {1, 2});
  const uint64_t again = tandem::derive_seed(7, tandem::RandomPurpose::kShuffle, {1, 2});
  const uint64_t other = tandem::derive_seed(7, tandem::RandomPurpose::kShuffle, {2, 1});
  const std::string shape = tandem::shape_to_string({1, 28, 28});
  const uint64_t name = tandem::hash_name("cam-1");  // xxHash: a private dependency has to link
  std::printf("seed %llu, name %llu, shape %s\n", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(name), shape.c_str());
  const bool is_right =
      own_model_works() && first == again && first != other && name != 0 && shape == "1x28x28";
  return is_right ? 0 : 1;
}
