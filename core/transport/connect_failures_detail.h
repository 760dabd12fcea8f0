#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tandem/core/base/endpoint.h"
#include "tandem/core/transport/transport.h"
#include "tandem/core/transport/zmq_client.h"

/// Not installed; for ZmqClient and its tests.
namespace tandem::transport_detail {

/// Says for a person why a client's attempts to connect failed, and joins what its attempts at a server's
/// addresses gave into one failure: the server may have another address that works. No socket and no clock.
/// Not thread-safe.
class ConnectFailures {
 public:
  using Failure = client_event::HandshakeFailed;

  /// `server`: what options.endpoint says. `options` must outlive the object.
  ConnectFailures(const ZmqClientOptions& options, const TcpEndpoint& server);

  /// Nobody listens at `address`.
  Failure nobody_there(const TcpEndpoint& address) const;
  /// No TCP connection, or with `tcp_connected` no handshake, came about in time.
  Failure no_answer(const TcpEndpoint& address, bool tcp_connected) const;
  /// The server answered the question for this client's key with this ZAP status.
  Failure not_let_in(const TcpEndpoint& address, uint32_t status) const;
  /// The handshake failed with this reason of libzmq's, ZMQ_PROTOCOL_ERROR_...
  Failure broke_protocol(const TcpEndpoint& address, uint32_t reason) const;
  /// Somebody took the connection and ended it in the handshake; `speaks_zmtp`: it is a ZeroMQ program.
  Failure hung_up(const TcpEndpoint& address, bool speaks_zmtp) const;

  /// An attempt of this cycle failed.
  void add(Failure failure);
  /// Whether the cycle need not go on: only the server itself refuses a key.
  bool is_final() const { return failed_ && failed_->refused; }
  /// Ends the cycle: what was added since the last one, as one failure; none where nothing was.
  std::optional<Failure> take();

 private:
  std::string where(const TcpEndpoint& address) const;

  const ZmqClientOptions& options_;
  const bool is_address_;
  std::optional<Failure> failed_;
};

}  // namespace tandem::transport_detail
