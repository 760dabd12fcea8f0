#include "tandem/core/program/program.h"

#include <spdlog/spdlog.h>

#include <cstdio>
#include <exception>

#include "tandem/core/base/address_space.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/run/log_detail.h"
#include "tandem/core/training/compute_device.h"

namespace tandem {
namespace {

int report(const std::string& name, const Error& error) {
  if (log_format() == LogFormat::kJson) {
    detail::write_json_line("error", error.message);
  } else {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), error.message.c_str());
  }
  return error.code == ErrorCode::kInvalidArgument ? kExitUsage : kExitFailed;
}

int run_configured(const std::string& name, int threads, const std::function<Result<int>()>& body) {
  if (threads < 0) {
    return report(name,
                  {ErrorCode::kInvalidArgument, "--threads must be >= 0, got " + std::to_string(threads)});
  }
  const int count = threads > 0 ? threads : automatic_threads();
  if (auto checked = check_address_space_after_load(count); !checked) return report(name, checked.error());
  configure_compute_thread(count);
  bool slow_blas = false;
  const std::string blas = loaded_blas(slow_blas);
  if (slow_blas) {
    spdlog::warn(
        "the reference BLAS is loaded ({}): training is many times slower; install "
        "libopenblas0-openmp",
        blas);
  }
  try {
    const Result<int> status = body();
    return status ? *status : report(name, status.error());
  } catch (const std::exception& exception) {
    return report(name, {ErrorCode::kUnsupported, std::string("unexpected: ") + exception.what()});
  }
}

}  // namespace

int run_program(const std::string& name, int threads, const std::function<Result<int>()>& body,
                LogFormat format) {
  configure_logging(name, format);
  const int status = run_configured(name, threads, body);
  end_logging();
  return status;
}

}  // namespace tandem
