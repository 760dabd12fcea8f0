#include "tandem/core/profiling/allocation_meter.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>

namespace tandem {
namespace {

/// What LibTorch's own memory profiler hooks into.
class Counter final : public c10::MemoryReportingInfoBase {
 public:
  // The totals are int64_t in LibTorch 1.13 and size_t in 2.6: one of the two overrides.
  void reportMemoryUsage(void*, int64_t alloc_size, int64_t, int64_t, c10::Device device) {
    count(alloc_size, device);
  }
  void reportMemoryUsage(void*, int64_t alloc_size, size_t, size_t, c10::Device device) {
    count(alloc_size, device);
  }
  bool memoryProfilingEnabled() const override { return true; }

  int64_t held() const { return held_; }
  int64_t peak() const { return peak_; }

 private:
  void count(int64_t alloc_size, c10::Device device) {
    if (!device.is_cpu()) return;
    held_ += alloc_size;  // negative when memory is freed
    peak_ = std::max(peak_, held_);
  }

  int64_t held_ = 0;
  int64_t peak_ = 0;
};

}  // namespace

struct AllocationMeter::Impl {
  std::shared_ptr<Counter> counter = std::make_shared<Counter>();
  c10::DebugInfoGuard guard{c10::DebugInfoKind::PROFILER_STATE, counter};
};

AllocationMeter::AllocationMeter() : impl_(std::make_unique<Impl>()) {}

AllocationMeter::~AllocationMeter() = default;

int64_t AllocationMeter::held() const {
  return impl_->counter->held();
}

int64_t AllocationMeter::peak() const {
  return impl_->counter->peak();
}

}  // namespace tandem
