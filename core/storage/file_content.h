#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace tandem {

/// What a file holds, as its first bytes tell.
struct FileContent {
  std::string what;    ///< "an HTML page"
  std::string advice;  ///< what to do to get the file that was meant
};

/// How many bytes of a file `recognize_content` looks at.
inline constexpr size_t kRecognizedBytes = 512;

/// Recognizes what people have in place of a data or model file: a saved web page, a Git LFS pointer, an
/// archive, a pickle, an image, a text, nothing at all. nullopt for bytes that look like none of these. For
/// the message about a file that could not be read as what it should be; it never decides how a file is read.
std::optional<FileContent> recognize_content(std::string_view beginning);

/// Whether the bytes begin like a safetensors file: an 8-byte header length and a JSON object.
bool is_safetensors(std::string_view beginning);

/// "is an HTML page, not WANTED; ADVICE", or nothing where the content is not recognized. `wanted` with its
/// article.
std::optional<std::string> wrong_content(std::string_view beginning, const std::string& wanted);

/// "is a link to TARGET, which does not exist", or nothing where `path` is no such link.
std::optional<std::string> dangling_link(const std::filesystem::path& path);

}  // namespace tandem
