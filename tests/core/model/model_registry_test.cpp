#include "tandem/core/model/model_registry.h"

#include <algorithm>
#include <string>
#include <vector>

#include "support/test.h"

using namespace tandem;

namespace {

/// `blocks` linear blocks of 4 outputs each, and one for the classes.
ModelFamily family(const std::string& name, int64_t outputs_of_last = 0) {
  return {name,
          {"blocks"},
          [name, outputs_of_last](const Specification& specification, const std::vector<int64_t>& input,
                                  int64_t classes) -> Result<std::vector<BlockDefinition>> {
            const auto given = specification.parameters.find("blocks");
            const auto blocks = parse_integer(
                name + ":blocks", given == specification.parameters.end() ? "2" : given->second, 0, 9);
            if (!blocks) return blocks.error();
            std::vector<BlockDefinition> definitions;
            int64_t width = input[0];
            const auto add = [&](int64_t outputs) {
              definitions.push_back(
                  {{"fc" + std::to_string(definitions.size() + 1), {outputs}}, false, [width, outputs] {
                     return torch::nn::Sequential(torch::nn::Linear(width, outputs));
                   }});
              width = outputs;
            };
            for (int64_t i = 0; i < *blocks; ++i) add(4);
            if (*blocks > 0) add(outputs_of_last > 0 ? outputs_of_last : classes);
            return definitions;
          }};
}

}  // namespace

TEST_SUITE("core/model/model_registry") {
  TEST_CASE("a registered model is known like those of the zoo, with its parameters checked") {
    REQUIRE(register_model(family("chain")));
    const auto names = model_names();
    CHECK(std::find(names.begin(), names.end(), "chain") != names.end());
    CHECK(std::find(names.begin(), names.end(), "lenet5") != names.end());
    const auto model = define_model("chain:blocks=3", {6}, 5);
    REQUIRE(model);
    CHECK(model->num_blocks() == 4);
    CHECK(model->block(3).output_shape == std::vector<int64_t>{5});
    // Its weights depend on the seed and the block's number only, as everybody's.
    const at::Tensor input = at::rand({2, 6});
    const at::Tensor front = model->build(3, 0, 2).forward(input);
    CHECK(at::equal(model->build(3, 2, 4).forward(front), model->build(3).forward(input)));
    CHECK_FALSE(at::equal(model->build(3).forward(input), model->build(4).forward(input)));

    CHECK(define_model("chain:block=3", {6}, 5).error().message.find("blocks") != std::string::npos);
    CHECK(define_model("chain:blocks=10", {6}, 5).error().message.find("chain:blocks") != std::string::npos);
    CHECK(define_model("chian", {6}, 5).error().message.find("did you mean chain?") != std::string::npos);
  }

  TEST_CASE("a name that is taken, or that the grammar cannot say, is refused") {
    for (const std::string name : {"cnn", "", "a:b", "a,b", "a=b", "50%"}) {
      CAPTURE(name);
      const auto registered = register_model(family(name));
      REQUIRE_FALSE(registered);
      CHECK(registered.error().code == ErrorCode::kInvalidArgument);
      CHECK(registered.error().message.find(name) != std::string::npos);
    }
  }

  TEST_CASE("a family that makes no blocks, or whose last one does not fit the classes, is refused") {
    REQUIRE(register_model(family("seven", 7)));
    CHECK(define_model("seven:blocks=0", {6}, 5).error().message == "model seven has no blocks");
    CHECK(define_model("seven", {6}, 5).error().message ==
          "the last block of model seven puts out 7, expected 5: a number for each class");
    CHECK(define_model("seven", {6}, 7));
  }
}
