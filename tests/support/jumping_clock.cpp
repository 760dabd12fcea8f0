// A library to preload (LD_PRELOAD): the program's clock of the day jumps by up to two days, forth and back,
// every few readings. Clocks that count from the machine's start go on as they do.
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <ctime>

namespace {

constexpr uint32_t kReadingsOfAJump = 3;

int64_t jump_seconds() {
  static std::atomic<uint32_t> readings{0};
  const uint32_t jump = readings.fetch_add(1, std::memory_order_relaxed) / kReadingsOfAJump;
  const uint32_t mixed = jump * 2654435761U >> 16;  // Knuth's multiplicative hash
  return (static_cast<int64_t>(mixed % 97) - 48) * 3600;
}

timespec now() {
  timespec time{};
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &time);
  time.tv_sec += jump_seconds();
  return time;
}

}  // namespace

// Declared by the system's headers with other attributes, so they are defined under names of their own.
extern "C" {

int jumping_clock_gettime(clockid_t clock, timespec* time) __asm__("clock_gettime");
int jumping_clock_gettime(clockid_t clock, timespec* time) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) {
    return static_cast<int>(syscall(SYS_clock_gettime, clock, time));
  }
  *time = now();
  return 0;
}

int jumping_gettimeofday(timeval* time, void*) __asm__("gettimeofday");
int jumping_gettimeofday(timeval* time, void*) {
  const timespec exact = now();
  *time = {exact.tv_sec, exact.tv_nsec / 1000};
  return 0;
}

time_t jumping_time(time_t* time) __asm__("time");
time_t jumping_time(time_t* time) {
  const time_t seconds = now().tv_sec;
  if (time != nullptr) *time = seconds;
  return seconds;
}
}
