#include "tandem/core/transport/zmq_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>
#include <zmq.hpp>

#include "tandem/core/base/endpoint.h"
#include "tandem/core/base/mailbox.h"
#include "tandem/core/base/running_clock.h"
#include "tandem/core/transport/client_link_detail.h"
#include "tandem/core/transport/keepalive_timer_detail.h"
#include "tandem/core/transport/reconnect_backoff.h"
#include "tandem/core/transport/server_addresses_detail.h"
#include "tandem/core/transport/zmq_detail.h"
#include "tandem/core/transport/zmtp_probe_detail.h"

namespace tandem {
namespace {

namespace detail = transport_detail;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kOutboxMessages = 256;
// Received in a row before the outbox gets its turn.
constexpr int kReceiveBurst = 64;
// For the TCP connection; only a backstop, libzmq watches it itself.
constexpr milliseconds kConnectBackstop = detail::kConnectLimit + milliseconds(1000);
// For the handshake: shorter than libzmq's own limit, whose end looks as if the server had hung up.
constexpr milliseconds kHandshakePatience = detail::kHandshakeLimit - milliseconds(1000);
// The same while the server has other addresses to try.
constexpr milliseconds kHandshakePatienceOfMany{5000};
// For the first bytes of a server that hung up in the handshake.
constexpr milliseconds kProbeLimit{2000};
constexpr uint32_t kZapRefused = 400;

constexpr int kWatchedEvents = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_CONNECT_RETRIED |
                               ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                               ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                               ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

Result<void> check(const ZmqClientOptions& options) {
  const auto invalid = [](const std::string& text) { return Error{ErrorCode::kInvalidArgument, text}; };
  const auto endpoint = parse_endpoint("endpoint", options.endpoint, EndpointUse::kConnect);
  if (!endpoint) return endpoint.error();
  if (options.max_frame_bytes < 1) return invalid("ZmqClientOptions.max_frame_bytes must be >= 1");
  if (options.high_water_mark < 1) return invalid("ZmqClientOptions.high_water_mark must be >= 1");
  if (std::min({options.reconnect_first, options.reconnect_max, options.heartbeat_interval}) <
      milliseconds(1))
    return invalid("ZmqClientOptions: intervals must be >= 1 ms");
  if (options.insecure) {
    if (!endpoint->is_loopback())
      return invalid(
          "without encryption the client connects to loopback only (127.0.0.0/8, localhost, [::1]), not to " +
          options.endpoint);
    if (!is_device_name(options.insecure_name))
      return invalid("ZmqClientOptions.insecure_name must have 1 to 64 characters and no control characters");
    return {};
  }
  if (!is_z85_key(options.server_public_key))
    return invalid("the server's public key is not a Z85 key of 40 characters");
  if (!is_z85_key(options.keys.public_key) || !is_z85_key(options.keys.secret_key))
    return invalid("the device's keys are not Z85 keys of 40 characters");
  return {};
}

/// One attempt to connect and the connection it becomes.
///
/// A fresh socket for each, because libzmq 4.3.4 gives up for good after a refused or mismatched
/// handshake, and because a fresh socket holds no message of the connection before.
class Attempt {
 public:
  Attempt(zmq::context_t& context, const ZmqClientOptions& options, TcpEndpoint server, uint64_t number)
      : address(std::move(server)),
        socket_(context, zmq::socket_type::dealer),
        monitor_(context, zmq::socket_type::pair) {
    detail::configure_client_socket(socket_, options, address.is_ipv6());
    const std::string events = "inproc://monitor-" + std::to_string(number);
    if (zmq_socket_monitor(socket_.handle(), events.c_str(), kWatchedEvents) != 0) throw zmq::error_t();
    monitor_.set(zmq::sockopt::linger, 0);
    monitor_.connect(events);
    socket_.connect(address.text());
  }
  ~Attempt() { zmq_socket_monitor(socket_.handle(), nullptr, 0); }

  zmq::socket_t& socket() { return socket_; }
  zmq::socket_t& monitor() { return monitor_; }

  const TcpEndpoint address;
  bool tcp_connected = false;
  bool ready = false;
  Clock::time_point deadline = Clock::now() + kConnectBackstop;

