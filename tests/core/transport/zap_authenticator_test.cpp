#include "tandem/core/transport/zap_authenticator.h"

#include <array>
#include <chrono>
#include <zmq.hpp>

#include "support/test.h"

namespace tandem {
namespace {

std::string raw_key(const std::string& z85) {
  std::array<uint8_t, 32> bytes{};
  REQUIRE(zmq_z85_decode(bytes.data(), z85.c_str()) != nullptr);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::string> curve_request(const std::string& key) {
  return {"1.0", "7", "tandem", "10.0.0.9", "", "CURVE", key};
}

std::vector<std::string> plain_request(const std::string& name) {
  return {"1.0", "7", "tandem", "127.0.0.1", "", "PLAIN", name, "-"};
}

std::vector<std::string> ask(zmq::socket_t& socket, const std::vector<std::string>& request) {
  for (size_t i = 0; i < request.size(); ++i)
    socket.send(zmq::buffer(request[i]),
                i + 1 < request.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  std::vector<std::string> reply;
  for (bool more = true; more;) {
    zmq::message_t part;
    REQUIRE(socket.recv(part).has_value());
    more = part.more();
    reply.push_back(part.to_string());
  }
  return reply;
}

}  // namespace

TEST_SUITE("core/transport/zap_authenticator") {
  TEST_CASE("a listed key enters under its listed name") {
    const KeyPair keys = generate_key_pair();
    const ZapPolicy policy{.devices = {{keys.public_key, {"cam-1"}}}};
    const ZapDecision decision = decide_zap_request(curve_request(raw_key(keys.public_key)), policy);
    CHECK(decision.request_id == "7");
    CHECK(decision.status_code == "200");
    CHECK(decision.user_id == "cam-1");
  }

  TEST_CASE("a key that is not listed is refused and named") {
    const KeyPair listed = generate_key_pair();
    const KeyPair stranger = generate_key_pair();
    const ZapPolicy policy{.devices = {{listed.public_key, {"cam-1"}}}};
    const ZapDecision decision = decide_zap_request(curve_request(raw_key(stranger.public_key)), policy);
    CHECK(decision.status_code == "400");
    CHECK(decision.user_id == "");
    CHECK(decision.refused_key == stranger.public_key);
    CHECK(decision.address == "10.0.0.9");
  }

  TEST_CASE("nobody enters through another domain, mechanism or version") {
    const KeyPair keys = generate_key_pair();
    const ZapPolicy policy{.devices = {{keys.public_key, {"cam-1"}}}};
    const struct {
      size_t part;
      std::string value;
      std::string status;
    } cases[] = {
        {0, "1.1", "500"},  {2, "", "500"},      {2, "other", "500"},
        {5, "NULL", "400"}, {5, "PLAIN", "400"}, {5, "GSSAPI", "400"},
    };
    for (const auto& entry : cases) {
      CAPTURE(entry.part);
      CAPTURE(entry.value);
      auto request = curve_request(raw_key(keys.public_key));
      request[entry.part] = entry.value;
      const ZapDecision decision = decide_zap_request(request, policy);
      CHECK(decision.status_code == entry.status);
      CHECK(decision.user_id == "");
    }
  }

  TEST_CASE("malformed requests are answered with 500") {
    const KeyPair keys = generate_key_pair();
    const ZapPolicy policy{.devices = {{keys.public_key, {"cam-1"}}}};
    const auto good = curve_request(raw_key(keys.public_key));
    for (size_t parts = 0; parts < good.size(); ++parts) {
      CAPTURE(parts);
      const ZapDecision decision = decide_zap_request({good.begin(), good.begin() + parts}, policy);
      CHECK(decision.status_code == "500");
      CHECK(decision.user_id == "");
    }
    auto longer = good;
    longer.push_back("extra");
    CHECK(decide_zap_request(longer, policy).status_code == "500");
    for (const size_t size : {0, 1, 31, 33, 40, 1000}) {
      CAPTURE(size);
      CHECK(decide_zap_request(curve_request(std::string(size, 'k')), policy).status_code == "500");
    }
  }

  TEST_CASE("an insecure policy believes a device name and lets no CURVE in") {
    const ZapPolicy policy{.insecure = true};
    CHECK(decide_zap_request(plain_request("cam-1"), policy).user_id == "cam-1");
    CHECK(decide_zap_request(plain_request("cam-1"), policy).status_code == "200");
    CHECK(decide_zap_request(plain_request(""), policy).status_code == "400");
    CHECK(decide_zap_request(plain_request(std::string(65, 'x')), policy).status_code == "400");
    CHECK(decide_zap_request(plain_request("a\nb"), policy).status_code == "400");
    CHECK(decide_zap_request(curve_request(std::string(32, 'k')), policy).status_code == "400");
  }

  TEST_CASE("a refused key is logged at most once a second") {
    RefusalLog log;
    const RefusalLog::TimePoint start{};
    CHECK(log.admit("a", start));
    CHECK_FALSE(log.admit("a", start));
    CHECK_FALSE(log.admit("a", start + std::chrono::milliseconds(999)));
    CHECK(log.admit("b", start + std::chrono::milliseconds(999)));
    CHECK(log.admit("a", start + std::chrono::milliseconds(1000)));
    CHECK_FALSE(log.admit("b", start + std::chrono::milliseconds(1000)));
    CHECK(log.size() == 2);
  }

  TEST_CASE("a flood of keys neither fills the memory nor the log") {
    RefusalLog log;
    const RefusalLog::TimePoint start{};
    size_t admitted = 0;
    for (int i = 0; i < 5000; ++i) admitted += log.admit(std::to_string(i), start) ? 1 : 0;
    CHECK(admitted == RefusalLog::kMaxKeys);
    CHECK(log.size() == RefusalLog::kMaxKeys);
    CHECK(log.admit("later", start + RefusalLog::kPause));
    CHECK(log.size() == 1);
  }

  TEST_CASE("who was let in is told by address and time, and the log of it is bounded") {
    AdmissionLog log;
    const AdmissionLog::TimePoint start{};
    const auto at = [&](int ms) { return start + std::chrono::milliseconds(ms); };
    log.add("192.0.2.1", "cam-2", at(10));
    log.add("192.0.2.1", "cam-1", at(20));
    log.add("192.0.2.9", "cam-3", at(20));
    log.add("192.0.2.1", "cam-2", at(20));
    using Names = std::vector<std::string>;
    CHECK(log.names("192.0.2.1", at(10), at(20)) == Names{"cam-1", "cam-2"});
    CHECK(log.names("192.0.2.1", at(11), at(19)).empty());
    CHECK(log.names("192.0.2.1", at(0), at(10)) == Names{"cam-2"});
    CHECK(log.names("192.0.2.7", at(0), at(100)).empty());
    for (int i = 0; i < 256; ++i) log.add("192.0.2.1", "flood", at(30));
    CHECK(log.names("192.0.2.1", at(0), at(100)) == Names{"flood"});
  }

  TEST_CASE("who has to be cut off again and again is kept out longer and longer") {
    Suspensions suspensions;
    const Suspensions::TimePoint start = Suspensions::TimePoint() + std::chrono::hours(1);
    auto now = start;
    CHECK_FALSE(suspensions.is_suspended("cam-1", now));
    for (const int seconds : {1, 2, 4, 8, 16, 32, 60, 60}) {
      CHECK(suspensions.suspend("cam-1", now).count() == seconds);
      // A second connection that is cut off meanwhile changes nothing.
      CHECK(suspensions.suspend("cam-1", now).count() == seconds);
      CHECK(suspensions.is_suspended("cam-1", now + std::chrono::milliseconds(1000 * seconds - 1)));
      CHECK_FALSE(suspensions.is_suspended("cam-2", now));
      now += std::chrono::seconds(seconds);
      CHECK_FALSE(suspensions.is_suspended("cam-1", now));
    }
    CHECK(suspensions.suspend("cam-1", now + std::chrono::minutes(11)).count() == 1);
  }

  TEST_CASE("a suspended device is refused for now, the others are not") {
    const KeyPair keys[] = {generate_key_pair(), generate_key_pair()};
    zmq::context_t context;
    const auto handler = ZapAuthenticator::start(
        context, {.devices = {{keys[0].public_key, {"cam-1"}}, {keys[1].public_key, {"cam-2"}}}});
    REQUIRE(handler);
    zmq::socket_t socket(context, zmq::socket_type::req);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::rcvtimeo, 10000);
    socket.connect("inproc://zeromq.zap.01");
    CHECK((*handler)->suspend("cam-1").count() == 1);
    const auto reply = ask(socket, curve_request(raw_key(keys[0].public_key)));
    CHECK(reply.at(2) == "300");
    CHECK(reply.at(4) == "");
    CHECK(reply.at(5) == "");
    CHECK(ask(socket, curve_request(raw_key(keys[1].public_key))).at(2) == "200");
  }

  TEST_CASE("a replaced list decides what comes after it, and the answer carries the key") {
    const KeyPair before = generate_key_pair();
    const KeyPair after = generate_key_pair();
    zmq::context_t context;
    const auto handler = ZapAuthenticator::start(context, {.devices = {{before.public_key, {"cam-1"}}}});
    REQUIRE(handler);
    zmq::socket_t socket(context, zmq::socket_type::req);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::rcvtimeo, 10000);
    socket.connect("inproc://zeromq.zap.01");
    const auto status_of = [&](const KeyPair& keys) {
      return ask(socket, curve_request(raw_key(keys.public_key))).at(2);
    };
    CHECK(status_of(before) == "200");
    CHECK(status_of(after) == "400");
    (*handler)->set_devices({{after.public_key, {"cam-1"}}});
    CHECK(status_of(before) == "400");
    const auto reply = ask(socket, curve_request(raw_key(after.public_key)));
    CHECK(reply.at(2) == "200");
    CHECK(reply.at(4) == "cam-1");
    CHECK(reply.at(5) == "\x05X-Key" + std::string("\0\0\0\x28", 4) + after.public_key);
  }

