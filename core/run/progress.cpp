#include "tandem/core/run/progress.h"

#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tandem/core/run/log.h"
#include "tandem/core/run/log_detail.h"
#include "tandem/core/run/progress_format_detail.h"
#include "tandem/core/run/record_json.h"

namespace tandem {
namespace {

using Renderer = detail::ProgressRenderer;

/// One column is left free: some terminals wrap as soon as the last one is written.
int terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 79;
  return std::max<int>(size.ws_col - 1, 1);
}

detail::ProgressStyle detect_style() {
  detail::ProgressStyle style;
  style.terminal = detail::stderr_is_terminal();
  style.colour = detail::stderr_has_colour();
  style.unicode = detail::locale_is_utf8(std::getenv("LC_ALL"), std::getenv("LC_CTYPE"), std::getenv("LANG"));
  return style;
}

void write_stderr(const std::string& text) {
  if (!text.empty()) std::fwrite(text.data(), 1, text.size(), stderr);
}

void write_stdout(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

bool json() {
  return log_format() == LogFormat::kJson;
}

detail::LogFields fields_of(const ProgressState& state) {
  return {{"event", "progress"},
          {"done", state.done},
          {"total", state.total},
          {"loss", state.loss},
          {"accuracy", state.accuracy},
          {"examples_per_second", state.examples_per_second},
          {"bytes_up", state.bytes_up},
          {"bytes_down", state.bytes_down},
          {"seconds_left", json_of(state.seconds_left)}};
}

detail::LogFields fields_of(const RoundRecord& record) {
  return {{"event", "round"},
          {"round", record.round},
          {"loss", record.loss},
          {"accuracy", record.accuracy},
          {"eval_loss", json_of(record.eval_loss)},
          {"eval_accuracy", json_of(record.eval_accuracy)},
          {"clients", record.clients},
          {"examples", record.examples},
          {"seconds", record.seconds},
          {"bytes_up", record.bytes_up},
          {"bytes_down", record.bytes_down}};
}

detail::LogFields fields_of(const EventRecord& event) {
  detail::LogFields fields = {{"event", event.event}, {"round", event.round}};
  if (!event.client.empty()) fields["client"] = event.client;
  if (!event.detail.empty()) fields["detail"] = event.detail;
  return fields;
}

detail::LogFields fields_of(const RunSummary& summary, const std::string& report_path) {
  detail::LogFields fields = {{"event", "summary"}};
  fields.update(json_of(summary));
  fields["report"] = report_path;
  return fields;
}

std::string text_of(const EventRecord& event) {
  std::string line = event.event;
  if (!event.client.empty()) line += " " + event.client;
  if (!event.detail.empty()) line += ": " + event.detail;
  return line;
}

}  // namespace

struct Progress::Impl {
  bool quiet;
  Renderer renderer;
  Renderer::Clock::time_point last_json_line = Renderer::Clock::now();
};

Progress::Progress(bool quiet) : impl_(new Impl{quiet, Renderer(detect_style(), Renderer::Clock::now())}) {}

Progress::~Progress() {
  if (impl_) write_stderr(impl_->renderer.clear());
}

void Progress::update(const ProgressState& state) {
  if (impl_->quiet) return;
  const auto now = Renderer::Clock::now();
  if (!json()) {
    impl_->renderer.set_width(terminal_columns());
    write_stderr(impl_->renderer.update(state, now));
  } else if (now - impl_->last_json_line >= Renderer::kPlainInterval) {
    impl_->last_json_line = now;
    detail::write_json_line("info", detail::format_plain_line(state), fields_of(state));
  }
}

void Progress::note(const std::string& line) {
  if (impl_->quiet) return;
  if (json()) return detail::write_json_line("info", line);
  write_stderr(impl_->renderer.note(line));
}

void Progress::warn(const std::string& text) {
  write_stderr(impl_->renderer.clear());
  spdlog::warn("{}", text);
}

void Progress::event(const EventRecord& event) {
  if (!json()) return note(text_of(event));
  if (!impl_->quiet) detail::write_json_line("info", text_of(event), fields_of(event));
}

void Progress::round(const RoundRecord& record, uint32_t total_rounds) {
  if (impl_->quiet) return;
  const auto now = Renderer::Clock::now();
  if (!json()) return write_stderr(impl_->renderer.round(record, total_rounds, now));
  impl_->last_json_line = now;
  detail::write_json_line("info", detail::format_round_line(record, total_rounds), fields_of(record));
}

void Progress::finish(const RunSummary& summary, const std::string& report_path) {
  write_stderr(impl_->renderer.clear());
  const std::string lost = detail::lost_devices_text(summary);
  if (json()) {
    return write_stdout(detail::json_line_now(
        "info", "the run is over: " + summary.status + (lost.empty() ? "" : "; lost " + lost),
        fields_of(summary, report_path)));
  }
  write_stdout(detail::format_summary(summary, report_path));
  if (!lost.empty()) {
    spdlog::warn("the run went on without devices that had begun with it: {}; metrics.jsonl says why", lost);
  }
}

}  // namespace tandem
