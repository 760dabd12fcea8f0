#pragma once

#include <cstdint>

namespace tandem {

/// Makes what this process computes take `factor` (>= 1) times as long as it does, by waiting: a device that
/// is slower than this machine, for trials. Before anything is computed.
void set_slowdown(double factor);
double slowdown();

/// Work of a device's model. When it ends, its thread waits for slowdown() - 1 times the processor time that
/// it took, so that other programs on the machine do not make a device slower than it was said to be.
class SlowedWork {
 public:
  SlowedWork();
  ~SlowedWork();
  SlowedWork(const SlowedWork&) = delete;
  SlowedWork& operator=(const SlowedWork&) = delete;

 private:
  int64_t begun_ns_ = 0;  // processor time of the thread
};

}  // namespace tandem
