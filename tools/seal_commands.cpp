#include <cstdio>
#include <filesystem>
#include <string>

#include "tandem/core/program/flags.h"
#include "tandem/core/program/program.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/seal.h"
#include "tandem/tools/commands.h"

namespace tandem::tools {
namespace {

namespace fs = std::filesystem;

Result<int> make_key(const fs::path& out) {
  if (auto saved = save_seal_key(out, generate_seal_key()); !saved) return saved.error();
  std::printf("seal key: %s\nKeep a copy elsewhere: without it no checkpoint that it sealed can be read.\n",
              out.c_str());
  return kExitDone;
}

/// Into a file that only its owner can read: what was worth sealing is worth that.
Result<int> open_file(const fs::path& key_file, const fs::path& in, const fs::path& out) {
  if (key_file.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--seal-key is missing: give the key file that " + in.string() + " was sealed with"};
  }
  const auto key = load_seal_key(key_file);
  if (!key) return key.error();
  const auto sealed = read_file(in);
  if (!sealed) return sealed.error();
  const auto context = sealed_context(*sealed);
  if (!context) return Error{context.error().code, in.string() + ": " + context.error().message};
  const auto plain = unseal(*key, *context, *sealed);
  if (!plain) return Error{plain.error().code, in.string() + ": " + plain.error().message};
  if (auto written = write_new_file(out, {*plain}, kSecretMode); !written) return written.error();
  std::printf("%s: %s\n", context->c_str(), out.c_str());
  return kExitDone;
}

}  // namespace

int seal_key_command(int argc, const char* const* argv) {
  Flags flags("tandem seal-key", "Makes a key that seals checkpoints; both programs take it as --seal-key.");
  fs::path out = "seal.key";
  flags.add_path("out", out, "File for the key, which must not exist yet");
  if (const auto status = flags.parse(argc, argv)) return *status;
  return run_program("tandem seal-key", 1, [&] { return make_key(out); });
}

int unseal_command(int argc, const char* const* argv) {
  Flags flags("tandem unseal", "Writes a sealed checkpoint as the safetensors file that it holds.");
  fs::path key_file;
  fs::path in;
  fs::path out;
  flags.add_path("seal-key", key_file, "The key file it was sealed with");
  flags.add_positional("in", in, "A sealed checkpoint");
  flags.add_positional("out", out, "File to write, which must not exist yet; readable by its owner only");
  if (const auto status = flags.parse(argc, argv)) return *status;
  return run_program("tandem unseal", 1, [&] { return open_file(key_file, in, out); });
}

}  // namespace tandem::tools