 private:
  zmq::socket_t socket_;
  zmq::socket_t monitor_;
};

/// A message on its way to the socket.
struct Outgoing {
  wire::Frames frames;
  RunningTime::time_point queued_at;
};

struct MonitorEvent {
  uint16_t kind = 0;
  uint32_t value = 0;
};

std::optional<MonitorEvent> next_event(zmq::socket_t& monitor) {
  zmq::message_t number;
  zmq::message_t address;
  if (!monitor.recv(number, zmq::recv_flags::dontwait)) return std::nullopt;
  if (number.more()) (void)monitor.recv(address, zmq::recv_flags::dontwait);
  MonitorEvent event;
  if (number.size() < sizeof event.kind + sizeof event.value) return event;
  std::memcpy(&event.kind, number.data(), sizeof event.kind);
  std::memcpy(&event.value, number.data<char>() + sizeof event.kind, sizeof event.value);
  return event;
}

}  // namespace

struct ZmqClient::Impl {
  explicit Impl(ZmqClientOptions client_options)
      : options(std::move(client_options)),
        server(parse_endpoint("endpoint", options.endpoint, EndpointUse::kConnect).value()),
        addresses(server, options.insecure, [this] { wake.signal(); }),
        backoff(options.reconnect_first, options.reconnect_max, std::random_device{}()) {}
  ~Impl() { stop(milliseconds(0)); }

  Result<void> start(Handler event_handler, Keepalive keepalive);
  bool send(wire::Frames frames);
  void stop(milliseconds linger);
  std::string doing() const;

  // Everything below runs on the network thread.
  void run();
  void serve();
  void close();
  void poll();
  milliseconds poll_timeout() const;
  void open();
  void connect(const TcpEndpoint& address);
  void watch();
  void tcp_connected(int descriptor);
  void handle(const MonitorEvent& event);
  void handle_auth_failure(uint32_t status);
  void handle_protocol_failure(uint32_t reason);
  void connected();
  void disconnected();
  void broken_off();
  void lost();
  void fail(client_event::HandshakeFailed failure);
  void end_cycle();
  std::string where() const;
  void now_doing(std::string what);
  void schedule_next_attempt();
  void receive(int at_most);
  void send_outgoing();
  void send_keepalive();
  void discard_outgoing();
  void emit(ClientEvent event);
  bool ready() const { return attempt && attempt->ready; }
  void watch_link();
  void cut_when_wanted();

  const ZmqClientOptions options;
  const TcpEndpoint server;
  Handler handler;  // set before the thread runs

  zmq::context_t context;  // outlives the sockets
  detail::WakeUp wake;
  Mailbox<Outgoing> outbox{kOutboxMessages};
  std::atomic<milliseconds> linger{milliseconds(0)};
  std::atomic<std::thread::id> network_thread;
  std::atomic<bool> cut_wanted{false};
  std::mutex stop_mutex;

  // The network thread's own.
  detail::ServerAddresses addresses;
  bool in_cycle = false;                                // going through the addresses
  std::optional<client_event::HandshakeFailed> failed;  // in this cycle
  std::optional<Attempt> attempt;
  uint64_t attempts = 0;
  Clock::time_point next_attempt = Clock::now();
  Clock::time_point connected_at;
  ReconnectBackoff backoff;
  std::optional<detail::KeepaliveTimer> keepalive;  // set before the thread runs
  std::optional<Outgoing> held;                     // out of the outbox, waits for the socket
  detail::ClientLink link;                          // of the attempt

  mutable std::mutex doing_mutex;
  std::string doing_what;         // guarded by doing_mutex
  Clock::time_point doing_since;  // guarded by doing_mutex

