#include "tandem/aggregator/session/run_data.h"

#include <string>

#include "tandem/datasets/data_source.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

std::shared_ptr<const Dataset> data_of(int classes, int size = 8) {
  return datasets::open_dataset("synthetic:images,examples=20,test-examples=20,classes=" +
                                    std::to_string(classes) + ",size=" + std::to_string(size),
                                datasets::Split::kTest)
      .value();
}

SessionOptions options_of(std::vector<int64_t> shape, int64_t classes) {
  SessionOptions options;
  options.plan.input_shape = std::move(shape);
  options.plan.num_classes = classes;
  return options;
}

}  // namespace

TEST_SUITE("aggregator/session/run_data") {
  TEST_CASE("what the operator gives stands, and says where it comes from") {
    const auto eval = data_of(4);
    const RunData both = RunData::given_by(options_of({1, 8, 8}, 7), eval.get(), 9).value();
    CHECK(both.is_fixed());
    CHECK(both.shape_by() == "--input-shape");
    CHECK(both.classes() == 7);
    CHECK(both.classes_by() == "--num-classes");
    const RunData evaluated = RunData::given_by(options_of({}, 0), eval.get(), std::nullopt).value();
    CHECK(evaluated.shape() == std::vector<int64_t>{1, 8, 8});
    CHECK(evaluated.shape_by() == "--eval-data");
    CHECK(evaluated.classes() == 4);
    CHECK(evaluated.classes_by() == "--eval-data");
    const RunData weights = RunData::given_by(options_of({}, 0), nullptr, 9).value();
    CHECK_FALSE(weights.is_fixed());
    CHECK(weights.classes() == 9);
    CHECK(weights.classes_by() == "--init");
    CHECK(RunData::given_by(options_of({}, 0), eval.get(), 9).value().classes() == 9);
  }

  TEST_CASE("flags and evaluation data that contradict each other are refused with both values") {
    const auto eval = data_of(4);
    const auto message = [&](const SessionOptions& options,
                             std::optional<int64_t> of_weights = std::nullopt) {
      return RunData::given_by(options, eval.get(), of_weights).error().message;
    };
    CHECK(message(options_of({3, 8, 8}, 0)) ==
          "--input-shape is 3x8x8, the examples of --eval-data have 1x8x8; leave out --input-shape or give "
          "--eval-data of that shape");
    CHECK(message(options_of({}, 3)) ==
          "--num-classes is 3, the labels of --eval-data need 4 classes; give --num-classes 4 or mend the "
          "labels");
    CHECK(message(options_of({}, 0), 3) ==
          "the weights of --init are for 3 classes, the labels of --eval-data need 4 classes");
  }

  TEST_CASE("devices decide what is open until it is fixed, and whoever decided is named") {
    RunData data;
    data.take({{1, 8, 8}, 5, 10}, "cam-1");
    CHECK(data.check({{1, 8, 8}, 10, 10}).has_value());  // more classes may still come
    data.take_classes(10, "cam-2");
    CHECK(data.shape_origin() == "the shape 1x8x8 comes from device cam-1");
    data.fix();
    CHECK(data.check({{1, 8, 8}, 10, 10}).has_value());
    CHECK(data.check({{1, 8, 8}, 2, 10}).has_value());
    CHECK(
        data.check({{1, 8, 8}, 11, 10}).error().message ==
        "its labels need 11 classes, this run has 10 (from device cam-2); mend its labels, or start the run "
        "anew with --num-classes 11");
    CHECK(data.check({{3, 8, 8}, 10, 10}).error().message ==
          "its examples have shape 3x8x8, this run trains on 1x8x8 (from device cam-1)");
    data.take({{3, 8, 8}, 99, 10}, "cam-3");
    CHECK(data.classes() == 10);
    CHECK(data.shape_by() == "device cam-1");
  }

  TEST_CASE("a device cannot decide on anything, but what the operator gives is not limited") {
    const std::vector<DataDescription> absurd = {{{1, 4, 4}, int64_t{1} << 50, 10},
                                                 {{1, 4, 4}, 1, 10},
                                                 {{1, 4, 4}, -1, 10},
                                                 {{65536, 65536}, 3, 10},
                                                 {{1, 1024, 1024}, 3, 10},
                                                 {{}, 3, 10},
                                                 {{-4}, 3, 10},
                                                 {{1, 0, 4}, 3, 10},
                                                 {{2, 2, 2, 2}, 3, 10}};
    for (const DataDescription& data : absurd) {
      CAPTURE(shape_to_string(data.input_shape));
      CHECK((RunData().check_possible(data).error().code == ErrorCode::kTooLarge));
    }
    CHECK(RunData().check_possible({{3, 224, 224}, 1000, 10}).has_value());
    const RunData given =
        RunData::given_by(options_of({1, 1024, 1024}, 100'000), nullptr, std::nullopt).value();
    CHECK(given.check_possible({{1, 1024, 1024}, 90'000, 10}).has_value());
  }

  TEST_CASE("ordinary data are rows of features and images") {
    for (const auto& shape : std::vector<std::vector<int64_t>>{{5}, {1, 28, 28}, {3, 4, 4}, {16, 500, 4}}) {
      CHECK(is_ordinary(shape));
    }
    for (const auto& shape :
         std::vector<std::vector<int64_t>>{{1, 3, 28}, {17, 28, 28}, {1, 28, 1}, {4, 4}}) {
      CHECK_FALSE(is_ordinary(shape));
    }
  }
}
