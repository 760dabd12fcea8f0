// Requests to the authenticator: [mode: 1 insecure] then parts, each behind its length as a byte.
#include <string>
#include <vector>

#include "fuzz/support.h"
#include "tandem/core/transport/zap_authenticator.h"

using namespace tandem;
using tandem::fuzz::Input;
using tandem::fuzz::require;

namespace {

// Any key of the right form: 32 bytes of 0x01 to 0x20 in Z85.
constexpr const char* kListed = "0rJua1Qkhq2)}4G4gS)W5Ft->6=4P585:Cl9uDpB";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const ZapPolicy policy{.devices = {{kListed, {"cam-1"}}}, .insecure = input.byte() % 2 == 1};
  std::vector<std::string> request;
  while (!input.rest().empty()) {
    const size_t length = input.byte();
    request.emplace_back(input.take(length));
  }
  const ZapDecision decision = decide_zap_request(request, policy);
  const bool enters = decision.status_code == "200";
  require(enters || decision.status_code == "400" || decision.status_code == "500",
          "a status is 200, 400 or 500");
  require(enters == !decision.user_id.empty(), "who enters has a name, and nobody else");
  require(!enters || policy.insecure || decision.user_id == "cam-1", "only listed keys enter");
  require(!enters || is_device_name(decision.user_id), "the name is a device name");
  return 0;
}
