#pragma once

#include <cstdint>
#include <optional>

/// Not installed; for core/transport and its tests.
namespace tandem::transport_detail {

/// What the kernel has counted on a TCP connection since its beginning.
struct TcpCounters {
  int64_t received = 0;      ///< bytes from the peer
  int64_t unread = 0;        ///< of them, not yet taken by this process
  int64_t acknowledged = 0;  ///< of what was sent, by the peer's machine

  int64_t consumed() const { return received - unread; }

  /// Nothing where the descriptor is no TCP socket (any more).
  static std::optional<TcpCounters> read(int descriptor);
};

/// The kernel's own number of a socket, never used twice; 0 where the descriptor is no socket (any more).
uint64_t socket_cookie(int descriptor);

}  // namespace tandem::transport_detail
