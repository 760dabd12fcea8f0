#include "tandem/core/program/operation_flags.h"

#include <cmath>

#include "tandem/core/run/address_file.h"

namespace tandem {

void OperationFlags::add_log_format(Flags& flags) {
  flags.group("Operation");
  flags.add_choice("log-format", log_format, {"text", "json"},
                   "Lines for people, or one JSON object a line for a log collector");
  flags.not_of_the_run({"log-format"});
}

void OperationFlags::add_status(Flags& flags) {
  flags.add("status-endpoint", status_endpoint,
            "Answer GET /healthz, /readyz and /metrics (Prometheus) here, such as 127.0.0.1:9100; loopback "
            "only, port * lets the system choose; empty: nothing listens");
  flags.add_path("status-endpoint-file", status_endpoint_file,
                 "Write the address that was bound to this file (for port *)");
  flags.add("stall-after", stall_after,
            "Seconds without a sign of life of the main loop after which /healthz says 503; more than the "
            "longest step or evaluation takes");
  flags.not_of_the_run({"status-endpoint", "status-endpoint-file", "stall-after"});
}

Result<std::unique_ptr<RunStatus>> OperationFlags::make_status(const std::string& program) const {
  if (!(stall_after >= 0.1 && stall_after <= 86400)) {
    return Error{ErrorCode::kInvalidArgument,
                 "--stall-after must be between 0.1 and 86400 seconds, got " + std::to_string(stall_after)};
  }
  return std::make_unique<RunStatus>(program, std::chrono::milliseconds(std::llround(stall_after * 1000)));
}

Result<std::unique_ptr<StatusServer>> OperationFlags::serve(
    RunStatus& status, const std::function<void(const std::string&)>& note) const {
  if (status_endpoint.empty()) return std::unique_ptr<StatusServer>();
  auto server = StatusServer::start(status_endpoint, status);
  if (!server) return server.error();
  note("status at http://" + (*server)->endpoint() + "/metrics, /healthz and /readyz");
  if (!status_endpoint_file.empty()) {
    auto written = write_address_file("--status-endpoint-file", status_endpoint_file, (*server)->endpoint());
    if (!written) return written.error();
  }
  return server;
}

}  // namespace tandem
