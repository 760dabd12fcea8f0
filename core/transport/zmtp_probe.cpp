#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include "tandem/core/transport/zmtp_probe_detail.h"

namespace tandem::transport_detail {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// ZMTP 3 begins with 0xFF, eight bytes that do not matter, and 0x7F.
constexpr size_t kSignatureBytes = 10;

class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  ~Socket() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return descriptor_; }

 private:
  const int descriptor_;
};

/// A socket that begins to connect; -1 when it cannot.
int begin_to_connect(const TcpEndpoint& address) {
  addrinfo numeric{};
  numeric.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  numeric.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.host.c_str(), address.port.c_str(), &numeric, &found) != 0) return -1;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, &freeaddrinfo);
  const int descriptor = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  if (connect(descriptor, found->ai_addr, found->ai_addrlen) == 0 || errno == EINPROGRESS) return descriptor;
  close(descriptor);
  return -1;
}

}  // namespace

bool speaks_zmtp(const TcpEndpoint& address, milliseconds limit, WakeUp& wake,
                 const std::function<bool()>& stopped) {
  const auto deadline = Clock::now() + limit;
  const Socket socket(begin_to_connect(address));
  std::array<unsigned char, kSignatureBytes> bytes{};
  size_t received = 0;
  while (socket.get() >= 0 && received < bytes.size()) {
    const auto rest = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    if (rest.count() <= 0) return false;
    pollfd items[] = {{socket.get(), POLLIN, 0}, {wake.descriptor(), POLLIN, 0}};
    poll(items, 2, static_cast<int>(rest.count()));
    if (items[1].revents != 0) {
      wake.clear();
      if (stopped()) return false;
    }
    if (items[0].revents == 0) continue;
    const ssize_t count = read(socket.get(), bytes.data() + received, bytes.size() - received);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) return false;
    received += static_cast<size_t>(count);
  }
  return received == bytes.size() && bytes.front() == 0xFF && bytes.back() == 0x7F;
}

}  // namespace tandem::transport_detail
