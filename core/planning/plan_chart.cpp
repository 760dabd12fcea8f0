#include "tandem/core/planning/plan_chart.h"

#include <algorithm>
#include <vector>

#include "tandem/core/planning/step_schedule_detail.h"
#include "tandem/core/run/progress_format_detail.h"
#include "tandem/core/run/svg_chart_detail.h"

namespace tandem {
namespace {

using detail::StepBar;
using detail::StepPart;

constexpr double kWidth = 760;
constexpr double kLeft = 130;
constexpr double kRight = 20;
constexpr double kPlotWidth = kWidth - kLeft - kRight;
constexpr double kCurveTop = 60;
constexpr double kCurveHeight = 220;
constexpr double kGanttTop = 370;
constexpr double kRowHeight = 22;
constexpr size_t kMostRows = 40;
constexpr size_t kMostLabels = 24;

const char kStyle[] =
    "text{font:12px sans-serif;fill:#333}.title{font-weight:bold}.grid{stroke:#ddd}.axis{stroke:#888}"
    ".forward{fill:#4477aa}.backward{fill:#66ccee}.transfer{fill:#ccbb44}.server{fill:#aa3377}";

std::string number(double value) {
  return detail::format_fixed(value, 2);
}

const char* css_class(StepPart part) {
  switch (part) {
    case StepPart::kForward: return "forward";
    case StepPart::kBackward: return "backward";
    case StepPart::kTransfer: return "transfer";
    case StepPart::kServer: break;
  }
  return "server";
}

std::string text_at(double x, double y, const char* anchor, const std::string& text, const char* css = "") {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\" class=\"" + css +
         "\">" + detail::escape_html(text) + "</text>\n";
}

std::string line_at(double x1, double y1, double x2, double y2, const char* css) {
  return "<line x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) + "\" y2=\"" +
         number(y2) + "\" class=\"" + css + "\"/>\n";
}

std::string bar_at(double x, double y, double width, double height, const StepBar& bar,
                   const std::string& where) {
  return "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(width) + "\" height=\"" +
         number(height) + "\" class=\"" + css_class(bar.part) + "\"><title>" +
         detail::escape_html(where + ": " + bar.what + ", " + detail::format_fixed(bar.length_ms, 3) + " ms") +
         "</title></rect>\n";
}

std::string tick_text(double tick) {
  return detail::format_fixed(tick, tick < 10 ? 2 : 0);
}

std::string legend(double y) {
  const struct {
    StepPart part;
    const char* name;
  } entries[] = {{StepPart::kForward, "forward"},
                 {StepPart::kBackward, "backward"},
                 {StepPart::kTransfer, "transfer"},
                 {StepPart::kServer, "server"}};
  std::string out;
  double x = kLeft;
  for (const auto& [part, name] : entries) {
    out += "<rect x=\"" + number(x) + "\" y=\"" + number(y - 10) + "\" width=\"12\" height=\"12\" class=\"" +
           css_class(part) + "\"/>\n" + text_at(x + 17, y, "start", name);
    x += 95;
  }
  return out;
}

double total_of(const detail::CutTerms& terms) {
  double total = 0;
  for (const StepBar& part : terms.parts) total += part.length_ms;
  return total;
}

std::string curve_picture(const detail::CutCurve& curve) {
  double highest = 0;
  for (const auto& terms : curve.cuts) highest = std::max(highest, total_of(terms));
  const std::vector<double> ticks = detail::nice_ticks(0, highest > 0 ? highest : 1, 5);
  const double scale = kCurveHeight / ticks.back();
  const double base = kCurveTop + kCurveHeight;
  std::string out = text_at(kLeft, kCurveTop - 32, "start", curve.title, "title") + legend(kCurveTop - 12);
  for (const double tick : ticks) {
    out += line_at(kLeft, base - tick * scale, kWidth - kRight, base - tick * scale, "grid");
    out += text_at(kLeft - 8, base - tick * scale + 4, "end", tick_text(tick) + " ms");
  }
  const double slot = kPlotWidth / static_cast<double>(curve.cuts.size());
  const size_t stride = (curve.cuts.size() + kMostLabels - 1) / kMostLabels;
  for (size_t c = 0; c < curve.cuts.size(); ++c) {
    const double left = kLeft + slot * static_cast<double>(c);
    double top = base;
    for (const StepBar& part : curve.cuts[c].parts) {
      top -= part.length_ms * scale;
      out += bar_at(left + slot * 0.15, top, std::min(slot * 0.7, 60.0), part.length_ms * scale, part,
                    "cut " + std::to_string(curve.cuts[c].cut));
    }
    if (c % stride == 0) {
      out += text_at(left + slot * 0.15 + std::min(slot * 0.35, 30.0), base + 16, "middle",
                     std::to_string(curve.cuts[c].cut));
    }
  }
  return out + line_at(kLeft, base, kWidth - kRight, base, "axis") +
         text_at(kLeft + kPlotWidth / 2, base + 34, "middle", "blocks before the cut");
}

/// The rows that have a bar, at most kMostRows of them.
std::vector<size_t> shown_rows(const detail::StepSchedule& schedule) {
  std::vector<size_t> rows;
  for (size_t r = schedule.rows.size(); r-- > 0;) {
    const bool is_used = std::any_of(schedule.bars.begin(), schedule.bars.end(),
                                     [&](const StepBar& bar) { return bar.row == r; });
    if (is_used) rows.push_back(r);
  }
  std::reverse(rows.begin(), rows.end());
  // The last row, the server's, stays.
  while (rows.size() > kMostRows) rows.erase(rows.end() - 2);
  return rows;
}

std::string gantt_picture(const detail::StepSchedule& schedule, const std::vector<size_t>& rows) {
  double end = 0;
  for (const StepBar& bar : schedule.bars) end = std::max(end, bar.start_ms + bar.length_ms);
  const std::vector<double> ticks = detail::nice_ticks(0, end > 0 ? end : 1, 6);
  const double scale = kPlotWidth / ticks.back();
  const double bottom = kGanttTop + kRowHeight * static_cast<double>(rows.size());
  std::string out = text_at(kLeft, kGanttTop - 12, "start", "one step of the plan", "title");
  for (const double tick : ticks) {
    out += line_at(kLeft + tick * scale, kGanttTop, kLeft + tick * scale, bottom, "grid");
    out += text_at(kLeft + tick * scale, bottom + 16, "middle", tick_text(tick) + " ms");
  }
  for (size_t r = 0; r < rows.size(); ++r) {
    const double top = kGanttTop + kRowHeight * static_cast<double>(r);
    std::string name = schedule.rows[rows[r]];
    out += text_at(kLeft - 8, top + 15, "end", name);
    for (const StepBar& bar : schedule.bars) {
      if (bar.row != rows[r]) continue;
      out += bar_at(kLeft + bar.start_ms * scale, top + 3, bar.length_ms * scale, kRowHeight - 6, bar, name);
    }
  }
  return out;
}

}  // namespace

std::string plan_chart(const Problem& problem, const Plan& plan) {
  if (!plan.feasible()) return "";
  const detail::StepSchedule schedule = detail::step_schedule(problem, plan);
  const std::vector<size_t> rows = shown_rows(schedule);
  const double height = kGanttTop + kRowHeight * static_cast<double>(rows.size()) + 30;
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number(kWidth) + " " +
                    number(height) + "\" role=\"img\" aria-label=\"plan\">\n<style>" + kStyle + "</style>\n" +
                    "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
  out += curve_picture(detail::cut_curve(problem, plan)) + gantt_picture(schedule, rows);
  return out + "</svg>\n";
}

}  // namespace tandem
