// tandem: the operator's program.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tandem/core/base/open_files.h"
#include "tandem/core/base/version.h"
#include "tandem/core/program/flags.h"
#include "tandem/tools/commands.h"

namespace {

struct Command {
  const char* name;
  const char* description;
  int (*run)(int, const char* const*);
};

constexpr Command kCommands[] = {
    {"provision", "make keys and configuration for an aggregator and its devices",
     tandem::tools::provision_command},
    {"devices", "add, revoke and list devices, also while the aggregator runs",
     tandem::tools::devices_command},
    {"simulate", "run an aggregator and many edges in one process", tandem::tools::simulate_command},
    {"plan", "decide which blocks of a model run where", tandem::tools::plan_command},
    {"report", "write report.html of a run directory again", tandem::tools::report_command},
    {"seal-key", "make a key that seals checkpoints", tandem::tools::seal_key_command},
    {"unseal", "read a sealed checkpoint", tandem::tools::unseal_command},
};

void print_usage(std::FILE* to) {
  std::fprintf(to, "Usage: tandem COMMAND [flags]\n\nCommands:\n");
  for (const Command& command : kCommands)
    std::fprintf(to, "  %-10s  %s\n", command.name, command.description);
  std::fprintf(to, "\ntandem COMMAND --help says everything about one of them.\n");
}

/// The commands' part of the reference page.
int print_reference() {
  const char* arguments[] = {"tandem", "--help-markdown"};
  for (const Command& command : kCommands) {
    if (const int status = command.run(2, arguments); status != tandem::kExitDone) return status;
    std::fflush(stdout);
  }
  return tandem::kExitDone;
}

}  // namespace

int main(int argc, char** argv) {
  tandem::open_standard_descriptors();
  const std::string name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h") return print_usage(stdout), tandem::kExitDone;
  if (name == "--version") return std::printf("tandem %s\n", tandem::kVersion), tandem::kExitDone;
  if (name == "--help-markdown") return print_reference();
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (name == command.name) return command.run(argc - 1, argv + 1);
    names.push_back(command.name);
  }
  if (name.empty()) return print_usage(stderr), tandem::kExitUsage;
  const auto nearest = tandem::nearest_name(name, names);
  std::fprintf(stderr, "tandem: unknown command \"%s\"%s; run tandem --help\n", name.c_str(),
               nearest ? ("; did you mean \"" + *nearest + "\"?").c_str() : "");
  return tandem::kExitUsage;
}
