#include "tandem/core/transport/fault_thread.h"

#include <spdlog/spdlog.h>

#include <exception>
#include <utility>

#include "tandem/core/transport/zmq_detail.h"

namespace tandem {

void FaultThread::announce(const FaultOptions& options) {
  spdlog::warn("--fault: this run disturbs its own messages: {} (seed {})", options.text(), options.seed);
}

void FaultThread::start(std::function<void()> serve, std::function<void()> end) {
  thread_ = std::thread([this, serve = std::move(serve), end = std::move(end)] { run(serve, end); });
}

void FaultThread::run(const std::function<void()>& serve, const std::function<void()>& end) {
  transport_detail::block_signals_on_this_thread();
  try {
    serve();
  } catch (const std::exception& error) {
    spdlog::critical("the thread that disturbs messages stopped: {}", error.what());
  }
  end();
  publish();
  spdlog::warn("--fault: {}", counts_.text());
  flushed_.set_value();
}

void FaultThread::publish() {
  const std::lock_guard lock(mutex_);
  published_ = counts_;
}

FaultCounts FaultThread::published() const {
  const std::lock_guard lock(mutex_);
  return published_;
}

}  // namespace tandem
