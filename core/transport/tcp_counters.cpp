#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tandem/core/transport/tcp_counters_detail.h"

namespace tandem::transport_detail {

std::optional<TcpCounters> TcpCounters::read(int descriptor) {
  tcp_info info{};
  socklen_t size = sizeof info;
  int unread = 0;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  if (ioctl(descriptor, FIONREAD, &unread) != 0) return std::nullopt;
  return TcpCounters{static_cast<int64_t>(info.tcpi_bytes_received), unread,
                     static_cast<int64_t>(info.tcpi_bytes_acked)};
}

uint64_t socket_cookie(int descriptor) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return 0;
  return cookie;
}

}  // namespace tandem::transport_detail
