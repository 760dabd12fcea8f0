#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"

/// Not installed; for ZmqClient and its tests.
namespace tandem::transport_detail {

/// Looks up the addresses of a host name, on a thread of its own. getaddrinfo() takes as long as it likes
/// (minutes, where a name server does not answer) and cannot be interrupted, so nobody waits for that thread:
/// the destructor leaves it behind, and it ends when getaddrinfo() returns.
class NameLookup {
 public:
  /// Starts. `notify` is called on the lookup's thread when the result is there, but not after the destructor
  /// has returned.
  NameLookup(std::string host, std::function<void()> notify);
  ~NameLookup();
  NameLookup(const NameLookup&) = delete;
  NameLookup& operator=(const NameLookup&) = delete;

  /// Numeric addresses, IPv6 and IPv4, in the order in which the system would try them; nullopt while the
  /// lookup goes on. kNetwork gives the name and the system's reason.
  std::optional<Result<std::vector<std::string>>> result() const;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace tandem::transport_detail
