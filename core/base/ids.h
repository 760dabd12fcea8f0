#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace tandem {

/// A participant, by the name under which the aggregator lists its public key (the User-Id that ZAP
/// attached to the connection). Clients are ordered by this name wherever an order matters.
struct ClientId {
  std::string name;
  auto operator<=>(const ClientId&) const = default;
};

/// One transport connection. A client that reconnects has a new one.
struct ConnectionId {
  uint64_t value = 0;
  auto operator<=>(const ConnectionId&) const = default;
};

/// One period between two merges of the edge weights; the first is 1, 0 means "before the first".
struct RoundId {
  uint32_t value = 0;
  auto operator<=>(const RoundId&) const = default;
};

/// One optimiser step of the tail inside a round; the first is 0.
struct StepId {
  uint32_t value = 0;
  auto operator<=>(const StepId&) const = default;
};

}  // namespace tandem

template <>
struct std::hash<tandem::ClientId> {
  size_t operator()(const tandem::ClientId& id) const noexcept { return std::hash<std::string>{}(id.name); }
};
template <>
struct std::hash<tandem::ConnectionId> {
  size_t operator()(const tandem::ConnectionId& id) const noexcept { return std::hash<uint64_t>{}(id.value); }
};
