#include "tandem/core/profiling/model_profile.h"

#include <cmath>
#include <functional>
#include <set>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "tandem/core/data/data_description.h"
#include "tandem/core/storage/atomic_file.h"

namespace tandem {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kKind = "tandem-profile";
constexpr int kVersion = 1;

OrderedJson json_of(const Timing& timing) {
  return {{"median", timing.median_ms},
          {"iqr", timing.iqr_ms},
          {"p95", timing.p95_ms},
          {"half_width", timing.half_width},
          {"samples", timing.samples}};
}

OrderedJson json_of(const RangeProfile& range) {
  return {{"first", range.first},
          {"last", range.last},
          {"forward_ms", json_of(range.step.forward)},
          {"backward_ms", json_of(range.step.backward)},
          {"peak_bytes", range.peak_bytes}};
}

OrderedJson json_of(const BlockProfile& block) {
  return {{"name", block.name},
          {"forward_ms", json_of(block.step.forward)},
          {"backward_ms", json_of(block.step.backward)},
          {"optimiser_ms", json_of(block.optimiser)},
          {"parameter_bytes", block.parameter_bytes},
          {"gradient_bytes", block.gradient_bytes},
          {"optimiser_bytes", block.optimiser_bytes},
          {"saved_bytes", block.saved_bytes},
          {"output_bytes", block.output_bytes},
          {"gradient_message_bytes", block.gradient_message_bytes}};
}

OrderedJson json_of(const std::optional<ProfileLink>& link) {
  if (!link) return nullptr;
  return {{"up_bytes_per_ms", link->up_bytes_per_ms},
          {"down_bytes_per_ms", link->down_bytes_per_ms},
          {"latency_ms", link->latency_ms}};
}

OrderedJson json_of(const ProfileFingerprint& fingerprint) {
  return {{"model", fingerprint.model},
          {"model_hash", fingerprint.model_hash},
          {"input_shape", fingerprint.input_shape},
          {"num_classes", fingerprint.num_classes},
          {"batch_size", fingerprint.batch_size},
          {"optimizer", fingerprint.optimizer},
          {"dtype", fingerprint.dtype},
          {"threads", fingerprint.threads},
          {"libtorch", fingerprint.libtorch},
          {"cpu", fingerprint.cpu}};
}

/// Thrown inside this file; read_profile makes an Error of it.
struct BadField : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One object of a profile, with its place for messages. Every field is asked for once; what nobody asked
/// for is refused.
class Fields {
 public:
  Fields(const Json& json, std::string place) : json_(json), place_(std::move(place)) {
    if (!json.is_object()) throw BadField((place_.empty() ? "the profile" : place_) + " must be an object");
  }

  const Json& field(const std::string& key) {
    asked_.insert(key);
    const auto found = json_.find(key);
    if (found == json_.end()) throw BadField(path(key) + " is missing");
    return *found;
  }
  std::string text(const std::string& key) {
    const Json& value = field(key);
    if (value.is_string()) return value.get<std::string>();
    throw BadField(path(key) + " must be a string, got " + value.dump());
  }
  double number(const std::string& key) {
    const Json& value = field(key);
    const bool fits = value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() >= 0;
    if (fits) return value.get<double>();
    throw BadField(path(key) + " must be a finite number >= 0, got " + value.dump());
  }
  double positive(const std::string& key) {
    const double value = number(key);
    if (value > 0) return value;
    throw BadField(path(key) + " must be > 0, got 0");
  }
  int64_t whole(const std::string& key, int64_t least = 0, int64_t most = int64_t{1} << 53) {
    const Json& value = field(key);
    const bool is_whole = value.is_number_integer() &&
                          (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t{1} << 53);
    if (is_whole && value.get<int64_t>() >= least && value.get<int64_t>() <= most)
      return value.get<int64_t>();
    throw BadField(path(key) + " must be a whole number from " + std::to_string(least) + " to " +
                   std::to_string(most) + ", got " + value.dump());
  }
  void each(const std::string& key, const std::function<void(const Json&, const std::string&)>& read) {
    const Json& list = field(key);
    if (!list.is_array()) throw BadField(path(key) + " must be an array, got " + list.type_name());
    for (size_t i = 0; i < list.size(); ++i) read(list[i], path(key) + "[" + std::to_string(i) + "]");
  }
  std::string path(const std::string& key) const { return place_.empty() ? key : place_ + "." + key; }
  void finish() const {
    for (const auto& [key, value] : json_.items()) {
      if (!asked_.contains(key)) throw BadField(path(key) + " is not a field of a profile");
    }
  }

