#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace tandem::test {

struct TcpRelayOptions {
  /// Where connections are passed on to, on 127.0.0.1.
  uint16_t target_port = 0;
  /// Keep every byte that passes, both ways, for recorded().
  bool record = false;
  /// Bandwidth of each connection and direction; 0 is unlimited.
  int64_t bytes_per_second = 0;
  /// How long each byte is on its way.
  std::chrono::milliseconds delay{0};
  /// A random part of up to so much comes on top, anew for each piece read; the order is kept.
  std::chrono::milliseconds jitter{0};
  uint64_t jitter_seed = 1;
};

/// A TCP proxy on 127.0.0.1 with a port of its own: what a network between two parties can see and do to
/// them. One poll() thread owns every connection; the methods may be called from any thread.
class TcpRelay {
 public:
  /// Listens and starts. Throws std::system_error.
  explicit TcpRelay(TcpRelayOptions options);
  ~TcpRelay();

  uint16_t port() const;
  /// "tcp://127.0.0.1:PORT"
  std::string endpoint() const;

  /// Everything that passed so far, in the order it was read, when `record` is set.
  std::string recorded() const;
  uint64_t bytes_passed() const;
  /// Connections accepted so far.
  int connections() const;

  /// Later connections go to another port.
  void set_target(uint16_t port);
  /// Stops passing bytes on, without closing anything: a frozen peer. New connections are still accepted.
  void set_frozen(bool frozen);
  /// Closes every connection at once, as a network that breaks.
  void drop_connections();
  /// An outage: every connection breaks, and new ones end at once, until cut(false).
  void cut(bool down);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The port of "tcp://HOST:PORT".
uint16_t port_of(const std::string& endpoint);

}  // namespace tandem::test
