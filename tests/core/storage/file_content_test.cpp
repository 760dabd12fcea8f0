#include "tandem/core/storage/file_content.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/storage/storage_support.h"
#include "support/test.h"
#include "tandem/core/storage/safetensors.h"

namespace {

using namespace tandem;

std::string bytes(const char* text, size_t size) {
  return {text, size};
}

std::string what_is(const std::string& content) {
  const auto recognized = recognize_content(content);
  if (recognized) CHECK_FALSE(recognized->advice.empty());
  return recognized ? recognized->what : "unknown";
}

}  // namespace

TEST_SUITE("core/storage/file_content") {
  TEST_CASE("files are called by what they hold") {
    const std::string torch_save = "a PyTorch file as torch.save writes it (a zip archive with a pickle)";
    const std::vector<std::pair<std::string, std::string>> files = {
        {"", "an empty file"},
        {"<!DOCTYPE html>\n<html>", "an HTML page"},
        {"\xEF\xBB\xBF \n<HTML lang=en><head>", "an HTML page"},
        {"<!-- 404 --><html><head></head></html>", "an HTML page"},
        {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "an XML document"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"},
        {"{\"error\": \"Repository not found\"}", "a JSON text"},
        {"404: Not Found, really\r\nmore", "a text that begins with \"404: Not Found, really\""},
        {bytes("\x1f\x8b\x08\0\0\0\0\0", 8), "gzip data"},
        {bytes("PK\3\4\x14\0\0\0\0\0\0\0archive/data.pkl", 28), torch_save},
        {bytes("PK\3\4\x14\0\0\0\0\0\0\0arr_0.npy", 21), "a NumPy archive (.npz)"},
        {bytes("PK\3\4\x14\0\0\0\0\0\0\0readme.txt", 22), "a zip archive"},
        {bytes("\x80\x02\x8a\nl\xfc\x9c\x46", 8), "a Python pickle"},
        {bytes("\x80\x04\x95\0\0\0", 6), "a Python pickle"},
        {bytes("\x93NUMPY\1\0v\0", 10), "a NumPy array (.npy)"},
        {"\x89PNG\r\n\x1a\n", "a PNG image"},
        {"\x89HDF\r\n\x1a\n", "an HDF5 file"},
        {bytes("\0\0\x08\x03\0\0\0\1", 8), "an IDX file"},
        {"TNDMSEAL then anything \x01", "a sealed checkpoint"},
        {serialize_safetensors({}), "a safetensors file"},
        {std::string(100, '\xff').replace(50, 1, 1, '\0'), "unknown"},
        {"short", "unknown"},
        {bytes("\x12\x34\x56\x78", 4), "unknown"},
    };
    for (const auto& [content, expected] : files) {
      CAPTURE(expected);
      CHECK(what_is(content) == expected);
    }
  }

  TEST_CASE("a tar archive is known by what comes after its first name") {
    std::string archive(512, '\0');
    archive.replace(257, 5, "ustar");
    CHECK(what_is(archive) == "a tar archive");
  }

  TEST_CASE("any beginning of any file is looked at without harm") {
    const std::string page = "PK\3\4 version https://git-lfs.github.com/spec/v1 <html> ustar";
    for (size_t size = 0; size <= page.size(); ++size) {
      for (size_t from = 0; from + size <= page.size(); ++from) recognize_content(page.substr(from, size));
    }
    // What a text holds cannot end the line of a message or colour a terminal.
    const auto text = recognize_content("ordinary words \x1b[31m red\tand more");
    CHECK_FALSE(text.has_value());
    CHECK(what_is("words in UTF-8 \xC3\xA9 here") == "a text that begins with \"words in UTF-8 ?? here\"");
  }

  TEST_CASE("a link to nothing is told from a link to a file and from nothing") {
    const TemporaryDirectory directory;
    namespace fs = std::filesystem;
    fs::create_symlink("there", directory.path() / "link");
    CHECK(dangling_link(directory.path() / "link") == "is a link to there, which does not exist");
    fs::create_directory(directory.path() / "there");
    CHECK_FALSE(dangling_link(directory.path() / "link").has_value());
    CHECK_FALSE(dangling_link(directory.path() / "none").has_value());
  }
}
