#include "tandem/core/run/record_json.h"

#include <nlohmann/json.hpp>

namespace tandem {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

Json json_of(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::optional<double> figure_of(const nlohmann::json& value) {
  return value.is_null() ? std::nullopt : std::optional(value.get<double>());
}

Json json_of(const RunSummary& summary) {
  Json json = {{"status", summary.status},
               {"algorithm", summary.algorithm},
               {"strategy", summary.strategy},
               {"model", summary.model},
               {"cut", summary.cut},
               {"rounds", summary.rounds},
               {"clients", summary.clients},
               {"lost_rounds", summary.lost_rounds},
               {"eval_accuracy", json_of(summary.eval_accuracy)},
               {"eval_loss", json_of(summary.eval_loss)},
               {"seconds", summary.seconds},
               {"examples_per_second", summary.examples_per_second},
               {"bytes_up", summary.bytes_up},
               {"bytes_down", summary.bytes_down},
               {"peak_rss_bytes", summary.peak_rss_bytes}};
  if (!summary.cuts.empty()) json["cuts"] = summary.cuts;
  return json;
}

Json json_of(const ClientRecord& record) {
  return {{"round", record.round},
          {"client", record.client},
          {"loss", record.loss},
          {"accuracy", record.accuracy},
          {"examples", record.examples},
          {"steps", record.steps},
          {"missed_steps", record.missed_steps},
          {"bytes_up", record.bytes_up},
          {"bytes_down", record.bytes_down},
          {"bytes_up_formula", record.bytes_up_formula},
          {"bytes_down_formula", record.bytes_down_formula},
          {"eval_loss", json_of(record.eval_loss)},
          {"eval_accuracy", json_of(record.eval_accuracy)}};
}

ClientRecord client_record_of(const nlohmann::json& value) {
  return {.round = value.at("round").get<uint32_t>(),
          .client = value.at("client").get<std::string>(),
          .loss = value.at("loss").get<double>(),
          .accuracy = value.at("accuracy").get<double>(),
          .examples = value.at("examples").get<int64_t>(),
          .steps = value.at("steps").get<uint32_t>(),
          .missed_steps = value.at("missed_steps").get<uint32_t>(),
          .bytes_up = value.at("bytes_up").get<int64_t>(),
          .bytes_down = value.at("bytes_down").get<int64_t>(),
          .bytes_up_formula = value.at("bytes_up_formula").get<int64_t>(),
          .bytes_down_formula = value.at("bytes_down_formula").get<int64_t>(),
          .eval_loss = figure_of(value.at("eval_loss")),
          .eval_accuracy = figure_of(value.at("eval_accuracy"))};
}

}  // namespace tandem
