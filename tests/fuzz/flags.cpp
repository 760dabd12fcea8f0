// A program's flags: the first line is the command line, split at spaces, the rest the file that --config
// names.
#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "fuzz/support.h"
#include "tandem/core/program/flags.h"

using namespace tandem;
using tandem::fuzz::Input;
using tandem::fuzz::require;
using tandem::fuzz::scratch;

namespace {

/// Flags of every kind, as a program declares them.
struct Program {
  Program() : flags("tandem-fuzz", "Reads flags.") {
    flags.section("training", "Training");
    flags.add("rounds", rounds, "how many rounds");
    flags.add("offset", offset, "any whole number");
    flags.add("small", small, "a small whole number");
    flags.add("seed", seed, "seed of the run");
    flags.add("lr", lr, "learning rate");
    flags.add_choice("algorithm", algorithm, {"parallel", "relay", "splitfed-v1"}, "the schedule");
    flags.section("rest", "Rest");
    flags.add("name", name, "a text");
    flags.add("insecure", insecure, "no encryption");
    flags.add("device", devices, "a device");
    flags.add_path("run-dir", run_dir, "where the run goes");
  }

  std::optional<int> parse(const std::vector<std::string>& arguments) {
    std::vector<const char*> argv{"tandem-fuzz"};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    return flags.parse(static_cast<int>(argv.size()), argv.data());
  }

  Flags flags;
  uint32_t rounds = 5;
  int64_t offset = 0;
  int32_t small = 1;
  uint64_t seed = 1;
  double lr = 0.05;
  std::string algorithm = "parallel";
  std::string name;
  bool insecure = false;
  std::vector<std::string> devices;
  std::filesystem::path run_dir;
};

std::vector<std::string> command_line(std::string_view line) {
  std::vector<std::string> arguments;
  while (!line.empty()) {
    const size_t end = std::min(line.find(' '), line.size());
    if (end > 0) arguments.emplace_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return arguments;
}

bool names_a_file(const std::vector<std::string>& arguments) {
  return std::any_of(arguments.begin(), arguments.end(), [](const std::string& argument) {
    return argument.find("-config") != std::string::npos;
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Texts for people go nowhere: this is about what is read.
  std::cout.rdbuf(nullptr);
  std::cerr.rdbuf(nullptr);
  Input input(data, size);
  std::vector<std::string> arguments = command_line(input.take_until('\n'));
  if (names_a_file(arguments)) return 0;  // some other file, such as a terminal
  arguments.insert(arguments.begin(), "--config=" + scratch().write("run.toml", input.rest()).string());

  Program program;
  if (program.parse(arguments)) return 0;
  const std::string resolved = program.flags.to_toml();
  Program again;
  require(!again.parse({"--config=" + scratch().write("resolved.toml", resolved).string()}),
          "a resolved configuration is read");
  require(again.flags.to_toml() == resolved, "a resolved configuration means the same when read");
  return 0;
}
