#include "tandem/core/run/run_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "tandem/core/run/record_json.h"
#include "tandem/core/run/report.h"
#include "tandem/core/storage/atomic_file.h"

namespace tandem {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr const char* kMetricsName = "metrics.jsonl";

Error io_error(const std::filesystem::path& path, const std::string& action, int error) {
  return {ErrorCode::kIo, "cannot " + action + " " + path.string() + ": " + std::strerror(error)};
}

/// Names and details may hold bytes that are not UTF-8; they become U+FFFD rather than an exception.
std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

struct KeptLines {
  std::string text;
  double seconds = 0;  ///< the time of the last one
};

/// The lines of metrics.jsonl without those that a run which goes on after so many rounds writes again.
KeptLines lines_up_to(const std::string& metrics, uint32_t completed_rounds) {
  KeptLines kept;
  for (size_t begin = 0, end = 0; (end = metrics.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = metrics.substr(begin, end + 1 - begin);
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) continue;
    const std::string event = json.value("event", "");
    const bool comes_again =
        (event == "round" || event == "client") && json.value("round", 0u) > completed_rounds;
    if (comes_again) continue;
    kept.text += line;
    kept.seconds = std::max(kept.seconds, json.value("time", 0.0));
  }
  return kept;
}

}  // namespace

struct RunDirectory::Impl {
  Impl(std::filesystem::path metrics, int descriptor, double already)
      : metrics_path(std::move(metrics)), fd(descriptor), start(Clock::now()), seconds_before(already) {}
  ~Impl() {
    // A run that recorded nothing, because it could not begin, does not occupy its directory.
    if (::lseek(fd, 0, SEEK_END) == 0) ::unlink(metrics_path.c_str());
    ::close(fd);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Result<void> append(Json line);
  Result<void> write_line(const std::string& line);

  const std::filesystem::path metrics_path;
  const int fd;
  const Clock::time_point start;
  const double seconds_before;  // of earlier incarnations
};

Result<void> RunDirectory::Impl::append(Json line) {
  const double seconds = seconds_before + std::chrono::duration<double>(Clock::now() - start).count();
  line["time"] = std::round(seconds * 1000) / 1000;
  return write_line(dump(line, -1));
}

Result<void> RunDirectory::Impl::write_line(const std::string& line) {
  const off_t begin = ::lseek(fd, 0, SEEK_END);
  size_t written = 0;
  while (written < line.size()) {
    const ssize_t count = ::write(fd, line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : ENOSPC;
      // Takes back the half line, so that every line of the file stays an object.
      if (written > 0 && begin >= 0 && ::ftruncate(fd, begin) != 0) {
        return io_error(metrics_path, "take back a half-written line of", errno);
      }
      return io_error(metrics_path, "write", error);
    }
    written += static_cast<size_t>(count);
  }
  return {};
}

Result<RunDirectory> RunDirectory::create(std::filesystem::path path) {
  const std::filesystem::path metrics = path / kMetricsName;
  const Error occupied{ErrorCode::kInvalidArgument, path.string() + " already holds a run (" + kMetricsName +
                                                        "); choose another --run-dir or move it away"};
  std::error_code error;
  if (std::filesystem::exists(metrics, error)) return occupied;
  std::filesystem::create_directories(path, error);
  if (error) return io_error(path, "create", error.value());
  auto opened = open(std::move(path), O_CREAT | O_EXCL, 0);
  if (!opened && errno == EEXIST) return occupied;
  return opened;
}

Result<RunDirectory> RunDirectory::open(std::filesystem::path path, int flags, double seconds_before) {
  const std::filesystem::path metrics = path / kMetricsName;
  const int fd = ::open(metrics.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | flags, 0644);
  if (fd < 0) return io_error(metrics, flags == 0 ? "go on with" : "create", errno);
  return RunDirectory(std::move(path), std::make_unique<Impl>(metrics, fd, seconds_before));
}

Result<RunDirectory> RunDirectory::resume(std::filesystem::path path, uint32_t completed_rounds) {
  const std::filesystem::path metrics = path / kMetricsName;
  std::error_code error;
  if (!std::filesystem::exists(metrics, error)) return create(std::move(path));
  const auto text = read_file(metrics);
  if (!text) return text.error();
  const KeptLines kept = lines_up_to(*text, completed_rounds);
  if (kept.text != *text) {
    if (auto written = write_file_atomically(metrics, {kept.text}); !written) return written.error();
  }
  return open(std::move(path), 0, kept.seconds);
}

RunDirectory::RunDirectory(std::filesystem::path path, std::unique_ptr<Impl> impl)
    : path_(std::move(path)), impl_(std::move(impl)) {}

RunDirectory::RunDirectory(RunDirectory&&) noexcept = default;
RunDirectory& RunDirectory::operator=(RunDirectory&&) noexcept = default;
RunDirectory::~RunDirectory() = default;

Result<void> RunDirectory::write_config(const std::string& toml) {
  return write_file_atomically(path_ / "config.toml", {toml});
}

Result<void> RunDirectory::append(const RoundRecord& record) {
  return impl_->append({{"event", "round"},
                        {"round", record.round},
                        {"loss", record.loss},
                        {"accuracy", record.accuracy},
                        {"eval_loss", json_of(record.eval_loss)},
                        {"eval_accuracy", json_of(record.eval_accuracy)},
                        {"clients", record.clients},
                        {"examples", record.examples},
                        {"steps", record.steps},
                        {"seconds", record.seconds},
                        {"bytes_up", record.bytes_up},
                        {"bytes_down", record.bytes_down},
                        {"bytes_up_formula", record.bytes_up_formula},
                        {"bytes_down_formula", record.bytes_down_formula}});
}

Result<void> RunDirectory::append(const ClientRecord& record) {
  Json line = {{"event", "client"}};
  line.update(json_of(record));
  return impl_->append(std::move(line));
}

Result<void> RunDirectory::append(const EventRecord& record) {
  return impl_->append({{"event", record.event},
                        {"round", record.round},
                        {"client", record.client.empty() ? Json(nullptr) : Json(record.client)},
                        {"detail", record.detail}});
}

Result<void> RunDirectory::write_summary(const RunSummary& summary) {
  return write_file_atomically(path_ / "summary.json", {dump(json_of(summary), 2)});
}

Result<void> RunDirectory::write_report() const {
  const auto html = render_report(path_);
  if (!html) return html.error();
  return write_file_atomically(path_ / "report.html", {*html});
}

int64_t peak_rss_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    int64_t kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace tandem