  TEST_CASE("the handler answers every request and survives nonsense") {
    const KeyPair keys = generate_key_pair();
    zmq::context_t context;
    const auto handler = ZapAuthenticator::start(context, {.devices = {{keys.public_key, {"cam-1"}}}});
    REQUIRE(handler);
    zmq::socket_t socket(context, zmq::socket_type::req);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::rcvtimeo, 10000);
    socket.connect("inproc://zeromq.zap.01");
    const std::vector<std::vector<std::string>> nonsense{{""},
                                                         {"1.0"},
                                                         {"", "", "", "", "", "", "", ""},
                                                         std::vector<std::string>(1000, "x"),
                                                         {std::string(100000, '\0')}};
    for (const auto& request : nonsense) {
      const auto reply = ask(socket, request);
      REQUIRE(reply.size() == 6);
      CHECK(reply[0] == "1.0");
      CHECK(reply[2] == "500");
      CHECK(reply[4] == "");
    }
    const auto reply = ask(socket, curve_request(raw_key(keys.public_key)));
    REQUIRE(reply.size() == 6);
    CHECK(reply[1] == "7");
    CHECK(reply[2] == "200");
    CHECK(reply[4] == "cam-1");
  }

  TEST_CASE("a context has one handler") {
    zmq::context_t context;
    const auto first = ZapAuthenticator::start(context, {});
    REQUIRE(first);
    const auto second = ZapAuthenticator::start(context, {});
    REQUIRE_FALSE(second);
    CHECK(second.error().code == ErrorCode::kNetwork);
    CHECK(second.error().message == "cannot bind the ZAP handler: Address already in use");
  }
}

}  // namespace tandem
