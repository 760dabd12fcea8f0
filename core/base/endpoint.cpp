#include "tandem/core/base/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <optional>
#include <string_view>

namespace tandem {
namespace {

constexpr std::string_view kScheme = "tcp://";
constexpr std::string_view kDigits = "0123456789";
constexpr size_t kLongestName = 253;   // RFC 1035
constexpr size_t kLongestLabel = 63;   // RFC 1035
constexpr size_t kLongestDevice = 15;  // IFNAMSIZ without its zero byte

// A text with a problem is shown whole unless it is longer than an endpoint can be.
std::string shown(const std::string& text) {
  constexpr size_t kMost = 300;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

bool is_letter_or_digit(unsigned char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_interface_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongestDevice && std::all_of(name.begin(), name.end(), [](char c) {
    return is_letter_or_digit(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
}

std::optional<in_addr> ipv4_address(const std::string& host) {
  in_addr address{};
  if (inet_pton(AF_INET, host.c_str(), &address) != 1) return std::nullopt;
  return address;
}

// A link-local address may name its interface behind a percent sign.
std::optional<in6_addr> ipv6_address(const std::string& host) {
  const size_t percent = host.find('%');
  if (percent != std::string::npos && !is_interface_name(std::string_view(host).substr(percent + 1)))
    return std::nullopt;
  in6_addr address{};
  if (inet_pton(AF_INET6, host.substr(0, percent).c_str(), &address) != 1) return std::nullopt;
  return address;
}

bool is_any_address(const std::string& host) {
  if (const auto ipv4 = ipv4_address(host)) return ipv4->s_addr == htonl(INADDR_ANY);
  const auto ipv6 = ipv6_address(host);
  return ipv6 && IN6_IS_ADDR_UNSPECIFIED(&*ipv6);
}

/// What is wrong with a port; empty when nothing is.
std::string port_problem(const std::string& port, bool any_port) {
  if (port == "*" && any_port) return "";
  if (port.empty()) return "the port is missing";
  if (port == "*") return "\"*\" is a port to listen on, not one to connect to";
  if (port.find_first_not_of(kDigits) != std::string::npos) return "\"" + port + "\" is not a port number";
  const std::string number = port.substr(std::min(port.find_first_not_of('0'), port.size()));
  if (number.empty() || number.size() > 5 || std::stoi(number) > 65535)
    return "port " + port + " does not exist";
  return "";
}

std::string label_problem(std::string_view label) {
  if (label.empty()) return "it has a dot too many";
  if (label.size() > kLongestLabel)
    return "\"" + std::string(label) + "\" is longer than the " + std::to_string(kLongestLabel) +
           " characters that a part of a host name may have";
  if (label.front() == '-' || label.back() == '-')
    return "\"" + std::string(label) + "\" begins or ends with a hyphen";
  return "";
}

std::string name_problem(const std::string& host) {
  for (const unsigned char c : host) {
    if (c >= 0x80) return "write an international host name in its ASCII form (xn--...)";
    if (!is_letter_or_digit(c) && c != '-' && c != '_' && c != '.')
      return std::string("a host name does not contain '") + (c < 0x20 || c == 0x7F ? '?' : char(c)) + "'";
  }
  if (host.find_first_not_of("0123456789.") == std::string::npos)
    return "\"" + host + "\" is not an IPv4 address";
  if (host.size() > kLongestName)
    return "a host name has at most " + std::to_string(kLongestName) + " characters";
  const std::string_view labels =
      host.ends_with('.') ? std::string_view(host).substr(0, host.size() - 1) : host;
  for (size_t begin = 0; begin <= labels.size();) {
    const size_t end = std::min(labels.find('.', begin), labels.size());
    if (std::string problem = label_problem(labels.substr(begin, end - begin)); !problem.empty())
      return problem;
    begin = end + 1;
  }
  return "";
}

std::string connect_host_problem(const std::string& host) {
  if (host == "*" || is_any_address(host))
    return "\"" + host + "\" is an address to listen on; devices need the aggregator's name or address";
  if (ipv4_address(host)) return "";
  return name_problem(host);
}

std::string listen_host_problem(const std::string& host) {
  if (host == "*" || host == "localhost" || ipv4_address(host)) return "";
  if (is_interface_name(host) && host.find_first_not_of("0123456789.") != std::string::npos) return "";
  return "\"" + host +
         "\" is neither an address of this machine nor a network interface; \"*\" listens on every address";
}

/// Takes "HOST:PORT" apart. Returns what is wrong with it; empty when nothing is.
std::string split(const std::string& text, TcpEndpoint& endpoint) {
  if (text.find_first_of(" \t\r\n") != std::string::npos) return "it contains white space";
  if (text.find('\0') != std::string::npos) return "it contains a zero byte";
  const size_t slash = text.find('/');
  if (slash != std::string::npos) return "it has \"" + text.substr(slash) + "\" too much";
  if (text.find('@') != std::string::npos) return "it takes no user name";
  if (text.starts_with('[') && text.find(']') != std::string::npos) {
    const size_t bracket = text.find(']');
    endpoint.host = text.substr(1, bracket - 1);
    if (!ipv6_address(endpoint.host)) return "\"" + endpoint.host + "\" is not an IPv6 address";
    const std::string rest = text.substr(bracket + 1);
    if (rest.empty()) return "the port is missing";
    if (!rest.starts_with(':')) return "a colon and the port have to follow the bracket";
    endpoint.port = rest.substr(1);
    return "";
  }
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return text.empty() ? "the host is missing" : "the port is missing";
  if (text.find(':', colon + 1) != std::string::npos)
    return "an IPv6 address has to stand in brackets, as in [2001:db8::1]:5555";
  endpoint.host = text.substr(0, colon);
  endpoint.port = text.substr(colon + 1);
  return endpoint.host.empty() ? "the host is missing" : "";
}

std::string problem_of(const std::string& text, EndpointUse use, TcpEndpoint& endpoint) {
  if (const size_t end = text.find("://"); !text.starts_with(kScheme)) {
    return end == std::string::npos ? "\"tcp://\" is missing"
                                    : "\"" + text.substr(0, end + 3) + "\" is not \"tcp://\"";
  }
  if (std::string problem = split(text.substr(kScheme.size()), endpoint); !problem.empty()) return problem;
  if (std::string problem = port_problem(endpoint.port, use == EndpointUse::kListen); !problem.empty())
    return problem;
  if (endpoint.is_ipv6())
    return use == EndpointUse::kConnect && is_any_address(endpoint.host) ? connect_host_problem(endpoint.host)
                                                                         : "";
  return use == EndpointUse::kConnect ? connect_host_problem(endpoint.host)
                                      : listen_host_problem(endpoint.host);
}

Error malformed(const std::string& name, const std::string& text, const std::string& expected,
                const std::string& problem) {
  return {ErrorCode::kInvalidArgument,
          name + " \"" + shown(text) + "\" is not of the form " + expected + ": " + problem};
}

}  // namespace

bool is_loopback_address(const std::string& host) {
  if (const auto ipv4 = ipv4_address(host)) return ntohl(ipv4->s_addr) >> 24 == 127;
  const auto ipv6 = ipv6_address(host);
  if (!ipv6) return false;
  if (IN6_IS_ADDR_V4MAPPED(&*ipv6)) return ipv6->s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&*ipv6);
}

bool TcpEndpoint::is_address() const {
  return ipv4_address(host) || ipv6_address(host);
}

bool TcpEndpoint::is_loopback() const {
  return host == "localhost" || is_loopback_address(host);
}

std::string TcpEndpoint::host_and_port() const {
  return (is_ipv6() ? "[" + host + "]" : host) + ":" + port;
}

Result<TcpEndpoint> parse_endpoint(const std::string& name, const std::string& text, EndpointUse use) {
  TcpEndpoint endpoint;
  const std::string problem = problem_of(text, use, endpoint);
  if (problem.empty()) return endpoint;
  return malformed(name, text,
                   use == EndpointUse::kListen ? "\"tcp://ADDRESS:PORT\" with a port from 1 to 65535 or *"
                                               : "\"tcp://HOST:PORT\" with a port from 1 to 65535",
                   problem);
}

Result<TcpEndpoint> parse_host_and_port(const std::string& name, const std::string& text) {
  TcpEndpoint endpoint;
  std::string problem = split(text, endpoint);
  if (endpoint.port == "0") endpoint.port = "*";
  if (problem.empty()) problem = port_problem(endpoint.port, true);
  if (problem.empty()) return endpoint;
  return malformed(name, text,
                   "ADDRESS:PORT, such as 127.0.0.1:9100, with a port from 0 to 65535 or * (0 and *: the "
                   "system chooses)",
                   problem);
}

}  // namespace tandem
