// Device lists: the file as it is.

#include "fuzz/support.h"
#include "tandem/core/transport/keys.h"

using namespace tandem;
using tandem::fuzz::require;
using tandem::fuzz::scratch;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = scratch().write("devices.toml", {reinterpret_cast<const char*>(data), size});
  const auto devices = load_device_list(file);
  if (!devices) {
    require(devices.error().message.starts_with(file.string()), "an error names the file");
    return 0;
  }
  for (const auto& [key, client] : *devices) {
    require(is_z85_key(key) && is_device_name(client.name), "what is listed is a key and a name");
  }
  const auto copy = scratch().path() / "copy.toml";
  require(save_device_list(copy, *devices).has_value(), "a list that was read can be saved");
  const auto again = load_device_list(copy);
  require(again.has_value() && *again == *devices, "a list is read as it was saved");
  return 0;
}
