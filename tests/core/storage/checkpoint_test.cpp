#include "tandem/core/storage/checkpoint.h"

#include <fstream>
#include <string>
#include <vector>

#include "core/storage/storage_support.h"
#include "support/test.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/seal.h"

using namespace tandem;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

namespace {

Checkpoint checkpoint(uint32_t round, uint32_t step, int64_t elements = 8) {
  Checkpoint point{{round, step}, {}, {{"incarnation", "3"}, {"cursor", std::to_string(round)}}};
  point.tensors = {{"0.weight", at::arange(elements, at::TensorOptions().dtype(at::kFloat)) / 8 +
                                    static_cast<double>(round)},
                   {"0.steps", at::scalar_tensor(static_cast<int64_t>(step), at::kLong)}};
  return point;
}

void check_same(const Checkpoint& expected, const Checkpoint& found) {
  CHECK((expected.position == found.position));
  CHECK(expected.metadata == found.metadata);
  REQUIRE(expected.tensors.size() == found.tensors.size());
  for (size_t i = 0; i < expected.tensors.size(); ++i) {
    CHECK(expected.tensors[i].name == found.tensors[i].name);
    CHECK((expected.tensors[i].tensor.scalar_type() == found.tensors[i].tensor.scalar_type()));
    CHECK(at::equal(expected.tensors[i].tensor, found.tensors[i].tensor));
  }
}

/// The newest checkpoint, which must be there, after exactly those warnings.
Checkpoint newest(const CheckpointStore& store, const Names& expected_warnings = {}) {
  Names warnings;
  auto found = store.load_newest(warnings);
  REQUIRE_MESSAGE(found.has_value(), found.error().message);
  CHECK(warnings == expected_warnings);
  return *found;
}

void flip_bit(const fs::path& path, std::streamoff offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const int value = file.get();
  file.seekp(offset);
  file.put(static_cast<char>(value ^ 1));
}

const std::string kOne = "round-00001-step-00000";
const std::string kTwo = "round-00002-step-00000";

}  // namespace

