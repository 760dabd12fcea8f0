#include "tandem/core/transport/memory_network.h"

#include <stdexcept>
#include <utility>

namespace tandem {
namespace {

void require_frames(const wire::Frames& frames) {
  if (frames.empty()) throw std::invalid_argument("MemoryNetwork: a message has at least one frame");
}

}  // namespace

struct MemoryNetwork::Client : ClientTransport {
  Client(MemoryNetwork& its_network, size_t its_index) : network(its_network), index(its_index) {}

  bool send(wire::Frames frames) override {
    require_frames(frames);
    network.enter(*this, Way::kUp, std::move(frames));
    return true;
  }
  LinkState link() const override { return {.sent_until = std::chrono::steady_clock::time_point::max()}; }

  std::deque<wire::Frames>& queue(Way way) { return way == Way::kUp ? up : down; }

  MemoryNetwork& network;
  const size_t index;
  ConnectionId connection;
  std::deque<wire::Frames> up;
  std::deque<wire::Frames> down;
};

class MemoryNetwork::Server : public ServerTransport {
 public:
  explicit Server(MemoryNetwork& network) : network_(network) {}

  bool send(ConnectionId to, wire::Frames frames) override {
    require_frames(frames);
    if (to.value == 0 || to.value > network_.client_of_connection_.size()) return true;
    Client& client = *network_.clients_[network_.client_of_connection_[to.value - 1]];
    if (client.connection == to) network_.enter(client, Way::kDown, std::move(frames));
    return true;
  }

 private:
  MemoryNetwork& network_;
};

MemoryNetwork::MemoryNetwork() : server_(std::make_unique<Server>(*this)) {}
MemoryNetwork::~MemoryNetwork() = default;

ServerTransport& MemoryNetwork::server() {
  return *server_;
}

size_t MemoryNetwork::add_client() {
  clients_.push_back(std::make_unique<Client>(*this, clients_.size()));
  return clients_.size() - 1;
}

ClientTransport& MemoryNetwork::client(size_t index) {
  return *clients_.at(index);
}

ConnectionId MemoryNetwork::connect(size_t index) {
  disconnect(index);
  client_of_connection_.push_back(index);
  return clients_[index]->connection = {client_of_connection_.size()};
}

void MemoryNetwork::disconnect(size_t index) {
  Client& client = *clients_.at(index);
  client.connection = {};
  client.up.clear();
  client.down.clear();
}

ConnectionId MemoryNetwork::connection(size_t index) const {
  return clients_.at(index)->connection;
}

bool MemoryNetwork::has_message(size_t index, Way way) const {
  return !clients_.at(index)->queue(way).empty();
}

std::optional<wire::Frames> MemoryNetwork::take(size_t index, Way way) {
  std::deque<wire::Frames>& queue = clients_.at(index)->queue(way);
  if (queue.empty()) return std::nullopt;
  std::optional<wire::Frames> frames(std::move(queue.front()));
  queue.pop_front();
  return frames;
}

void MemoryNetwork::enter(Client& client, Way way, wire::Frames frames) {
  if (client.connection == ConnectionId{}) return;
  if (filter && !filter(client.index, way, frames)) return;
  if (client.connection != ConnectionId{}) client.queue(way).push_back(std::move(frames));
}

}  // namespace tandem
