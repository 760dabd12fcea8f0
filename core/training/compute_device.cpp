#include "tandem/core/training/compute_device.h"

#include <malloc.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "tandem/core/base/usable_cores.h"

namespace tandem {
namespace {

/// Whether threads that wait for others take no core (core/program/before_libraries.cpp).
bool waiting_threads_sleep() {
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  return policy != nullptr && std::string(policy).find_first_of("pP") == 0;
}

}  // namespace

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

int automatic_threads() {
  const char* asked = std::getenv("OMP_NUM_THREADS");
  const int count = asked != nullptr ? std::atoi(asked) : 0;
  return count > 0 ? count : std::max(1, usable_cores().count - 1);
}

int configure_compute_thread(int threads) {
  const int count = threads > 0 ? threads : automatic_threads();
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
  const int threads = at::get_num_threads();
  const std::string waiting = waiting_threads_sleep() ? " that sleep" : " that spin";
  return std::to_string(threads) + " intra-op thread(s)" + (threads > 1 ? waiting + " while they wait" : "") +
         ", may use " + to_string(usable_cores()) + ", BLAS " + loaded_blas(slow);
}

}  // namespace tandem