TEST_SUITE("core/storage/checkpoint") {
  TEST_CASE("a checkpoint comes back bit for bit with round, step and metadata") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path() / "deep" / "checkpoints");
    REQUIRE(store.save(checkpoint(3, 40)).has_value());
    check_same(checkpoint(3, 40), newest(store));
    CHECK(names_in(directory.path() / "deep" / "checkpoints") ==
          Names{"round-00003-step-00040.json", "round-00003-step-00040.safetensors"});
  }

  TEST_CASE("tensors that lie channels last come back so, and the others as they were") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path());
    const at::Tensor values = at::arange(48, at::kFloat).reshape({2, 3, 4, 2});
    Checkpoint point = checkpoint(1, 0);
    point.tensors.push_back({"last", values.contiguous(at::MemoryFormat::ChannelsLast)});
    point.tensors.push_back({"first", values});
    REQUIRE(store.save(point).has_value());
    const Checkpoint found = newest(store);
    check_same(point, found);
    for (size_t i = 0; i < point.tensors.size(); ++i) {
      CHECK(point.tensors[i].tensor.strides().vec() == found.tensors[i].tensor.strides().vec());
    }
  }

  TEST_CASE("the manifest says what sha256sum and ls say") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path());
    REQUIRE(store.save(checkpoint(1, 0)).has_value());
    const fs::path data = directory.path() / (kOne + ".safetensors");
    const std::string bytes = read_file(data).value();
    CHECK(read_file(directory.path() / (kOne + ".json")).value() ==
          "{\n  \"file\": \"" + kOne +
              ".safetensors\",\n  \"bytes\": " + std::to_string(fs::file_size(data)) + ",\n  \"sha256\": \"" +
              sha256_hex({bytes}) + "\",\n  \"round\": 1,\n  \"step\": 0\n}\n");
  }

  TEST_CASE("newest means the highest round and step, however many digits they take") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path(), 10);
    for (const auto& [round, step] : {std::pair{2u, 7u}, {2u, 100u}, {99999u, 1u}, {100000u, 0u}}) {
      REQUIRE(store.save(checkpoint(round, step)).has_value());
      check_same(checkpoint(round, step), newest(store));
    }
    REQUIRE(store.save(checkpoint(UINT32_MAX, UINT32_MAX)).has_value());
    check_same(checkpoint(UINT32_MAX, UINT32_MAX), newest(store));
  }

  TEST_CASE("only the newest stay, and strange files are left alone") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path(), 2);
    std::ofstream(directory.path() / "notes.txt") << "mine";
    for (uint32_t round = 1; round <= 4; ++round) REQUIRE(store.save(checkpoint(round, 0)).has_value());
    CHECK(names_in(directory.path()) ==
          Names{"notes.txt", "round-00003-step-00000.json", "round-00003-step-00000.safetensors",
                "round-00004-step-00000.json", "round-00004-step-00000.safetensors"});
  }

  TEST_CASE("what a crash left behind is removed by the next save") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path());
    REQUIRE(store.save(checkpoint(1, 0)).has_value());
    std::ofstream(directory.path() / (kTwo + ".safetensors")) << "no manifest yet";
    std::ofstream(directory.path() / ("." + kTwo + ".json.tmp-AbCdEf")) << "{";
    check_same(checkpoint(1, 0), newest(store));
    REQUIRE(store.save(checkpoint(1, 5)).has_value());
    CHECK(names_in(directory.path()) == Names{kOne + ".json", kOne + ".safetensors",
                                              "round-00001-step-00005.json",
                                              "round-00001-step-00005.safetensors"});
  }

  TEST_CASE("a damaged newest is passed over with a warning that names it") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path());
    REQUIRE(store.save(checkpoint(1, 0)).has_value());
    REQUIRE(store.save(checkpoint(2, 0)).has_value());
    const fs::path data = directory.path() / (kTwo + ".safetensors");
    const std::string passed_over = "checkpoint " + kTwo + " is passed over: ";

    SUBCASE("one bit flipped anywhere") {
      const auto size = static_cast<std::streamoff>(fs::file_size(data));
      const std::string good = sha256_hex({read_file(data).value()});
      for (const std::streamoff offset : {std::streamoff{0}, size / 2, size - 1}) {
        flip_bit(data, offset);
        const std::string bad = sha256_hex({read_file(data).value()});
        check_same(checkpoint(1, 0), newest(store, {passed_over + data.string() + ": expected SHA-256 " +
                                                    good + ", found " + bad}));
        flip_bit(data, offset);
      }
      check_same(checkpoint(2, 0), newest(store));
    }
    SUBCASE("truncated") {
      const auto size = fs::file_size(data);
      fs::resize_file(data, size - 1);
      check_same(checkpoint(1, 0),
                 newest(store, {passed_over + data.string() + ": expected " + std::to_string(size) +
                                " bytes, found " + std::to_string(size - 1)}));
    }
    SUBCASE("data missing") {
      fs::remove(data);
      check_same(checkpoint(1, 0), newest(store, {passed_over + "cannot open " + data.string() +
                                                  ": No such file or directory"}));
    }
    SUBCASE("a manifest of another position or that points elsewhere") {
      const fs::path manifest = directory.path() / (kTwo + ".json");
      fs::copy_file(directory.path() / (kOne + ".json"), manifest, fs::copy_options::overwrite_existing);
      check_same(checkpoint(1, 0),
                 newest(store, {passed_over + manifest.string() + ": expected the manifest of " + kTwo +
                                ", found that of " + kOne}));
      std::ofstream(manifest) << R"({"file":"../x","bytes":1,"sha256":"","round":2,"step":0})";
      check_same(checkpoint(1, 0),
                 newest(store, {passed_over + manifest.string() +
                                ": expected a file name without directories, found \"../x\""}));
    }
    SUBCASE("a manifest with numbers that are none of its own") {
      const fs::path manifest = directory.path() / (kTwo + ".json");
      const struct {
        const char* numbers;
        std::string found;
      } cases[] = {
          {R"("bytes":1e300,"round":2,"step":0)",
           "\"bytes\": expected a whole number up to 18446744073709551615, found 1e+300"},
          {R"("bytes":-1,"round":2,"step":0)",
           "\"bytes\": expected a whole number up to 18446744073709551615, found -1"},
          {R"("bytes":1,"round":4294967298,"step":0)",
           "\"round\": expected a whole number up to 4294967295, found 4294967298"},
          {R"("bytes":1,"round":2,"step":true)",
           "\"step\": expected a whole number up to 4294967295, found boolean"},
      };
      for (const auto& entry : cases) {
        CAPTURE(entry.numbers);
        std::ofstream(manifest) << R"({"file":"x","sha256":"",)" << entry.numbers << "}";
        check_same(checkpoint(1, 0),
                   newest(store, {passed_over + manifest.string() + ": not a manifest: " + entry.found}));
      }
    }
    SUBCASE("a manifest that is no JSON") {
      std::ofstream(directory.path() / (kTwo + ".json")) << "{\"file\":";
      Names warnings;
      const auto found = store.load_newest(warnings);
      REQUIRE(found.has_value());
      check_same(checkpoint(1, 0), *found);
      REQUIRE(warnings.size() == 1);
      CHECK(warnings[0].rfind(
                passed_over + directory.path().string() + "/" + kTwo + ".json: not a manifest: ", 0) == 0);
    }
  }

  TEST_CASE("a checkpoint without its manifest does not count") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path());
    REQUIRE(store.save(checkpoint(1, 0)).has_value());
    REQUIRE(store.save(checkpoint(2, 0)).has_value());
    fs::remove(directory.path() / (kTwo + ".json"));
    check_same(checkpoint(1, 0), newest(store));
  }

  TEST_CASE("nothing to load is kNotFound, and says how many were damaged") {
    const TemporaryDirectory directory;
    const fs::path missing = directory.path() / "missing";
    Names warnings;
    const auto none = CheckpointStore(missing).load_newest(warnings);
    REQUIRE_FALSE(none.has_value());
    CHECK((none.error().code == ErrorCode::kNotFound));
    CHECK(none.error().message == "no good checkpoint in " + missing.string() + ", 0 damaged");
    CHECK(warnings.empty());

    CheckpointStore store(directory.path());
    REQUIRE(store.save(checkpoint(1, 0)).has_value());
    flip_bit(directory.path() / (kOne + ".safetensors"), 30);
    const auto damaged = store.load_newest(warnings);
    REQUIRE_FALSE(damaged.has_value());
    CHECK(damaged.error().message == "no good checkpoint in " + directory.path().string() + ", 1 damaged");
    CHECK(warnings.size() == 1);
  }

  TEST_CASE("a full disk leaves no part of the new checkpoint and the old one whole") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path(), 1);
    REQUIRE(store.save(checkpoint(1, 0)).has_value());
    const Names before = names_in(directory.path());
    SUBCASE("while the data is written") {
      const FileSizeLimit limit(16'384);
      const auto saved = store.save(checkpoint(2, 0, 100'000));
      REQUIRE_FALSE(saved.has_value());
      CHECK((saved.error().code == ErrorCode::kIo));
      CHECK(saved.error().message == "cannot write " + (directory.path() / (kTwo + ".safetensors")).string() +
                                         ": File too large; free space there or choose another --run-dir");
    }
    SUBCASE("while the manifest is put in its place") {
      // A directory where the manifest belongs.
      fs::create_directories(directory.path() / (kTwo + ".json") / "x");
      const auto saved = store.save(checkpoint(2, 0));
      fs::remove_all(directory.path() / (kTwo + ".json"));
      REQUIRE_FALSE(saved.has_value());
      CHECK((saved.error().code == ErrorCode::kIo));
    }
    CHECK(names_in(directory.path()) == before);
    check_same(checkpoint(1, 0), newest(store));
  }

  TEST_CASE("saving a position again replaces it, and a failure to do so leaves the old one") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path(), 1);
    REQUIRE(store.save(checkpoint(1, 0)).has_value());
    {
      const FileSizeLimit limit(16'384);
      REQUIRE_FALSE(store.save(checkpoint(1, 0, 100'000)).has_value());
    }
    check_same(checkpoint(1, 0), newest(store));
    for (int i = 0; i < 3; ++i) {
      REQUIRE(store.save(checkpoint(1, 0, 16 + i)).has_value());
      check_same(checkpoint(1, 0, 16 + i), newest(store));
      // Under another name than the one before: what the old manifest vouches for is never written over.
      CHECK(names_in(directory.path()) == Names{kOne + (i % 2 == 0 ? ".1.safetensors" : ".json"),
                                                kOne + (i % 2 == 0 ? ".json" : ".safetensors")});
    }
  }

  TEST_CASE("after going back, what was given up does not return") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path(), 1);
    REQUIRE(store.save(checkpoint(9, 0)).has_value());
    REQUIRE(store.save(checkpoint(5, 0)).has_value());
    check_same(checkpoint(5, 0), newest(store));
  }

  TEST_CASE("keep below 1 is the caller's mistake") {
    CHECK_THROWS_WITH_AS(CheckpointStore("x", 0), "CheckpointStore keep must be >= 1, got 0",
                         std::invalid_argument);
  }

  TEST_CASE("a directory that cannot be made is named") {
    const TemporaryDirectory directory;
    std::ofstream(directory.path() / "file") << "x";
    CheckpointStore store(directory.path() / "file" / "checkpoints");
    const auto saved = store.save(checkpoint(1, 0));
    REQUIRE_FALSE(saved.has_value());
    CHECK((saved.error().code == ErrorCode::kIo));
    CHECK(saved.error().message.rfind("cannot create directory " + directory.path().string() + "/file", 0) ==
          0);
  }

  TEST_CASE("every kept checkpoint can be listed, newest first, and loaded by its position") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path(), 3);
    CheckpointMemory memory(3);
    for (CheckpointStorage* storage :
         {static_cast<CheckpointStorage*>(&store), static_cast<CheckpointStorage*>(&memory)}) {
      CHECK(storage->positions().empty());
      for (const auto& [round, step] : {std::pair{1u, 4u}, {1u, 8u}, {2u, 0u}, {2u, 4u}}) {
        REQUIRE(storage->save(checkpoint(round, step)).has_value());
      }
      CHECK((storage->positions() == std::vector<CheckpointPosition>{{2, 4}, {2, 0}, {1, 8}}));
      check_same(checkpoint(1, 8), storage->load({1, 8}).value());
      CHECK((storage->load({1, 4}).error().code == ErrorCode::kNotFound));
    }
  }

  TEST_CASE("saving an older position gives up what was newer") {
    const TemporaryDirectory directory;
    CheckpointStore store(directory.path(), 3);
    CheckpointMemory memory(3);
    for (CheckpointStorage* storage :
         {static_cast<CheckpointStorage*>(&store), static_cast<CheckpointStorage*>(&memory)}) {
      for (uint32_t step : {1u, 2u, 3u}) REQUIRE(storage->save(checkpoint(1, step)).has_value());
      REQUIRE(storage->save(checkpoint(1, 2, 16)).has_value());
      CHECK((storage->positions() == std::vector<CheckpointPosition>{{1, 2}, {1, 1}}));
      check_same(checkpoint(1, 2, 16), storage->load({1, 2}).value());
    }
  }

  TEST_CASE("a checkpoint in memory is a copy") {
    CheckpointMemory memory(1);
    Checkpoint written = checkpoint(1, 1);
    REQUIRE(memory.save(written).has_value());
    written.tensors[0].tensor.zero_();
    check_same(checkpoint(1, 1), memory.load({1, 1}).value());
  }

  TEST_CASE("a sealed checkpoint comes back, and neither file tells what is in it") {
    const TemporaryDirectory directory;
    CheckpointStoreOptions options{.directory = directory.path(), .seal_key = generate_seal_key()};
    CheckpointStore store(options);
    REQUIRE(store.save(checkpoint(1, 0, 100'000)).has_value());
    check_same(checkpoint(1, 0, 100'000), newest(store));
    CHECK(names_in(directory.path()) == Names{kOne + ".json", kOne + ".sealed"});
    const std::string sealed = read_file(directory.path() / (kOne + ".sealed")).value();
    CHECK(is_sealed(sealed));
    CHECK(sealed.find("weight") == std::string::npos);
    CHECK(sealed.find("incarnation") == std::string::npos);
    CHECK(read_file(directory.path() / (kOne + ".json")).value() ==
          "{\n  \"file\": \"" + kOne + ".sealed\",\n  \"bytes\": " + std::to_string(sealed.size()) +
              ",\n  \"sha256\": \"" + sha256_hex({sealed}) + "\",\n  \"round\": 1,\n  \"step\": 0\n}\n");
    // What was sealed is the same safetensors file that is written without a key.
    REQUIRE(CheckpointStore(directory.path() / "plain").save(checkpoint(1, 0, 100'000)).has_value());
    CHECK(unseal(*options.seal_key, "checkpoint " + kOne, sealed).value() ==
          read_file(directory.path() / "plain" / (kOne + ".safetensors")).value());
  }

  TEST_CASE("without the key, or with another, a sealed checkpoint is not called damaged") {
    const TemporaryDirectory directory;
    CheckpointStoreOptions options{.directory = directory.path(), .seal_key = generate_seal_key()};
    REQUIRE(CheckpointStore(options).save(checkpoint(1, 0)).has_value());
    const std::string path = (directory.path() / (kOne + ".sealed")).string();
    Names warnings;
    options.seal_key.reset();
    const auto without = CheckpointStore(options).load_newest(warnings);
    REQUIRE_FALSE(without.has_value());
    CHECK((without.error().code == ErrorCode::kInvalidArgument));
    CHECK(without.error().message ==
          path + " is sealed: give --seal-key the key file that it was sealed with");
    options.seal_key = generate_seal_key();
    const auto other = CheckpointStore(options).load_newest(warnings);
    REQUIRE_FALSE(other.has_value());
    CHECK((other.error().code == ErrorCode::kInvalidArgument));
    CHECK(other.error().message ==
          path +
              ": sealed with another key, or damaged in its first 60 bytes; give --seal-key the key file "
              "that it was sealed with");
    CHECK(warnings.empty());
  }

  TEST_CASE("with a key, a checkpoint that is not sealed is refused") {
    const TemporaryDirectory directory;
    REQUIRE(CheckpointStore(directory.path()).save(checkpoint(1, 0)).has_value());
    const CheckpointStore store(
        CheckpointStoreOptions{.directory = directory.path(), .seal_key = generate_seal_key()});
    const auto plain = store.load({1, 0});
    REQUIRE_FALSE(plain.has_value());
    CHECK((plain.error().code == ErrorCode::kInvalidArgument));
    CHECK(plain.error().message ==
          (directory.path() / (kOne + ".safetensors")).string() +
              " is not sealed, so with --seal-key it is refused: anybody could have put it there; go without "
              "--seal-key, or move it away");
  }

  TEST_CASE("a sealed checkpoint does not pass for another position's or owner's") {
    const TemporaryDirectory directory;
    CheckpointStoreOptions options{
        .directory = directory.path(), .keep = 2, .seal_key = generate_seal_key(), .owner = "cam-1"};
    CheckpointStore store(options);
    REQUIRE(store.save(checkpoint(1, 0)).has_value());
    REQUIRE(store.save(checkpoint(2, 0)).has_value());
    options.owner = "cam-2";
    const auto other_owner = CheckpointStore(options).load({2, 0});
    REQUIRE_FALSE(other_owner.has_value());
    CHECK(other_owner.error().message == (directory.path() / (kTwo + ".sealed")).string() +
                                             ": sealed file: expected \"cam-2 checkpoint " + kTwo +
                                             "\", found that of \"cam-1 checkpoint " + kTwo +
                                             "\"; use an older checkpoint or a copy");

    // The old one in the place of the new one, with a manifest that fits.
    const fs::path manifest = directory.path() / (kTwo + ".json");
    std::string text = read_file(directory.path() / (kOne + ".json")).value();
    text.replace(text.find("\"round\": 1"), 10, "\"round\": 2");
    REQUIRE(write_file_atomically(manifest, {text}).has_value());
    check_same(checkpoint(1, 0), newest(store, {"checkpoint " + kTwo + " is passed over: " +
                                                (directory.path() / (kOne + ".sealed")).string() +
                                                ": sealed file: expected \"cam-1 checkpoint " + kTwo +
                                                "\", found that of \"cam-1 checkpoint " + kOne +
                                                "\"; use an older checkpoint or a copy"}));
  }

  TEST_CASE("a sealed checkpoint with a flipped bit is passed over, also when its manifest was made to fit") {
    const TemporaryDirectory directory;
    CheckpointStoreOptions options{.directory = directory.path(), .seal_key = generate_seal_key()};
    CheckpointStore store(options);
    REQUIRE(store.save(checkpoint(1, 0)).has_value());
    REQUIRE(store.save(checkpoint(2, 0)).has_value());
    const fs::path data = directory.path() / (kTwo + ".sealed");
    const std::string good = sha256_hex({read_file(data).value()});
    flip_bit(data, 200);
    std::string text = read_file(directory.path() / (kTwo + ".json")).value();
    text.replace(text.find(good), good.size(), sha256_hex({read_file(data).value()}));
    REQUIRE(write_file_atomically(directory.path() / (kTwo + ".json"), {text}).has_value());
    check_same(
        checkpoint(1, 0),
        newest(store, {"checkpoint " + kTwo + " is passed over: " + data.string() +
                       ": sealed file: it was changed after it was sealed; use an older checkpoint or a "
                       "copy"}));
  }

  TEST_CASE("many small tensors and tensors that are not dense are stored as they read") {
    const TemporaryDirectory directory;
    for (const bool sealed : {false, true}) {
      CheckpointStoreOptions options{.directory = directory.path() / (sealed ? "sealed" : "plain")};
      if (sealed) options.seal_key = generate_seal_key();
      Checkpoint point{{1, 0}, {}, {}};
      for (int64_t i = 0; i < 300; ++i) {
        const int64_t rows = i % 50 == 49 ? 700 : i % 7;
        point.tensors.push_back(
            {std::to_string(i) + ".weight", at::arange(rows * 100, at::kFloat).view({rows, 100}).t()});
      }
      CheckpointStore store(options);
      REQUIRE(store.save(point).has_value());
      check_same(point, newest(store));
    }
  }
}
