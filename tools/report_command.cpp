#include <cstdio>
#include <filesystem>

#include "tandem/core/program/flags.h"
#include "tandem/core/program/program.h"
#include "tandem/core/run/report.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/tools/commands.h"

namespace tandem::tools {

int report_command(int argc, const char* const* argv) {
  Flags flags("tandem report",
              "Writes report.html of a run directory again, also of a run that did not end.");
  std::filesystem::path directory;
  flags.add_positional("run-dir", directory, "The run's directory");
  if (const auto status = flags.parse(argc, argv)) return *status;
  return run_program("tandem report", 1, [&]() -> Result<int> {
    const auto page = render_report(directory);
    if (!page) return page.error();
    const std::filesystem::path path = directory / "report.html";
    if (auto written = write_file_atomically(path, {*page}); !written) return written.error();
    std::printf("report: %s\n", path.c_str());
    return kExitDone;
  });
}

}  // namespace tandem::tools
