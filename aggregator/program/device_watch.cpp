#include "tandem/aggregator/program/device_watch.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

namespace tandem::aggregator {
namespace {

/// Differs from any before when the file was written or replaced. All zero: there is none.
using Stamp = std::tuple<uint64_t, uint64_t, int64_t, int64_t, int64_t>;

Stamp stamp_of(const std::filesystem::path& file) {
  struct stat status {};
  if (stat(file.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

/// The names of `devices` whose key `others` does not list under the same name.
std::string names_missing_in(const DeviceList& others, const DeviceList& devices) {
  std::string names;
  for (const auto& [key, client] : devices) {
    const auto found = others.find(key);
    if (found == others.end() || found->second != client) names += (names.empty() ? "" : ", ") + client.name;
  }
  return names;
}

}  // namespace

struct DeviceWatch::Impl {
  void run();
  void look();

  std::filesystem::path file;
  DeviceList devices;
  Apply apply;
  std::chrono::milliseconds interval;
  std::optional<Stamp> seen;
  std::mutex mutex;
  std::condition_variable stopped;
  bool stopping = false;  // guarded by mutex
  std::thread thread;
};

void DeviceWatch::Impl::run() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);  // signals are for the program's own threads
  std::unique_lock lock(mutex);
  do {
    lock.unlock();
    try {
      look();
    } catch (const std::exception& error) {
      spdlog::error("watching {} failed: {}", file.string(), error.what());
    }
    lock.lock();
  } while (!stopped.wait_for(lock, interval, [&] { return stopping; }));
}

void DeviceWatch::Impl::look() {
  const Stamp stamp = stamp_of(file);
  if (seen == stamp) return;
  seen = stamp;  // read after: a change in between is seen at the next look
  auto loaded = load_device_list(file);
  if (!loaded) {
    spdlog::warn("the device list stays as it was: {}", loaded.error().message);
    return;
  }
  if (*loaded == devices) return;
  const std::string added = names_missing_in(devices, *loaded);
  const std::string revoked = names_missing_in(*loaded, devices);
  if (!revoked.empty()) spdlog::info("devices revoked: {}", revoked);
  if (!added.empty()) spdlog::info("devices added: {}", added);
  devices = *loaded;
  apply(std::move(*loaded));
}

DeviceWatch::DeviceWatch(std::filesystem::path file, DeviceList devices, Apply apply,
                         std::chrono::milliseconds interval)
    : impl_(std::make_unique<Impl>()) {
  impl_->file = std::move(file);
  impl_->devices = std::move(devices);
  impl_->apply = std::move(apply);
  impl_->interval = interval;
  impl_->thread = std::thread(&Impl::run, impl_.get());
}

DeviceWatch::~DeviceWatch() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->stopped.notify_all();
  impl_->thread.join();
}

}  // namespace tandem::aggregator
