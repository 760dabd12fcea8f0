#include "tandem/core/run/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tandem/core/run/progress_format_detail.h"

namespace tandem {
namespace {

using Renderer = detail::ProgressRenderer;

/// One column is left free: some terminals wrap as soon as the last one is written.
int terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 79;
  return std::max<int>(size.ws_col - 1, 1);
}

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value && *value;
}

detail::ProgressStyle detect_style() {
  const char* term = std::getenv("TERM");
  detail::ProgressStyle style;
  style.terminal = isatty(STDERR_FILENO) && term && std::string_view(term) != "dumb";
  style.colour = style.terminal && !is_set("NO_COLOR");
  style.unicode = detail::locale_is_utf8(std::getenv("LC_ALL"), std::getenv("LC_CTYPE"), std::getenv("LANG"));
  return style;
}

void write_stderr(const std::string& text) {
  if (!text.empty()) std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace

struct Progress::Impl {
  bool quiet;
  Renderer renderer;
};

Progress::Progress(bool quiet) : impl_(new Impl{quiet, Renderer(detect_style(), Renderer::Clock::now())}) {}

Progress::~Progress() {
  if (impl_) write_stderr(impl_->renderer.clear());
}

void Progress::update(const ProgressState& state) {
  if (impl_->quiet) return;
  impl_->renderer.set_width(terminal_columns());
  write_stderr(impl_->renderer.update(state, Renderer::Clock::now()));
}

void Progress::note(const std::string& line) {
  if (!impl_->quiet) write_stderr(impl_->renderer.note(line));
}

void Progress::round(const RoundRecord& record, uint32_t total_rounds) {
  if (!impl_->quiet) {
    write_stderr(impl_->renderer.round(record, total_rounds, Renderer::Clock::now()));
  }
}

void Progress::finish(const RunSummary& summary, const std::string& report_path) {
  write_stderr(impl_->renderer.clear());
  const std::string text = detail::format_summary(summary, report_path);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace tandem
