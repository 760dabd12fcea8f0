#include "tandem/datasets/synthetic.h"

#include <cmath>
#include <string>
#include <vector>

#include "support/test.h"
#include "tandem/core/base/random.h"

namespace {

using tandem::ErrorCode;
using tandem::datasets::make_synthetic;
using tandem::datasets::open_synthetic;
using tandem::datasets::Split;
using tandem::datasets::SyntheticBlobs;
using tandem::datasets::SyntheticImages;
using tandem::datasets::TensorDataset;

using Made = std::shared_ptr<const TensorDataset>;

Made open(const std::string& text, Split split = Split::kTrain) {
  const auto specification = tandem::parse_specification(text, tandem::Argument::kTaken);
  REQUIRE(specification.has_value());
  auto made = open_synthetic(*specification, split);
  REQUIRE_MESSAGE(made.has_value(), (made ? "" : made.error().message));
  return *made;
}

tandem::Error open_error(const std::string& text) {
  const auto specification = tandem::parse_specification(text, tandem::Argument::kTaken);
  REQUIRE(specification.has_value());
  const auto made = open_synthetic(*specification, Split::kTrain);
  REQUIRE_FALSE(made.has_value());
  return made.error();
}

bool contains(const std::string& text, const std::string& piece) {
  return text.find(piece) != std::string::npos;
}

uint64_t hash_of(const at::Tensor& tensor) {
  return tandem::hash_name({static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()});
}

at::Tensor scaled(const at::Tensor& images) {
  return images.to(torch::kFloat).div(255.0).sub(0.25).div(0.2);
}

double accuracy(torch::nn::Sequential& model, const TensorDataset& test) {
  const torch::NoGradGuard no_grad;
  const at::Tensor guesses = model->forward(scaled(test.inputs())).argmax(1);
  return guesses.eq(test.labels()).to(torch::kDouble).mean().item<double>();
}

/// Test accuracy after `epochs` of SGD with momentum; the data are balanced in order, so no shuffling.
double train(torch::nn::Sequential model, const TensorDataset& data, const TensorDataset& test, int epochs,
             double learning_rate) {
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(learning_rate).momentum(0.9));
  const int64_t n = data.labels().size(0);
  for (int epoch = 0; epoch < epochs; ++epoch) {
    for (int64_t begin = 0; begin + 50 <= n; begin += 50) {
      optimizer.zero_grad();
      const at::Tensor output = model->forward(scaled(data.inputs().slice(0, begin, begin + 50)));
      torch::nn::functional::cross_entropy(output, data.labels().slice(0, begin, begin + 50)).backward();
      optimizer.step();
    }
  }
  return accuracy(model, test);
}

torch::nn::Sequential small_cnn(int64_t size, int64_t classes) {
  return torch::nn::Sequential(torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 16, 3).padding(1)),
                               torch::nn::ReLU(), torch::nn::MaxPool2d(torch::nn::MaxPool2dOptions(2)),
                               torch::nn::Conv2d(torch::nn::Conv2dOptions(16, 32, 3).padding(1)),
                               torch::nn::ReLU(), torch::nn::MaxPool2d(torch::nn::MaxPool2dOptions(2)),
                               torch::nn::Flatten(), torch::nn::Linear(32 * (size / 4) * (size / 4), 64),
                               torch::nn::ReLU(), torch::nn::Linear(64, classes));
}

torch::nn::Sequential linear_model(int64_t inputs, int64_t classes) {
  return torch::nn::Sequential(torch::nn::Flatten(), torch::nn::Linear(inputs, classes));
}

}  // namespace

