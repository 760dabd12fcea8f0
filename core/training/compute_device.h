#pragma once

#include <string>

#include <c10/core/Device.h>

#include "tandem/core/base/result.h"

namespace tandem {

/// "cpu", "cuda" or "cuda:N". kInvalidArgument for another word, kUnsupported where this LibTorch or this
/// machine has no such device, and says which of the two.
Result<at::Device> parse_device(const std::string& text);

/// Returns the thread count of `--threads 0`: OMP_NUM_THREADS where it is set, else one less than the cores
/// that this process may use, at least 1. The last core is for the threads that prepare batches and encrypt,
/// and for other programs: a parallel operation takes as long as its slowest thread, so one thread that shares
/// its core costs more than a core less does.
int automatic_threads();

/// Sets the intra-op thread count of the calling thread (OpenMP keeps it per thread) and the allocator's
/// thresholds, without which glibc maps every large tensor anew. 0 is `automatic_threads()`. Returns the
/// count.
int configure_compute_thread(int threads);

/// The BLAS library this process has loaded, for example "libblas.so.3 -> .../openblas-openmp/libblas.so.3";
/// "unknown" where /proc is not there. `slow` is set for the reference implementation.
std::string loaded_blas(bool& slow);

/// What this process computes with, for a person and the record: threads of the calling thread, the cores it
/// may use, and the BLAS.
std::string describe_compute();

}  // namespace tandem
