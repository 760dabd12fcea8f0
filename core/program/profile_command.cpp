#include "tandem/core/program/profile_command.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

#include "tandem/core/base/slowdown.h"
#include "tandem/core/base/specification.h"
#include "tandem/core/base/usable_cores.h"
#include "tandem/core/profiling/model_profiler.h"
#include "tandem/core/program/compute_options.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/program/program.h"
#include "tandem/core/run/run_directory.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/training/optimizer_specification.h"

namespace tandem {
namespace {

constexpr int64_t kMebibyte = 1 << 20;

/// What --link takes: "up=1.25,down=12.5,latency=10ms".
const std::vector<Form>& link_forms() {
  using Kind = FormParameter::Kind;
  const Range above_zero{.low = 0, .above_low = true};
  static const std::vector<Form> forms = {{"",
                                           "",
                                           {{.name = "up",
                                             .kind = Kind::kNumber,
                                             .range = above_zero,
                                             .help = "Mbit/s to the aggregator",
                                             .required = true},
                                            {.name = "down",
                                             .kind = Kind::kNumber,
                                             .range = above_zero,
                                             .help = "Mbit/s from it",
                                             .required = true},
                                            {.name = "latency",
                                             .kind = Kind::kTime,
                                             .range = {.low = 0, .high = 3600},
                                             .help = "of one way",
                                             .required = true}}}};
  return forms;
}

Result<ProfileLink> parse_link(const std::string& text) {
  const auto form = parse_form("--link", text, link_forms());
  if (!form) return form.error();
  constexpr double kBytesPerMsOfMbit = 125;
  return ProfileLink{.up_bytes_per_ms = form->number("up") * kBytesPerMsOfMbit,
                     .down_bytes_per_ms = form->number("down") * kBytesPerMsOfMbit,
                     .latency_ms = static_cast<double>(form->time("latency").count())};
}

Result<void> without_value(const Result<ProfileLink>& link) {
  return link ? Result<void>() : link.error();
}

struct ProfileFlags {
  std::string name;
  std::string role;
  std::string model = "cnn";
  std::string data;
  std::string input_shape = "1x28x28";
  int64_t num_classes = 10;
  int64_t batch_size = 32;
  std::string optimizer = "sgd";
  int32_t threads = 0;
  double slowdown = 1;
  int64_t memory_mib = 0;
  std::string link;
  double largest_drift = 0.05;
  double budget = 20;
  bool again = false;
  std::filesystem::path out;

