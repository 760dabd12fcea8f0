#pragma once

#include <cstdint>
#include <memory>

namespace tandem {

/// Counts the bytes that tensors of the calling thread allocate and free on the CPU, while it lives. The
/// weights of a backward pass count too: it runs on the thread that calls it. Lives on one thread; meters do
/// not nest.
class AllocationMeter {
 public:
  AllocationMeter();
  ~AllocationMeter();
  AllocationMeter(const AllocationMeter&) = delete;
  AllocationMeter& operator=(const AllocationMeter&) = delete;

  /// Bytes that were allocated and are not freed.
  int64_t held() const;
  /// The largest value of `held` so far.
  int64_t peak() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
