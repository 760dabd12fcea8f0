#include "tandem/core/run/report.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "tandem/core/base/version.h"
#include "tandem/core/run/progress_format_detail.h"
#include "tandem/core/run/report_data_detail.h"
#include "tandem/core/run/svg_chart_detail.h"

namespace tandem {
namespace {

using detail::Chart;
using detail::escape_html;
using detail::format_count;
using detail::format_fixed;
using detail::ReportData;
using detail::ReportRound;
using detail::to_whole;

using Figure = std::optional<double> ReportRound::*;

constexpr size_t kMostEvents = 500;
constexpr const char* kMissing = "–";

constexpr const char* kStyle = R"css(
:root{color-scheme:light dark;--page:#f5f6f8;--card:#fff;--ink:#1b1d22;--soft:#656b76;--edge:#e2e5ea;
--s0:#2f6fde;--s1:#d9722b;--good:#18794e;--good-back:#dff3e7;--warn:#8a5a00;--warn-back:#fdf0d2;
--bad:#b3261e;--bad-back:#fbe3e1}
@media (prefers-color-scheme:dark){:root{--page:#121417;--card:#1b1e23;--ink:#e8eaee;--soft:#9aa1ad;
--edge:#2d323a;--s0:#78a6ff;--s1:#f2a065;--good:#7fd6a8;--good-back:#173527;--warn:#f0c674;
--warn-back:#3a2f14;--bad:#ff9b93;--bad-back:#401d1b}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 48px}
header{display:flex;flex-wrap:wrap;align-items:center;gap:4px 14px;margin-bottom:20px}
h1{font-size:28px;line-height:1.2;letter-spacing:-.01em;margin:0;overflow-wrap:anywhere}
header p{flex-basis:100%;margin:0;color:var(--soft);overflow-wrap:anywhere}
h2{font-size:17px;margin:0 0 10px}
.status{font-size:13px;font-weight:600;padding:3px 11px;border-radius:99px;background:var(--warn-back);
color:var(--warn)}
.status.completed{background:var(--good-back);color:var(--good)}
.status.failed{background:var(--bad-back);color:var(--bad)}
.note{background:var(--warn-back);color:var(--warn);border-radius:10px;padding:9px 14px;margin:0 0 12px;
font-size:14px}
.card{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:18px}
section,details{margin-top:16px}
.figures{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin:0}
.figures div{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:13px 16px}
dt{font-size:13px;color:var(--soft)}
dd{margin:1px 0 0;font-size:24px;font-weight:600;letter-spacing:-.015em;font-variant-numeric:tabular-nums;
white-space:nowrap}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:16px;
margin-top:16px}
figure{margin:0}
figcaption{display:flex;flex-wrap:wrap;gap:2px 16px;align-items:baseline;font-size:17px;font-weight:600;
margin-bottom:8px}
.key{font-size:13px;font-weight:400;color:var(--soft);white-space:nowrap}
.key i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px}
i.s0{background:var(--s0)}i.s1{background:var(--s1)}
svg{display:block;width:100%;height:auto}
svg text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
.grid{stroke:var(--edge)}.axis{stroke:var(--soft)}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.line.s0{stroke:var(--s0)}.line.s1{stroke:var(--s1)}
.s0{fill:var(--s0)}.s1{fill:var(--s1)}.line{fill:none!important}
.dot{stroke:var(--card);stroke-width:1.5}.dot.hidden{opacity:0}.dot:hover{opacity:1}.bar:hover{opacity:.75}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th{font-weight:500;color:var(--soft);text-align:left;font-size:13px}
th,td{padding:7px 16px 7px 0;border-bottom:1px solid var(--edge);white-space:nowrap}
tr:last-child td{border-bottom:0}
th:last-child,td:last-child{padding-right:0}
.n{text-align:right}
td.wide{white-space:normal;overflow-wrap:anywhere;min-width:180px}
summary{cursor:pointer;font-size:17px;font-weight:600}
pre{margin:12px 0 0;overflow-x:auto;font:13px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,
"DejaVu Sans Mono",monospace}
footer{margin-top:24px;font-size:13px;color:var(--soft)}
.empty{color:var(--soft);margin:0}
@media (max-width:640px){main{padding:20px 12px 32px}.card{padding:14px}dd{font-size:20px}
.figures{grid-template-columns:1fr 1fr;gap:8px}.figures div{padding:10px 12px}svg text{font-size:13.5px}}
)css";

// ---- figures as text --------------------------------------------------------------------------------

std::string percent(double fraction) {
  return format_fixed(fraction * 100, 2) + " %";
}

std::string percent_or_dash(const std::optional<double>& value) {
  return value ? percent(*value) : kMissing;
}

std::string number_or_dash(const std::optional<double>& value, int decimals) {
  return value ? format_fixed(*value, decimals) : kMissing;
}

int decimals_for(double step) {
  return std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
}

/// 2.5 needs one digit more than 2.
std::string tick_text(double value, double step) {
  const int decimals = decimals_for(step);
  const double scaled = step * std::pow(10, decimals);
  return format_fixed(value, std::abs(scaled - std::round(scaled)) > 1e-6 ? decimals + 1 : decimals);
}

std::string percent_tick(double value, double step) {
  return tick_text(value * 100, step * 100) + " %";
}

std::string bytes_tick(double value, double) {
  std::string text = format_bytes(to_whole(value));
  const size_t zero = text.find(".0 ");
  if (zero != std::string::npos) text.erase(zero, 2);
  return value == 0 ? "0" : text;
}

// ---- totals -----------------------------------------------------------------------------------------

double total(const std::vector<ReportRound>& rounds, Figure figure) {
  double sum = 0;
  for (const ReportRound& round : rounds) sum += (round.*figure).value_or(0);
  return sum;
}

std::optional<double> last(const std::vector<ReportRound>& rounds, Figure figure) {
  for (auto round = rounds.rbegin(); round != rounds.rend(); ++round) {
    if ((*round).*figure) return (*round).*figure;
  }
  return std::nullopt;
}

/// The summary, or what can be said of a run that has not written one.
RunSummary summary_of(const ReportData& data) {
  if (data.summary) return *data.summary;
  RunSummary summary;
  summary.status = "no summary";
  summary.rounds = static_cast<uint32_t>(data.rounds.size());
  summary.clients = static_cast<int>(data.clients.size());
  summary.eval_accuracy = last(data.rounds, &ReportRound::eval_accuracy);
  summary.eval_loss = last(data.rounds, &ReportRound::eval_loss);
  summary.seconds = total(data.rounds, &ReportRound::seconds);
  double examples = 0;
  for (const ReportRound& round : data.rounds) examples += static_cast<double>(round.examples);
  if (summary.seconds > 0) summary.examples_per_second = examples / summary.seconds;
  summary.bytes_up = to_whole(total(data.rounds, &ReportRound::bytes_up));
  summary.bytes_down = to_whole(total(data.rounds, &ReportRound::bytes_down));
  return summary;
}

std::string counted(int64_t count, const std::string& noun) {
  return format_count(count) + " " + noun + (count == 1 ? "" : "s");
}

// ---- parts of the page ------------------------------------------------------------------------------

std::string subtitle(const RunSummary& summary) {
  std::vector<std::string> parts;
  if (!summary.model.empty()) parts.push_back(summary.model + ", " + summary.cut_text());
  if (!summary.algorithm.empty()) parts.push_back(summary.algorithm);
  if (!summary.strategy.empty()) parts.push_back(summary.strategy);
  parts.push_back(counted(summary.rounds, "round"));
  parts.push_back(counted(summary.clients, "client"));
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : " · ") + escape_html(part);
  return text;
}

std::string page_header(const ReportData& data, const RunSummary& summary) {
  const bool known = summary.status == "completed" || summary.status == "failed";
  std::string html = "<header><h1>" + escape_html(data.name) + "</h1><span class=\"status" +
                     (known ? " " + summary.status : "") + "\">" + escape_html(summary.status) +
                     "</span><p>" + subtitle(summary) + "</p></header>\n";
  for (const std::string& note : data.notes) html += "<p class=\"note\">" + escape_html(note) + "</p>\n";
  return html;
}

std::string headline_figures(const ReportData& data, const RunSummary& summary) {
  const bool has_peak = summary.peak_rss_bytes > 0;
  const double seconds_a_round = summary.rounds > 0 ? summary.seconds / summary.rounds : 0;
  std::vector<std::pair<std::string, std::string>> figures = {
      {"Evaluation accuracy", percent_or_dash(summary.eval_accuracy)},
      {"Evaluation loss", number_or_dash(summary.eval_loss, 4)},
      {"Time", format_duration(summary.seconds)},
      {"Time per round", summary.rounds > 0 ? format_fixed(seconds_a_round, 1) + " s" : kMissing},
      {"Examples per second", format_count(to_whole(summary.examples_per_second))},
      {"Bytes up", format_bytes(summary.bytes_up)},
      {"Bytes down", format_bytes(summary.bytes_down)},
      {"Peak memory", has_peak ? format_bytes(summary.peak_rss_bytes) : kMissing},
  };
  if (data.planned_step_ms) {
    const auto milliseconds = [](const std::optional<double>& time) {
      return time ? format_fixed(*time, 1) + " ms" : std::string(kMissing);
    };
    figures.emplace_back("Step as planned", milliseconds(data.planned_step_ms));
    figures.emplace_back("Step as measured", milliseconds(data.measured_step_ms));
  }
  std::string html = "<dl class=\"figures\">";
  for (const auto& [name, value] : figures) {
    html += "<div><dt>" + name + "</dt><dd>" + escape_html(value) + "</dd></div>";
  }
  return html + "</dl>\n";
}

Chart make_chart(const ReportData& data, std::string title,
                 const std::vector<std::pair<std::string, Figure>>& figures) {
  Chart chart;
  chart.title = std::move(title);
  for (const ReportRound& round : data.rounds) chart.rounds.push_back(round.round);
  for (const auto& [name, figure] : figures) {
    detail::ChartSeries series{name, {}};
    for (const ReportRound& round : data.rounds) series.values.push_back(round.*figure);
    chart.series.push_back(std::move(series));
  }
  chart.low_limit = 0;
  return chart;
}

std::string chart_card(const Chart& chart, const std::string& svg) {
  std::string html = "<figure class=\"card\"><figcaption>" + escape_html(chart.title);
  for (size_t i = 0; i < chart.series.size(); ++i) {
    html += "<span class=\"key\"><i class=\"s" + std::to_string(i) + "\"></i>" +
            escape_html(chart.series[i].name) + "</span>";
  }
  html += "</figcaption>";
  return html + (svg.empty() ? "<p class=\"empty\">No figures.</p>" : svg) + "</figure>\n";
}

std::string charts(const ReportData& data) {
  if (data.rounds.empty()) {
    return "<section class=\"card\"><p class=\"empty\">No round was finished.</p></section>\n";
  }
  Chart loss =
      make_chart(data, "Loss", {{"training", &ReportRound::loss}, {"evaluation", &ReportRound::eval_loss}});
  loss.format_value = [](double value) { return format_fixed(value, 4); };
  loss.format_tick = tick_text;

  Chart accuracy = make_chart(
      data, "Accuracy", {{"training", &ReportRound::accuracy}, {"evaluation", &ReportRound::eval_accuracy}});
  accuracy.format_value = percent;
  accuracy.format_tick = percent_tick;
  accuracy.high_limit = 1;

  Chart bytes =
      make_chart(data, "Bytes", {{"up", &ReportRound::bytes_up}, {"down", &ReportRound::bytes_down}});
  bytes.format_value = [](double value) { return format_bytes(to_whole(value)); };
  bytes.format_tick = bytes_tick;

  Chart time = make_chart(data, "Time", {{"training, merging and evaluation", &ReportRound::seconds}});
  time.format_value = [](double value) { return format_fixed(value, 1) + " s"; };
  time.format_tick = [](double value, double step) { return tick_text(value, step) + " s"; };

  return "<div class=\"charts\">\n" + chart_card(loss, render_line_chart(loss)) +
         chart_card(accuracy, render_line_chart(accuracy)) + chart_card(bytes, render_bar_chart(bytes)) +
         chart_card(time, render_bar_chart(time)) + "</div>\n";
}

std::string cell(const std::string& text, const char* css_class = nullptr) {
  return std::string("<td") + (css_class ? std::string(" class=\"") + css_class + "\"" : "") + ">" +
         escape_html(text) + "</td>";
}

std::string clients_table(const ReportData& data) {
  if (data.clients.empty()) return "";
  std::string html =
      "<section class=\"card\"><h2>Clients</h2><div class=\"scroll\"><table><thead><tr><th>Name</th>"
      "<th class=\"n\">Rounds</th><th class=\"n\">Examples</th><th class=\"n\">Last loss</th>"
      "<th class=\"n\">Last accuracy</th><th class=\"n\">Missed steps</th><th class=\"n\">Up</th>"
      "<th class=\"n\">Down</th></tr></thead><tbody>\n";
  for (const detail::ReportClient& client : data.clients) {
    html += "<tr>" + cell(client.name) + cell(format_count(client.rounds), "n") +
            cell(format_count(client.examples), "n") + cell(number_or_dash(client.last_loss, 4), "n") +
            cell(percent_or_dash(client.last_accuracy), "n") + cell(format_count(client.missed_steps), "n") +
            cell(format_bytes(client.bytes_up), "n") + cell(format_bytes(client.bytes_down), "n") + "</tr>\n";
  }
  return html + "</tbody></table></div></section>\n";
}

std::string events_table(const ReportData& data) {
  if (data.events.empty()) return "";
  std::string html =
      "<section class=\"card\"><h2>Events</h2><div class=\"scroll\"><table><thead><tr>"
      "<th class=\"n\">Time</th><th class=\"n\">Round</th><th>Event</th><th>Client</th><th>Detail</th></tr>"
      "</thead><tbody>\n";
  const size_t shown = std::min(data.events.size(), kMostEvents);
  for (size_t i = 0; i < shown; ++i) {
    const detail::ReportEvent& event = data.events[i];
    html += "<tr>" + cell(event.time ? format_duration(*event.time) : kMissing, "n") +
            cell(std::to_string(event.round), "n") + cell(event.event) + cell(event.client) +
            cell(event.detail, "wide") + "</tr>\n";
  }
  html += "</tbody></table></div>";
  if (shown < data.events.size()) {
    html += "<p class=\"empty\">" + format_count(static_cast<int64_t>(data.events.size() - shown)) +
            " more in metrics.jsonl.</p>";
  }
  return html + "</section>\n";
}

std::string configuration(const ReportData& data) {
  if (!data.config) return "";
  return "<details class=\"card\"><summary>Configuration</summary><pre>" + escape_html(*data.config) +
         "</pre></details>\n";
}

}  // namespace

Result<std::string> render_report(const std::filesystem::path& run_directory) {
  const auto data = detail::read_report_data(run_directory);
  if (!data) return data.error();
  const RunSummary summary = summary_of(*data);
  // The policy allows this page's own style and nothing else, whatever a client's name contains.
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
         "'unsafe-inline'\">\n"
         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>" +
         escape_html(data->name) + " – Tandem run</title>\n<style>" + kStyle +
         "</style></head>\n<body><main>\n" + page_header(*data, summary) + headline_figures(*data, summary) +
         charts(*data) + clients_table(*data) + events_table(*data) + configuration(*data) +
         "<footer>Tandem " + kVersion +
         ". Every figure is also in metrics.jsonl and summary.json beside this page.</footer>\n" +
         "</main></body></html>\n";
}

}  // namespace tandem