 private:
  const Json& json_;
  std::string place_;
  std::set<std::string> asked_;
};

Timing read_timing(Fields& of, const std::string& key) {
  Fields fields(of.field(key), of.path(key));
  Timing timing{.median_ms = fields.number("median"),
                .iqr_ms = fields.number("iqr"),
                .p95_ms = fields.number("p95"),
                .half_width = fields.number("half_width"),
                .samples = static_cast<int>(fields.whole("samples", 1, 1'000'000))};
  fields.finish();
  return timing;
}

ProfileFingerprint read_fingerprint(const Json& json) {
  Fields fields(json, "fingerprint");
  ProfileFingerprint fingerprint;
  fingerprint.model = fields.text("model");
  fingerprint.model_hash = fields.text("model_hash");
  fields.each("input_shape", [&](const Json& side, const std::string& place) {
    if (!side.is_number_integer()) throw BadField(place + " must be a whole number, got " + side.dump());
    fingerprint.input_shape.push_back(side.get<int64_t>());
  });
  fingerprint.num_classes = fields.whole("num_classes", 2);
  fingerprint.batch_size = fields.whole("batch_size", 1);
  fingerprint.optimizer = fields.text("optimizer");
  fingerprint.dtype = fields.text("dtype");
  fingerprint.threads = static_cast<int>(fields.whole("threads", 1, 65536));
  fingerprint.libtorch = fields.text("libtorch");
  fingerprint.cpu = fields.text("cpu");
  fields.finish();
  return fingerprint;
}

std::optional<ProfileLink> read_link(const Json& json) {
  if (json.is_null()) return std::nullopt;
  Fields fields(json, "link");
  const ProfileLink link{.up_bytes_per_ms = fields.positive("up_bytes_per_ms"),
                         .down_bytes_per_ms = fields.positive("down_bytes_per_ms"),
                         .latency_ms = fields.number("latency_ms")};
  fields.finish();
  return link;
}

BlockProfile read_block(const Json& json, const std::string& place) {
  Fields fields(json, place);
  BlockProfile block;
  block.name = fields.text("name");
  block.step = {read_timing(fields, "forward_ms"), read_timing(fields, "backward_ms")};
  block.optimiser = read_timing(fields, "optimiser_ms");
  block.parameter_bytes = fields.whole("parameter_bytes");
  block.gradient_bytes = fields.whole("gradient_bytes");
  block.optimiser_bytes = fields.whole("optimiser_bytes");
  block.saved_bytes = fields.whole("saved_bytes");
  block.output_bytes = fields.whole("output_bytes");
  block.gradient_message_bytes = fields.whole("gradient_message_bytes");
  fields.finish();
  return block;
}

RangeProfile read_range(const Json& json, const std::string& place, int first, int last) {
  Fields fields(json, place);
  RangeProfile range;
  range.first = static_cast<int>(fields.whole("first", first, first));
  range.last = static_cast<int>(fields.whole("last", last, last));
  range.step = {read_timing(fields, "forward_ms"), read_timing(fields, "backward_ms")};
  range.peak_bytes = fields.whole("peak_bytes");
  fields.finish();
  return range;
}

ModelProfile read(const Json& json) {
  Fields fields(json, "");
  if (fields.text("kind") != kKind) throw BadField(std::string("kind must be \"") + kKind + "\"");
  (void)fields.whole("version", kVersion, kVersion);
  ModelProfile profile;
  profile.name = fields.text("name");
  profile.role = fields.text("role");
  if (profile.name.empty()) throw BadField("name must not be empty");
  if (profile.role != "client" && profile.role != "helper" && profile.role != "aggregator") {
    throw BadField("role must be client, helper or aggregator, got \"" + profile.role + "\"");
  }
  profile.fingerprint = read_fingerprint(fields.field("fingerprint"));
  profile.link = read_link(fields.field("link"));
  profile.input_bytes = fields.whole("input_bytes");
  profile.memory_bytes = fields.whole("memory_bytes");
  profile.peak_rss_bytes = fields.whole("peak_rss_bytes");
  fields.each("blocks", [&](const Json& block, const std::string& place) {
    profile.blocks.push_back(read_block(block, place));
  });
  const int blocks = static_cast<int>(profile.blocks.size());
  if (blocks == 0) throw BadField("blocks must not be empty");
  fields.each("prefixes", [&](const Json& range, const std::string& place) {
    profile.prefixes.push_back(read_range(range, place, 0, static_cast<int>(profile.prefixes.size()) + 1));
  });
  fields.each("suffixes", [&](const Json& range, const std::string& place) {
    profile.suffixes.push_back(read_range(range, place, static_cast<int>(profile.suffixes.size()), blocks));
  });
  if (profile.prefixes.size() != profile.blocks.size() || profile.suffixes.size() != profile.blocks.size()) {
    throw BadField("prefixes and suffixes must have an entry for each of the " + std::to_string(blocks) +
                   " blocks");
  }
  profile.additivity_error = fields.number("additivity_error");
  profile.drift = fields.number("drift");
  fields.finish();
  return profile;
}

}  // namespace

