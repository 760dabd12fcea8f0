#include "tandem/datasets/data_source.h"

#include <set>
#include <string>
#include <vector>

#include "datasets/idx_files.h"
#include "support/test.h"
#include "tandem/datasets/subset.h"

namespace {

using namespace tandem::test;
using tandem::Dataset;
using tandem::ErrorCode;
using tandem::datasets::open_dataset;
using tandem::datasets::read_labels;
using tandem::datasets::ShardOptions;
using tandem::datasets::Split;
using tandem::datasets::take_shard;
using tandem::datasets::TensorDataset;

std::string open_error(const std::string& text) {
  const auto opened = open_dataset(text, Split::kTrain);
  REQUIRE_FALSE(opened.has_value());
  CHECK(opened.error().code == ErrorCode::kInvalidArgument);
  return opened.error().message;
}

bool contains(const std::string& text, const std::string& piece) {
  return text.find(piece) != std::string::npos;
}

/// Example i has the value i.
std::shared_ptr<const Dataset> numbered(int64_t size) {
  return std::make_shared<TensorDataset>(torch::arange(size, torch::kFloat).view({size, 1}),
                                         torch::arange(size, torch::kLong).remainder(4), 9);
}

std::string shard_error(const ShardOptions& options) {
  const auto shard = take_shard(numbered(8), options);
  REQUIRE_FALSE(shard.has_value());
  CHECK(shard.error().code == ErrorCode::kInvalidArgument);
  return shard.error().message;
}

}  // namespace

TEST_SUITE("datasets/data_source") {
  TEST_CASE("idx:DIR opens a folder of IDX files") {
    const TemporaryFolder folder("tandem-source");
    write_small_set(folder.path());
    const auto opened = open_dataset("idx:" + folder.path().string(), Split::kTrain);
    REQUIRE(opened.has_value());
    CHECK((*opened)->describe() == tandem::DataDescription{{1, 4, 3}, 4, 5});
  }

  TEST_CASE("idx:DIR,classes=N says how many classes there are") {
    const TemporaryFolder folder("tandem-source");
    write_small_set(folder.path());
    const std::string data = "idx:" + folder.path().string();
    CHECK((*open_dataset(data + ",classes=10", Split::kTrain))->describe().num_classes == 10);
    const auto beyond = open_dataset(data + ",classes=3", Split::kTrain);
    REQUIRE_FALSE(beyond.has_value());
    CHECK(beyond.error().message ==
          (folder.path() / "train-labels-idx1-ubyte").string() +
              ": label 3 of example 4 (counted from 0) is outside 0..2 of classes=3");
    CHECK(open_error(data + ",classes=1") ==
          "idx: classes must be a whole number from 2 to 1000000, got \"1\"");
  }

  TEST_CASE("errors of the reader come through with their code") {
    const auto opened = open_dataset("idx:/nonexistent/fashion-mnist", Split::kTest);
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().code == ErrorCode::kNotFound);
    CHECK(contains(opened.error().message,
                   "/nonexistent/fashion-mnist: no such folder, looked there for t10k-images"));
    CHECK(contains(opened.error().message, "install dataset-fashion-mnist or give idx:DIR"));
  }

  TEST_CASE("synthetic:NAME makes a data set up") {
    const auto opened = open_dataset("synthetic:blobs,examples=30,classes=3,features=2", Split::kTrain);
    REQUIRE(opened.has_value());
    CHECK((*opened)->describe() == tandem::DataDescription{{2}, 3, 30});
  }

  TEST_CASE("what is not known is quoted with the nearest that is") {
    CHECK(open_error("idz:/data") ==
          "data \"idz:/data\": unknown scheme \"idz\"; did you mean idx:? Known are idx:DIR and "
          "synthetic:NAME");
    CHECK(open_error("/usr/share/data") ==
          "data \"/usr/share/data\": no scheme before a ':'; Known are idx:DIR and synthetic:NAME");
    CHECK_FALSE(open_error("").empty());
    CHECK(open_error("idx:/data?classes=3") == "\"idx:/data?classes=3\": write idx:/data,classes=3");
    CHECK(open_error("idx:") == "idx: needs a folder, for example idx:/usr/share/datasets/fashion-mnist");
    CHECK(contains(open_error("idx:/data,label=3"), "label"));
    CHECK(contains(open_error("synthetic:blobs,example=3"), "example"));
  }

  TEST_CASE("the shards of all devices together are the whole, each example once") {
    for (const std::string partition : {"iid", "dirichlet:0.5"}) {
      CAPTURE(partition);
      std::multiset<float> seen;
      for (int device = 0; device < 3; ++device) {
        const auto shard = take_shard(
            numbered(40), {.shard = std::to_string(device) + "/3", .partition = partition, .seed = 4});
        REQUIRE(shard.has_value());
        const tandem::DataDescription description = (*shard)->describe();
        CHECK(description.num_classes == 9);  // the whole's, not the shard's
        for (int64_t i = 0; i < description.num_examples; ++i) {
          const tandem::Batch batch = (*shard)->get(std::vector<int64_t>{i});
          const float value = batch.inputs.item<float>();
          CHECK(batch.labels.item<int64_t>() == static_cast<int64_t>(value) % 4);
          seen.insert(value);
        }
      }
      CHECK(seen.size() == 40);
      CHECK(std::set<float>(seen.begin(), seen.end()).size() == 40);
    }
  }

  TEST_CASE("a shard does not keep the rest of the data in memory") {
    auto whole = numbered(1000);
    const std::weak_ptr<const Dataset> watched = whole;
    const auto shard = take_shard(std::move(whole), {.shard = "0/10"});
    REQUIRE(shard.has_value());
    CHECK(watched.expired());
    CHECK((*shard)->describe().num_examples == 100);
  }

  TEST_CASE("no shard means everything, the same object") {
    const auto whole = numbered(8);
    const auto shard = take_shard(whole, {});
    REQUIRE(shard.has_value());
    CHECK(*shard == whole);
  }

  TEST_CASE("mistakes in the flags are named") {
    CHECK(shard_error({.shard = "2"}) == "--shard must be I/N with 0 <= I < N, for example 0/4, got \"2\"");
    for (const std::string text : {"2/2", "-1/2", "a/2", "0/", "/2", "0/0", "0/2/3", "0 /2"}) {
      CAPTURE(text);
      CHECK(contains(shard_error({.shard = text}), "--shard"));
    }
    CHECK(shard_error({.shard = "0/9"}) ==
          "--shard: 8 examples cannot be split into 9 shards without an empty one");
    CHECK(contains(shard_error({.shard = "0/2", .partition = "idd"}), "did you mean iid?"));
    CHECK(contains(shard_error({.partition = "idd"}), "--partition \"idd\""));  // also without a shard
    CHECK_THROWS_WITH_AS((void)take_shard(nullptr, {}), "take_shard: no data set", std::invalid_argument);
  }
}
