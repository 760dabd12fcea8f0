#pragma once

#include <string>

#include "tandem/core/base/result.h"

namespace tandem {

/// What an address is for: each use takes other hosts and ports.
enum class EndpointUse {
  kConnect,  ///< a host name, an IPv4 address or an IPv6 address in brackets; a port from 1 to 65535
  kListen,   ///< an address of this machine, "*", "localhost" or a network interface; also port "*"
};

/// "tcp://HOST:PORT" taken apart and checked.
struct TcpEndpoint {
  std::string host;  ///< an IPv6 address has no brackets
  std::string port;  ///< digits, or "*" where the system shall choose

  bool is_ipv6() const { return host.find(':') != std::string::npos; }
  /// Whether the host is a numeric address, so that nothing has to be looked up.
  bool is_address() const;
  /// 127.0.0.0/8, ::1 or localhost.
  bool is_loopback() const;
  /// "HOST:PORT", an IPv6 address in brackets.
  std::string host_and_port() const;
  std::string text() const { return "tcp://" + host_and_port(); }
};

/// Checks "tcp://HOST:PORT". Every program and every flag takes its endpoints through this function.
/// `name` says where the text comes from, for example "--endpoint". kInvalidArgument gives the name, the
/// text, what was expected, and what is wrong with it.
Result<TcpEndpoint> parse_endpoint(const std::string& name, const std::string& text, EndpointUse use);

/// Checks the form "ADDRESS:PORT" in the same way, for a service that is not reached through ZeroMQ; which
/// addresses it takes is the caller's to say. Port 0 becomes "*".
Result<TcpEndpoint> parse_host_and_port(const std::string& name, const std::string& text);

/// Whether `host` is a numeric address of this machine's loopback interface, IPv4 addresses that are written
/// as IPv6 ("::ffff:127.0.0.1") included.
bool is_loopback_address(const std::string& host);

}  // namespace tandem
