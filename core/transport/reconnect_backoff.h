#pragma once

#include <chrono>
#include <cstdint>

#include "tandem/core/base/random.h"

namespace tandem {

/// How long a client waits before it connects again: each wait is drawn evenly from zero to a limit ("full
/// jitter"), so that a fleet that lost its server at one moment comes back spread out, and the limit doubles
/// from attempt to attempt, so that a server that is down for long is asked seldom. The limit never exceeds
/// `longest`: that is how long after the server's return a client may still wait. Not thread-safe.
class ReconnectBackoff {
 public:
  /// Both >= 1 ms; a `longest` below `first` counts as `first`. `seed` should differ between clients.
  ReconnectBackoff(std::chrono::milliseconds first, std::chrono::milliseconds longest, uint64_t seed);

  /// The next wait, from zero to the limit.
  std::chrono::milliseconds next();

  /// A connection ended after so long. One that lived for `longest` puts the limit back to `first`; one that
  /// ended sooner counts as one more failed attempt, so that a server that dies on every client it lets in is
  /// not stormed.
  void connection_ended(std::chrono::milliseconds lived);

 private:
  const std::chrono::milliseconds first_;
  const std::chrono::milliseconds longest_;
  std::chrono::milliseconds limit_;
  SplitMix64 random_;
};

}  // namespace tandem
