#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/run/log.h"
#include "tandem/core/run/run_status.h"
#include "tandem/core/run/status_server.h"

namespace tandem {

/// The flags of whoever operates a program: what its log looks like, and where it tells how it is doing.
struct OperationFlags {
  std::string log_format = "text";
  /// ADDRESS[,file=PATH][,stall-after=TIME]
  std::string status_endpoint;

  void add_log_format(Flags& flags);
  /// --status-endpoint, for a program that runs for long.
  void add_status(Flags& flags);

  LogFormat format() const { return parse_log_format(log_format); }
  /// Its status as of now. kInvalidArgument names the flag.
  Result<std::unique_ptr<RunStatus>> make_status(const std::string& program) const;
  /// Starts the endpoint, writes its file and says where it listens; null without --status-endpoint.
  Result<std::unique_ptr<StatusServer>> serve(RunStatus& status,
                                              const std::function<void(const std::string&)>& note) const;
};

}  // namespace tandem
