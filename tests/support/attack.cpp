// Attacks a server on this machine until its standard input is closed, then prints what it did. A program of
// its own, so that its memory is not the server's.
//
//   attack half-open PORT                                     holds 500 connections, then closes them, ...
//   attack giant-frame PORT                                   a handshake frame of 200 MiB
//   attack endless PORT SERVER_KEY PUBLIC_KEY SECRET_KEY      a listed client's messages of 4 GiB
//   attack silent-endless PORT SERVER_KEY PUBLIC_KEY SECRET_KEY   the same, its first message
//   attack unlisted PORT SERVER_KEY                           connections with a key that is not listed
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#include <zmq.hpp>

namespace {

using std::chrono::milliseconds;

/// Whether whoever started this program wants it to end.
bool stopping() {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  return poll(&input, 1, 0) != 0;
}

/// A TCP connection without ZeroMQ.
class RawTcp {
 public:
  explicit RawTcp(uint16_t port) : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) reset();
  }
  RawTcp(RawTcp&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  RawTcp& operator=(RawTcp&&) = delete;
  ~RawTcp() { reset(); }

  /// False once the other end has closed; waits up to 100 ms for room.
  bool send(std::string_view bytes) {
    while (!bytes.empty() && descriptor_ >= 0) {
      pollfd item{descriptor_, POLLOUT, 0};
      if (poll(&item, 1, 100) == 0) return true;
      const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0) reset();
      if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return descriptor_ >= 0;
  }

 private:
  void reset() {
    if (descriptor_ >= 0) close(descriptor_);
    descriptor_ = -1;
  }
  int descriptor_;
};

/// ZMTP 3.1's greeting of a CURVE client.
std::string curve_greeting() {
  std::string greeting(64, '\0');
  greeting[0] = '\xff';
  greeting[8] = 1;
  greeting[9] = '\x7f';
  greeting[10] = 3;
  greeting[11] = 1;
  greeting.replace(12, 5, "CURVE");
  return greeting;
}

/// The header of a command frame that announces so many bytes.
std::string command_header(uint64_t bytes) {
  std::string header(1, '\x06');  // a command, and a length of 8 bytes
  for (int shift = 56; shift >= 0; shift -= 8) header += static_cast<char>(bytes >> shift & 0xFF);
  return header;
}

int hold_half_open(uint16_t port) {
  int connections = 0;
  while (!stopping()) {
    std::vector<RawTcp> held;
    while (held.size() < 500 && !stopping()) {
      held.emplace_back(port);
      held.back().send(curve_greeting());
      ++connections;
    }
  }
  return connections;
}

int send_giant_frames(uint16_t port) {
  constexpr int kAtATime = 4;
  const std::string block(65536, 'x');
  int connections = 0;
  while (!stopping()) {
    std::vector<RawTcp> peers;
    for (int i = 0; i < kAtATime; ++i) {
      peers.emplace_back(port);
      peers.back().send(curve_greeting());
      peers.back().send(command_header(200 << 20));
      ++connections;
    }
    for (bool any = true; any && !stopping();) {
      any = false;
      for (RawTcp& peer : peers) any = peer.send(block) || any;
    }
  }
  return connections;
}

struct Keys {
  std::string server_key;
  std::string public_key;
  std::string secret_key;
};

/// A DEALER and its monitor.
class Dealer {
 public:
  Dealer(uint16_t port, const Keys& keys)
      : socket_(context_, zmq::socket_type::dealer), monitor_(context_, zmq::socket_type::pair) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::curve_serverkey, keys.server_key);
    socket_.set(zmq::sockopt::curve_publickey, keys.public_key);
    socket_.set(zmq::sockopt::curve_secretkey, keys.secret_key);
    monitor_.set(zmq::sockopt::linger, 0);
    zmq_socket_monitor(socket_.handle(), "inproc://monitor",
                       ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED);
    monitor_.connect("inproc://monitor");
    socket_.connect("tcp://127.0.0.1:" + std::to_string(port));
  }

  zmq::socket_t& socket() { return socket_; }

  /// Whether something happened to the connection within `wait`.
  bool event_within(milliseconds wait) {
    zmq_pollitem_t item{monitor_.handle(), 0, ZMQ_POLLIN, 0};
    if (zmq_poll(&item, 1, wait.count()) <= 0) return false;
    zmq::message_t part;
    while (monitor_.recv(part).has_value() && part.more()) {
    }
    return true;
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
  zmq::socket_t monitor_;
};

/// One message of 4 GiB: libzmq sends none of a message's parts before it has the last, and it need not hold
/// what all of them borrow.
void send_huge_message(zmq::socket_t& socket, std::string& part) {
  constexpr int kParts = 4096;
  for (int i = 1; i <= kParts; ++i) {
    zmq::message_t borrowed(
        part.data(), part.size(), [](void*, void*) {}, nullptr);
    socket.send(borrowed, i < kParts ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
}

int send_endless_messages(uint16_t port, const Keys& keys, bool say_hello) {
  std::string part(1 << 20, 'x');
  int connections = 0;
  while (!stopping()) {
    Dealer dealer(port, keys);
    if (!dealer.event_within(milliseconds(500))) continue;  // the handshake
    ++connections;
    if (say_hello) dealer.socket().send(zmq::str_buffer("hello"), zmq::send_flags::none);
    send_huge_message(dealer.socket(), part);
    while (!stopping() && !dealer.event_within(milliseconds(100))) {
    }
  }
  return connections;
}

int connect_unlisted(uint16_t port, const std::string& server_key) {
  std::array<char, 41> public_key{};
  std::array<char, 41> secret_key{};
  zmq_curve_keypair(public_key.data(), secret_key.data());
  const Keys keys{server_key, public_key.data(), secret_key.data()};
  int connections = 0;
  while (!stopping()) {
    Dealer dealer(port, keys);
    dealer.event_within(milliseconds(500));
    ++connections;
  }
  return connections;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc > 2 ? argv[1] : "";
  const auto port = static_cast<uint16_t>(argc > 2 ? std::atoi(argv[2]) : 0);
  const auto argument = [&](int i) { return argc > i ? std::string(argv[i]) : ""; };
  const Keys keys{argument(3), argument(4), argument(5)};
  int connections = -1;
  if (kind == "half-open") connections = hold_half_open(port);
  if (kind == "giant-frame") connections = send_giant_frames(port);
  if (kind == "endless") connections = send_endless_messages(port, keys, true);
  if (kind == "silent-endless") connections = send_endless_messages(port, keys, false);
  if (kind == "unlisted") connections = connect_unlisted(port, keys.server_key);
  if (connections < 0) return std::fprintf(stderr, "attack: see the first lines of attack.cpp\n"), 2;
  std::printf("attack %s: %d connections\n", kind.c_str(), connections);
  return 0;
}
