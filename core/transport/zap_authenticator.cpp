#include "tandem/core/transport/zap_authenticator.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <future>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>
#include <zmq.hpp>

#include "tandem/core/transport/zmq_detail.h"

namespace tandem {
namespace {

constexpr char kZapEndpoint[] = "inproc://zeromq.zap.01";
constexpr size_t kCurveKeyBytes = 32;
// A request has at most 8 parts (PLAIN: user name and password).
constexpr size_t kMaxRequestParts = 16;

// Positions in a ZAP request.
enum Part : size_t { kVersion, kRequestId, kDomain, kAddress, kRoutingId, kMechanism, kCredentials };

std::string to_z85(const std::string& key) {
  std::array<char, 41> text{};
  zmq_z85_encode(text.data(), reinterpret_cast<const uint8_t*>(key.data()), key.size());
  return text.data();
}

void decide_curve(const std::string& key, const DeviceList& devices, ZapDecision& decision) {
  if (key.size() != kCurveKeyBytes) {
    decision.status_text = "a CURVE key has 32 bytes";
    return;
  }
  const std::string text = to_z85(key);
  const auto found = devices.find(text);
  if (found == devices.end()) {
    decision.status_code = "400";
    decision.status_text = "key not listed";
    decision.refused_key = text;
    return;
  }
  decision.status_code = "200";
  decision.status_text = "OK";
  decision.user_id = found->second.name;
  decision.key = text;
}

void decide_plain(const std::string& name, ZapDecision& decision) {
  if (!is_device_name(name)) {
    decision.status_code = "400";
    decision.status_text = "not a device name";
    return;
  }
  decision.status_code = "200";
  decision.status_text = "OK";
  decision.user_id = name;
}

std::vector<std::string> receive_request(zmq::socket_t& socket) {
  std::vector<std::string> request;
  for (bool more = true; more;) {
    zmq::message_t part;
    if (!socket.recv(part, zmq::recv_flags::dontwait)) return {};
    more = part.more();
    if (request.size() < kMaxRequestParts) request.push_back(part.to_string());
  }
  return request;
}

/// ZMTP's form: length and name, then 4 bytes of length, big-endian, and value.
std::string metadata_of(const ZapDecision& decision) {
  if (decision.key.empty()) return "";
  constexpr std::string_view kName = transport_detail::kKeyProperty;
  std::string metadata(1, static_cast<char>(kName.size()));
  metadata += kName;
  metadata += std::string("\0\0\0", 3) + static_cast<char>(decision.key.size());
  return metadata + decision.key;
}

void send_reply(zmq::socket_t& socket, const ZapDecision& decision) {
  const std::string metadata = metadata_of(decision);
  const std::array<std::string_view, 6> parts{
      "1.0", decision.request_id, decision.status_code, decision.status_text, decision.user_id, metadata};
  for (size_t i = 0; i < parts.size(); ++i)
    socket.send(zmq::buffer(parts[i]),
                i + 1 < parts.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
}

}  // namespace

ZapDecision decide_zap_request(const std::vector<std::string>& request, const ZapPolicy& policy) {
  ZapDecision decision;
  decision.status_code = "500";
  decision.status_text = "malformed request";
  if (request.size() > kRequestId) decision.request_id = request[kRequestId];
  if (request.size() <= kMechanism || request[kVersion] != "1.0") return decision;
  decision.address = transport_detail::plain_address(request[kAddress]);
  if (request[kDomain] != transport_detail::kZapDomain) {
    decision.status_text = "unknown domain";
    return decision;
  }
  if (request[kMechanism] != (policy.insecure ? "PLAIN" : "CURVE")) {
    decision.status_code = "400";
    decision.status_text = "wrong mechanism";
    return decision;
  }
  if (policy.insecure && request.size() == kCredentials + 2) {
    decide_plain(request[kCredentials], decision);
  } else if (!policy.insecure && request.size() == kCredentials + 1) {
    decide_curve(request[kCredentials], policy.devices, decision);
  }
  return decision;
}

bool RefusalLog::admit(const std::string& key, TimePoint now) {
  while (!oldest_first_.empty() && now - logged_.at(oldest_first_.front()) >= kPause) {
    logged_.erase(oldest_first_.front());
    oldest_first_.pop_front();
  }
  if (logged_.size() >= kMaxKeys || !logged_.emplace(key, now).second) return false;
  oldest_first_.push_back(key);
  return true;
}

std::chrono::seconds Suspensions::suspend(const std::string& name, TimePoint now) {
  constexpr std::chrono::seconds kLongest{60};
  constexpr std::chrono::minutes kForgotten{10};
  Suspension& suspension = suspensions_[name];
  if (now < suspension.until) return std::chrono::ceil<std::chrono::seconds>(suspension.until - now);
  const bool anew = suspension.length.count() == 0 || now - suspension.until > kForgotten;
  suspension.length = anew ? std::chrono::seconds(1) : std::min(2 * suspension.length, kLongest);
  suspension.until = now + suspension.length;
  return suspension.length;
}

bool Suspensions::is_suspended(const std::string& name, TimePoint now) const {
  const auto found = suspensions_.find(name);
  return found != suspensions_.end() && now < found->second.until;
}

void AdmissionLog::add(const std::string& address, const std::string& name, TimePoint now) {
  constexpr size_t kKept = 256;
  if (admissions_.size() == kKept) admissions_.pop_front();
  admissions_.push_back({address, name, now});
}

std::vector<std::string> AdmissionLog::names(const std::string& address, TimePoint from, TimePoint to) const {
  std::set<std::string> names;
  for (const Admission& admission : admissions_)
    if (admission.address == address && admission.time >= from && admission.time <= to)
      names.insert(admission.name);
  return {names.begin(), names.end()};
}

struct ZapAuthenticator::Impl {
  Impl(zmq::context_t& zmq_context, ZapPolicy zap_policy)
      : context(zmq_context), policy(std::move(zap_policy)) {}
  ~Impl() {
    stopping = true;
    wake.signal();
    if (thread.joinable()) thread.join();
  }

