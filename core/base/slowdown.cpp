#include "tandem/core/base/slowdown.h"

#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>

namespace tandem {
namespace {

std::atomic<double> factor_of_all{1};

int64_t thread_time_ns() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

void set_slowdown(double factor) {
  factor_of_all = factor;
}

double slowdown() {
  return factor_of_all;
}

SlowedWork::SlowedWork() {
  if (slowdown() > 1) begun_ns_ = thread_time_ns();
}

SlowedWork::~SlowedWork() {
  const double factor = slowdown();
  if (factor <= 1) return;
  const auto took = static_cast<double>(thread_time_ns() - begun_ns_);
  std::this_thread::sleep_for(std::chrono::nanoseconds(static_cast<int64_t>(took * (factor - 1))));
}

}  // namespace tandem
