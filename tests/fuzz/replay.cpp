// replay FOLDER...: one target over the kept inputs of these folders, without libFuzzer. An input that
// breaks a promise ends the program; its name is the last line printed.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "fuzz/support.h"

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> inputs_of(const fs::path& folder) {
  std::vector<fs::path> inputs;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) inputs.push_back(entry.path());
  std::sort(inputs.begin(), inputs.end());
  return inputs;
}

void run(const fs::path& input) {
  std::puts(input.c_str());  // not std::cout, which a target may close
  std::fflush(stdout);
  std::ifstream file(input, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  // Its own block, so that a sanitizer sees the byte behind it.
  const auto copy = std::make_unique<uint8_t[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  LLVMFuzzerTestOneInput(copy.get(), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const fs::path& input : inputs_of(argv[i])) {
      run(input);
      ++count;
    }
  }
  std::printf("%zu inputs\n", count);
  if (count == 0) std::fputs("error: the folders hold no input\n", stderr);
  return count == 0 ? 1 : 0;
}
