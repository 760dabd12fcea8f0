#include "support/tcp_relay.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tandem/core/base/random.h"

namespace tandem::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kMaxBuffered = 256 << 10;
constexpr size_t kChunk = 64 << 10;
constexpr milliseconds kShapingTick{2};

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {
    if (number_ < 0) throw std::system_error(errno, std::generic_category(), "TcpRelay");
  }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int get() const { return number_; }

 private:
  int number_;
};

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

Descriptor listen_on_loopback(uint16_t& port) {
  Descriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener.get(), 64) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::system_error(errno, std::generic_category(), "TcpRelay");
  port = ntohs(address.sin_port);
  return listener;
}

void pass_small_segments_at_once(int descriptor) {
  const int one = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

struct Chunk {
  Clock::time_point due;
  std::string bytes;
};

/// One direction of one connection.
struct Stream {
  int from;
  int to;
  std::deque<Chunk> chunks;
  size_t buffered = 0;
  size_t written_of_first = 0;
  double allowance = 0;  // bytes that the bandwidth permits now
  Clock::time_point last_due;
  bool ended = false;   // no more bytes come
  bool closed = false;  // and the other side knows

  bool wants_input() const { return !ended && buffered < kMaxBuffered; }
};

struct Connection {
  Connection(Descriptor accepted, Descriptor connected)
      : client(std::move(accepted)),
        server(std::move(connected)),
        up{client.get(), server.get(), {}},
        down{server.get(), client.get(), {}} {}
  Descriptor client;
  Descriptor server;
  Stream up;
  Stream down;
  bool broken = false;
};

}  // namespace

struct TcpRelay::Impl {
  explicit Impl(TcpRelayOptions relay_options)
      : options(relay_options),
        target(relay_options.target_port),
        listener(listen_on_loopback(port)),
        wake(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
        jitter(relay_options.jitter_seed) {}

  void run();
  void wait();
  void accept_connections();
  void service(Connection& connection);
  void read_from(Connection& connection, Stream& stream);
  void write_to(Connection& connection, Stream& stream);
  void refill(Stream& stream, double seconds) const;
  bool may_write(const Stream& stream) const;
  void signal() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake.get(), &one, sizeof one);
  }

  const TcpRelayOptions options;
  std::atomic<uint16_t> target;
  uint16_t port = 0;
  Descriptor listener;
  Descriptor wake;
  std::atomic<bool> stopping = false;
  std::atomic<bool> frozen = false;
  std::atomic<bool> drop_all = false;
  std::atomic<bool> down = false;
  std::atomic<int> accepted = 0;
  std::atomic<uint64_t> passed = 0;
  mutable std::mutex record_mutex;
  std::string record;  // guarded by record_mutex

  // The relay thread's own.
  std::list<Connection> connections;
  Clock::time_point last_refill = Clock::now();
  SplitMix64 jitter;
  std::thread thread;
};

void TcpRelay::Impl::run() {
  while (!stopping) {
    wait();
    if (drop_all.exchange(false) || down) connections.clear();
    accept_connections();
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - last_refill).count();
    last_refill = now;
    for (Connection& connection : connections) {
      refill(connection.up, seconds);
      refill(connection.down, seconds);
      if (!frozen) service(connection);
    }
    connections.remove_if([](const Connection& c) { return c.broken || (c.up.closed && c.down.closed); });
  }
}

void TcpRelay::Impl::wait() {
  std::vector<pollfd> items{{listener.get(), POLLIN, 0}, {wake.get(), POLLIN, 0}};
  bool held_back = false;
  for (const Connection& connection : connections) {
    if (frozen) break;
    for (const Stream* stream : {&connection.up, &connection.down}) {
      if (stream->wants_input()) items.push_back({stream->from, POLLIN, 0});
      if (may_write(*stream))
        items.push_back({stream->to, POLLOUT, 0});
      else
        held_back |= !stream->chunks.empty();
    }
  }
  poll(items.data(), items.size(), held_back ? static_cast<int>(kShapingTick.count()) : -1);
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(wake.get(), &count, sizeof count);
}

