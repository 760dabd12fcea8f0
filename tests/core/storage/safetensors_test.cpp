#include "tandem/core/storage/safetensors.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "core/storage/storage_support.h"
#include "support/test.h"
#include "tandem/core/base/random.h"

using namespace tandem;

namespace {

at::Tensor counting(std::vector<int64_t> dims, at::ScalarType dtype) {
  int64_t count = 1;
  for (const int64_t size : dims) count *= size;
  return at::arange(count, at::TensorOptions().dtype(at::kFloat)).to(dtype).reshape(dims);
}

SafetensorsContent sample_content() {
  SafetensorsContent content;
  content.tensors = {{"0.0.weight", counting({2, 3, 2, 2}, at::kFloat) / 4},
                     {"0.0.half", counting({3}, at::kHalf)},
                     {"0.1.num_batches_tracked", at::scalar_tensor(1234567890123, at::kLong)},
                     {"0.1.mask", counting({3}, at::kFloat).gt(0)},
                     {"1.double", counting({2}, at::kDouble)},
                     {"1.brain", counting({1, 5}, at::kBFloat16)},
                     {"1.counts", counting({3}, at::kInt)},
                     {"1.pixels", counting({5}, at::kByte)},
                     {"1.empty", at::empty({0, 4})},
                     {"a \"quoted\" \xC3\xA9", counting({2}, at::kLong)}};
  content.metadata = {{"model", "cnn"}, {"note", "line\nbreak"}};
  return content;
}

void check_same(const SafetensorsContent& expected, const SafetensorsContent& found) {
  CHECK(expected.metadata == found.metadata);
  REQUIRE(expected.tensors.size() == found.tensors.size());
  for (size_t i = 0; i < expected.tensors.size(); ++i) {
    const auto& [name, tensor] = expected.tensors[i];
    const at::Tensor& other = found.tensors[i].tensor;
    CAPTURE(name);
    CHECK(name == found.tensors[i].name);
    CHECK((tensor.scalar_type() == other.scalar_type()));
    REQUIRE(tensor.sizes().vec() == other.sizes().vec());
    REQUIRE(other.is_contiguous());
    const at::Tensor dense = tensor.contiguous();
    CHECK((dense.nbytes() == 0 || std::memcmp(dense.data_ptr(), other.data_ptr(), dense.nbytes()) == 0));
  }
}

std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i));
  return bytes + rest;
}

/// A file with that JSON header and that many zero bytes of data.
std::string file_of(const std::string& header, size_t data_bytes) {
  return with_length(header.size(), header + std::string(data_bytes, '\0'));
}

std::string object(std::initializer_list<std::string> members) {
  std::string text;
  for (const std::string& member : members) text.append(text.empty() ? "{" : ",").append(member);
  return text.append("}");
}

std::string refused(const std::string& bytes) {
  const auto content = parse_safetensors(bytes);
  REQUIRE_FALSE(content.has_value());
  CHECK((content.error().code == ErrorCode::kCorrupt));
  CHECK(content.error().message.rfind("safetensors: ", 0) == 0);
  return content.error().message.substr(std::strlen("safetensors: "));
}

std::string tensor(const std::string& name, const std::string& shape, int64_t begin, int64_t end,
                   const std::string& dtype = "F32") {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

}  // namespace

