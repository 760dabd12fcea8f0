#include "tandem/core/transport/zmq_server.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <exception>
#include <future>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "tandem/core/base/endpoint.h"
#include "tandem/core/base/mailbox.h"
#include "tandem/core/transport/connection_room_detail.h"
#include "tandem/core/transport/gatekeeper_detail.h"
#include "tandem/core/transport/slow_peers_detail.h"
#include "tandem/core/transport/turns_detail.h"
#include "tandem/core/transport/zap_authenticator.h"
#include "tandem/core/transport/zmq_detail.h"
#include "tandem/core/transport/zmq_options_detail.h"

namespace tandem {
namespace {

namespace detail = transport_detail;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kOutboxMessages = 1024;
// A ROUTER cannot be polled for "this peer is writable again".
constexpr milliseconds kRetryPause{2};
// For what libzmq still holds once every message has left.
constexpr milliseconds kLastBytes{100};
// Received in a row before the outbox gets its turn.
constexpr int kReceiveBurst = 64;
// Turns after which nobody waits any more for this thread to have received everything: somebody floods it.
constexpr int kMostBusyTurns = 16;

struct Outgoing {
  ConnectionId to;
  wire::Frames frames;
};

// libzmq binds addresses and interfaces, not names.
std::string bind_address(const std::string& endpoint) {
  TcpEndpoint parsed = parse_endpoint("endpoint", endpoint, EndpointUse::kListen).value();
  if (parsed.host == "localhost") parsed.host = "127.0.0.1";
  return parsed.text();
}

/// Whose key `after` no longer lists under the same name.
std::vector<ClientId> revoked_devices(const DeviceList& before, const DeviceList& after) {
  std::vector<ClientId> revoked;
  for (const auto& [key, client] : before) {
    const auto found = after.find(key);
    if (found == after.end() || found->second != client) revoked.push_back(client);
  }
  return revoked;
}

Error bind_error(const std::string& endpoint, const zmq::error_t& error) {
  std::string advice;
  if (error.num() == EADDRINUSE) advice = "; choose another --endpoint or stop the program that has it";
  if (error.num() == EADDRNOTAVAIL || error.num() == ENODEV)
    advice = "; the address must be one of this machine's own (\"*\" listens on all of them)";
  if (error.num() == EACCES) advice = "; ports below 1024 need privileges, choose another --endpoint";
  return {ErrorCode::kNetwork, "cannot listen on " + endpoint + ": " + error.what() + advice};
}

}  // namespace

struct ZmqServer::Impl {
  explicit Impl(ZmqServerOptions server_options)
      : options(std::move(server_options)), max_message_bytes(2 * options.max_frame_bytes) {}
  ~Impl() { stop(milliseconds(0)); }

  Result<void> start(ServerHandlers message_handlers);
  bool send(ConnectionId to, wire::Frames frames);
  void stop(milliseconds how_long);
  void set_devices(DeviceList devices);
  void cut(ConnectionId connection);
  void catch_up();

  // Everything below runs on the network thread.
  void run(std::promise<Result<void>> started);
  Result<void> bind(zmq::socket_t& router);
  void serve(zmq::socket_t& router);
  void close(zmq::socket_t& router);
  static void discard_received(zmq::socket_t& router);
  void poll(zmq::socket_t& router);
  bool receive(zmq::socket_t& router);
  void accept(const detail::Parts& parts);
  void hand_over(ReceivedFrames received);
  void cut_wanted();
  bool is_listed(const detail::MessageSource& source) const;
  void replace_devices();
  void drop(const char* why);
  void drain_outbox();

  ZmqServerOptions options;  // its device list is the network thread's own
  ServerHandlers handlers;   // set before the thread runs
  std::string endpoint;      // written before start() returns

  zmq::context_t context;  // outlives the sockets of both threads
  std::unique_ptr<ZapAuthenticator> authenticator;
  detail::WakeUp wake;
  Mailbox<Outgoing> outbox{kOutboxMessages};
  std::atomic<int64_t> max_message_bytes;
  std::mutex devices_mutex;
  std::optional<DeviceList> new_devices;  // guarded by devices_mutex
  std::mutex to_cut_mutex;
  std::vector<ConnectionId> to_cut;  // guarded by to_cut_mutex
  detail::Turns turns;
  std::atomic<milliseconds> patience{milliseconds(0)};
  std::mutex stop_mutex;
  std::thread thread;

