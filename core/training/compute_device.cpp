#include "tandem/core/training/compute_device.h"

#include <malloc.h>
#include <torch/torch.h>

#include <algorithm>
#include <fstream>
#include <thread>

namespace tandem {

Result<at::Device> parse_device(const std::string& text) {
  if (text == "cpu") return at::Device(at::kCPU);
  if (text != "cuda" && !text.starts_with("cuda:")) {
    return Error{ErrorCode::kInvalidArgument, "--device is \"" + text + "\", expected cpu, cuda or cuda:N"};
  }
  if (!torch::hasCUDA()) {
    return Error{ErrorCode::kUnsupported, "--device " + text +
                                              ": this LibTorch was built without CUDA or finds no GPU; use "
                                              "--device cpu, or build against a LibTorch with CUDA"};
  }
  try {
    const at::Device device(text);
    const auto count = static_cast<int>(torch::cuda::device_count());
    if (device.has_index() && device.index() >= count) {
      return Error{ErrorCode::kInvalidArgument, "--device " + text + ": this machine has " +
                                                    std::to_string(count) +
                                                    " CUDA device(s), numbered from 0"};
    }
    return device;
  } catch (const c10::Error&) {
    return Error{ErrorCode::kInvalidArgument,
                 "--device is \"" + text + "\", expected cuda:N with a number N"};
  }
}

int configure_compute_thread(int threads) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int count = threads > 0 ? threads : std::max(1, cores);
  // The first parallel operation of a thread takes over the process-wide count; this makes it happen now.
  (void)at::get_num_threads();
  at::set_num_threads(count);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  return count;
}

std::string loaded_blas(bool& slow) {
  slow = false;
  std::ifstream maps("/proc/self/maps");
  std::string line;
  std::string found = "unknown";
  while (std::getline(maps, line)) {
    const size_t path = line.find('/');
    if (path == std::string::npos || line.find("blas", path) == std::string::npos) continue;
    found = line.substr(path);
    if (found.find("openblas") != std::string::npos || found.find("mkl") != std::string::npos) return found;
    slow = found.find("/blas/libblas") != std::string::npos;
  }
  return found;
}

std::string describe_compute() {
  bool slow = false;
  return std::to_string(at::get_num_threads()) + " intra-op thread(s), BLAS " + loaded_blas(slow);
}

}  // namespace tandem
