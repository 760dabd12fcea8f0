#include "tandem/core/transport/zmq_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
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
#include "tandem/core/transport/activity_detail.h"
#include "tandem/core/transport/client_link_detail.h"
#include "tandem/core/transport/connect_failures_detail.h"
#include "tandem/core/transport/connection_attempt_detail.h"
#include "tandem/core/transport/keepalive_timer_detail.h"
#include "tandem/core/transport/reconnect_backoff.h"
#include "tandem/core/transport/server_addresses_detail.h"
#include "tandem/core/transport/zmq_detail.h"
#include "tandem/core/transport/zmq_options_detail.h"
#include "tandem/core/transport/zmtp_probe_detail.h"

namespace tandem {
namespace {

namespace detail = transport_detail;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kOutboxMessages = 256;
// Received in a row before the outbox gets its turn.
constexpr int kReceiveBurst = 64;
// For the handshake: shorter than libzmq's own limit, whose end looks as if the server had hung up.
constexpr milliseconds kHandshakePatience = detail::kHandshakeLimit - milliseconds(1000);
// The same while the server has other addresses to try.
constexpr milliseconds kHandshakePatienceOfMany{5000};
// For the first bytes of a server that hung up in the handshake.
constexpr milliseconds kProbeLimit{2000};

/// A message on its way to the socket.
struct Outgoing {
  wire::Frames frames;
  RunningTime::time_point queued_at;
};

}  // namespace

struct ZmqClient::Impl {
  explicit Impl(ZmqClientOptions client_options)
      : options(std::move(client_options)),
        server(parse_endpoint("endpoint", options.endpoint, EndpointUse::kConnect).value()),
        addresses(server, options.insecure, [this] { wake.signal(); }),
        failures(options, server),
        backoff(options.reconnect_first, options.reconnect_max, std::random_device{}()) {}
  ~Impl() { stop(milliseconds(0)); }

  Result<void> start(Handler event_handler, Keepalive keepalive);
  bool send(wire::Frames frames);
  void stop(milliseconds linger);

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
  void handle(const detail::SocketMonitor::Event& event);
  void connected();
  void disconnected();
  void broken_off();
  void lost();
  void fail(client_event::HandshakeFailed failure);
  void end_cycle();
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
  bool in_cycle = false;  // going through the addresses
  detail::ConnectFailures failures;
  std::optional<detail::ConnectionAttempt> attempt;
  uint64_t attempts = 0;
  Clock::time_point next_attempt = Clock::now();
  Clock::time_point connected_at;
  ReconnectBackoff backoff;
  std::optional<detail::KeepaliveTimer> keepalive;  // set before the thread runs
  std::optional<Outgoing> held;                     // out of the outbox, waits for the socket
  detail::ClientLink link;                          // of the attempt

  detail::Activity activity;

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
    activity.begin("looking up \"" + server.host + "\"", Clock::now());
  }
  if (!addresses.ready(Clock::now())) return;
  if (const auto address = addresses.next()) return connect(*address);
  fail({.reason = addresses.problem(), .unreachable = true});
}

void ZmqClient::Impl::connect(const TcpEndpoint& address) {
  activity.begin("connecting to " + address.host_and_port(), Clock::now());
  try {
    attempt.emplace(context, options, address, ++attempts);
  } catch (const zmq::error_t& error) {
    fail({.reason = "cannot connect to " + address.text() + ": " + error.what(), .unreachable = true});
  }
}

void ZmqClient::Impl::watch() {
  while (attempt) {
    const auto event = attempt->monitor().next();
    if (!event) break;
    handle(*event);
  }
  if (!attempt || attempt->ready || Clock::now() < attempt->deadline) return;
  fail(failures.no_answer(attempt->address, attempt->tcp_connected));
}

void ZmqClient::Impl::handle(const detail::SocketMonitor::Event& event) {
  switch (event.kind) {
    case ZMQ_EVENT_CONNECTED:
      return tcp_connected(event.value);
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      return connected();
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      return fail(failures.not_let_in(attempt->address, static_cast<uint32_t>(event.value)));
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      return fail(failures.broke_protocol(attempt->address, static_cast<uint32_t>(event.value)));
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_DISCONNECTED:
      return disconnected();
    case ZMQ_EVENT_CLOSED:
    case ZMQ_EVENT_CONNECT_RETRIED:
      if (attempt->tcp_connected) return disconnected();
      return fail(failures.nobody_there(attempt->address));
    default:
      return;
  }
}

void ZmqClient::Impl::tcp_connected(int descriptor) {
  attempt->tcp_connected = true;
  link.connected(descriptor);
  attempt->deadline = Clock::now() + (addresses.has_more() ? kHandshakePatienceOfMany : kHandshakePatience);
  activity.begin("in the handshake with " + attempt->address.host_and_port(), Clock::now());
}

void ZmqClient::Impl::connected() {
  attempt->ready = true;
  in_cycle = false;
  (void)failures.take();
  addresses.worked();
  activity.begin("", Clock::now());
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
  const TcpEndpoint address = attempt->address;
  attempt.reset();
  const bool speaks = detail::speaks_zmtp(address, kProbeLimit, wake, [this] { return outbox.closed(); });
  fail(failures.hung_up(address, speaks));
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
  failures.add(std::move(failure));
  if (failures.is_final() || !addresses.has_more()) end_cycle();
}

void ZmqClient::Impl::end_cycle() {
  in_cycle = false;
  activity.begin("", Clock::now());
  schedule_next_attempt();
  if (auto failure = failures.take()) emit(std::move(*failure));
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
  if (const auto checked = detail::check(options); !checked) return checked.error();
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
  return impl_->activity.text(Clock::now());
}

LinkState ZmqClient::link() const {
  return impl_->link.state();
}

void ZmqClient::cut() {
  impl_->cut_wanted = true;
  impl_->wake.signal();
}

}  // namespace tandem
