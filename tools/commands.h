#pragma once

namespace tandem::tools {

/// The subcommands of the operator's program. Each takes the command line from its own name on and
/// returns the exit status.
int provision_command(int argc, const char* const* argv);
int devices_command(int argc, const char* const* argv);
int simulate_command(int argc, const char* const* argv);
int plan_command(int argc, const char* const* argv);
int report_command(int argc, const char* const* argv);
int seal_key_command(int argc, const char* const* argv);
int unseal_command(int argc, const char* const* argv);

}  // namespace tandem::tools
