#include "tandem/core/program/operation_flags.h"

#include <algorithm>
#include <chrono>

#include "tandem/core/base/form.h"
#include "tandem/core/run/address_file.h"

namespace tandem {
namespace {

using Kind = FormParameter::Kind;

/// What follows the address.
const std::vector<Form>& status_forms() {
  static const std::vector<Form> forms = {
      {"",
       "",
       {{"file", Kind::kText, {}, "", "file"},
        {"stall-after", Kind::kTime, {0.1, 86400}, "60s", "sign of life"}}}};
  return forms;
}

/// What --status-endpoint says.
struct StatusEndpoint {
  std::string address;
  std::string file;
  std::chrono::milliseconds stall_after{0};
};

Result<StatusEndpoint> parse_status_endpoint(const std::string& text) {
  const size_t comma = std::min(text.find(','), text.size());
  const auto form =
      parse_form("--status-endpoint", comma < text.size() ? text.substr(comma + 1) : "", status_forms());
  if (!form) return form.error();
  if (comma == 0 && !text.empty()) {
    return Error{ErrorCode::kInvalidArgument, "--status-endpoint is \"" + text +
                                                  "\": an address comes first, as in 127.0.0.1:9100" + text};
  }
  return StatusEndpoint{text.substr(0, comma), form->text("file"), form->time("stall-after")};
}

}  // namespace

void OperationFlags::add_log_format(Flags& flags) {
  flags.section("operation", "Operation");
  flags
      .add_choice("log-format", log_format, {"text", "json"},
                  "Lines for people, or one JSON object a line for a log collector")
      .not_of_the_run();
}

void OperationFlags::add_status(Flags& flags) {
  const auto append = [](const std::string& parameter, const std::string& unit) {
    return [parameter, unit](const std::string& value, const std::string& text) {
      return (text.empty() ? "ADDRESS" : text) + "," + parameter + "=" + value + unit;
    };
  };
  flags
      .add("status-endpoint", status_endpoint,
           "Answer GET /healthz, /readyz and /metrics (Prometheus) here, such as 127.0.0.1:9100; loopback "
           "only, port * lets the system choose; empty: nothing listens. After the address ,file=PATH writes "
           "the address that was bound to a file, and ,stall-after=TIME (60s) says after how long without a "
           "sign of life of the main loop /healthz answers 503, more than the longest step or evaluation "
           "takes")
      .with_path("file")
      .not_of_the_run()
      .checked_by([this]() -> Result<void> {
        const auto parsed = parse_status_endpoint(status_endpoint);
        return parsed ? Result<void>() : Result<void>(parsed.error());
      })
      .replaces("status-endpoint-file", append("file", ""))
      .replaces("stall-after", append("stall-after", "s"));
}

Result<std::unique_ptr<RunStatus>> OperationFlags::make_status(const std::string& program) const {
  const auto endpoint = parse_status_endpoint(status_endpoint);
  if (!endpoint) return endpoint.error();
  return std::make_unique<RunStatus>(program, endpoint->stall_after);
}

Result<std::unique_ptr<StatusServer>> OperationFlags::serve(
    RunStatus& status, const std::function<void(const std::string&)>& note) const {
  const auto endpoint = parse_status_endpoint(status_endpoint);
  if (!endpoint) return endpoint.error();
  if (endpoint->address.empty()) return std::unique_ptr<StatusServer>();
  auto server = StatusServer::start(endpoint->address, status);
  if (!server) return server.error();
  note("status at http://" + (*server)->endpoint() + "/metrics, /healthz and /readyz");
  if (!endpoint->file.empty()) {
    auto written = write_address_file("--status-endpoint file", endpoint->file, (*server)->endpoint());
    if (!written) return written.error();
  }
  return server;
}

}  // namespace tandem
