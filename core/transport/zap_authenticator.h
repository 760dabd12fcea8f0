#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/transport/keys.h"

namespace zmq {
class context_t;
class socket_t;
}  // namespace zmq

namespace tandem {

/// Whom the authenticator lets in.
struct ZapPolicy {
  /// Keys that may connect (CURVE). Unused under `insecure`.
  DeviceList devices;
  /// PLAIN instead of CURVE: any device name is believed.
  bool insecure = false;
};

/// The answer to one ZAP request.
struct ZapDecision {
  std::string request_id;
  std::string status_code;  ///< "200" enters, "300" not now, "400" is refused, "500" was no request
  std::string status_text;
  std::string user_id;      ///< the name the connection's messages carry; empty unless "200"
  std::string key;          ///< the Z85 key it was let in for, which they carry too; empty under PLAIN
  std::string refused_key;  ///< the Z85 key that is not listed; empty in every other case
  std::string address;      ///< of the peer
};

/// Decides one request: its parts as ZAP 1.0 (ZeroMQ RFC 27) sends them, behind the envelope. A pure
/// function of its arguments that accepts any bytes.
ZapDecision decide_zap_request(const std::vector<std::string>& request, const ZapPolicy& policy);

/// Limits what refused peers can write into the log: once a second for each of at most 1024 keys, and
/// nothing for a further key while all of those are recent. Not thread-safe.
class RefusalLog {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr size_t kMaxKeys = 1024;
  static constexpr std::chrono::seconds kPause{1};

  /// Whether a refusal of `key` at `now` may be logged; counts it as logged if so.
  bool admit(const std::string& key, TimePoint now);
  size_t size() const { return logged_.size(); }

 private:
  std::unordered_map<std::string, TimePoint> logged_;
  std::deque<std::string> oldest_first_;
};

/// How long devices that had to be cut off are kept out: a second the first time, twice as long each further
/// time, at most a minute; who behaved for ten minutes begins anew. Not thread-safe.
class Suspensions {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// Returns for how long from `now`.
  std::chrono::seconds suspend(const std::string& name, TimePoint now);
  bool is_suspended(const std::string& name, TimePoint now) const;

 private:
  struct Suspension {
    std::chrono::seconds length{0};
    TimePoint until;
  };
  std::unordered_map<std::string, Suspension> suspensions_;  // as many as there are devices
};

/// Who was let in lately, to tell whose a connection may be that was never heard of. The last 256. Not
/// thread-safe.
class AdmissionLog {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  void add(const std::string& address, const std::string& name, TimePoint now);
  /// Names let in from that address at that time, each once, in order.
  std::vector<std::string> names(const std::string& address, TimePoint from, TimePoint to) const;

 private:
  struct Admission {
    std::string address;
    std::string name;
    TimePoint time;
  };
  std::deque<Admission> admissions_;
};

/// The ZAP handler of one context: a thread that owns the REP socket bound to inproc://zeromq.zap.01 and
/// answers libzmq's question about every new connection. Start it before the server socket is bound.
class ZapAuthenticator {
 public:
  /// Returns once the handler is bound. `context` must outlive the authenticator. kNetwork when the
  /// context already has a handler.
  static Result<std::unique_ptr<ZapAuthenticator>> start(zmq::context_t& context, ZapPolicy policy);
  /// Stops the thread and closes the socket; after that nobody gets in any more.
  ~ZapAuthenticator();

  /// Decisions from now on follow this list. Any thread; one that is under way may still follow the old one.
  void set_devices(DeviceList devices);

  /// Keeps a device out for a while, see Suspensions; its handshake then fails without a reason. Any thread.
  std::chrono::seconds suspend(const std::string& name);

  /// AdmissionLog::names() of what it has decided. Any thread.
  std::vector<std::string> admitted(const std::string& address, std::chrono::steady_clock::time_point from,
                                    std::chrono::steady_clock::time_point to) const;

 private:
  struct Impl;
  explicit ZapAuthenticator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
