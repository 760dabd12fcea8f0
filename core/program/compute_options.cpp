#include "tandem/core/program/compute_options.h"

namespace tandem {

OptionRow add_device(Flags& flags, std::string& device) {
  return flags.add("device", device, "cpu, cuda or cuda:N");
}

OptionRow add_threads(Flags& flags, int32_t& threads) {
  return flags
      .add("threads", threads,
           "Threads of one tensor operation; 0: one less than the cores that this program may use (affinity, "
           "CPU quota)")
      .at_least(0);
}

OptionRow add_slowdown(Flags& flags, double& factor) {
  return flags
      .add("slowdown", factor,
           "Compute the model so many times slower than this machine does, by waiting: a slower device, for "
           "trials")
      .between(1, 1000);
}

}  // namespace tandem