TEST_SUITE("datasets/synthetic") {
  TEST_CASE("the defaults are 6000 and 1000 grey images of 28 x 28 in ten balanced classes") {
    const Made train_set = open("synthetic:images");
    CHECK(train_set->describe() == tandem::DataDescription{{1, 28, 28}, 10, 6000});
    CHECK((train_set->inputs().scalar_type() == at::kByte));
    CHECK(torch::equal(torch::bincount(train_set->labels()), torch::full({10}, 600, torch::kLong)));
    CHECK(open("synthetic:images", Split::kTest)->describe() ==
          tandem::DataDescription{{1, 28, 28}, 10, 1000});
  }

  TEST_CASE("parameters are taken from the specification") {
    const std::string text =
        "synthetic:images,examples=12,test-examples=7,classes=4,size=9,channels=3,seed=5";
    CHECK(open(text)->describe() == tandem::DataDescription{{3, 9, 9}, 4, 12});
    CHECK(open(text, Split::kTest)->describe() == tandem::DataDescription{{3, 9, 9}, 4, 7});
    const std::string blobs = "synthetic:blobs,examples=12,test-examples=7,classes=4,features=3,seed=5";
    CHECK(open(blobs)->describe() == tandem::DataDescription{{3}, 4, 12});
    CHECK((open(blobs)->inputs().scalar_type() == at::kFloat));
    CHECK(open(blobs, Split::kTest)->describe() == tandem::DataDescription{{3}, 4, 7});
  }

  TEST_CASE("the same specification gives the same bytes, here and on every machine") {
    const SyntheticImages images{.examples = 50, .channels = 2};
    const SyntheticBlobs blobs{.examples = 50};
    // Recorded once; integer arithmetic leaves no machine a choice.
    CHECK(hash_of(make_synthetic(images, Split::kTrain)->inputs()) == 8318144272890967057u);
    CHECK(hash_of(make_synthetic(blobs, Split::kTrain)->inputs()) == 9845665591365242595u);
  }

  TEST_CASE("another seed, another split or more examples: what changes and what does not") {
    const auto inputs = [](SyntheticImages options, Split split) {
      return make_synthetic(options, split)->inputs();
    };
    const SyntheticImages base{.examples = 20, .test_examples = 20};
    const at::Tensor train_set = inputs(base, Split::kTrain);
    CHECK(torch::equal(train_set, inputs(base, Split::kTrain)));
    CHECK_FALSE(torch::equal(train_set, inputs(base, Split::kTest)));
    CHECK_FALSE(torch::equal(train_set, inputs({.examples = 20, .seed = 2}, Split::kTrain)));
    CHECK(torch::equal(train_set, inputs({.examples = 30}, Split::kTrain).slice(0, 0, 20)));
  }

  TEST_CASE("both splits show the same classes: the mean pictures agree, those of two classes do not") {
    const SyntheticImages options{.examples = 2000, .test_examples = 2000, .classes = 4};
    const auto means = [&](Split split) {
      const Made made = make_synthetic(options, split);
      std::vector<at::Tensor> pictures;
      for (int64_t label = 0; label < 4; ++label) {
        pictures.push_back(made->inputs().slice(0, label, 2000, 4).to(torch::kFloat).mean(0));
      }
      return pictures;
    };
    const auto train_means = means(Split::kTrain);
    const auto test_means = means(Split::kTest);
    const auto distance = [](const at::Tensor& a, const at::Tensor& b) {
      return (a - b).abs().mean().item<double>();
    };
    for (size_t label = 0; label < 4; ++label) {
      CHECK(distance(train_means[label], test_means[label]) < 4.0);
      CHECK(distance(train_means[label], train_means[(label + 1) % 4]) > 8.0);
    }
  }

  TEST_CASE("points are clusters of standard deviation 1 around centres of standard deviation 2") {
    const SyntheticBlobs options{.examples = 20000, .classes = 20, .features = 50};
    const Made made = make_synthetic(options, Split::kTrain);
    const at::Tensor by_class = made->inputs().view({1000, 20, 50}).to(torch::kDouble);
    const at::Tensor centres = by_class.mean(0);
    CHECK((by_class - centres).pow(2).mean().item<double>() == doctest::Approx(1.0).epsilon(0.02));
    // 1000 values: the standard error of a variance of 4 is 0.18.
    CHECK(centres.pow(2).mean().item<double>() == doctest::Approx(4.0).epsilon(0.2));
    CHECK(std::abs((by_class - centres).pow(3).mean().item<double>()) < 0.02);
    // Twelve uniforms have a kurtosis of 3 - 1.2 / 12 = 2.9.
    CHECK((by_class - centres).pow(4).mean().item<double>() == doctest::Approx(2.9).epsilon(0.03));
  }

  TEST_CASE("a small CNN learns the images in a few epochs, a linear model clearly less well") {
    at::set_num_threads(1);
    torch::manual_seed(1);
    const Made data = make_synthetic(SyntheticImages{}, Split::kTrain);
    const Made test = make_synthetic(SyntheticImages{}, Split::kTest);
    const double cnn = train(small_cnn(28, 10), *data, *test, 3, 0.03);
    const double linear = train(linear_model(28 * 28, 10), *data, *test, 5, 0.003);
    MESSAGE("test accuracy: CNN " << cnn << ", linear " << linear);
    CHECK(cnn > 0.9);
    CHECK(linear < cnn - 0.1);
    CHECK(linear > 0.2);
  }

  TEST_CASE("what is out of range or unknown is named") {
    CHECK(open_error("synthetic:imagse").message ==
          "synthetic:imagse is unknown; did you mean synthetic:images? Known are synthetic:images and "
          "synthetic:blobs");
    CHECK(contains(open_error("synthetic:").message, "Known are synthetic:images and synthetic:blobs"));
    const tandem::Error unknown = open_error("synthetic:images,exmples=5");
    CHECK(unknown.code == ErrorCode::kInvalidArgument);
    CHECK(contains(unknown.message, "exmples"));
    CHECK(contains(unknown.message, "examples"));
    CHECK(contains(open_error("synthetic:images,features=5").message, "features"));
    for (const std::string text :
         {"images,examples=0", "images,classes=1", "images,size=7", "images,size=257", "images,channels=17",
          "images,seed=-1", "blobs,features=0", "blobs,test-examples=x"}) {
      CAPTURE(text);
      const tandem::Error error = open_error("synthetic:" + text);
      CHECK(error.code == ErrorCode::kInvalidArgument);
      CHECK(contains(error.message, "synthetic:" + text.substr(0, text.find('='))));
    }
  }

  TEST_CASE("a data set above the limit is refused before it is made") {
    const tandem::Error error = open_error("synthetic:images,examples=10000000,size=256");
    CHECK(error.code == ErrorCode::kTooLarge);
    CHECK(error.message ==
          "synthetic: 10000000 examples of 65536 bytes exceed the limit of 4294967296 bytes");
  }
}
