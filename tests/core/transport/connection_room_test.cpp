#include "tandem/core/transport/connection_room_detail.h"

#include <sys/resource.h>

#include <string>

#include "tandem/core/transport/gatekeeper_detail.h"
//
#include "support/test.h"

namespace tandem::transport_detail {
namespace {

/// More than a process can have, whoever it runs as: the kernel's own limit is 2^30 at most.
constexpr int kTooMany = 2'000'000'000;

DeviceList devices(int count) {
  DeviceList list;
  for (int i = 0; i < count; ++i) list[std::to_string(i)] = ClientId{"cam-" + std::to_string(i)};
  return list;
}

}  // namespace

TEST_SUITE("core/transport/connection_room") {
  TEST_CASE("there is room for few devices, and files are made room for") {
    const ZmqServerOptions options{.devices = devices(3)};
    CHECK(check_connection_room(options));
    CHECK(connection_limit(options) == connection_limit_for(3));
    rlimit limit{};
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(limit.rlim_cur >= static_cast<rlim_t>(connection_limit_for(3)));
  }

  TEST_CASE("more connections than a process may have files are refused with what to raise") {
    const ZmqServerOptions options{.max_connections = kTooMany};
    const auto checked = check_connection_room(options);
    REQUIRE_FALSE(checked);
    CHECK(checked.error().code == ErrorCode::kNetwork);
    CHECK(checked.error().message.find("--limits connections: 2000000000 connections need 2000000128 open "
                                       "files and this process may have ") == 0);
    CHECK(checked.error().message.find("ulimit -Hn") != std::string::npos);
  }

  TEST_CASE("the limit is what was asked for, and without a list a number of its own") {
    CHECK(connection_limit({.max_connections = 7}) == 7);
    const int insecure = connection_limit({.insecure = true});
    CHECK(insecure >= 1);
    CHECK(insecure <= 4096);
    CHECK(connection_limit({.max_connections = kTooMany}) < kTooMany);
  }
}

}  // namespace tandem::transport_detail
