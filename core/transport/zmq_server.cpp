#include "tandem/core/transport/zmq_server.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <deque>
#include <exception>
#include <future>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "tandem/core/base/endpoint.h"
#include "tandem/core/base/mailbox.h"
#include "tandem/core/base/open_files.h"
#include "tandem/core/transport/gatekeeper_detail.h"
#include "tandem/core/transport/server_faults_detail.h"
#include "tandem/core/transport/zap_authenticator.h"
#include "tandem/core/transport/zmq_detail.h"

namespace tandem {
namespace {

namespace detail = transport_detail;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kOutboxMessages = 1024;
// Messages that wait for one slow connection beyond libzmq's own queue; more are dropped.
constexpr size_t kMaxWaiting = 64;
// A ROUTER cannot be polled for "this peer is writable again".
constexpr milliseconds kRetryPause{2};
// Received in a row before the outbox gets its turn.
constexpr int kReceiveBurst = 64;
// Without a device list there is nothing to derive a number from.
constexpr int kInsecureConnections = 4096;
// Files that are no connections: libraries, libzmq's own, the run's.
constexpr int64_t kOtherFiles = 128;

struct Outgoing {
  ConnectionId to;
  wire::Frames frames;
};

Result<void> check(const ZmqServerOptions& options) {
  const auto invalid = [](const std::string& text) { return Error{ErrorCode::kInvalidArgument, text}; };
  const auto endpoint = parse_endpoint("endpoint", options.endpoint, EndpointUse::kListen);
  if (!endpoint) return endpoint.error();
  if (options.max_frame_bytes < 1) return invalid("ZmqServerOptions.max_frame_bytes must be >= 1");
  if (options.high_water_mark < 1) return invalid("ZmqServerOptions.high_water_mark must be >= 1");
  if (options.max_connections < 0) return invalid("ZmqServerOptions.max_connections must be >= 0");
  if (options.heartbeat_interval < milliseconds(1))
    return invalid("ZmqServerOptions.heartbeat_interval must be >= 1 ms");
  if (options.insecure && !endpoint->is_loopback())
    return invalid(
        "without encryption the server listens on loopback only (127.0.0.0/8, localhost, [::1]), not on " +
        options.endpoint);
  if (!options.insecure && (!is_z85_key(options.keys.public_key) || !is_z85_key(options.keys.secret_key)))
    return invalid("the server's keys are not Z85 keys of 40 characters");
  return {};
}

// libzmq binds addresses and interfaces, not names.
std::string bind_address(const std::string& endpoint) {
  TcpEndpoint parsed = parse_endpoint("endpoint", endpoint, EndpointUse::kListen).value();
  if (parsed.host == "localhost") parsed.host = "127.0.0.1";
  return parsed.text();
}

int wanted_connections(const ZmqServerOptions& options) {
  if (options.max_connections > 0) return options.max_connections;
  return options.insecure ? kInsecureConnections : detail::connection_limit_for(options.devices.size());
}

/// A connection is an open file. Raises the limit of those for that many connections, and says how many there
/// may be.
int64_t room_for(int64_t connections) {
  return raise_open_files(connections + kOtherFiles) - kOtherFiles;
}

std::string too_little_room(int64_t wanted, int64_t room) {
  return std::to_string(wanted) + " connections need " + std::to_string(wanted + kOtherFiles) +
         " open files and this process may have " + std::to_string(room + kOtherFiles) +
         "; raise its limit (ulimit -Hn, LimitNOFILE= of a systemd unit)";
}

/// Where no more files may be opened libzmq's accept() fails again and again. So the limit is what is wanted
/// where there is room for it; else less, and said so.
int connection_limit(const ZmqServerOptions& options) {
  const int64_t wanted = wanted_connections(options);
  const int64_t room = room_for(wanted);
  const int64_t fit = std::clamp<int64_t>(room, 1, wanted);
  if (fit < wanted) spdlog::warn("at most {} connections at a time: {}", fit, too_little_room(wanted, room));
  return static_cast<int>(fit);
}

/// What was asked for, or every listed device, must have room.
Result<void> check_open_files(const ZmqServerOptions& options) {
  const bool asked = options.max_connections > 0;
  const int64_t needed = asked ? options.max_connections : static_cast<int64_t>(options.devices.size());
  const int64_t room = room_for(needed);
  if (room >= needed) return {};
  return Error{ErrorCode::kNetwork,
               (asked ? "--limits connections: " : "the device list: ") + too_little_room(needed, room)};
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
  Impl(ZmqServerOptions server_options, Handler message_handler)
      : options(std::move(server_options)), handler(std::move(message_handler)) {
    if (options.fault.any()) faults.emplace(options.fault);
  }
  ~Impl() { stop(milliseconds(0)); }

  Result<void> start();
  bool send(ConnectionId to, wire::Frames frames);
  void stop(milliseconds linger);
  void set_devices(DeviceList devices);

  // Everything below runs on the network thread.
  void run(std::promise<Result<void>> started);
  Result<void> bind(zmq::socket_t& router);
  void serve(zmq::socket_t& router);
  void close(zmq::socket_t& router);
  void poll(zmq::socket_t& router);
  bool receive(zmq::socket_t& router);
  void accept(const detail::Parts& parts);
  void hand_over(ReceivedFrames received);
  void disturb(zmq::socket_t& router, bool closing);
  bool is_listed(const detail::MessageSource& source) const;
  void replace_devices();
  void drop(const char* why);
  void drain_outbox(zmq::socket_t& router);
  void deliver(zmq::socket_t& router, Outgoing message);
  void retry_waiting(zmq::socket_t& router);

  ZmqServerOptions options;  // its device list is the network thread's own
  const Handler handler;
  std::string endpoint;  // written before start() returns

  zmq::context_t context;  // outlives the sockets of both threads
  std::unique_ptr<ZapAuthenticator> authenticator;
  detail::WakeUp wake;
  Mailbox<Outgoing> outbox{kOutboxMessages};
  std::atomic<int64_t> max_message_bytes{0};
  std::mutex devices_mutex;
  std::optional<DeviceList> new_devices;  // guarded by devices_mutex
  std::atomic<milliseconds> linger{milliseconds(0)};
  std::mutex stop_mutex;
  std::thread thread;

  // The network thread's own.
  std::thread::id network_thread;
  zmq::socket_t* socket = nullptr;
  detail::Gatekeeper* gatekeeper = nullptr;
  std::unordered_map<ConnectionId, std::deque<wire::Frames>> waiting;
  uint64_t dropped = 0;
  std::optional<detail::ServerFaults> faults;  // of options.fault
};

Result<void> ZmqServer::Impl::start() {
  // CURVE fails open: with no handler bound, libzmq lets strangers in. So the handler comes first.
  auto handler_started = ZapAuthenticator::start(context, {options.devices, options.insecure});
  if (!handler_started) return handler_started.error();
  authenticator = std::move(*handler_started);
  max_message_bytes = 2 * options.max_frame_bytes;
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
    if (outbox.size() >= kOutboxMessages / 2) drain_outbox(*socket);
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
  linger = how_long;
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
    socket = &router;
    detail::Gatekeeper keeper(context, router, {.max_connections = connection_limit(options)},
                              !options.insecure, options.heartbeat_interval, *authenticator);
    gatekeeper = &keeper;
    keeper.set_on_link(options.on_link);
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
  if (faults) faults->finish();
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
  while (!outbox.closed()) {
    poll(router);
    wake.clear();
    gatekeeper->set_max_message_bytes(max_message_bytes);
    gatekeeper->observe(Clock::now());
    if (receive(router)) gatekeeper->judge(Clock::now());
    replace_devices();
    drain_outbox(router);
    disturb(router, false);
    retry_waiting(router);
  }
  close(router);
}

void ZmqServer::Impl::close(zmq::socket_t& router) {
  const auto deadline = Clock::now() + linger.load();
  drain_outbox(router);
  disturb(router, true);
  while (!waiting.empty() && Clock::now() < deadline) {
    zmq_poll(nullptr, 0, kRetryPause.count());
    retry_waiting(router);
  }
  const auto rest = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
  router.set(zmq::sockopt::linger, static_cast<int>(std::max<int64_t>(rest.count(), 0)));
}

void ZmqServer::Impl::poll(zmq::socket_t& router) {
  const auto now = Clock::now();
  zmq_pollitem_t items[] = {{router.handle(), 0, ZMQ_POLLIN, 0},
                            {nullptr, wake.descriptor(), ZMQ_POLLIN, 0},
                            {gatekeeper->monitor().handle(), 0, ZMQ_POLLIN, 0},
                            {nullptr, gatekeeper->traffic_descriptor(now), ZMQ_POLLIN, 0}};
  const int count = gatekeeper->traffic_descriptor(now) >= 0 ? 4 : 3;
  const milliseconds longest = gatekeeper->longest_wait(now).value_or(milliseconds(-1));
  // An error (EINTR) is a wake-up: everything after this looks without waiting.
  const long timeout = waiting.empty() ? longest.count() : kRetryPause.count();
  zmq_poll(items, count, faults ? faults->poll_timeout(timeout) : timeout);
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
  if (!faults) return hand_over(std::move(received));
  faults->incoming(std::move(received), zmq_msg_get(parts[1]->handle(), ZMQ_SRCFD));
}

void ZmqServer::Impl::hand_over(ReceivedFrames received) {
  const std::string name = received.client.name;
  try {
    handler(std::move(received));
  } catch (const std::exception& error) {
    spdlog::error("handling a message of {} failed: {}", name, error.what());
  }
}

void ZmqServer::Impl::disturb(zmq::socket_t& router, bool closing) {
  if (!faults) return;
  faults->pass_on([this](ReceivedFrames received) { hand_over(std::move(received)); },
                  [&](ConnectionId to, wire::Frames frames) {
                    deliver(router, {to, std::move(frames)});
                  },
                  closing);
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
  gatekeeper->set_max_connections(connection_limit(options));
  if (revoked.empty()) return;
  gatekeeper->observe(Clock::now());  // whoever was let in by the old list is known now
  gatekeeper->keep_only(options.devices, Clock::now());
  if (!options.on_revoked) return;
  for (const ClientId& client : revoked) options.on_revoked(client);
}

void ZmqServer::Impl::drop(const char* why) {
  // The 1st, 2nd, 4th, 8th, ... : a peer must not be able to fill the log.
  if (std::has_single_bit(++dropped)) spdlog::warn("dropped a message: {} ({} dropped so far)", why, dropped);
}

void ZmqServer::Impl::drain_outbox(zmq::socket_t& router) {
  while (auto message = outbox.try_pop()) {
    if (faults)
      faults->outgoing(message->to, std::move(message->frames));
    else
      deliver(router, std::move(*message));
  }
}

void ZmqServer::Impl::deliver(zmq::socket_t& router, Outgoing message) {
  if (const auto queue = waiting.find(message.to); queue != waiting.end()) {
    // Behind what already waits, so that a connection's messages keep their order.
    if (queue->second.size() < kMaxWaiting)
      queue->second.push_back(std::move(message.frames));
    else
      spdlog::warn("dropped a message to connection {}: {} already wait", message.to.value, kMaxWaiting);
    return;
  }
  const std::string routing_id = detail::routing_id_of(message.to);
  if (detail::send_frames(router, routing_id, message.frames) == detail::SendOutcome::kFull)
    waiting[message.to].push_back(std::move(message.frames));
}

void ZmqServer::Impl::retry_waiting(zmq::socket_t& router) {
  for (auto entry = waiting.begin(); entry != waiting.end();) {
    auto& [connection, queue] = *entry;
    const std::string routing_id = detail::routing_id_of(connection);
    auto outcome = detail::SendOutcome::kSent;
    while (!queue.empty() && outcome == detail::SendOutcome::kSent) {
      outcome = detail::send_frames(router, routing_id, queue.front());
      if (outcome == detail::SendOutcome::kSent) queue.pop_front();
    }
    const bool finished = queue.empty() || outcome == detail::SendOutcome::kUnreachable;
    entry = finished ? waiting.erase(entry) : std::next(entry);
  }
}

ZmqServer::ZmqServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqServer::~ZmqServer() = default;

Result<std::unique_ptr<ZmqServer>> ZmqServer::start(ZmqServerOptions options, Handler handler) {
  if (!handler) throw std::invalid_argument("ZmqServer::start: the handler is empty");
  if (const auto checked = check(options); !checked) return checked.error();
  try {
    if (const auto room = check_open_files(options); !room) return room.error();
    auto impl = std::make_unique<Impl>(std::move(options), std::move(handler));
    if (const auto started = impl->start(); !started) return started.error();
    return std::unique_ptr<ZmqServer>(new ZmqServer(std::move(impl)));
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

void ZmqServer::stop(std::chrono::milliseconds linger) {
  impl_->stop(linger);
}

FaultCounts ZmqServer::fault_counts() const {
  return impl_->faults ? impl_->faults->counts() : FaultCounts{};
}

}  // namespace tandem