  // The network thread's own.
  std::thread::id network_thread;
  detail::Gatekeeper* gatekeeper = nullptr;
  std::optional<detail::SlowPeers> peers;  // of the socket
  uint64_t dropped = 0;
};

Result<void> ZmqServer::Impl::start(ServerHandlers message_handlers) {
  handlers = std::move(message_handlers);
  // CURVE fails open: with no handler bound, libzmq lets strangers in. So the handler comes first.
  auto handler_started = ZapAuthenticator::start(context, {options.devices, options.insecure});
  if (!handler_started) return handler_started.error();
  authenticator = std::move(*handler_started);
  std::promise<Result<void>> started;
  std::future<Result<void>> outcome = started.get_future();
  thread = std::thread(&Impl::run, this, std::move(started));
  return outcome.get();
}

bool ZmqServer::Impl::send(ConnectionId to, wire::Frames frames) {
  if (frames.empty()) throw std::invalid_argument("ZmqServer::send: a message has at least one frame");
  bool queued = false;
  if (std::this_thread::get_id() == network_thread) {
    // The handler answers: waiting for room would wait for itself.
    if (outbox.size() >= kOutboxMessages / 2) drain_outbox();
    queued = outbox.try_push({to, std::move(frames)});
  } else {
    queued = outbox.push({to, std::move(frames)});
  }
  wake.signal();
  return queued;
}

void ZmqServer::Impl::stop(milliseconds how_long) {
  const std::lock_guard lock(stop_mutex);
  if (!thread.joinable()) return;
  patience = how_long;
  outbox.close();
  wake.signal();
  thread.join();
  // Its socket would keep the context from closing. Whoever connects now finds nobody listening.
  authenticator.reset();
  context.close();  // waits for the rest of the socket's linger
}

void ZmqServer::Impl::run(std::promise<Result<void>> started) {
  detail::block_signals_on_this_thread();
  network_thread = std::this_thread::get_id();
  bool bound = false;
  try {
    zmq::socket_t router(context, zmq::socket_type::router);
    peers.emplace(router,
                  [this](ConnectionId to, int64_t bytes) { gatekeeper->sent(to, bytes, Clock::now()); });
    detail::Gatekeeper keeper(context, router, {.max_connections = detail::connection_limit(options)},
                              !options.insecure, options.heartbeat_interval, *authenticator);
    gatekeeper = &keeper;
    keeper.set_on_link(handlers.on_link);
    Result<void> result = bind(router);
    bound = result.has_value();
    started.set_value(std::move(result));
    if (bound) serve(router);
  } catch (const std::exception& error) {
    if (bound)
      spdlog::critical("the network thread stopped: {}", error.what());
    else
      started.set_value(
          Error{ErrorCode::kNetwork, std::string("cannot open a server socket: ") + error.what()});
  }
  outbox.close();
  turns.finish();
}

void ZmqServer::Impl::set_devices(DeviceList devices) {
  if (options.insecure) return;
  authenticator->set_devices(devices);
  {
    const std::lock_guard lock(devices_mutex);
    new_devices = std::move(devices);
  }
  wake.signal();
}

Result<void> ZmqServer::Impl::bind(zmq::socket_t& router) {
  try {
    detail::configure_server_socket(router, options);
    router.bind(bind_address(options.endpoint));
    endpoint = router.get(zmq::sockopt::last_endpoint);
    return {};
  } catch (const zmq::error_t& error) {
    return bind_error(options.endpoint, error);
  }
}

void ZmqServer::Impl::serve(zmq::socket_t& router) {
  int busy_turns = 0;
  while (!outbox.closed()) {
    poll(router);
    wake.clear();
    const uint64_t turn = turns.begin();
    gatekeeper->set_max_message_bytes(max_message_bytes);
    gatekeeper->observe(Clock::now());
    const bool received_all = receive(router);
    if (received_all) gatekeeper->judge(Clock::now());
    replace_devices();
    cut_wanted();
    drain_outbox();
    peers->retry();
    busy_turns = received_all ? 0 : busy_turns + 1;
    if (busy_turns % kMostBusyTurns == 0) turns.end(turn);
  }
  close(router);
}

/// Sends for as long as something moves: who takes less than the slowest link does is not waited for. The
/// socket is open and read all the while, because libzmq 4.3.4 aborts where a connection that nobody reads
/// ends while its socket lingers (stream_engine_base.cpp: !_io_error).
void ZmqServer::Impl::close(zmq::socket_t& router) {
  drain_outbox();
  const auto begun = Clock::now();
  auto moved_at = begun;
  bool was_sending = false;
  for (auto now = begun; now - moved_at < patience.load(); now = Clock::now()) {
    gatekeeper->observe(now);
    const bool is_sending = !peers->empty() || gatekeeper->is_sending();
    if (gatekeeper->look_at_departures(now) || (was_sending && !is_sending)) moved_at = now;
    was_sending = is_sending;
    // A message counts as gone when its last bytes may still be here.
    if (!is_sending && now - moved_at >= kLastBytes) break;
    zmq_poll(nullptr, 0, kRetryPause.count());
    peers->retry();
    discard_received(router);
  }
  router.set(zmq::sockopt::linger, 0);
}

void ZmqServer::Impl::discard_received(zmq::socket_t& router) {
  detail::Parts parts;
  for (int i = 0; i < kReceiveBurst; ++i) (void)detail::receive_parts(router, parts);
}

void ZmqServer::Impl::catch_up() {
  const uint64_t turn = turns.ask();
  wake.signal();
  turns.await(turn);
}

void ZmqServer::Impl::poll(zmq::socket_t& router) {
  const auto now = Clock::now();
  zmq_pollitem_t items[] = {{router.handle(), 0, ZMQ_POLLIN, 0},
                            {nullptr, wake.descriptor(), ZMQ_POLLIN, 0},
                            {gatekeeper->monitor(), 0, ZMQ_POLLIN, 0},
                            {nullptr, gatekeeper->traffic_descriptor(now), ZMQ_POLLIN, 0}};
  const int count = gatekeeper->traffic_descriptor(now) >= 0 ? 4 : 3;
  const milliseconds longest = gatekeeper->longest_wait(now).value_or(milliseconds(-1));
  // An error (EINTR) is a wake-up: everything after this looks without waiting.
  const long timeout = peers->empty() ? longest.count() : kRetryPause.count();
  zmq_poll(items, count, timeout);
}

/// Whether nothing is left.
bool ZmqServer::Impl::receive(zmq::socket_t& router) {
  detail::Parts parts;
  for (int i = 0; i < kReceiveBurst; ++i) {
    const detail::ReceiveOutcome outcome = detail::receive_parts(router, parts);
    if (outcome == detail::ReceiveOutcome::kNothing) return true;
    if (outcome == detail::ReceiveOutcome::kMessage)
      accept(parts);
    else
      drop("it has too many parts");
  }
  return false;
}

void ZmqServer::Impl::accept(const detail::Parts& parts) {
  ReceivedFrames received;
  if (parts.size() < 2) return drop("it is empty");
  if (!detail::connection_of(*parts[0], received.connection)) return drop("its sender chose a routing id");
  const char* user_id = zmq_msg_gets(parts[1]->handle(), "User-Id");
  if (user_id == nullptr || *user_id == '\0') return drop("it has no User-Id");
  const char* key = options.insecure ? nullptr : zmq_msg_gets(parts[1]->handle(), detail::kKeyProperty);
  const detail::MessageSource source{.descriptor = zmq_msg_get(parts[1]->handle(), ZMQ_SRCFD),
                                     .connection = received.connection,
                                     .name = user_id,
                                     .key = key == nullptr ? "" : key};
  gatekeeper->delivered(source, Clock::now());
  if (!is_listed(source)) replace_devices();  // it may be new, and quicker than the wake-up
  if (!is_listed(source)) {
    gatekeeper->cut_off(source, "its key is not on the device list", Clock::now());
    return drop("its sender's key was taken off the device list");
  }
  received.client.name = user_id;
  received.frames = detail::borrow_parts(parts, 1);
  if (const char* address = zmq_msg_gets(parts[1]->handle(), "Peer-Address"))
    received.address = detail::plain_address(address);
  hand_over(std::move(received));
}

void ZmqServer::Impl::hand_over(ReceivedFrames received) {
  const std::string name = received.client.name;
  try {
    handlers.on_message(std::move(received));
  } catch (const std::exception& error) {
    spdlog::error("handling a message of {} failed: {}", name, error.what());
  }
}

void ZmqServer::Impl::cut(ConnectionId connection) {
  {
    const std::lock_guard lock(to_cut_mutex);
    to_cut.push_back(connection);
  }
  wake.signal();
}

void ZmqServer::Impl::cut_wanted() {
  std::vector<ConnectionId> connections;
  {
    const std::lock_guard lock(to_cut_mutex);
    connections.swap(to_cut);
  }
  for (const ConnectionId connection : connections) gatekeeper->shut_down(connection);
}

bool ZmqServer::Impl::is_listed(const detail::MessageSource& source) const {
  if (options.insecure) return true;
  const auto found = options.devices.find(source.key);
  return found != options.devices.end() && found->second.name == source.name;
}

void ZmqServer::Impl::replace_devices() {
  std::optional<DeviceList> devices;
  {
    const std::lock_guard lock(devices_mutex);
    devices = std::exchange(new_devices, std::nullopt);
  }
  if (!devices) return;
  const std::vector<ClientId> revoked = revoked_devices(options.devices, *devices);
  options.devices = std::move(*devices);
  gatekeeper->set_max_connections(detail::connection_limit(options));
  if (revoked.empty()) return;
  gatekeeper->observe(Clock::now());  // whoever was let in by the old list is known now
  gatekeeper->keep_only(options.devices, Clock::now());
  if (!handlers.on_revoked) return;
  for (const ClientId& client : revoked) handlers.on_revoked(client);
}

void ZmqServer::Impl::drop(const char* why) {
  // The 1st, 2nd, 4th, 8th, ... : a peer must not be able to fill the log.
  if (std::has_single_bit(++dropped)) spdlog::warn("dropped a message: {} ({} dropped so far)", why, dropped);
}

void ZmqServer::Impl::drain_outbox() {
  while (auto message = outbox.try_pop()) peers->send(message->to, std::move(message->frames));
}

ZmqServer::ZmqServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqServer::~ZmqServer() = default;

Result<std::unique_ptr<ZmqServer>> ZmqServer::make(ZmqServerOptions options) {
  if (const auto checked = detail::check(options); !checked) return checked.error();
  try {
    return std::unique_ptr<ZmqServer>(new ZmqServer(std::make_unique<Impl>(std::move(options))));
  } catch (const std::exception& error) {
    return Error{ErrorCode::kNetwork, std::string("cannot make the server: ") + error.what()};
  }
}

Result<void> ZmqServer::start(ServerHandlers handlers) {
  if (!handlers.on_message) throw std::invalid_argument("ZmqServer::start: on_message is empty");
  try {
    if (const auto room = detail::check_connection_room(impl_->options); !room) return room.error();
    return impl_->start(std::move(handlers));
  } catch (const std::exception& error) {
    return Error{ErrorCode::kNetwork, std::string("cannot start the server: ") + error.what()};
  }
}

const std::string& ZmqServer::endpoint() const {
  return impl_->endpoint;
}

bool ZmqServer::send(ConnectionId to, wire::Frames frames) {
  return impl_->send(to, std::move(frames));
}

void ZmqServer::set_devices(DeviceList devices) {
  impl_->set_devices(std::move(devices));
}

void ZmqServer::set_max_message_bytes(int64_t bytes) {
  if (bytes < 1) throw std::invalid_argument("ZmqServer::set_max_message_bytes: bytes must be >= 1");
  impl_->max_message_bytes = bytes;
}

void ZmqServer::catch_up() {
  if (impl_->thread.joinable()) impl_->catch_up();
}

void ZmqServer::stop(std::chrono::milliseconds patience) {
  impl_->stop(patience);
}

void ZmqServer::cut(ConnectionId connection) {
  impl_->cut(connection);
}

}  // namespace tandem
