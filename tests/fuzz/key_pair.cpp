// Key files: the file as it is.

#include "fuzz/support.h"
#include "tandem/core/transport/keys.h"

using namespace tandem;
using tandem::fuzz::require;
using tandem::fuzz::scratch;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = scratch().write("edge.key", {reinterpret_cast<const char*>(data), size});
  std::filesystem::permissions(file,
                               std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const auto keys = load_key_pair(file);
  if (!keys) {
    const std::string& text = keys.error().message;
    require(text.starts_with(file.string()), "an error names the file");
    // A mistake in a key file is shown to people and logs: nothing of the secret may go along.
    require(text.size() < file.string().size() + 100, "an error does not quote a key file");
    return 0;
  }
  require(is_z85_key(keys->public_key) && is_z85_key(keys->secret_key), "a pair that was read is two keys");
  return 0;
}
