#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <string_view>
#include <utility>

#include "tandem/core/run/foreign_lines_detail.h"

namespace tandem::detail {
namespace {

constexpr std::array kCrashes = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
constexpr size_t kLongestLine = size_t{64} << 10;
constexpr int kTimeForTheReader = 100;  // milliseconds

std::atomic<int> g_real{-1};
std::atomic<int> g_pipe{-1};

/// The last words of a program that dies, such as libstdc++'s about an exception, are still in the pipe: the
/// reader gets a moment, then the rest goes out as it is. Only calls that a signal handler may make;
/// afterwards the signal ends the program as if nobody had asked for it.
void hand_through(int) {
  const int real = g_real.load();
  pollfd waiting{g_pipe.load(), POLLIN, 0};
  if (real < 0) return;
  poll(nullptr, 0, kTimeForTheReader);
  std::array<char, 4096> buffer;
  while (poll(&waiting, 1, 0) > 0 && (waiting.revents & POLLIN) != 0) {
    const ssize_t count = read(waiting.fd, buffer.data(), buffer.size());
    if (count <= 0 || write(real, buffer.data(), static_cast<size_t>(count)) < 0) return;
  }
}

void catch_crashes() {
  struct sigaction action = {};
  action.sa_handler = hand_through;
  action.sa_flags = SA_RESETHAND;
  for (const int crash : kCrashes) {
    struct sigaction present = {};
    // Whoever handles it already, a sanitizer for instance, keeps it.
    if (sigaction(crash, nullptr, &present) == 0 && present.sa_handler == SIG_DFL) {
      sigaction(crash, &action, nullptr);
    }
  }
}

}  // namespace

ForeignLines::ForeignLines(std::function<void(const std::string&)> on_line) : on_line_(std::move(on_line)) {
  std::array<int, 2> ends{};
  real_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  if (real_ < 0 || pipe2(ends.data(), O_CLOEXEC) != 0) return;
  pipe_ = ends[0];
  dup2(ends[1], STDERR_FILENO);
  close(ends[1]);
  g_real = real_;
  g_pipe = pipe_;
  catch_crashes();
  reader_ = std::thread([this] { read_lines(); });
}

ForeignLines::~ForeignLines() {
  if (pipe_ >= 0) {
    dup2(real_, STDERR_FILENO);  // the writing end is gone: the reader finds the end
    reader_.join();
    g_real = -1;
    g_pipe = -1;
    close(pipe_);
  }
  if (real_ >= 0) close(real_);
}

int ForeignLines::log_descriptor() {
  const int real = g_real.load(std::memory_order_relaxed);
  return real < 0 ? STDERR_FILENO : real;
}

void ForeignLines::read_lines() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);  // signals are for the program's own threads
  std::string line;
  const auto finish_line = [&] {
    if (!line.empty()) on_line_(line);
    line.clear();
  };
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t count = read(pipe_, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    for (const char c : std::string_view(buffer.data(), static_cast<size_t>(count))) {
      if (c != '\n') line += c;
      if (c == '\n' || line.size() >= kLongestLine) finish_line();
    }
  }
  finish_line();
}

}  // namespace tandem::detail