  std::thread thread;
};

Result<void> ZmqClient::Impl::start(Handler event_handler, Keepalive what) {
  handler = std::move(event_handler);
  keepalive.emplace(std::move(what));
  try {
    thread = std::thread(&Impl::run, this);
    return {};
  } catch (const std::exception& error) {
    return Error{ErrorCode::kNetwork, std::string("cannot start the client: ") + error.what()};
  }
}

bool ZmqClient::Impl::send(wire::Frames frames) {
  if (frames.empty()) throw std::invalid_argument("ZmqClient::send: a message has at least one frame");
  bool open = false;
  if (std::this_thread::get_id() == network_thread.load()) {
    // Waiting for room here would wait for itself.
    open = !outbox.closed();
    if (!outbox.try_push({std::move(frames), RunningClock::now()}) && open)
      spdlog::warn("dropped a message to {}: {} are queued", options.endpoint, kOutboxMessages);
  } else {
    open = outbox.push({std::move(frames), RunningClock::now()});
  }
  wake.signal();
  return open;
}

void ZmqClient::Impl::stop(milliseconds how_long) {
  const std::lock_guard lock(stop_mutex);
  if (!thread.joinable()) return;
  linger = how_long;
  outbox.close();
  wake.signal();
  thread.join();
  context.close();  // waits for the rest of the socket's linger
}

void ZmqClient::Impl::run() {
  detail::block_signals_on_this_thread();
  network_thread = std::this_thread::get_id();
  try {
    serve();
    close();
  } catch (const std::exception& error) {
    spdlog::critical("the network thread stopped: {}", error.what());
    attempt.reset();
    emit(client_event::Disconnected{});
  }
  outbox.close();
}

void ZmqClient::Impl::serve() {
  while (!outbox.closed()) {
    if (!attempt && Clock::now() >= next_attempt) open();
    poll();
    wake.clear();
    watch();
    receive(kReceiveBurst);
    cut_when_wanted();
    watch_link();
    send_keepalive();
  }
}

/// Hands on what waits, and looks how much of all that has left.
void ZmqClient::Impl::watch_link() {
  const auto now = RunningClock::now();  // before: what is queued from now on has not left
  send_outgoing();
  link.look(now, held ? held->queued_at : now);
}

void ZmqClient::Impl::close() {
  const auto deadline = Clock::now() + linger.load();
  send_outgoing();
  while (held && ready() && Clock::now() < deadline) {
    const auto rest = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    zmq_pollitem_t items[] = {{attempt->socket().handle(), 0, ZMQ_POLLOUT, 0},
                              {attempt->monitor().handle(), 0, ZMQ_POLLIN, 0}};
    zmq_poll(items, 2, rest.count());
    watch();
    send_outgoing();
  }
  if (!attempt) return;
  const auto rest = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
  attempt->socket().set(zmq::sockopt::linger, static_cast<int>(std::max<int64_t>(rest.count(), 0)));
  attempt.reset();
}

milliseconds ZmqClient::Impl::poll_timeout() const {
  auto until = next_attempt;
  if (in_cycle) until = addresses.has_more() ? Clock::now() : addresses.ask_again_at();
  if (ready()) {
    until = std::min(keepalive->next_due(), Clock::now() + detail::TransferMeter::kInterval);
  } else if (attempt) {
    until = attempt->deadline;
  }
  if (until == Clock::time_point::max()) return milliseconds(-1);
  return std::max(std::chrono::ceil<milliseconds>(until - Clock::now()), milliseconds(0));
}

void ZmqClient::Impl::poll() {
  zmq_pollitem_t items[] = {{nullptr, wake.descriptor(), ZMQ_POLLIN, 0}, {}, {}};
  int count = 1;
  if (attempt) items[count++] = {attempt->monitor().handle(), 0, ZMQ_POLLIN, 0};
  // Before the handshake is reported nothing is read, so that no message overtakes Connected.
  if (ready()) {
    const short events = held ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN;
    items[count++] = {attempt->socket().handle(), 0, events, 0};
  }
  // An error (EINTR) is a wake-up: everything after this looks without waiting.
  zmq_poll(items, count, poll_timeout().count());
}

void ZmqClient::Impl::open() {
  if (!in_cycle) {
    in_cycle = true;
    addresses.begin(Clock::now());
    now_doing("looking up \"" + server.host + "\"");
  }
  if (!addresses.ready(Clock::now())) return;
  if (const auto address = addresses.next()) return connect(*address);
  failed = {.reason = addresses.problem(), .unreachable = true};
  end_cycle();
}

void ZmqClient::Impl::connect(const TcpEndpoint& address) {
  now_doing("connecting to " + address.host_and_port());
  try {
    attempt.emplace(context, options, address, ++attempts);
  } catch (const zmq::error_t& error) {
    fail({.reason = "cannot connect to " + address.text() + ": " + error.what(), .unreachable = true});
  }
}

void ZmqClient::Impl::watch() {
  while (attempt) {
    const auto event = next_event(attempt->monitor());
    if (!event) break;
    handle(*event);
  }
  if (!attempt || attempt->ready || Clock::now() < attempt->deadline) return;
  const char* why = attempt->tcp_connected ? ": the connection is accepted and then nothing is said; the "
                                             "aggregator behind a forwarder may be down, or it is very busy"
                                           : "";
  fail({.reason = "no answer from " + where() + " in time" + why, .unreachable = true});
}

void ZmqClient::Impl::handle(const MonitorEvent& event) {
  switch (event.kind) {
    case ZMQ_EVENT_CONNECTED:
      return tcp_connected(static_cast<int>(event.value));
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      return connected();
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      return handle_auth_failure(event.value);
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      return handle_protocol_failure(event.value);
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_DISCONNECTED:
      return disconnected();
    case ZMQ_EVENT_CLOSED:
    case ZMQ_EVENT_CONNECT_RETRIED:
      if (attempt->tcp_connected) return disconnected();
      return fail({.reason = "cannot connect to " + where() +
                             ": nobody listens there, or the host is unknown or unreachable",
                   .unreachable = true});
    default:
      return;
  }
}

void ZmqClient::Impl::tcp_connected(int descriptor) {
  attempt->tcp_connected = true;
  link.connected(descriptor);
  attempt->deadline = Clock::now() + (addresses.has_more() ? kHandshakePatienceOfMany : kHandshakePatience);
  now_doing("in the handshake with " + attempt->address.host_and_port());
}

void ZmqClient::Impl::handle_auth_failure(uint32_t status) {
  if (status != kZapRefused)
    return fail({.reason = "the server at " + where() + " could not check this device's key (status " +
                           std::to_string(status) + ")"});
  const std::string who = options.insecure ? "name \"" + options.insecure_name + "\""
                                           : "key " + options.keys.public_key + "; add it to its device list";
  fail({.refused = true, .reason = "the server at " + where() + " refused this device's " + who});
}

void ZmqClient::Impl::handle_protocol_failure(uint32_t reason) {
  if (reason != ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
    return fail({.reason = "the server at " + where() + " broke the handshake's protocol (code " +
                           std::to_string(reason) + ")"});
  const char* mismatch = options.insecure
                             ? " demands encryption and this device was started without (--insecure)"
                             : " does not encrypt (--insecure) and this device demands it";
  fail({.reason = "the server at " + where() + mismatch});
}

void ZmqClient::Impl::connected() {
  attempt->ready = true;
  in_cycle = false;
  failed.reset();
  addresses.worked();
  now_doing("");
  connected_at = Clock::now();
  keepalive->restart(connected_at);
  cut_wanted = false;
  discard_outgoing();
  link.established(RunningClock::now());
  emit(client_event::Connected{});
}

void ZmqClient::Impl::disconnected() {
  if (!ready()) return broken_off();
  receive(std::numeric_limits<int>::max());  // what came before the end, such as a Bye
  lost();
}

/// Somebody accepted the connection and ended it before the handshake was complete.
void ZmqClient::Impl::broken_off() {
  const std::string server_text = where();
  const TcpEndpoint address = attempt->address;
  attempt.reset();
  if (!detail::speaks_zmtp(address, kProbeLimit, wake, [this] { return outbox.closed(); })) {
    return fail({.reason = "the connection to " + server_text +
                           " is accepted and then closed without an answer: a forwarder or proxy whose "
                           "aggregator is not up yet, or no aggregator at all",
                 .unreachable = true});
  }
  const char* cause = options.insecure
                          ? ": it demands encryption, or it is no Tandem server"
                          : ": its key is not the one this device is pinned to, or it does not speak CURVE";
  fail({.reason = "the server at " + server_text + " did not complete the handshake" + cause});
}

void ZmqClient::Impl::lost() {
  link.ended();
  attempt.reset();
  discard_outgoing();
  backoff.connection_ended(std::chrono::duration_cast<milliseconds>(Clock::now() - connected_at));
  schedule_next_attempt();
  emit(client_event::Disconnected{});
}

/// One address failed. What is reported is the cycle: the server may have another address that works.
void ZmqClient::Impl::fail(client_event::HandshakeFailed failure) {
  attempt.reset();
  if (failed) {
    failed->reason += "; " + failure.reason;
    failed->refused = failure.refused;
    failed->unreachable = failed->unreachable || failure.unreachable;
  } else {
    failed = std::move(failure);
  }
  // Only the server itself refuses a key.
  if (failed->refused || !addresses.has_more()) end_cycle();
}

void ZmqClient::Impl::end_cycle() {
  in_cycle = false;
  now_doing("");
  schedule_next_attempt();
  client_event::HandshakeFailed failure = std::move(*failed);
  failed.reset();
  emit(std::move(failure));
}

/// The server as the options have it, and the address where that is another text.
std::string ZmqClient::Impl::where() const {
  if (!attempt || server.is_address()) return options.endpoint;
  return options.endpoint + " (" + attempt->address.host_and_port() + ")";
}

void ZmqClient::Impl::now_doing(std::string what) {
  const std::lock_guard lock(doing_mutex);
  doing_what = std::move(what);
  doing_since = Clock::now();
}

std::string ZmqClient::Impl::doing() const {
  const std::lock_guard lock(doing_mutex);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - doing_since).count();
  if (doing_what.empty() || seconds == 0) return doing_what;
  return doing_what + " for " + std::to_string(seconds) + " s";
}

void ZmqClient::Impl::schedule_next_attempt() {
  next_attempt = Clock::now() + backoff.next();
}

void ZmqClient::Impl::receive(int at_most) {
  detail::Parts parts;
  for (int i = 0; i < at_most && ready(); ++i) {
    const detail::ReceiveOutcome outcome = detail::receive_parts(attempt->socket(), parts);
    if (outcome == detail::ReceiveOutcome::kNothing) return;
    if (outcome == detail::ReceiveOutcome::kTooManyParts) {
      spdlog::warn("dropped a message from {}: it has too many parts", options.endpoint);
      continue;
    }
    emit(client_event::Received{detail::borrow_parts(parts, 0)});
  }
}

void ZmqClient::Impl::send_outgoing() {
  if (!ready()) return discard_outgoing();
  while (held || (held = outbox.try_pop())) {
    const auto outcome = detail::send_frames(attempt->socket(), "", held->frames);
    if (outcome == detail::SendOutcome::kFull) return;
    link.handed_over(held->queued_at, static_cast<int64_t>(wire::total_bytes(held->frames)));
    held.reset();
  }
}

void ZmqClient::Impl::send_keepalive() {
  if (!ready() || !keepalive->take(Clock::now(), held || link.is_sending())) return;
  detail::send_frames(attempt->socket(), "", keepalive->message());
}

void ZmqClient::Impl::cut_when_wanted() {
  if (cut_wanted.exchange(false) && ready()) lost();
}

void ZmqClient::Impl::discard_outgoing() {
  held.reset();
  while (outbox.try_pop()) {
  }
}

void ZmqClient::Impl::emit(ClientEvent event) {
  try {
    handler(std::move(event));
  } catch (const std::exception& error) {
    spdlog::error("handling an event of the connection to {} failed: {}", options.endpoint, error.what());
  }
}

ZmqClient::ZmqClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqClient::~ZmqClient() = default;

Result<std::unique_ptr<ZmqClient>> ZmqClient::make(ZmqClientOptions options) {
  if (const auto checked = check(options); !checked) return checked.error();
  try {
    return std::unique_ptr<ZmqClient>(new ZmqClient(std::make_unique<Impl>(std::move(options))));
  } catch (const std::exception& error) {
    return Error{ErrorCode::kNetwork, std::string("cannot make the client: ") + error.what()};
  }
}

Result<void> ZmqClient::start(Handler handler, Keepalive keepalive) {
  if (!handler) throw std::invalid_argument("ZmqClient::start: the handler is empty");
  return impl_->start(std::move(handler), std::move(keepalive));
}

bool ZmqClient::send(wire::Frames frames) {
  return impl_->send(std::move(frames));
}

void ZmqClient::stop(std::chrono::milliseconds linger) {
  impl_->stop(linger);
}

std::string ZmqClient::doing() const {
  return impl_->doing();
}

LinkState ZmqClient::link() const {
  return impl_->link.state();
}

void ZmqClient::cut() {
  impl_->cut_wanted = true;
  impl_->wake.signal();
}

}  // namespace tandem
