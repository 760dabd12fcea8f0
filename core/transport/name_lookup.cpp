#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "tandem/core/transport/name_lookup_detail.h"
#include "tandem/core/transport/zmq_detail.h"

namespace tandem::transport_detail {
namespace {

using Addresses = std::vector<std::string>;

Error lookup_error(const std::string& host, int status, int reason) {
  return {ErrorCode::kNetwork, "cannot look up the host name \"" + host + "\": " +
                                   (status == EAI_SYSTEM ? std::strerror(reason) : gai_strerror(status))};
}

Result<Addresses> look_up(const std::string& host) {
  addrinfo wanted{};
  wanted.ai_family = AF_UNSPEC;
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int status = getaddrinfo(host.c_str(), nullptr, &wanted, &found); status != 0)
    return lookup_error(host, status, errno);
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, &freeaddrinfo);
  Addresses addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (getnameinfo(entry->ai_addr, entry->ai_addrlen, text.data(), text.size(), nullptr, 0,
                    NI_NUMERICHOST) != 0)
      continue;
    if (std::find(addresses.begin(), addresses.end(), text.data()) == addresses.end())
      addresses.emplace_back(text.data());
  }
  if (addresses.empty()) return lookup_error(host, EAI_NONAME, 0);
  return addresses;
}

}  // namespace

struct NameLookup::Shared {
  std::mutex mutex;
  std::function<void()> notify;             // guarded by mutex; empty when nobody waits any more
  std::optional<Result<Addresses>> result;  // guarded by mutex

  void finish(Result<Addresses> found) {
    const std::lock_guard lock(mutex);
    result = std::move(found);
    if (notify) notify();
  }
};

NameLookup::NameLookup(std::string host, std::function<void()> notify) : shared_(std::make_shared<Shared>()) {
  shared_->notify = std::move(notify);
  try {
    std::thread([shared = shared_, host] {
      block_signals_on_this_thread();
      try {
        shared->finish(look_up(host));
      } catch (const std::exception& error) {
        shared->finish(Error{ErrorCode::kNetwork, "cannot look up \"" + host + "\": " + error.what()});
      }
    }).detach();
  } catch (const std::exception& error) {
    shared_->finish(Error{ErrorCode::kNetwork, "cannot look up \"" + host + "\": " + error.what()});
  }
}

NameLookup::~NameLookup() {
  const std::lock_guard lock(shared_->mutex);
  shared_->notify = nullptr;
}

std::optional<Result<Addresses>> NameLookup::result() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->result;
}

}  // namespace tandem::transport_detail
