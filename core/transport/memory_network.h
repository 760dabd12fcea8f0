#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/transport/transport.h"

namespace tandem {

/// Joins an aggregator's session and its clients' in one process: the transport of the simulator and of
/// tests. What one side sends waits until the network's owner takes it out and hands it to the other side, so
/// the owner decides in which order messages of different clients arrive. As over a socket, what one side
/// sends to the other comes in order, and what was on its way when a connection ended is lost.
///
/// The network has no thread and no clock. A client may be used, taken from and disconnected by another
/// thread than the other clients are; everything else is done by one thread while no other is in the network.
class MemoryNetwork {
 public:
  enum class Way {
    kUp,    ///< to the aggregator
    kDown,  ///< to the client
  };

  MemoryNetwork();
  ~MemoryNetwork();
  MemoryNetwork(const MemoryNetwork&) = delete;
  MemoryNetwork& operator=(const MemoryNetwork&) = delete;

  /// What the aggregator's session sends through; lives as long as the network.
  ServerTransport& server();

  /// Makes a client that is not connected. Returns its index: clients count from 0.
  size_t add_client();
  size_t clients() const { return clients_.size(); }
  /// What that client's session sends through; lives as long as the network. What was sent has left at once,
  /// as its link() has it.
  ClientTransport& client(size_t index);

  /// Gives the client a connection whose number nobody had before.
  ConnectionId connect(size_t index);
  void disconnect(size_t index);
  /// The client's present connection; ConnectionId{} where it has none.
  ConnectionId connection(size_t index) const;

  bool has_message(size_t index, Way way) const;
  /// The oldest message that waits, if any.
  std::optional<wire::Frames> take(size_t index, Way way);

  /// Sees each message that enters a connection, before it waits there; the message is lost where this
  /// returns false. It may disconnect the client. Called on the thread of whoever sends; may be empty.
  std::function<bool(size_t client, Way, const wire::Frames&)> filter;

 private:
  class Server;
  struct Client;

  void enter(Client& client, Way way, wire::Frames frames);

  std::unique_ptr<Server> server_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<size_t> client_of_connection_;  // connection n is at n - 1
};

}  // namespace tandem