  void add_to(Flags& flags) {
    add_model(flags);
    flags.section("measurement", "How");
    flags
        .add("largest-drift", largest_drift,
             "Share by which the two halves of the samples may differ before the measurement is repeated")
        .within({.low = 0, .above_low = true});
    flags.add("budget", budget, "Seconds after which one measurement takes no further sample")
        .between(0.001, 86'400);
    flags.add("again", again,
              "Measure although the file in --out is of the same model, settings and machine");
    flags.section("profile", "The profile");
    flags.add("name", name, "Name of this machine in a plan; default: its host name");
    flags.add_choice(
        "role", role, {"client", "helper", "aggregator"},
        "What the machine is in a plan: client (it has data), helper (it has none) or aggregator");
    flags
        .add("link", link,
             "The link to the aggregator, which a plan needs of a client: up=MBIT,down=MBIT,latency=TIME, "
             "such as up=5,down=20,latency=10ms")
        .checked_by([this] { return link.empty() ? Result<void>() : without_value(parse_link(link)); });
    flags.add("memory-mib", memory_mib, "Memory that a plan may use of this machine; 0: what it has")
        .at_least(0);
    flags.add_path("out", out, "File to write; required");
  }

  void add_model(Flags& flags) {
    flags.section("model", "What is measured");
    flags.add("model", model, "The model, such as cnn or resnet18:norm=group,width=32");
    flags.add_data("data", data, "Data whose shape and class count the model is for, such as idx:DIR");
    flags.add("input-shape", input_shape, "Shape of an example, CxHxW or F, without --data");
    flags.add("num-classes", num_classes, "Number of classes, without --data");
    flags.add("batch-size", batch_size, "Examples in a step").between(1, 65'536);
    flags.add("optimizer", optimizer, "The optimiser").takes(optimizer_forms());
    add_threads(flags, threads);
    add_slowdown(flags, slowdown);
  }
};

Error bad(const std::string& text) {
  return {ErrorCode::kInvalidArgument, text};
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != 0 ? name.data() : "device";
}

Result<void> check(const ProfileFlags& flags) {
  if (flags.out.empty())
    return bad("--out is missing: the file that the profile is written to, such as device.json");
  return {};
}

Result<ModelDefinition> define(const ProfileFlags& flags,
                               const std::function<Result<DataDescription>(const std::string&)>& describe) {
  if (!flags.data.empty()) {
    const auto data = describe(flags.data);
    if (!data) return data.error();
    return define_model(flags.model, data->input_shape, data->num_classes);
  }
  const auto shape = parse_shape("--input-shape", flags.input_shape);
  if (!shape) return shape.error();
  return define_model(flags.model, *shape, flags.num_classes);
}

/// The profile in the file, where it is one of the same machine, model and settings.
std::optional<ModelProfile> up_to_date(const ProfileFlags& flags, const ProfileFingerprint& wanted) {
  std::error_code error;
  if (flags.again || !std::filesystem::exists(flags.out, error)) return std::nullopt;
  const auto profile = read_profile_file(flags.out);
  if (!profile || profile->role != flags.role) return std::nullopt;
  if (const std::string other = difference(profile->fingerprint, wanted, true); !other.empty()) {
    spdlog::info("{} is of something else ({}) and is measured anew", flags.out.string(), other);
    return std::nullopt;
  }
  return *profile;
}

void print(const ModelProfile& profile) {
  std::printf("%-12s %11s %11s %11s %12s %12s %12s\n", "block", "forward ms", "backward", "optimiser",
              "weights", "saved", "outputs");
  const auto row = [](const std::string& name, double forward, double backward, double optimiser,
                      int64_t weights, int64_t saved, int64_t outputs) {
    std::printf("%-12s %11.3f %11.3f %11.3f %12lld %12lld %12lld\n", name.c_str(), forward, backward,
                optimiser, static_cast<long long>(weights), static_cast<long long>(saved),
                static_cast<long long>(outputs));
  };
  double optimiser = 0;
  int64_t weights = 0;
  int64_t saved = 0;
  for (const BlockProfile& block : profile.blocks) {
    row(block.name, block.step.forward.median_ms, block.step.backward.median_ms, block.optimiser.median_ms,
        block.parameter_bytes, block.saved_bytes, block.output_bytes);
    optimiser += block.optimiser.median_ms;
    weights += block.parameter_bytes;
    saved += block.saved_bytes;
  }
  const StepTiming& whole = profile.prefixes.back().step;
  row("all", whole.forward.median_ms, whole.backward.median_ms, optimiser, weights, saved, 0);
  std::printf("blocks add up to ranges within %.1f %%, the halves of the samples differ by %.1f %%\n",
              100 * profile.additivity_error, 100 * profile.drift);
}

/// Writes the profile with what the flags say of the machine.
Result<void> write(ModelProfile& profile, const ProfileFlags& flags) {
  profile.name = flags.name;
  profile.role = flags.role;
  profile.memory_bytes = flags.memory_mib > 0 ? flags.memory_mib * kMebibyte : usable_memory();
  profile.link.reset();
  // The table of options has checked it.
  if (!flags.link.empty()) profile.link = parse_link(flags.link).value();
  return write_file_atomically(flags.out, {json_of(profile).dump(1) + "\n"});
}

Result<int> measure(ProfileFlags flags,
                    const std::function<Result<DataDescription>(const std::string&)>& describe) {
  if (auto checked = check(flags); !checked) return checked.error();
  if (flags.name.empty()) flags.name = host_name();
  set_slowdown(flags.slowdown);
  const auto definition = define(flags, describe);
  if (!definition) return definition.error();
  const auto optimizer = parse_optimizer(flags.optimizer);
  if (!optimizer) return optimizer.error();
  ProfilerOptions options;
  options.batch_size = flags.batch_size;
  options.optimizer_text = canonical_specification(flags.optimizer);
  options.optimizer = *optimizer;
  options.largest_drift = flags.largest_drift;
  options.budget = std::chrono::milliseconds(std::llround(flags.budget * 1000));
  if (auto known = up_to_date(flags, fingerprint_of(*definition, options))) {
    if (auto written = write(*known, flags); !written) return written.error();
    print(*known);
    std::printf("the times in %s are up to date; --again measures anew\n", flags.out.c_str());
    return kExitDone;
  }
  auto profile =
      profile_model(*definition, options, [](const std::string& line) { spdlog::info("{}", line); });
  if (!profile) return profile.error();
  profile->peak_rss_bytes = peak_rss_bytes();
  if (auto written = write(*profile, flags); !written) return written.error();
  print(*profile);
  std::printf("profile: %s\n", flags.out.c_str());
  return kExitDone;
}

}  // namespace

int profile_command(const std::string& program, const std::string& role, int argc, const char* const* argv,
                    const std::function<Result<DataDescription>(const std::string&)>& describe) {
  Flags flags(program + " profile",
              "Measures a model on this machine, for a plan of which blocks run where.");
  ProfileFlags values;
  values.role = role;
  values.add_to(flags);
  if (const auto status = flags.parse(argc, argv)) return *status;
  return run_program(program + " profile", values.threads, [&] { return measure(values, describe); });
}

}  // namespace tandem
