#include "tandem/core/base/endpoint.h"

#include <string>
#include <utility>

#include "support/test.h"

namespace tandem {
namespace {

std::string problem_of(const std::string& text, EndpointUse use) {
  const auto endpoint = parse_endpoint("--endpoint", text, use);
  if (endpoint) return "accepted";
  CHECK(endpoint.error().code == ErrorCode::kInvalidArgument);
  const std::string begin = "--endpoint \"" + text + "\" is not of the form \"tcp://";
  CHECK(endpoint.error().message.starts_with(begin));
  return endpoint.error().message.substr(endpoint.error().message.rfind(": ") + 2);
}

}  // namespace

TEST_SUITE("core/base/endpoint") {
  TEST_CASE("names, IPv4 addresses and IPv6 addresses in brackets are taken apart") {
    const auto name = parse_endpoint("--endpoint", "tcp://cam-1.example.org:5555", EndpointUse::kConnect);
    REQUIRE(name);
    CHECK(name->host == "cam-1.example.org");
    CHECK(name->port == "5555");
    CHECK_FALSE(name->is_address());
    const auto ipv6 = parse_endpoint("--endpoint", "tcp://[2001:db8::1]:1", EndpointUse::kConnect);
    REQUIRE(ipv6);
    CHECK(ipv6->host == "2001:db8::1");
    CHECK(ipv6->is_ipv6());
    CHECK(ipv6->is_address());
    CHECK(ipv6->text() == "tcp://[2001:db8::1]:1");
    for (const char* text : {"tcp://localhost:65535", "tcp://192.0.2.1:5555", "tcp://[fe80::1%eth0]:5555",
                             "tcp://a_b.example.:5555", "tcp://3com:80"}) {
      CAPTURE(text);
      CHECK(parse_endpoint("--endpoint", text, EndpointUse::kConnect));
    }
    for (const char* text : {"tcp://*:5555", "tcp://0.0.0.0:*", "tcp://[::]:5555", "tcp://eth0:5555",
                             "tcp://localhost:*", "tcp://[::1]:*"}) {
      CAPTURE(text);
      const auto endpoint = parse_endpoint("--endpoint", text, EndpointUse::kListen);
      REQUIRE(endpoint);
      CHECK(endpoint->text() == text);
    }
  }

  TEST_CASE("what nobody can connect to is refused with the reason") {
    const std::pair<const char*, const char*> cases[] = {
        {"", "\"tcp://\" is missing"},
        {"host:5555", "\"tcp://\" is missing"},
        {"http://host:5555", "\"http://\" is not \"tcp://\""},
        {"TCP://host:5555", "\"TCP://\" is not \"tcp://\""},
        {"tcp://host", "the port is missing"},
        {"tcp://host:", "the port is missing"},
        {"tcp://:5555", "the host is missing"},
        {"tcp://", "the host is missing"},
        {"tcp://host:0", "port 0 does not exist"},
        {"tcp://host:99999", "port 99999 does not exist"},
        {"tcp://host:65536", "port 65536 does not exist"},
        {"tcp://host:18446744073709551617", "port 18446744073709551617 does not exist"},
        {"tcp://host:+80", "\"+80\" is not a port number"},
        {"tcp://host:5x", "\"5x\" is not a port number"},
        {"tcp://host:*", "\"*\" is a port to listen on, not one to connect to"},
        {"tcp://*:5555", "\"*\" is an address to listen on; devices need the aggregator's name or address"},
        {"tcp://0.0.0.0:1",
         "\"0.0.0.0\" is an address to listen on; devices need the aggregator's name or address"},
        {"tcp://[::]:1", "\"::\" is an address to listen on; devices need the aggregator's name or address"},
        {"tcp://ho st:5555", "it contains white space"},
        {"tcp://host:5555 ", "it contains white space"},
        {"tcp://host:5555/", "it has \"/\" too much"},
        {"tcp://user@host:5555", "it takes no user name"},
        {"tcp://[2001:db8::1]", "the port is missing"},
        {"tcp://[2001:db8::1]5555", "a colon and the port have to follow the bracket"},
        {"tcp://[]:5", "\"\" is not an IPv6 address"},
        {"tcp://[host]:5", "\"host\" is not an IPv6 address"},
        {"tcp://2001:db8::1:5555", "an IPv6 address has to stand in brackets, as in [2001:db8::1]:5555"},
        {"tcp://127.0.0.999:5555", "\"127.0.0.999\" is not an IPv4 address"},
        {"tcp://10.1:5555", "\"10.1\" is not an IPv4 address"},
        {"tcp://a..b:5555", "it has a dot too many"},
        {"tcp://-a:5555", "\"-a\" begins or ends with a hyphen"},
        {"tcp://b\xC3\xBC:5555", "write an international host name in its ASCII form (xn--...)"},
        {"tcp://a!b:5555", "a host name does not contain '!'"},
        {"tcp://[fe80::1%]:5", "\"fe80::1%\" is not an IPv6 address"},
        {"tcp://[fe80::1%\"a]:5", "\"fe80::1%\"a\" is not an IPv6 address"},
    };
    for (const auto& [text, problem] : cases) {
      CAPTURE(text);
      CHECK(problem_of(text, EndpointUse::kConnect) == problem);
    }
    CHECK(problem_of(std::string("tcp://127.0.0.1\0:5", 18), EndpointUse::kConnect) ==
          "it contains a zero byte");
    const std::string label(64, 'a');
    CHECK(problem_of("tcp://" + label + ".example:5555", EndpointUse::kConnect).find("longer than the 63") !=
          std::string::npos);
    std::string name = "a";
    while (name.size() <= 253) name += ".a";
    CHECK(problem_of("tcp://" + name + ":5555", EndpointUse::kConnect) ==
          "a host name has at most 253 characters");
  }

  TEST_CASE("what nobody can listen on is refused with the reason") {
    for (const char* text : {"tcp://eth0:0", "tcp://eth0:70000", "http://*:5555", "tcp://*", "tcp://:5555"}) {
      CAPTURE(text);
      CHECK(problem_of(text, EndpointUse::kListen) != "accepted");
    }
    for (const char* host : {"aggregator.example.org", "1.2.3", "a!b"}) {
      CAPTURE(host);
      CHECK(problem_of(std::string("tcp://") + host + ":5555", EndpointUse::kListen) ==
            "\"" + std::string(host) +
                "\" is neither an address of this machine nor a network interface; \"*\" listens on every "
                "address");
    }
  }

  TEST_CASE("loopback is what the kernel takes for it, however it is written") {
    for (const char* host : {"127.0.0.1", "127.8.0.1", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"}) {
      CAPTURE(host);
      CHECK(is_loopback_address(host));
    }
    for (const char* host : {"128.0.0.1", "127.0.0.1.example", "::2", "::ffff:10.0.0.1", "localhost", ""}) {
      CAPTURE(host);
      CHECK_FALSE(is_loopback_address(host));
    }
    CHECK(TcpEndpoint{"localhost", "1"}.is_loopback());
  }

  TEST_CASE("a status endpoint has no scheme, and port 0 is the system's choice") {
    const auto endpoint = parse_host_and_port("--status-endpoint", "[::1]:0");
    REQUIRE(endpoint);
    CHECK(endpoint->host == "::1");
    CHECK(endpoint->port == "*");
    CHECK(parse_host_and_port("--status-endpoint", "::1:9100").error().message.find("in brackets") !=
          std::string::npos);
  }
}

}  // namespace tandem
