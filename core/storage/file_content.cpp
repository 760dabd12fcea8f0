#include "tandem/core/storage/file_content.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <system_error>

namespace tandem {
namespace {

using std::string_view_literals::operator""sv;

constexpr const char* kFetchAgain =
    "the server sent it in place of the file: check the address and fetch it again";
constexpr const char* kUnpack = "unpack it first";
constexpr const char* kConvert =
    "a pickle can execute code and is not read; convert it where it comes from, for example with Python's "
    "safetensors.torch.save_file(torch.load(FILE, weights_only=True), OUT)";
constexpr const char* kOtherFile = "give the file that was meant";

/// Bytes that begin a file of one kind.
struct Signature {
  std::string_view bytes;
  const char* what;
  const char* advice;
  size_t at = 0;
};

constexpr Signature kSignatures[] = {
    {"version https://git-lfs.github.com/spec/"sv, "a Git LFS pointer",
     "it only stands for the file: fetch the file itself, for example with git lfs pull"},
    {"\x1f\x8b\x08"sv, "gzip data", kUnpack},
    {"BZh"sv, "bzip2 data", kUnpack},
    {"\xfd"
     "7zXZ\0"sv,
     "xz data", kUnpack},
    {"\x28\xb5\x2f\xfd"sv, "zstd data", kUnpack},
    {"7z\xbc\xaf\x27\x1c"sv, "a 7z archive", kUnpack},
    {"Rar!\x1a\x07"sv, "a RAR archive", kUnpack},
    {"ustar"sv, "a tar archive", kUnpack, 257},
    {"\x93NUMPY"sv, "a NumPy array (.npy)", "convert it first"},
    {"\x89HDF\r\n\x1a\n"sv, "an HDF5 file", "convert it first"},
    {"\x89PNG\r\n\x1a\n"sv, "a PNG image", kOtherFile},
    {"\xff\xd8\xff"sv, "a JPEG image", kOtherFile},
    {"GIF8"sv, "a GIF image", kOtherFile},
    {"%PDF-"sv, "a PDF document", kOtherFile},
    {"PAR1"sv, "a Parquet file", "convert it first"},
    {"GGUF"sv, "a GGUF model", "convert it first"},
    {"TFL3"sv, "a TensorFlow Lite model", "convert it first", 4},
    {"\x7f"
     "ELF"sv,
     "a program", kOtherFile},
    {"TNDMSEAL"sv, "a sealed checkpoint", "tandem unseal writes the safetensors file that it holds"},
};

bool has_at(std::string_view text, size_t at, std::string_view bytes) {
  return text.size() >= at && text.substr(at).starts_with(bytes);
}

bool contains(std::string_view text, std::string_view piece) {
  return text.find(piece) != std::string_view::npos;
}

bool is_idx(std::string_view bytes) {
  return bytes.size() >= 4 && bytes.starts_with("\0\0"sv) && bytes[2] >= 0x08 && bytes[2] <= 0x0E &&
         bytes[3] >= 1 && bytes[3] <= 4;
}

/// torch.save and numpy.savez write zip archives; the names of their first members tell.
FileContent zip_content(std::string_view bytes) {
  if (contains(bytes, "data.pkl") || contains(bytes, ".format_version")) {
    return {"a PyTorch file as torch.save writes it (a zip archive with a pickle)", kConvert};
  }
  if (contains(bytes, ".npy")) return {"a NumPy archive (.npz)", "convert it first"};
  return {"a zip archive", kUnpack};
}

/// Protocols 2 to 5 begin with their number; torch.save before 1.6 wrote such a pickle first.
bool is_pickle(std::string_view bytes) {
  return bytes.size() >= 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5;
}

bool is_text(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) {
    return c >= 0x80 || std::isprint(c) != 0 || std::isspace(c) != 0;
  });
}

std::string_view without_leading_space(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // UTF-8's byte order mark
  const auto first =
      std::find_if(text.begin(), text.end(), [](unsigned char c) { return std::isspace(c) == 0; });
  return text.substr(static_cast<size_t>(first - text.begin()));
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

FileContent text_content(std::string_view text) {
  const std::string_view begins = without_leading_space(text);
  const std::string lower = lower_case(begins);
  if (lower.starts_with("<!doctype html") || lower.starts_with("<html") || contains(lower, "<html")) {
    return {"an HTML page", kFetchAgain};
  }
  if (lower.starts_with("<?xml") || lower.starts_with("<error")) return {"an XML document", kFetchAgain};
  if (begins.starts_with('{') || begins.starts_with('[')) {
    return {"a JSON text", contains(begins, "\"weight_map\"")
                               ? "it lists the files that hold the tensors: join them into one file first"
                               : "an error of the server or a configuration; give the file that was meant"};
  }
  std::string line(begins.substr(0, std::min(begins.find_first_of("\r\n"), size_t{60})));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) >= 0x80 || std::isprint(static_cast<unsigned char>(c)) == 0) c = '?';
  }
  return {"a text that begins with \"" + line + "\"", kOtherFile};
}

}  // namespace

bool is_safetensors(std::string_view beginning) {
  return has_at(beginning, 6, "\0\0{"sv);
}

std::optional<FileContent> recognize_content(std::string_view beginning) {
  const std::string_view bytes = beginning.substr(0, kRecognizedBytes);
  if (bytes.empty()) return FileContent{"an empty file", "fetch it again"};
  if (is_safetensors(bytes)) return FileContent{"a safetensors file", kOtherFile};
  if (is_idx(bytes)) return FileContent{"an IDX file", kOtherFile};
  for (const Signature& signature : kSignatures) {
    if (has_at(bytes, signature.at, signature.bytes)) return FileContent{signature.what, signature.advice};
  }
  if (bytes.starts_with("PK\x03\x04"sv) || bytes.starts_with("PK\x05\x06"sv)) return zip_content(bytes);
  if (is_pickle(bytes)) return FileContent{"a Python pickle", kConvert};
  // A few printable bytes may be anything.
  if (bytes.size() >= 16 && is_text(bytes)) return text_content(bytes);
  return std::nullopt;
}

std::optional<std::string> wrong_content(std::string_view beginning, const std::string& wanted) {
  const auto content = recognize_content(beginning);
  if (!content) return std::nullopt;
  return "is " + content->what + ", not " + wanted + "; " + content->advice;
}

std::optional<std::string> dangling_link(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (!fs::is_symlink(fs::symlink_status(path, ignored)) || fs::exists(path, ignored)) return std::nullopt;
  if (ignored) return std::nullopt;  // it may exist where this user cannot look
  return "is a link to " + fs::read_symlink(path, ignored).string() + ", which does not exist";
}

}  // namespace tandem
