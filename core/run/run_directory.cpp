#include "tandem/core/run/run_directory.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <deque>
#include <fstream>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "tandem/core/run/record_json.h"
#include "tandem/core/run/report.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/file_writer_detail.h"

namespace tandem {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr const char* kMetricsName = "metrics.jsonl";
constexpr const char* kConfigName = "config.toml";
/// Of lines that wait for room on the disk: many thousands of rounds.
constexpr size_t kMostWaitingBytes = size_t{16} << 20;
constexpr uint32_t kEveryRound = std::numeric_limits<uint32_t>::max();

/// What else a run writes into its directory.
std::string files_of_a_run_in(const std::filesystem::path& path) {
  std::string found;
  std::error_code error;
  for (const char* name :
       {kConfigName, RunDirectory::kPlanName, "summary.json", "report.html", "model.safetensors",
        "front.safetensors", "tail.safetensors", "head.safetensors"}) {
    if (std::filesystem::exists(std::filesystem::symlink_status(path / name, error))) {
      found += (found.empty() ? "" : ", ") + std::string(name);
    }
  }
  return found;
}

Result<FileDescriptor> open_metrics(const std::filesystem::path& metrics, int flags) {
  FileDescriptor file(::open(metrics.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | flags, kPublicMode));
  if (!file.is_open()) return io_error(metrics, flags == 0 ? "go on with" : "create", errno);
  return file;
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
  Impl(std::filesystem::path folder, FileDescriptor metrics, double already)
      : path(std::move(folder)), file(std::move(metrics)), start(Clock::now()), seconds_before(already) {}
  ~Impl() {
    // A run that recorded nothing, because it could not begin, does not occupy its directory.
    if (recorded || ::lseek(file.get(), 0, SEEK_END) != 0) return;
    if (is_same_file(file.get(), metrics())) remove_file(metrics());
    for (const Document& document : documents) {
      if (document.written) remove_file(path / document.name);
    }
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  std::filesystem::path metrics() const { return path / kMetricsName; }
  double seconds() const {
    const double now = seconds_before + std::chrono::duration<double>(Clock::now() - start).count();
    return std::round(now * 1000) / 1000;
  }

  Result<void> append(Json line);
  void keep(std::string line);
  Result<void> catch_up();
  Result<void> keep_document(const char* name, const std::string& content);
  Result<void> write_documents();
  Result<void> open_again();
  Result<void> write_line(std::string& line);

  const std::filesystem::path path;
  FileDescriptor file;  // of metrics.jsonl
  const Clock::time_point start;
  const double seconds_before;  // of earlier incarnations
  bool recorded = false;        // anything, on the disk or not
  /// A file of the run that is known at its beginning.
  struct Document {
    const char* name;
    std::string content;
    bool written = false;  // as it stands in `content`
  };
  std::vector<Document> documents;
  std::deque<std::string> waiting;  // lines that the disk did not take yet, in order
  size_t waiting_bytes = 0;
  size_t lost = 0;  // lines after those, which found no room even in memory
};

/// The line is on the disk, or kept and written as soon as the disk takes it: then the error says why it
/// waits.
Result<void> RunDirectory::Impl::append(Json line) {
  recorded = true;
  line["time"] = seconds();
  keep(dump(line, -1));
  return catch_up();
}

void RunDirectory::Impl::keep(std::string line) {
  if (lost > 0 || waiting_bytes + line.size() > kMostWaitingBytes) {
    ++lost;
    return;
  }
  waiting_bytes += line.size();
  waiting.push_back(std::move(line));
}

Result<void> RunDirectory::Impl::catch_up() {
  if (!is_same_file(file.get(), metrics())) {
    if (auto opened = open_again(); !opened) return opened;
  }
  if (auto written = write_documents(); !written) return written;
  while (!waiting.empty()) {
    if (auto written = write_line(waiting.front()); !written) return written;
    waiting_bytes -= waiting.front().size();
    waiting.pop_front();
    if (!waiting.empty() || lost == 0) continue;
    const Json line = {{"event", "lines-lost"},
                       {"round", 0},
                       {"client", nullptr},
                       {"detail", std::to_string(std::exchange(lost, 0)) +
                                      " lines found no room, neither on the disk nor in memory"},
                       {"time", seconds()}};
    keep(dump(line, -1));
  }
  return {};
}

Result<void> RunDirectory::Impl::keep_document(const char* name, const std::string& content) {
  std::erase_if(documents, [name](const Document& each) { return each.name == name; });
  documents.push_back({name, content});
  return catch_up();
}

Result<void> RunDirectory::Impl::write_documents() {
  for (Document& document : documents) {
    if (document.written) continue;
    if (auto written = write_file_atomically(path / document.name, {document.content}); !written)
      return written;
    document.written = true;
  }
  return {};
}

/// Somebody moved or removed the file, or the whole directory: what is in it is theirs, and the run goes on
/// in a new one.
Result<void> RunDirectory::Impl::open_again() {
  std::error_code ignored;
  if (auto made = make_directories(path); !made) return made;
  auto opened = open_metrics(metrics(), O_CREAT);
  if (!opened) return opened.error();
  file = std::move(*opened);
  for (Document& document : documents)
    document.written = std::filesystem::exists(path / document.name, ignored);
  spdlog::warn(
      "{} was moved or removed while the run writes it: the lines so far are there, those from now on "
      "in a new file",
      metrics().string());
  return {};
}

Result<void> RunDirectory::Impl::write_line(std::string& line) {
  const off_t begin = ::lseek(file.get(), 0, SEEK_END);
  size_t written = 0;
  while (written < line.size()) {
    const ssize_t count = ::write(file.get(), line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : ENOSPC;
      // Takes back the half line, so that every line of the file stays an object; or else its rest comes
      // next.
      if (written > 0 && (begin < 0 || ::ftruncate(file.get(), begin) != 0)) {
        line.erase(0, written);
        waiting_bytes -= written;
      }
      return io_error(metrics(), "write", error);
    }
    written += static_cast<size_t>(count);
  }
  return {};
}

Result<RunDirectory> RunDirectory::create(std::filesystem::path path) {
  const auto occupied = [&](const std::string& files) {
    return Error{ErrorCode::kInvalidArgument,
                 path.string() + " already holds a run (" + files +
                     "), and nothing is overwritten; choose another --run-dir or move it away"};
  };
  std::error_code error;
  if (std::filesystem::exists(path / kMetricsName, error)) return occupied(kMetricsName);
  if (const std::string files = files_of_a_run_in(path); !files.empty()) return occupied(files);
  std::filesystem::create_directories(path, error);
  if (error) return io_error(path, "create", error.value());
  auto opened = open(path, O_CREAT | O_EXCL, 0);
  if (!opened && std::filesystem::exists(path / kMetricsName, error)) return occupied(kMetricsName);
  return opened;
}

Result<RunDirectory> RunDirectory::open(std::filesystem::path path, int flags, double seconds_before) {
  auto metrics = open_metrics(path / kMetricsName, flags);
  if (!metrics) return metrics.error();
  return RunDirectory(path, std::make_unique<Impl>(path, std::move(*metrics), seconds_before));
}

Result<RunDirectory> RunDirectory::resume(std::filesystem::path path, uint32_t completed_rounds) {
  const std::filesystem::path metrics = path / kMetricsName;
  const auto text = read_file(metrics);
  if (!text && text.error().code == ErrorCode::kNotFound) return open(std::move(path), O_CREAT, 0);
  if (!text) return text.error();
  const KeptLines kept = lines_up_to(*text, completed_rounds);
  if (kept.text != *text) {
    if (auto written = write_file_atomically(metrics, {kept.text}); !written) return written.error();
  }
  return open(std::move(path), 0, kept.seconds);
}

bool RunDirectory::holds_results(const std::filesystem::path& path) {
  const auto metrics = read_file(path / kMetricsName);
  if (metrics && lines_up_to(*metrics, 0).text != lines_up_to(*metrics, kEveryRound).text) return true;
  std::error_code error;
  return std::filesystem::exists(path / "model.safetensors", error);
}

RunDirectory::RunDirectory(std::filesystem::path path, std::unique_ptr<Impl> impl)
    : path_(std::move(path)), impl_(std::move(impl)) {}

RunDirectory::RunDirectory(RunDirectory&&) noexcept = default;
RunDirectory& RunDirectory::operator=(RunDirectory&&) noexcept = default;
RunDirectory::~RunDirectory() = default;

Result<void> RunDirectory::write_config(const std::string& toml) {
  return impl_->keep_document(kConfigName, toml);
}

Result<void> RunDirectory::write_plan(const std::string& json) {
  return impl_->keep_document(kPlanName, json);
}

Result<void> RunDirectory::catch_up() {
  return impl_->catch_up();
}

bool RunDirectory::recorded() const {
  return impl_->recorded;
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