OrderedJson json_of(const ModelProfile& profile) {
  OrderedJson json{{"kind", kKind},
                   {"version", kVersion},
                   {"name", profile.name},
                   {"role", profile.role},
                   {"fingerprint", json_of(profile.fingerprint)},
                   {"link", json_of(profile.link)},
                   {"input_bytes", profile.input_bytes},
                   {"memory_bytes", profile.memory_bytes},
                   {"peak_rss_bytes", profile.peak_rss_bytes}};
  for (const char* list : {"blocks", "prefixes", "suffixes"}) json[list] = OrderedJson::array();
  for (const BlockProfile& block : profile.blocks) json["blocks"].push_back(json_of(block));
  for (const RangeProfile& range : profile.prefixes) json["prefixes"].push_back(json_of(range));
  for (const RangeProfile& range : profile.suffixes) json["suffixes"].push_back(json_of(range));
  json["additivity_error"] = profile.additivity_error;
  json["drift"] = profile.drift;
  return json;
}

Result<ModelProfile> read_profile(const Json& json) {
  try {
    return read(json);
  } catch (const BadField& bad) {
    return Error{ErrorCode::kCorrupt, bad.what()};
  }
}

Result<ModelProfile> read_profile_file(const std::filesystem::path& path) {
  const auto text = read_file(path);
  if (!text) return text.error();
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Error{ErrorCode::kCorrupt, path.string() + " is not JSON"};
  auto profile = read_profile(json);
  if (!profile) return Error{profile.error().code, path.string() + ": " + profile.error().message};
  return profile;
}

std::string difference(const ProfileFingerprint& a, const ProfileFingerprint& b, bool same_machine) {
  std::string text;
  const auto compare = [&](const char* field, const std::string& first, const std::string& second) {
    if (first != second)
      text += (text.empty() ? "" : ", ") + std::string(field) + ": " + first + " and " + second;
  };
  compare("model", a.model, b.model);
  compare("model_hash", a.model_hash, b.model_hash);
  compare("input_shape", shape_to_string(a.input_shape), shape_to_string(b.input_shape));
  compare("num_classes", std::to_string(a.num_classes), std::to_string(b.num_classes));
  compare("batch_size", std::to_string(a.batch_size), std::to_string(b.batch_size));
  compare("dtype", a.dtype, b.dtype);
  if (!same_machine) return text;
  compare("optimizer", a.optimizer, b.optimizer);
  compare("threads", std::to_string(a.threads), std::to_string(b.threads));
  compare("libtorch", a.libtorch, b.libtorch);
  compare("cpu", a.cpu, b.cpu);
  return text;
}

}  // namespace tandem
