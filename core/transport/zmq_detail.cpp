#include "tandem/core/transport/zmq_detail.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>
#include <zmq.hpp>

#include "tandem/core/transport/slowest_link.h"

namespace tandem::transport_detail {
namespace {

using std::chrono::milliseconds;

// Stable number of an option that zmq.h names only with draft interfaces on.
constexpr int kZapEnforceDomain = 93;
// CURVE adds 33 bytes to a frame and MAXMSGSIZE counts them.
constexpr int64_t kEncryptionBytes = 64;
// Below this a copy costs less than a reference count on two threads.
constexpr size_t kCopyBelow = 512;
constexpr size_t kRoutingIdBytes = 5;

void set_int(zmq::socket_t& socket, int option, int value) {
  if (zmq_setsockopt(socket.handle(), option, &value, sizeof value) != 0) throw zmq::error_t();
}

void set_text(zmq::socket_t& socket, int option, std::string_view value) {
  if (zmq_setsockopt(socket.handle(), option, value.data(), value.size()) != 0) throw zmq::error_t();
}

int milliseconds_option(milliseconds value) {
  return static_cast<int>(std::clamp<int64_t>(value.count(), 1, INT32_MAX));
}

// A peer that vanished (power, cable) stops acknowledging: TCP itself notices, idle or sending, and a
// large frame on its way does not count as silence.
void configure_tcp(zmq::socket_t& socket, milliseconds interval) {
  const int seconds = static_cast<int>(std::clamp<int64_t>((interval.count() + 999) / 1000, 1, 3600));
  set_int(socket, ZMQ_TCP_KEEPALIVE, 1);
  set_int(socket, ZMQ_TCP_KEEPALIVE_IDLE, seconds);
  set_int(socket, ZMQ_TCP_KEEPALIVE_INTVL, seconds);
  set_int(socket, ZMQ_TCP_KEEPALIVE_CNT, 2);
  set_int(socket, ZMQ_TCP_MAXRT, milliseconds_option(std::max(3 * interval, milliseconds(3000))));
}

void configure_common(zmq::socket_t& socket, bool ipv6, int64_t max_frame_bytes, int high_water_mark,
                      milliseconds interval) {
  const milliseconds silence = silence_limit(interval, max_frame_bytes);
  const int64_t max_message = max_frame_bytes + kEncryptionBytes;
  if (zmq_setsockopt(socket.handle(), ZMQ_MAXMSGSIZE, &max_message, sizeof max_message) != 0)
    throw zmq::error_t();
  set_int(socket, ZMQ_LINGER, 0);
  set_int(socket, ZMQ_SNDHWM, high_water_mark);
  set_int(socket, ZMQ_RCVHWM, high_water_mark);
  set_int(socket, ZMQ_HANDSHAKE_IVL, milliseconds_option(kHandshakeLimit));
  set_int(socket, ZMQ_HEARTBEAT_IVL, milliseconds_option(interval));
  set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, milliseconds_option(silence - interval));
  set_int(socket, ZMQ_HEARTBEAT_TTL, milliseconds_option(silence));
  set_int(socket, ZMQ_IPV6, ipv6 ? 1 : 0);
  configure_tcp(socket, interval);
}

void release_frame(void*, void* frame) {
  delete static_cast<wire::Frame*>(frame);
}

zmq::message_t lend(const wire::Frame& frame) {
  if (frame.size() < kCopyBelow) return zmq::message_t(frame.data(), frame.size());
  auto holder = std::make_unique<wire::Frame>(frame);
  // libzmq's interface is not const; it only reads.
  void* data = const_cast<std::byte*>(frame.data());
  zmq::message_t message(data, frame.size(), &release_frame, holder.get());
  holder.release();  // release_frame owns it now
  return message;
}

}  // namespace

WakeUp::WakeUp() : descriptor_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

WakeUp::~WakeUp() {
  close(descriptor_);
}

void WakeUp::signal() noexcept {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the thread is awake anyway.
  [[maybe_unused]] const ssize_t written = write(descriptor_, &one, sizeof one);
}

void WakeUp::clear() noexcept {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(descriptor_, &count, sizeof count);
}

milliseconds silence_limit(milliseconds heartbeat_interval, int64_t max_frame_bytes) {
  constexpr milliseconds kLongestTtl = std::chrono::hours(1);  // ZMTP carries 16 bits of deciseconds
  const milliseconds frame(max_frame_bytes * 1000 / kSlowestLinkBytesPerSecond);
  return std::min(3 * heartbeat_interval + frame, std::max(kLongestTtl, 3 * heartbeat_interval));
}

void configure_server_socket(zmq::socket_t& socket, const ZmqServerOptions& options) {
  set_text(socket, ZMQ_ZAP_DOMAIN, kZapDomain);
  set_int(socket, kZapEnforceDomain, 1);
  if (options.insecure) {
    set_int(socket, ZMQ_PLAIN_SERVER, 1);
  } else {
    set_int(socket, ZMQ_CURVE_SERVER, 1);
    set_text(socket, ZMQ_CURVE_SECRETKEY, options.keys.secret_key);
  }
  set_int(socket, ZMQ_ROUTER_MANDATORY, 1);
  set_int(socket, ZMQ_ROUTER_HANDOVER, 0);
  set_int(socket, ZMQ_BACKLOG, 1024);
  // "*" is every address of the machine: with this option libzmq listens on IPv6 and IPv4, or on IPv4 alone
  // where the system has no IPv6.
  const bool ipv6 =
      options.endpoint.find('[') != std::string::npos || options.endpoint.starts_with("tcp://*:");
  configure_common(socket, ipv6, options.max_frame_bytes, options.high_water_mark,
                   options.heartbeat_interval);
}