void TcpRelay::Impl::accept_connections() {
  for (;;) {
    const int number = accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (number < 0) return;
    Descriptor client(number);
    if (down) continue;
    ++accepted;
    Descriptor server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(target);
    // On loopback this is answered at once; a refusal closes the client's connection.
    if (connect(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) continue;
    fcntl(server.get(), F_SETFL, O_NONBLOCK);
    pass_small_segments_at_once(client.get());
    pass_small_segments_at_once(server.get());
    connections.emplace_back(std::move(client), std::move(server));
  }
}

void TcpRelay::Impl::service(Connection& connection) {
  for (Stream* stream : {&connection.up, &connection.down}) {
    read_from(connection, *stream);
    write_to(connection, *stream);
    if (stream->ended && stream->chunks.empty() && !stream->closed) {
      shutdown(stream->to, SHUT_WR);
      stream->closed = true;
    }
  }
}

void TcpRelay::Impl::read_from(Connection& connection, Stream& stream) {
  while (stream.wants_input()) {
    std::string bytes(kChunk, '\0');
    const ssize_t got = recv(stream.from, bytes.data(), bytes.size(), 0);
    if (got == 0) stream.ended = true;
    if (got < 0 && errno != EAGAIN && errno != EINTR) connection.broken = true;
    if (got <= 0) return;
    bytes.resize(static_cast<size_t>(got));
    passed += bytes.size();
    if (options.record) {
      const std::lock_guard lock(record_mutex);
      record += bytes;
    }
    stream.buffered += bytes.size();
    stream.last_due =
        std::max(stream.last_due, Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                     options.delay + jitter.uniform() * options.jitter));
    stream.chunks.push_back({stream.last_due, std::move(bytes)});
  }
}

void TcpRelay::Impl::write_to(Connection& connection, Stream& stream) {
  while (may_write(stream)) {
    const Chunk& chunk = stream.chunks.front();
    size_t size = chunk.bytes.size() - stream.written_of_first;
    if (options.bytes_per_second > 0) size = std::min(size, static_cast<size_t>(stream.allowance));
    const ssize_t sent = send(stream.to, chunk.bytes.data() + stream.written_of_first, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) connection.broken = true;
    if (sent < 0) return;
    stream.allowance -= static_cast<double>(sent);
    stream.buffered -= static_cast<size_t>(sent);
    stream.written_of_first += static_cast<size_t>(sent);
    if (stream.written_of_first < chunk.bytes.size()) continue;
    stream.chunks.pop_front();
    stream.written_of_first = 0;
  }
}

void TcpRelay::Impl::refill(Stream& stream, double seconds) const {
  // A tenth of a second may be saved up, so that a late wake-up costs no bandwidth.
  const auto rate = static_cast<double>(options.bytes_per_second);
  stream.allowance = std::min(stream.allowance + rate * seconds, std::max(rate / 10, 1.0));
}

bool TcpRelay::Impl::may_write(const Stream& stream) const {
  if (stream.chunks.empty() || stream.chunks.front().due > Clock::now()) return false;
  return options.bytes_per_second == 0 || stream.allowance >= 1;
}

TcpRelay::TcpRelay(TcpRelayOptions options) : impl_(std::make_unique<Impl>(options)) {
  impl_->thread = std::thread(&Impl::run, impl_.get());
}

TcpRelay::~TcpRelay() {
  impl_->stopping = true;
  impl_->signal();
  impl_->thread.join();
}

uint16_t TcpRelay::port() const {
  return impl_->port;
}
std::string TcpRelay::endpoint() const {
  return "tcp://127.0.0.1:" + std::to_string(impl_->port);
}

std::string TcpRelay::recorded() const {
  const std::lock_guard lock(impl_->record_mutex);
  return impl_->record;
}

uint64_t TcpRelay::bytes_passed() const {
  return impl_->passed;
}
int TcpRelay::connections() const {
  return impl_->accepted;
}

void TcpRelay::set_target(uint16_t port) {
  impl_->target = port;
}

void TcpRelay::set_frozen(bool frozen) {
  impl_->frozen = frozen;
  impl_->signal();
}

void TcpRelay::cut(bool down) {
  impl_->down = down;
  impl_->signal();
}

void TcpRelay::drop_connections() {
  impl_->drop_all = true;
  impl_->signal();
}

uint16_t port_of(const std::string& endpoint) {
  return static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
}

}  // namespace tandem::test
