#include "tandem/core/run/status_server.h"

#include <arpa/inet.h>
#include <httplib.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <string_view>
#include <thread>
#include <utility>

#include "tandem/core/base/endpoint.h"

namespace tandem {
namespace {

constexpr const char* kText = "text/plain; charset=utf-8";
constexpr const char* kPrometheusText = "text/plain; version=0.0.4; charset=utf-8";
constexpr std::chrono::seconds kPatience{1};  // for a connection's next bytes

struct Endpoint {
  std::string host;  ///< numeric, without brackets
  int port = 0;      ///< 0: the system chooses

  bool is_ipv6() const { return host.find(':') != std::string::npos; }
  std::string text() const { return (is_ipv6() ? "[" + host + "]" : host) + ":" + std::to_string(port); }
};

Result<Endpoint> parse_status_endpoint(const std::string& text) {
  auto parsed = parse_host_and_port("--status-endpoint", text);
  if (!parsed) return parsed.error();
  if (!parsed->is_loopback()) {
    return Error{
        ErrorCode::kInvalidArgument,
        "--status-endpoint \"" + text +
            "\" is not a loopback address (127.0.0.0/8, [::1], localhost): it has no authentication; to "
            "read it from elsewhere, put an authenticating proxy or an SSH tunnel in front of it"};
  }
  return Endpoint{.host = parsed->host == "localhost" ? "127.0.0.1" : parsed->host,
                  .port = parsed->port == "*" ? 0 : std::stoi(parsed->port)};
}

/// Serves each connection on the thread that accepted it, so that one thread and one connection are all there
/// is.
class SameThread : public httplib::TaskQueue {
 public:
  // void in cpp-httplib 0.11, bool in later ones.
  using Enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue(std::function<void()>()));

  Enqueued enqueue(std::function<void()> task) override {
    task();
    return Enqueued(true);
  }
  void shutdown() override {}
};

void answer_text(httplib::Response& response, int status, const std::string& text, const char* type = kText) {
  response.status = status;
  response.set_content(text, type);
}

void answer_status(httplib::Response& response, const RunStatus::Answer& answer) {
  answer_text(response, answer.good ? 200 : 503, answer.reason + "\n");
}

void answer(const httplib::Request& request, httplib::Response& response, RunStatus& status) {
  response.set_header("Cache-Control", "no-store");
  if (request.method != "GET" && request.method != "HEAD") {
    response.set_header("Allow", "GET, HEAD");
    answer_text(response, 405, "only GET and HEAD\n");
  } else if (request.has_header("Range")) {
    // A list of ranges would make a long answer out of a short one.
    answer_text(response, 400, "no ranges\n");
  } else if (request.path == "/healthz") {
    answer_status(response, status.alive());
  } else if (request.path == "/readyz") {
    answer_status(response, status.ready());
  } else if (request.path == "/metrics") {
    answer_text(response, 200, status.metrics_text(), kPrometheusText);
  } else {
    answer_text(response, 404, "there are /healthz, /readyz and /metrics\n");
  }
}

bool is_local_end(int descriptor, const Endpoint& endpoint) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
  const void* bytes = nullptr;
  in_port_t port = 0;
  if (address.ss_family == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(address);
    bytes = &ipv4.sin_addr;
    port = ipv4.sin_port;
  } else if (address.ss_family == AF_INET6) {
    const auto& ipv6 = reinterpret_cast<const sockaddr_in6&>(address);
    bytes = &ipv6.sin6_addr;
    port = ipv6.sin6_port;
  } else {
    return false;
  }
  char host[INET6_ADDRSTRLEN] = {};
  inet_ntop(address.ss_family, bytes, host, sizeof host);
  return ntohs(port) == endpoint.port && host == endpoint.host;
}

/// Ends the connections that peers hold open. cpp-httplib has no list of them; their sockets are those of
/// this process whose own end is the endpoint.
void end_connections(const Endpoint& endpoint) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const int descriptor = std::atoi(entry.path().filename().c_str());
    if (is_local_end(descriptor, endpoint)) ::shutdown(descriptor, SHUT_RDWR);
  }
}

}  // namespace

struct StatusServer::Impl {
  explicit Impl(RunStatus& status);
  ~Impl();
  Result<void> listen(Endpoint wanted);

  httplib::Server server;
  Endpoint endpoint;
  std::string endpoint_text;
  std::promise<void> listening;
  std::future<void> ended;
};

StatusServer::Impl::Impl(RunStatus& status) {
  server.new_task_queue = [this] {
    // cpp-httplib can be stopped from this moment on, not before.
    listening.set_value();
    return new SameThread;  // NOLINT: the caller owns it
  };
  // Its default, SO_REUSEPORT, would let a second program share the port unnoticed.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_keep_alive_max_count(1);
  server.set_keep_alive_timeout(kPatience.count());
  server.set_read_timeout(kPatience.count());
  server.set_write_timeout(kPatience.count());
  server.set_payload_max_length(0);
  // Everything is answered before cpp-httplib would match patterns, look for files or read a body.
  server.set_pre_routing_handler([&status](const httplib::Request& request, httplib::Response& response) {
    answer(request, response, status);
    return httplib::Server::HandlerResponse::Handled;
  });
}

StatusServer::Impl::~Impl() {
  if (!ended.valid()) return;
  server.stop();
  // Again and again: one may have been accepted at the very moment of stopping.
  do {
    end_connections(endpoint);
  } while (ended.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready);
}

Result<void> StatusServer::Impl::listen(Endpoint wanted) {
  errno = 0;
  if (wanted.port == 0) {
    const int port = server.bind_to_any_port(wanted.host);
    if (port > 0) wanted.port = port;
  } else if (!server.bind_to_port(wanted.host, wanted.port)) {
    return Error{ErrorCode::kNetwork, "--status-endpoint: cannot listen on " + wanted.text() + ": " +
                                          (errno != 0 ? std::strerror(errno) : "the system refused")};
  }
  if (wanted.port == 0) {
    return Error{ErrorCode::kNetwork, "--status-endpoint: no free port on " + wanted.host};
  }
  endpoint = wanted;
  endpoint_text = wanted.text();
  ended = std::async(std::launch::async, [this] {
    if (!server.listen_after_bind()) spdlog::warn("the status endpoint {} has stopped", endpoint_text);
  });
  listening.get_future().wait();
  return {};
}

StatusServer::StatusServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StatusServer::~StatusServer() = default;

Result<std::unique_ptr<StatusServer>> StatusServer::start(const std::string& endpoint, RunStatus& status) {
  const auto parsed = parse_status_endpoint(endpoint);
  if (!parsed) return parsed.error();
  auto impl = std::make_unique<Impl>(status);
  if (auto listening = impl->listen(*parsed); !listening) return listening.error();
  return std::unique_ptr<StatusServer>(new StatusServer(std::move(impl)));
}

const std::string& StatusServer::endpoint() const {
  return impl_->endpoint_text;
}

}  // namespace tandem
