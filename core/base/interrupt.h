#pragma once

namespace tandem {

/// From now on SIGINT and SIGTERM ask for a clean stop instead of killing the process; a second one ends
/// it at once with status 130. SIGHUP is ignored: a run outlives the terminal it was started from. Call once,
/// from main.
void stop_on_signals();

/// Whether a clean stop was asked for. Any thread.
bool stop_requested();

}  // namespace tandem
