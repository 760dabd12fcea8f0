#include "tandem/core/run/report_data_detail.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tandem/core/storage/atomic_file.h"

namespace tandem::detail {
namespace {

using Json = nlohmann::json;

std::optional<double> number(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

int64_t whole(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer()) return 0;
  return found->get<int64_t>();
}

/// Numbers of a damaged file may be as large as they like: sums stop at the ends of the type.
void add(int64_t& sum, int64_t value) {
  using Limits = std::numeric_limits<int64_t>;
  if (__builtin_add_overflow(sum, value, &sum)) sum = value > 0 ? Limits::max() : Limits::min();
}

std::string text(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

uint32_t round_of(const Json& object) {
  return static_cast<uint32_t>(whole(object, "round"));
}

ReportRound read_round(const Json& line) {
  ReportRound round;
  round.round = round_of(line);
  round.loss = number(line, "loss");
  round.accuracy = number(line, "accuracy");
  round.eval_loss = number(line, "eval_loss");
  round.eval_accuracy = number(line, "eval_accuracy");
  round.seconds = number(line, "seconds");
  round.bytes_up = number(line, "bytes_up");
  round.bytes_down = number(line, "bytes_down");
  round.clients = whole(line, "clients");
  round.examples = whole(line, "examples");
  return round;
}

void add_to_client(const Json& line, ReportClient& client) {
  client.name = text(line, "client");
  add(client.examples, whole(line, "examples"));
  // One that only evaluated took no part in the training.
  if (whole(line, "examples") > 0 || whole(line, "missed_steps") > 0) client.rounds += 1;
  if (whole(line, "examples") > 0) {
    client.last_loss = number(line, "loss");
    client.last_accuracy = number(line, "accuracy");
  }
  add(client.missed_steps, whole(line, "missed_steps"));
  add(client.bytes_up, whole(line, "bytes_up"));
  add(client.bytes_down, whole(line, "bytes_down"));
}

ReportEvent read_event(const Json& line) {
  return {number(line, "time"), text(line, "event"), round_of(line), text(line, "client"),
          text(line, "detail")};
}

RunSummary read_summary(const Json& object) {
  RunSummary summary;
  summary.status = text(object, "status");
  summary.algorithm = text(object, "algorithm");
  summary.strategy = text(object, "strategy");
  summary.model = text(object, "model");
  summary.cut = static_cast<int>(whole(object, "cut"));
  for (const Json& cut : object.value("cuts", Json::array()))
    summary.cuts.push_back(cut.is_number_integer() ? cut.get<int>() : 0);
  summary.rounds = static_cast<uint32_t>(whole(object, "rounds"));
  summary.clients = static_cast<int>(whole(object, "clients"));
  summary.eval_accuracy = number(object, "eval_accuracy");
  summary.eval_loss = number(object, "eval_loss");
  summary.seconds = number(object, "seconds").value_or(0);
  summary.examples_per_second = number(object, "examples_per_second").value_or(0);
  summary.bytes_up = whole(object, "bytes_up");
  summary.bytes_down = whole(object, "bytes_down");
  summary.peak_rss_bytes = whole(object, "peak_rss_bytes");
  return summary;
}

/// Nothing when it is not one JSON object.
std::optional<Json> parse_object(std::string_view content) {
  Json json = Json::parse(content, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  return json;
}

std::optional<double> median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::optional<double> measured_step_ms(const ReportData& data, const std::map<uint32_t, int64_t>& steps) {
  std::vector<double> times;
  for (const ReportRound& round : data.rounds) {
    const auto found = steps.find(round.round);
    if (found == steps.end() || found->second < 1 || !round.seconds) continue;
    times.push_back(1000 * *round.seconds / static_cast<double>(found->second));
  }
  return median(std::move(times));
}

Result<void> read_metrics(const std::string& content, const std::filesystem::path& path, ReportData& data) {
  std::map<std::string, ReportClient> clients;
  std::map<uint32_t, int64_t> steps;  // the most of a client, by round
  size_t line_number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view line = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    const auto object = parse_object(line);
    if (!object && end == content.size()) {
      data.notes.push_back("The last line of metrics.jsonl is incomplete and was left out.");
      break;
    }
    if (!object) {
      return Error{ErrorCode::kCorrupt,
                   path.string() + ":" + std::to_string(line_number) + " is not a JSON object"};
    }
    const std::string event = text(*object, "event");
    if (event == "round") {
      data.rounds.push_back(read_round(*object));
    } else if (event == "client") {
      add_to_client(*object, clients[text(*object, "client")]);
      int64_t& most = steps[round_of(*object)];
      most = std::max(most, whole(*object, "steps"));
    } else {
      data.events.push_back(read_event(*object));
    }
  }
  for (auto& [name, client] : clients) data.clients.push_back(std::move(client));
  data.measured_step_ms = measured_step_ms(data, steps);
  return {};
}

/// The time of a step in plan.json; nullopt where there is none, or no such time in it.
Result<std::optional<double>> read_planned_step(const std::filesystem::path& path) {
  const auto content = read_file(path);
  if (!content && content.error().code == ErrorCode::kNotFound) return std::optional<double>();
  if (!content) return content.error();
  const auto object = parse_object(*content);
  if (!object) return Error{ErrorCode::kCorrupt, path.string() + " is not a JSON object"};
  const auto terms = object->find("terms");
  if (terms == object->end() || !terms->is_object()) return std::optional<double>();
  return number(*terms, "step_ms");
}

/// nullopt with a note when the file is not there.
Result<std::optional<std::string>> read_optional(const std::filesystem::path& path, const std::string& note,
                                                 ReportData& data) {
  auto content = read_file(path);
  if (content) return std::optional<std::string>(std::move(*content));
  if (content.error().code != ErrorCode::kNotFound) return content.error();
  data.notes.push_back(note);
  return std::optional<std::string>();
}

std::string directory_name(const std::filesystem::path& directory) {
  const auto path = std::filesystem::absolute(directory).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

Result<ReportData> read_report_data(const std::filesystem::path& run_directory) {
  ReportData data;
  data.name = directory_name(run_directory);
  const auto metrics_path = run_directory / "metrics.jsonl";
  const auto metrics = read_file(metrics_path);
  if (!metrics) return metrics.error();
  const auto read = read_metrics(*metrics, metrics_path, data);
  if (!read) return read.error();

  const auto summary_path = run_directory / "summary.json";
  const auto summary = read_optional(
      summary_path, "There is no summary.json: the run is still going on, or was killed.", data);
  if (!summary) return summary.error();
  if (*summary) {
    const auto object = parse_object(**summary);
    if (!object) return Error{ErrorCode::kCorrupt, summary_path.string() + " is not a JSON object"};
    data.summary = read_summary(*object);
  }

  const auto planned = read_planned_step(run_directory / RunDirectory::kPlanName);
  if (!planned) return planned.error();
  data.planned_step_ms = *planned;

  auto config = read_optional(run_directory / "config.toml",
                              "There is no config.toml: the configuration is not known.", data);
  if (!config) return config.error();
  data.config = std::move(*config);
  return data;
}

}  // namespace tandem::detail
