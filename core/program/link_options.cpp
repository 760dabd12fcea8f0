#include "tandem/core/program/link_options.h"

#include <cstdint>
#include <sstream>

namespace tandem {
namespace {

const std::string kSeed = "seed=";

}  // namespace

FormParameter frame_limit(const std::string& peer) {
  return {"frame-mib",
          FormParameter::Kind::kWhole,
          {1, 16384},
          "256",
          "largest tensor accepted from " + peer + ", MiB"};
}

void add_fault(Flags& flags, std::string& fault) {
  flags
      .add("fault", fault,
           "Disturb this program's own messages, for a trial: drop=P, duplicate=P, reorder or reorder=P, "
           "corrupt=P, delay=TIME, disconnect=TIME, seed=N (1), comma separated, such as "
           "drop=0.01,delay=50ms")
      .not_of_the_run()
      .checked_by([&fault]() -> Result<void> {
        const auto parsed = parse_fault_option(fault);
        return parsed ? Result<void>() : Result<void>(parsed.error());
      })
      .replaces("fault-seed", [](const std::string& seed, const std::string& text) {
        return (text.empty() ? "FAULTS" : text) + "," + kSeed + seed;
      });
}

Result<FaultOptions> parse_fault_option(const std::string& text) {
  std::string faults;
  uint64_t seed = FaultOptions().seed;
  bool has_seed = false;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    if (!part.starts_with(kSeed)) {
      faults += (faults.empty() ? "" : ",") + part;
      continue;
    }
    const auto parsed = parse_integer("--fault seed", part.substr(kSeed.size()), 0, INT64_MAX);
    if (!parsed) return parsed.error();
    if (has_seed) return Error{ErrorCode::kInvalidArgument, "--fault: \"seed\" is given twice"};
    seed = static_cast<uint64_t>(*parsed);
    has_seed = true;
  }
  if (has_seed && faults.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--fault " + text +
                     " does nothing without a fault: nothing is disturbed; leave it out or give "
                     "one, such as drop=0.01"};
  }
  auto options = parse_faults(faults, seed);
  if (!options) return Error{options.error().code, "--fault: " + options.error().message};
  return options;
}

}  // namespace tandem