  void run(std::promise<Result<void>> started);
  void serve(zmq::socket_t& socket);
  ZapDecision decide(const std::vector<std::string>& request);
  void report(const ZapDecision& decision);

  zmq::context_t& context;
  std::mutex mutex;
  ZapPolicy policy;         // guarded by mutex
  AdmissionLog admissions;  // guarded by mutex
  Suspensions suspensions;  // guarded by mutex
  transport_detail::WakeUp wake;
  std::atomic<bool> stopping = false;
  RefusalLog refusals;  // the thread's own
  std::thread thread;
};

void ZapAuthenticator::Impl::run(std::promise<Result<void>> started) {
  transport_detail::block_signals_on_this_thread();
  bool bound = false;
  try {
    zmq::socket_t socket(context, zmq::socket_type::rep);
    socket.set(zmq::sockopt::linger, 0);
    socket.bind(kZapEndpoint);
    bound = true;
    started.set_value({});
    serve(socket);
  } catch (const std::exception& error) {
    if (bound)
      spdlog::critical("authentication stopped, nobody gets in any more: {}", error.what());
    else
      started.set_value(
          Error{ErrorCode::kNetwork, std::string("cannot bind the ZAP handler: ") + error.what()});
  }
}

void ZapAuthenticator::Impl::serve(zmq::socket_t& socket) {
  while (!stopping) {
    zmq_pollitem_t items[] = {{socket.handle(), 0, ZMQ_POLLIN, 0},
                              {nullptr, wake.descriptor(), ZMQ_POLLIN, 0}};
    zmq_poll(items, 2, -1);
    wake.clear();
    for (auto request = receive_request(socket); !request.empty(); request = receive_request(socket)) {
      const ZapDecision decision = decide(request);
      send_reply(socket, decision);
      if (decision.status_code >= "400") report(decision);
    }
  }
}

ZapDecision ZapAuthenticator::Impl::decide(const std::vector<std::string>& request) {
  const std::lock_guard lock(mutex);
  ZapDecision decision = decide_zap_request(request, policy);
  if (decision.status_code != "200") return decision;
  const auto now = std::chrono::steady_clock::now();
  if (suspensions.is_suspended(decision.user_id, now)) {
    // Not 400: what is wrong is not the key, and the device may try again.
    return {.request_id = decision.request_id,
            .status_code = "300",
            .status_text = "not now",
            .address = decision.address};
  }
  admissions.add(decision.address, decision.user_id, now);
  return decision;
}

void ZapAuthenticator::Impl::report(const ZapDecision& decision) {
  const std::string& who = decision.refused_key.empty() ? decision.status_text : decision.refused_key;
  if (!refusals.admit(who, std::chrono::steady_clock::now())) return;
  if (decision.refused_key.empty())
    spdlog::warn("refused a connection from {}: {}", decision.address, decision.status_text);
  else
    spdlog::warn("refused a connection from {}: key {} is not in the device list", decision.address,
                 decision.refused_key);
}

ZapAuthenticator::ZapAuthenticator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZapAuthenticator::~ZapAuthenticator() = default;

void ZapAuthenticator::set_devices(DeviceList devices) {
  const std::lock_guard lock(impl_->mutex);
  impl_->policy.devices.swap(devices);
}

std::chrono::seconds ZapAuthenticator::suspend(const std::string& name) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->suspensions.suspend(name, std::chrono::steady_clock::now());
}

std::vector<std::string> ZapAuthenticator::admitted(const std::string& address,
                                                    std::chrono::steady_clock::time_point from,
                                                    std::chrono::steady_clock::time_point to) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->admissions.names(address, from, to);
}

Result<std::unique_ptr<ZapAuthenticator>> ZapAuthenticator::start(zmq::context_t& context, ZapPolicy policy) {
  auto impl = std::make_unique<Impl>(context, std::move(policy));
  std::promise<Result<void>> started;
  std::future<Result<void>> outcome = started.get_future();
  impl->thread = std::thread(&Impl::run, impl.get(), std::move(started));
  if (const Result<void> result = outcome.get(); !result) return result.error();
  return std::unique_ptr<ZapAuthenticator>(new ZapAuthenticator(std::move(impl)));
}

}  // namespace tandem