TEST_SUITE("core/storage/safetensors") {
  TEST_CASE("tensors come back bit for bit, in the order they were given, with their metadata") {
    const auto parsed = parse_safetensors(serialize_safetensors(sample_content()));
    REQUIRE_MESSAGE(parsed.has_value(), parsed.error().message);
    check_same(sample_content(), *parsed);
    CHECK(serialize_safetensors(*parsed) == serialize_safetensors(sample_content()));
  }

  TEST_CASE("nothing at all is a file too") {
    CHECK(serialize_safetensors({}) == with_length(8, "{}      "));
    CHECK(parse_safetensors(serialize_safetensors({}))->tensors.empty());
  }

  TEST_CASE("the file is laid out as documented, 64-bit integers first") {
    SafetensorsContent content;
    content.tensors = {{"f", at::ones({1})}, {"i", at::full({1}, 2, at::kLong)}};
    content.metadata = {{"k", "v"}};
    const std::string header =
        "{\"__metadata__\":{\"k\":\"v\"},"
        "\"f\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]},"
        "\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}";
    const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
    const std::string data("\2\0\0\0\0\0\0\0\0\0\x80\x3f", 12);
    CHECK(serialize_safetensors(content) == with_length(padded.size(), padded + data));
  }

  TEST_CASE("every tensor starts at a multiple of its element size") {
    const std::string bytes = serialize_safetensors(sample_content());
    const auto parsed = parse_safetensors(bytes);
    for (const NamedTensor& entry : parsed->tensors) {
      if (entry.tensor.numel() < 2) continue;
      const std::string data(static_cast<const char*>(entry.tensor.data_ptr()), entry.tensor.nbytes());
      const size_t header_bytes = 8 + static_cast<unsigned char>(bytes[8 - 8]) +
                                  256 * static_cast<size_t>(static_cast<unsigned char>(bytes[1]));
      CHECK(header_bytes % 8 == 0);
      const size_t at = bytes.find(data, header_bytes);
      REQUIRE(at != std::string::npos);
    }
    // The offsets themselves, largest elements first: I64 8 + 16, F64 16, F32 96, I32 12, then 2 and 1.
    for (const char* offsets : {"[0,8]", "[8,24]", "[24,40]", "[40,136]", "[136,148]", "[148,154]",
                                "[154,164]", "[164,167]", "[167,172]"}) {
      CAPTURE(offsets);
      CHECK(bytes.find(std::string("\"data_offsets\":") + offsets) != std::string::npos);
    }
  }

  TEST_CASE("other memory formats and views are written row-major") {
    const at::Tensor image = counting({2, 3, 4, 5}, at::kFloat);
    SafetensorsContent content;
    content.tensors = {{"image", image.contiguous(at::MemoryFormat::ChannelsLast)},
                       {"view", counting({4, 6}, at::kFloat).t()}};
    const auto parsed = parse_safetensors(serialize_safetensors(content));
    REQUIRE(parsed.has_value());
    CHECK(at::equal(parsed->tensors[0].tensor, image));
    check_same(content, *parsed);
  }

  TEST_CASE("Python's struct and json read the header") {
    if (std::system("/usr/bin/python3 -c 'import struct, json' 2>/dev/null") != 0) {
      MESSAGE("skipped: no /usr/bin/python3");
      return;
    }
    const TemporaryDirectory directory;
    const auto path = directory.path() / "model.safetensors";
    REQUIRE(save_safetensors(path, sample_content()).has_value());
    std::ofstream(directory.path() / "check.py") << R"(
import json, struct, sys
data = open(sys.argv[1], "rb").read()
size, = struct.unpack("<Q", data[:8])
header = json.loads(data[8:8 + size])
body = data[8 + size:]
assert size % 8 == 0
assert header["__metadata__"] == {"model": "cnn", "note": "line\nbreak"}
assert [k for k in header if k != "__metadata__"][0] == "0.0.weight"
weight = header["0.0.weight"]
assert weight["dtype"] == "F32" and weight["shape"] == [2, 3, 2, 2]
begin, end = weight["data_offsets"]
assert struct.unpack("<24f", body[begin:end]) == tuple(i / 4 for i in range(24))
begin, end = header["0.1.num_batches_tracked"]["data_offsets"]
assert header["0.1.num_batches_tracked"]["shape"] == []
assert (begin, struct.unpack("<q", body[begin:end])[0]) == (0, 1234567890123)
assert sum(t["data_offsets"][1] - t["data_offsets"][0] for k, t in header.items() if k[0] != "_") == len(body)
)";
    const std::string command =
        "/usr/bin/python3 " + (directory.path() / "check.py").string() + " " + path.string();
    CHECK(std::system(command.c_str()) == 0);
  }

  TEST_CASE("load names the file that is missing or damaged") {
    const TemporaryDirectory directory;
    const auto path = directory.path() / "model.safetensors";
    CHECK((load_safetensors(path).error().code == ErrorCode::kNotFound));
    REQUIRE(save_safetensors(path, sample_content()).has_value());
    check_same(sample_content(), load_safetensors(path).value());
    std::filesystem::resize_file(path, 20);
    const auto damaged = load_safetensors(path);
    REQUIRE_FALSE(damaged.has_value());
    CHECK((damaged.error().code == ErrorCode::kCorrupt));
    CHECK(damaged.error().message.rfind(path.string() + ": safetensors: header length: expected at most 12",
                                        0) == 0);
  }

  TEST_CASE("load says what a file is that is something else") {
    const TemporaryDirectory directory;
    const auto path = directory.path() / "model.safetensors";
    const auto error_of = [&](const std::string& bytes) {
      std::ofstream(path, std::ios::binary) << bytes;
      const auto loaded = load_safetensors(path);
      REQUIRE_FALSE(loaded.has_value());
      CHECK(loaded.error().message.rfind(path.string() + " ", 0) == 0);
      return loaded.error().message.substr(path.string().size() + 1);
    };
    CHECK(error_of("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n") ==
          "is a Git LFS pointer, not a safetensors file; it only stands for the file: fetch the file itself, "
          "for "
          "example with git lfs pull");
    CHECK(error_of("") == "is an empty file, not a safetensors file; fetch it again");
    const auto content = error_of(std::string("PK\3\4\0\0\0\0\0\0model/data.pkl", 24));
    CHECK(content.rfind(
              "is a PyTorch file as torch.save writes it (a zip archive with a pickle), not a safetensors "
              "file; a pickle can execute code and is not read; convert it",
              0) == 0);
    std::filesystem::remove(path);
    std::filesystem::create_directory(path);
    CHECK(error_of("") == "is a folder; give a file, such as " + (path / "model.safetensors").string());
    std::filesystem::remove(path);
    std::filesystem::create_symlink("blobs/1234", path);
    CHECK(load_safetensors(path).error().message ==
          path.string() + " is a link to blobs/1234, which does not exist");
    // One that is broken is no other kind of file.
    std::filesystem::remove(path);
    std::string bytes = serialize_safetensors(sample_content());
    bytes.pop_back();
    std::ofstream(path, std::ios::binary) << bytes;
    CHECK(load_safetensors(path).error().message.rfind(path.string() + ": safetensors: data: expected", 0) ==
          0);
  }

  TEST_CASE("metadata that are null are none, and small integers are read") {
    const auto parsed = parse_safetensors(file_of(
        object({"\"__metadata__\":null", tensor("a", "[2]", 0, 4, "I16"), tensor("b", "[3]", 4, 7, "I8")}),
        7));
    REQUIRE(parsed.has_value());
    CHECK(parsed->metadata.empty());
    CHECK((parsed->tensors[0].tensor.scalar_type() == at::kShort));
    CHECK((parsed->tensors[1].tensor.scalar_type() == at::kChar));
    CHECK(serialize_safetensors(*parsed).find("__metadata__") == std::string::npos);
  }

  TEST_CASE("serialize refuses what a reader could not take apart again") {
    const at::Tensor one = at::ones({1});
    const auto serialize = [](NamedTensors tensors) {
      return serialize_safetensors({std::move(tensors), {}});
    };
    CHECK_THROWS_WITH_AS(serialize({{"a", one}, {"a", one}}), "safetensors: two tensors named \"a\"",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(serialize({{"__metadata__", one}}),
                         "safetensors: a tensor cannot be named __metadata__", std::invalid_argument);
    CHECK_THROWS_WITH_AS(serialize({{"a", at::Tensor()}}), "safetensors: tensor \"a\" is undefined",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(serialize({{"a", at::ones({1}, at::kComplexFloat)}}),
                         "safetensors: tensor \"a\" has dtype ComplexFloat, which is not written",
                         std::invalid_argument);
    CHECK_THROWS_AS(serialize({{"\xFF", one}}), std::invalid_argument);
  }

  TEST_CASE("every truncation is refused") {
    const std::string bytes = serialize_safetensors(sample_content());
    for (size_t size = 0; size < bytes.size(); ++size) refused(bytes.substr(0, size));
    refused(bytes + '\0');
  }

  TEST_CASE("a header length beyond the file is refused before memory is taken") {
    CHECK(refused("1234567") == "expected at least 8 bytes, found 7");
    CHECK(refused(with_length(3, "{}")) == "header length: expected at most 2, found 3");
    CHECK(refused(with_length(UINT64_MAX, "{}")) ==
          "header length: expected at most 2, found 18446744073709551615");
  }

  TEST_CASE("headers that are not what they should be are refused") {
    CHECK(refused(file_of("", 0)).rfind("header: expected JSON, found an error: ", 0) == 0);
    CHECK(refused(file_of("{", 0)).rfind("header: expected JSON", 0) == 0);
    CHECK(refused(file_of("[]", 0)) == "header: expected a JSON object, found array");
    CHECK(refused(file_of("{\"a\":1}", 0)) ==
          "tensor \"a\": expected dtype, shape and data_offsets, found 1");
    CHECK(refused(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0))
              .rfind("tensor \"a\": expected dtype", 0) == 0);
    CHECK(refused(file_of(object({tensor("a", "[1]", 0, 4, "F33")}), 4)) ==
          "tensor \"a\": dtype: expected F32, F64, F16, BF16, I64, I32, I16, I8, U8 or BOOL, found \"F33\"");
    CHECK(refused(file_of("{\"a\":{\"dtype\":7,\"shape\":[],\"data_offsets\":[0,4]}}", 4)).find("found 7") !=
          std::string::npos);
    CHECK(refused(file_of("{\"__metadata__\":{\"a\":1}}", 0)) ==
          "__metadata__ \"a\": expected a string, found number");
    CHECK(refused(file_of("{\"__metadata__\":[]}", 0)) == "__metadata__: expected an object, found array");
    const std::string deep = "{\"a\":" + std::string(100'000, '[');
    CHECK(refused(file_of(deep, 0)) == "header: expected at most 3 levels, found more");
  }

  TEST_CASE("names that appear twice are refused") {
    CHECK(refused(file_of(object({tensor("a", "[1]", 0, 4), tensor("a", "[1]", 4, 8)}), 8)) ==
          "header: expected every name once, found \"a\" twice");
    CHECK(refused(file_of("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0)) ==
          "header: expected every name once, found \"k\" twice");
    // The same field names in two tensors are no duplicates.
    CHECK(parse_safetensors(file_of(object({tensor("a", "[1]", 0, 4), tensor("b", "[1]", 4, 8)}), 8))
              .has_value());
  }

  TEST_CASE("shapes that are negative, broken or overflow are refused") {
    const auto shape = [](const std::string& text) {
      return refused(file_of(object({tensor("a", text, 0, 4)}), 4));
    };
    CHECK(shape("[-1]") == "tensor \"a\": shape: expected at most 64 numbers >= 0, found [-1]");
    CHECK(shape("[1.0]") == "tensor \"a\": shape: expected at most 64 numbers >= 0, found [1.0]");
    CHECK(shape("[18446744073709551615]").rfind("tensor \"a\": shape: expected", 0) == 0);
    CHECK(shape("[1e3]").rfind("tensor \"a\": shape: expected", 0) == 0);
    CHECK(shape("\"1\"").rfind("tensor \"a\": shape: expected", 0) == 0);
    CHECK(shape("[4294967296,4294967296]") ==
          "tensor \"a\": shape 4294967296x4294967296: expected a size that fits in 63 bits");
    CHECK(shape("[4611686018427387905]") ==
          "tensor \"a\": shape 4611686018427387905: expected a size that fits in 63 bits");
    CHECK(shape("[0,4611686018427387904,4]").find("63 bits") != std::string::npos);
    CHECK(shape("[2]") == "tensor \"a\": shape 2: expected 8 bytes, found 4 in data_offsets");
  }

  TEST_CASE("offsets that leave gaps, overlap, run backwards or beyond the data are refused") {
    const auto two = [](int64_t b0, int64_t e0, int64_t b1, int64_t e1, size_t data) {
      return refused(file_of(object({tensor("a", "[2]", b0, e0), tensor("b", "[2]", b1, e1)}), data));
    };
    CHECK(two(0, 8, 4, 12, 12) == "tensor \"b\": expected its data at 8, found it at 4, an overlap");
    CHECK(two(0, 8, 0, 8, 8) == "tensor \"b\": expected its data at 8, found it at 0, an overlap");
    CHECK(two(0, 8, 12, 20, 20) == "tensor \"b\": expected its data at 8, found it at 12, a gap");
    CHECK(two(4, 12, 12, 20, 20) == "tensor \"a\": expected its data at 0, found it at 4, a gap");
    CHECK(two(0, 8, 8, 16, 15) == "data: expected 16 bytes, found 15");
    CHECK(two(0, 8, 8, 16, 17) == "data: expected 16 bytes, found 17");
    CHECK(two(8, 0, 8, 16, 16) == "tensor \"a\": data_offsets: expected begin <= end, found [8,0]");
    CHECK(two(-8, 0, 0, 8, 8) == "tensor \"a\": data_offsets: expected two numbers >= 0, found [-8,0]");
    CHECK(refused(file_of(object({tensor("a", "[2]", INT64_MAX - 7, INT64_MAX)}), 8)).find("expected") !=
          std::string::npos);
  }

  TEST_CASE("a bool that is neither 0 nor 1 is refused") {
    std::string bytes = file_of(object({tensor("m", "[2]", 0, 2, "BOOL")}), 2);
    CHECK(parse_safetensors(bytes).has_value());
    bytes.back() = 2;
    CHECK(refused(bytes) == "tensor \"m\": bool elements: expected 0 or 1, found another value");
  }

  TEST_CASE("whatever 20,000 mutations of the header give is refused or consistent") {
    const std::string good = serialize_safetensors(sample_content());
    SplitMix64 random(7);
    int accepted = 0;
    for (int i = 0; i < 20'000; ++i) {
      std::string bytes = good;
      for (uint64_t n = 1 + random.below(3); n > 0; --n) {
        bytes[random.below(bytes.size())] = static_cast<char>(random.below(128));
      }
      const auto content = parse_safetensors(bytes);
      if (!content) {
        CHECK_FALSE(content.error().message.empty());
        continue;
      }
      ++accepted;
      serialize_safetensors(*content);
    }
    CHECK(accepted > 100);
  }
}
