#pragma once

#include <memory>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/run/run_status.h"

namespace tandem {

/// Tells over HTTP how a program is doing, on a loopback address:
///   GET /healthz  200 while the main loop moves, 503 with the reason otherwise
///   GET /readyz   200 when the program can do its work, 503 with what it waits for
///   GET /metrics  Prometheus' text format 0.0.4
/// There is no authentication: every local user can read it. One thread serves one connection after the
/// other, each for one request without a body; what waits beyond that waits in the system's short queue,
/// so that nobody can take the program's threads, memory or descriptors.
class StatusServer {
 public:
  /// `endpoint`: "ADDRESS:PORT" with a loopback address (127.0.0.0/8, [::1], localhost); port * or 0 lets the
  /// system choose. kInvalidArgument for anything else, kNetwork when the port is taken. `status` must
  /// outlive the server.
  static Result<std::unique_ptr<StatusServer>> start(const std::string& endpoint, RunStatus& status);
  /// Closes every connection and joins the thread.
  ~StatusServer();

  /// The bound address, with the real port: "127.0.0.1:9100".
  const std::string& endpoint() const;

 private:
  struct Impl;
  explicit StatusServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
