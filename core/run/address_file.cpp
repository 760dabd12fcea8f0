#include "tandem/core/run/address_file.h"

#include <algorithm>
#include <string_view>
#include <system_error>

#include "tandem/core/storage/atomic_file.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kLongestAddress = 512;

/// "tcp://127.0.0.1:5555" or "127.0.0.1:9100", as a line.
bool is_address(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  const size_t colon = text.rfind(':');
  const std::string_view port = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  return !port.empty() && std::all_of(port.begin(), port.end(), is_digit) &&
         std::none_of(text.begin(), text.end(), is_space);
}

bool may_be_replaced(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (!fs::exists(status)) return true;
  if (!fs::is_regular_file(status) || fs::file_size(path, error) > kLongestAddress || error) return false;
  const auto text = read_file(path);
  return text && (text->empty() || is_address(*text));
}

}  // namespace

Result<void> write_address_file(const std::string& flag, const fs::path& path, const std::string& address) {
  if (!may_be_replaced(path)) {
    return Error{
        ErrorCode::kInvalidArgument,
        flag + " " + path.string() +
            ": there is a file that holds no address, and it is not overwritten; choose another name or "
            "move it away"};
  }
  return write_file_atomically(path, {address, "\n"});
}

}  // namespace tandem
