#include <cstring>
#include <zmq.hpp>

#include "tandem/core/transport/socket_monitor_detail.h"

namespace tandem::transport_detail {

SocketMonitor::SocketMonitor(zmq::context_t& context, zmq::socket_t& watched, const std::string& name,
                             int events)
    : watched_(watched), events_(std::make_unique<zmq::socket_t>(context, zmq::socket_type::pair)) {
  const std::string address = "inproc://" + name;
  if (zmq_socket_monitor(watched.handle(), address.c_str(), events) != 0) throw zmq::error_t();
  try {
    events_->set(zmq::sockopt::linger, 0);
    // Unbounded, because libzmq's thread waits for room: an owner that takes its time must not stop it.
    events_->set(zmq::sockopt::rcvhwm, 0);
    events_->connect(address);
  } catch (...) {
    zmq_socket_monitor(watched.handle(), nullptr, 0);
    throw;
  }
}

SocketMonitor::~SocketMonitor() {
  zmq_socket_monitor(watched_.handle(), nullptr, 0);
}

std::optional<SocketMonitor::Event> SocketMonitor::next() {
  zmq::message_t number;
  zmq::message_t address;
  if (!events_->recv(number, zmq::recv_flags::dontwait)) return std::nullopt;
  if (number.more()) (void)events_->recv(address, zmq::recv_flags::dontwait);
  Event event;
  if (number.size() < sizeof event.kind + sizeof event.value) return event;
  std::memcpy(&event.kind, number.data(), sizeof event.kind);
  std::memcpy(&event.value, number.data<char>() + sizeof event.kind, sizeof event.value);
  return event;
}

void* SocketMonitor::handle() {
  return events_->handle();
}

}  // namespace tandem::transport_detail
