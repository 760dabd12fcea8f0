#include "tandem/core/run/status_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tandem/core/base/open_files.h"
//
#include "support/test.h"

using namespace std::chrono_literals;
using tandem::ErrorCode;
using tandem::RunStatus;
using tandem::StatusServer;

namespace {

/// A TCP connection to a server on 127.0.0.1; -1 in `descriptor` where it was refused.
class Connection {
 public:
  explicit Connection(const StatusServer& server) {
    const std::string& endpoint = server.endpoint();
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1))));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    descriptor_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    connected_ = ::connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Connection() { ::close(descriptor_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool connected() const { return connected_; }
  bool send(const std::string& text) const {
    return ::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  /// Everything until the server hangs up.
  std::string read_all() const {
    std::string text;
    char buffer[4096];
    for (;;) {
      const ssize_t count = ::recv(descriptor_, buffer, sizeof buffer, 0);
      if (count <= 0) return text;
      text.append(buffer, static_cast<size_t>(count));
    }
  }

 private:
  int descriptor_ = -1;
  bool connected_ = false;
};

struct Fixture {
  RunStatus status{"tandem-edge", 60s};
  std::unique_ptr<StatusServer> server;

  Fixture() {
    auto started = StatusServer::start("127.0.0.1:*", status);
    REQUIRE_MESSAGE(started.has_value(), (started ? "" : started.error().message));
    server = std::move(*started);
  }

  std::string exchange(const std::string& request) const {
    const Connection connection(*server);
    REQUIRE(connection.connected());
    REQUIRE(connection.send(request));
    return connection.read_all();
  }
  std::string get(const std::string& path) const {
    return exchange("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
  }
};

bool is(const std::string& answer, int status) {
  return answer.starts_with("HTTP/1.1 " + std::to_string(status) + " ");
}

std::string body(const std::string& answer) {
  const size_t end = answer.find("\r\n\r\n");
  return end == std::string::npos ? "" : answer.substr(end + 4);
}

int64_t descriptors() {
  const std::filesystem::directory_iterator entries("/proc/self/fd");
  return std::distance(begin(entries), end(entries));
}

}  // namespace

TEST_SUITE("core/run/status_server") {
  TEST_CASE_FIXTURE(Fixture, "health and readiness answer 200 or 503 with the reason") {
    CHECK(is(get("/healthz"), 200));
    CHECK(body(get("/healthz")) == "alive\n");
    CHECK(is(get("/readyz"), 503));
    CHECK(body(get("/readyz")) == "the program is starting\n");
    status.set_waiting_for("");
    CHECK(is(get("/readyz"), 200));
    CHECK(body(get("/readyz")) == "ready\n");
  }

  TEST_CASE_FIXTURE(Fixture, "it answers in a process that holds more files open than select() can count") {
    constexpr int kMany = 1200;
    if (tandem::raise_open_files(kMany + 100) < kMany + 100) {
      MESSAGE("skipped: too few open files are allowed");
      return;
    }
    std::vector<int> open;
    for (int i = 0; i < kMany; ++i) open.push_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK(open.back() > 1024);
    CHECK(is(get("/healthz"), 200));
    CHECK(is(get("/metrics"), 200));
    for (const int descriptor : open) ::close(descriptor);
  }

  TEST_CASE("a silent main loop answers 503") {
    RunStatus status("tandem-edge", 0ms);
    auto server = StatusServer::start("127.0.0.1:0", status);
    REQUIRE(server.has_value());
    const Connection connection(**server);
    REQUIRE(connection.send("GET /healthz HTTP/1.0\r\n\r\n"));
    const std::string answer = connection.read_all();
    CHECK(answer.find(" 503 ") != std::string::npos);
    CHECK(body(answer).starts_with("the main loop has shown no sign of life for "));
  }

  TEST_CASE_FIXTURE(Fixture, "metrics come as Prometheus' text format 0.0.4") {
    status.metrics().declare("tandem_loss", tandem::Metrics::Kind::kGauge, "Mean loss.");
    status.metrics().set("tandem_loss", 0.5);
    const std::string answer = get("/metrics");
    CHECK(is(answer, 200));
    CHECK(answer.find("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n") != std::string::npos);
    CHECK(body(answer).find("# TYPE tandem_loss gauge\ntandem_loss 0.5\n") != std::string::npos);
  }

  TEST_CASE_FIXTURE(Fixture, "a connection serves one request, whatever it asks for") {
    const std::string answer = exchange(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(is(answer, 200));
    CHECK(answer.find("Connection: close\r\n") != std::string::npos);
    CHECK(answer.find("# TYPE") == std::string::npos);
  }

  TEST_CASE_FIXTURE(Fixture, "HEAD answers without a body") {
    const std::string answer = exchange("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(is(answer, 200));
    CHECK(body(answer).empty());
  }

  TEST_CASE_FIXTURE(Fixture, "other paths are not found, no file is ever served") {
    for (const char* path : {"/", "//healthz", "/healthz/", "/metricsx", "/../../../../etc/passwd",
                             "/%2e%2e/%2e%2e/etc/passwd", "/healthz%00", "/METRICS"}) {
      CAPTURE(path);
      const std::string answer = get(path);
      CHECK(is(answer, 404));
      CHECK(body(answer) == "there are /healthz, /readyz and /metrics\n");
    }
  }

  TEST_CASE_FIXTURE(Fixture, "a query does not hide the path") {
    CHECK(is(get("/healthz?from=probe"), 200));
  }

  TEST_CASE_FIXTURE(Fixture, "other methods are refused, and no body is read") {
    for (const char* method : {"POST", "PUT", "DELETE", "PATCH", "OPTIONS"}) {
      CAPTURE(method);
      const std::string answer =
          exchange(std::string(method) +
                   " /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n");
      CHECK(is(answer, 405));
      CHECK(answer.find("Allow: GET, HEAD\r\n") != std::string::npos);
    }
    CHECK(is(exchange("POST /metrics HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"), 405));
  }

  TEST_CASE_FIXTURE(Fixture, "ranges are refused: they could make a long answer of a short one") {
    std::string ranges = "bytes=0-";
    for (int i = 0; i < 1000; ++i) ranges += ",0-";
    const std::string answer = exchange("GET /metrics HTTP/1.1\r\nHost: h\r\nRange: " + ranges + "\r\n\r\n");
    CHECK_FALSE(is(answer, 200));
    CHECK_FALSE(is(answer, 206));
    CHECK(answer.size() < 1'000'000);
    CHECK(answer.find("process_cpu_seconds_total") == std::string::npos);
  }

  TEST_CASE_FIXTURE(Fixture, "nonsense is survived") {
    const std::string long_path = "GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n";
    const std::string long_header = "GET /healthz HTTP/1.1\r\nX: " + std::string(100'000, 'a') + "\r\n\r\n";
    for (const std::string& nonsense :
         {std::string("\r\n\r\n"), std::string("GET\r\n\r\n"), std::string("GET /healthz SPDY/3\r\n\r\n"),
          std::string(64, '\0') + "\r\n\r\n", std::string("\x16\x03\x01\x02\x00\x01\r\n\r\n"), long_path,
          long_header}) {
      CAPTURE(nonsense.substr(0, 20));
      const Connection connection(*server);
      (void)connection.send(nonsense);
      CHECK_FALSE(is(connection.read_all(), 200));
    }
    CHECK(is(get("/healthz"), 200));
  }

  TEST_CASE_FIXTURE(Fixture, "connections that say nothing take no descriptors and give way") {
    const int64_t before = descriptors();
    std::vector<std::unique_ptr<Connection>> silent;
    for (int i = 0; i < 3; ++i) silent.push_back(std::make_unique<Connection>(*server));
    // Each has one descriptor at this end; the server accepts one at a time.
    CHECK(descriptors() <= before + 3 + 1);
    CHECK(is(get("/healthz"), 200));
    silent.clear();
  }

  TEST_CASE("stopping does not wait for a peer that sends a byte now and then") {
    RunStatus status("tandem-edge", 60s);
    auto server = StatusServer::start("127.0.0.1:*", status);
    REQUIRE(server.has_value());
    const Connection slow(**server);
    REQUIRE(slow.send("GET /heal"));
    std::jthread dripping([&slow](const std::stop_token& stop) {
      while (!stop.stop_requested() && slow.send("t")) std::this_thread::sleep_for(100ms);  // a slow peer
    });
    const auto begun = std::chrono::steady_clock::now();
    server->reset();
    CHECK(std::chrono::steady_clock::now() - begun < 5s);
  }

  TEST_CASE("a server that is stopped at once does not hang, and its port is free again") {
    RunStatus status("tandem-edge", 60s);
    std::string endpoint = "127.0.0.1:*";
    for (int i = 0; i < 20; ++i) {
      auto server = StatusServer::start(endpoint, status);
      REQUIRE_MESSAGE(server.has_value(), (server ? "" : server.error().message));
      endpoint = (*server)->endpoint();
    }
  }

  TEST_CASE("a port that is taken is an error that names it") {
    RunStatus status("tandem-edge", 60s);
    auto first = StatusServer::start("localhost:0", status);
    REQUIRE(first.has_value());
    CHECK((*first)->endpoint().starts_with("127.0.0.1:"));
    const auto second = StatusServer::start((*first)->endpoint(), status);
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().code == ErrorCode::kNetwork);
    CHECK(second.error().message ==
          "--status-endpoint: cannot listen on " + (*first)->endpoint() + ": Address already in use");
  }

  TEST_CASE("only loopback addresses are accepted") {
    RunStatus status("tandem-edge", 60s);
    for (const char* endpoint : {"0.0.0.0:0", "*:0", "192.168.0.1:0", "[::]:0", "example.org:0",
                                 "127.evil.org:0", "127.0.0.1.evil.org:0", "128.0.0.1:0", "[127.0.0.1:0"}) {
      CAPTURE(endpoint);
      const auto server = StatusServer::start(endpoint, status);
      REQUIRE_FALSE(server.has_value());
      CHECK(server.error().code == ErrorCode::kInvalidArgument);
      CHECK(server.error().message.find("is not a loopback address (127.0.0.0/8, [::1], localhost)") !=
            std::string::npos);
    }
  }

  TEST_CASE("what is no endpoint is refused with the form that is expected") {
    RunStatus status("tandem-edge", 60s);
    for (const std::string endpoint : {"9100", "127.0.0.1", "127.0.0.1:", ":9100", "127.0.0.1:65536",
                                       "127.0.0.1:-1", "127.0.0.1:9100x", "127.0.0.1: 9100"}) {
      CAPTURE(endpoint);
      const auto server = StatusServer::start(endpoint, status);
      REQUIRE_FALSE(server.has_value());
      CHECK(server.error().code == ErrorCode::kInvalidArgument);
      const std::string begin = "--status-endpoint \"" + endpoint + "\" is not of the form ADDRESS:PORT";
      CHECK(server.error().message.starts_with(begin));
    }
  }
}