void configure_client_socket(zmq::socket_t& socket, const ZmqClientOptions& options, bool ipv6) {
  if (options.insecure) {
    set_text(socket, ZMQ_PLAIN_USERNAME, options.insecure_name);
    set_text(socket, ZMQ_PLAIN_PASSWORD, "-");  // libzmq takes no empty one
  } else {
    set_text(socket, ZMQ_CURVE_SERVERKEY, options.server_public_key);
    set_text(socket, ZMQ_CURVE_PUBLICKEY, options.keys.public_key);
    set_text(socket, ZMQ_CURVE_SECRETKEY, options.keys.secret_key);
  }
  // Off: on, libzmq throws away what was received but not yet read when the connection ends, such as a
  // Bye. Nothing is queued for a connection that is not there, because the client sends on ready ones only.
  set_int(socket, ZMQ_IMMEDIATE, 0);
  // The client opens a fresh socket for each attempt (zmq_client.cpp says why); this one shall not retry.
  // An hour rather than "never", because only then is a failure before there is a socket reported.
  set_int(socket, ZMQ_RECONNECT_IVL, milliseconds_option(std::chrono::hours(1)));
  set_int(socket, ZMQ_RECONNECT_IVL_MAX, 0);
  set_int(socket, ZMQ_CONNECT_TIMEOUT, milliseconds_option(kConnectLimit));
  configure_common(socket, ipv6, options.max_frame_bytes, options.high_water_mark,
                   options.heartbeat_interval);
}

SendOutcome send_frames(zmq::socket_t& socket, const std::string& routing_id, const wire::Frames& frames) {
  using zmq::send_flags;
  bool begun = false;
  const auto send_part = [&](zmq::message_t part, bool last) {
    const send_flags flags = last ? send_flags::dontwait : send_flags::dontwait | send_flags::sndmore;
    const bool sent = socket.send(part, flags).has_value();
    // Only the first part can find the queue full. A later failure means that the peer is gone; libzmq
    // then discards the message's other parts, but they must be passed to it.
    const bool keep_on = sent || begun;
    begun = true;
    return keep_on;
  };
  try {
    if (!routing_id.empty() && !send_part(zmq::message_t(routing_id.data(), routing_id.size()), false))
      return SendOutcome::kFull;
    for (size_t i = 0; i < frames.size(); ++i)
      if (!send_part(lend(frames[i]), i + 1 == frames.size())) return SendOutcome::kFull;
  } catch (const zmq::error_t& error) {
    if (error.num() == EHOSTUNREACH) return SendOutcome::kUnreachable;
    throw;
  }
  return SendOutcome::kSent;
}

ReceiveOutcome receive_parts(zmq::socket_t& socket, Parts& parts) {
  parts.clear();
  size_t count = 0;
  bool more = true;
  while (more) {
    auto part = std::make_shared<zmq::message_t>();
    if (!socket.recv(*part, zmq::recv_flags::dontwait)) return ReceiveOutcome::kNothing;
    more = part->more();
    if (++count <= kMaxMessageParts) parts.push_back(std::move(part));
  }
  if (count <= kMaxMessageParts) return ReceiveOutcome::kMessage;
  parts.clear();
  return ReceiveOutcome::kTooManyParts;
}

wire::Frames borrow_parts(const Parts& parts, size_t first) {
  wire::Frames frames;
  frames.reserve(parts.size() - first);
  for (size_t i = first; i < parts.size(); ++i)
    frames.push_back(wire::Frame::borrow(parts[i], parts[i]->data(), parts[i]->size()));
  return frames;
}

bool connection_of(const zmq::message_t& routing_id, ConnectionId& connection) {
  const auto* bytes = routing_id.data<unsigned char>();
  if (routing_id.size() != kRoutingIdBytes || bytes[0] != 0) return false;
  connection.value = 0;
  for (size_t i = 1; i < kRoutingIdBytes; ++i) connection.value = connection.value << 8 | bytes[i];
  return true;
}

std::string routing_id_of(ConnectionId connection) {
  std::string id(kRoutingIdBytes, '\0');
  for (size_t i = 1; i < kRoutingIdBytes; ++i)
    id[i] = static_cast<char>(connection.value >> (8 * (kRoutingIdBytes - 1 - i)) & 0xFF);
  return id;
}

std::string plain_address(const std::string& address) {
  constexpr std::string_view kMapped = "::ffff:";
  const bool is_mapped = address.starts_with(kMapped) && address.find('.') != std::string::npos;
  return is_mapped ? address.substr(kMapped.size()) : address;
}

void block_signals_on_this_thread() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace tandem::transport_detail
