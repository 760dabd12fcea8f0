#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "tandem/core/base/text.h"
#include "tandem/core/base/wording_detail.h"
#include "tandem/core/planning/json_fields_detail.h"
#include "tandem/core/planning/problem.h"

namespace tandem {
namespace {

using detail::entry_path;
using detail::JsonFields;
using detail::kUnlimited;
using Json = nlohmann::json;

constexpr size_t kMostBlocks = 10'000;
constexpr size_t kMostDevices = 512;
constexpr size_t kMostClients = 10'000;
constexpr uint64_t kMostCounted = 1'000'000'000;
constexpr int kDeepest = 16;
constexpr size_t kLargestText = size_t{256} << 20;
const char kAggregator[] = "aggregator";

/// Names of one kind of thing, each once.
class Names {
 public:
  void add(const std::string& name, const std::string& path) {
    const auto [old, is_new] = paths_.emplace(name, path);
    if (!is_new) {
      throw ProblemError(path + ".name", "must differ from " + old->second + ".name, both are " +
                                             detail::in_quotes(name));
    }
    names_.push_back(name);
  }

  size_t position(JsonFields& fields, const std::string& field) const {
    const std::string name = fields.text(field);
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) {
      fields.refuse(field, "must be a device's name, got " + detail::in_quotes(name) +
                               detail::did_you_mean(name, names_));
    }
    return static_cast<size_t>(found - names_.begin());
  }

 private:
  std::map<std::string, std::string> paths_;
  std::vector<std::string> names_;
};

/// What a block costs wherever it runs, where the problem says it beside the block.
struct CommonCosts {
  std::vector<double> energy_mj;
  bool has_energy = false;
};

void read_blocks(JsonFields& root, Problem& problem, CommonCosts& common) {
  const Json& blocks = root.array("blocks", 1, kMostBlocks);
  Names names;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string path = entry_path("blocks", i);
    JsonFields fields(blocks[i], path);
    problem.blocks.push_back({.name = fields.text("name"),
                              .memory_bytes = fields.number("memory_bytes"),
                              .output_bytes = fields.number("output_bytes"),
                              .parameter_bytes = fields.number_or("parameter_bytes", 0)});
    common.has_energy = common.has_energy || fields.has("energy_mj");
    common.energy_mj.push_back(fields.number_or("energy_mj", 0));
    fields.check_all_known();
    names.add(problem.blocks.back().name, path);
  }
}

void read_leakage(JsonFields& root, Problem& problem) {
  if (root.has("leakage") != root.has("max_leakage")) {
    root.refuse(root.has("leakage") ? "max_leakage" : "leakage",
                "is missing: leakage and max_leakage need each other");
  }
  if (!root.has("leakage")) return;
  // An entry for each cut from 0 on; that for the cut after the last block, where nothing is sent, may be there.
  const size_t count = root.array("leakage", problem.size(), problem.size() + 1).size();
  problem.leakage = root.numbers("leakage", count);
  problem.max_leakage = root.limit("max_leakage");
}

BlockTimes read_times(JsonFields& fields, size_t blocks, bool training, bool has_optimiser) {
  const std::vector<double> zeros(blocks, 0.0);
  BlockTimes times{fields.numbers("forward_ms", blocks), zeros, zeros};
  if (training || fields.has("backward_ms")) {
    auto backward = fields.numbers("backward_ms", blocks);
    if (training) times.backward_ms = std::move(backward);
  }
  if (has_optimiser && fields.has("optimiser_ms")) times.optimiser_ms = fields.numbers("optimiser_ms", blocks);
  return times;
}

PlaceLimits read_limits(JsonFields& fields, size_t blocks, bool needs_memory, const CommonCosts& common) {
  PlaceLimits limits{.memory_bytes = needs_memory ? fields.limit("memory_bytes")
                                                  : fields.limit_or_none("memory_bytes"),
                     .energy_mj = common.energy_mj,
                     .max_energy_mj = fields.limit_or_none("max_energy_mj")};
  const bool has_own = fields.has("energy_mj");
  if (has_own) limits.energy_mj = fields.numbers("energy_mj", blocks);
  if (fields.has("max_energy_mj") && !has_own && !common.has_energy) {
    fields.refuse("energy_mj", "is missing: max_energy_mj needs the energy of each block");
  }
  return limits;
}

PlanDevice read_device(const Json& json, const std::string& path, const Problem& problem,
                       const CommonCosts& common) {
  JsonFields fields(json, path);
  PlanDevice device{.name = fields.text("name"),
                    .type = fields.has("type") ? fields.text("type") : "",
                    .times = read_times(fields, problem.size(), problem.training, false),
                    .limits = read_limits(fields, problem.size(), true, common)};
  fields.check_all_known();
  return device;
}

PlanLink read_link(JsonFields& fields) {
  return {.bytes_per_ms = fields.rate("bytes_per_ms"), .latency_ms = fields.number_or("latency_ms", 0)};
}

void read_links(JsonFields& root, const Names& names, ChainPlaces& chain) {
  const size_t count = chain.devices.size();
  JsonFields links(root.value("links"), "links");
  JsonFields general(links.value("default"), "links.default");
  chain.links.assign(count * count, read_link(general));
  general.check_all_known();
  if (links.has("overrides")) {
    const Json& overrides = links.array("overrides", 0, count * count);
    std::map<std::pair<size_t, size_t>, std::string> seen;
    for (size_t i = 0; i < overrides.size(); ++i) {
      const std::string path = entry_path("links.overrides", i);
      JsonFields fields(overrides[i], path);
      const size_t from = names.position(fields, "from");
      const size_t to = names.position(fields, "to");
      if (from == to) fields.refuse("to", "must be another device than from");
      const auto [old, is_new] = seen.emplace(std::pair(from, to), path);
      if (!is_new) throw ProblemError(path, "must differ from " + old->second + ", which names the same link");
      chain.links[from * count + to] = read_link(fields);
      fields.check_all_known();
    }
  }
  links.check_all_known();
}

ChainPlaces read_chain(JsonFields& root, const Problem& problem, const CommonCosts& common) {
  ChainPlaces chain;
  const Json& devices = root.array("devices", 1, kMostDevices);
  Names names;
  for (size_t i = 0; i < devices.size(); ++i) {
    const std::string path = entry_path("devices", i);
    chain.devices.push_back(read_device(devices[i], path, problem, common));
    names.add(chain.devices.back().name, path);
  }
  read_links(root, names, chain);
  chain.source = names.position(root, "source");
  chain.return_bytes = root.number_or("return_bytes", 0);
  chain.min_front_blocks = root.count_or("min_front_blocks", 1, 0, problem.size());
  chain.last_stage_on_source = root.flag_or("last_stage_on_source", false) || problem.labels_stay;
  chain.contiguous = root.flag_or("contiguous", true);
  chain.micro_batches = root.count_or("micro_batches", 1, 1, kMostCounted);
  return chain;
}

PlanClient read_client(const Json& json, const std::string& path, const Problem& problem,
                       const CommonCosts& common) {
  const size_t blocks = problem.size();
  JsonFields fields(json, path);
  PlanClient client{.name = fields.text("name"),
                    .times = read_times(fields, blocks, true, true),
                    .limits = read_limits(fields, blocks, false, common),
                    .up_bytes_per_ms = fields.rate("up_bytes_per_ms"),
                    .down_bytes_per_ms = fields.rate("down_bytes_per_ms"),
                    .latency_ms = fields.number_or("latency_ms", 0),
                    .steps = fields.count_or("steps", 1, 1, kMostCounted)};
  client.min_cut = fields.count_or("min_cut", 1, 0, blocks);
  client.max_cut = fields.count_or("max_cut", blocks - 1, 0, blocks);
  if (client.max_cut < client.min_cut) {
    fields.refuse("max_cut", "must be at least min_cut, which is " + number_text(client.min_cut) + ", got " +
                                 number_text(client.max_cut));
  }
  if (client.name == kAggregator) {
    fields.refuse("name", "must be another one than \"aggregator\", which names the server in a plan");
  }
  fields.check_all_known();
  return client;
}

/// Fields of a chain say nothing here. Their defaults may stand, everything else would do nothing.
void refuse_chain_fields(JsonFields& root) {
  const auto check = [&](const char* name, bool is_default) {
    if (!is_default) root.refuse(name, "says nothing in a problem with clients: leave it out");
  };
  check("return_bytes", root.number_or("return_bytes", 0) == 0);
  check("min_front_blocks", root.count_or("min_front_blocks", 1, 0, kMostBlocks) == 1);
  check("last_stage_on_source", !root.flag_or("last_stage_on_source", false));
  check("contiguous", root.flag_or("contiguous", true));
  check("micro_batches", root.count_or("micro_batches", 1, 1, kMostCounted) == 1);
  for (const char* name : {"devices", "links", "source"}) check(name, !root.has(name));
}

SplitPlaces read_split(JsonFields& root, const Problem& problem, const CommonCosts& common) {
  SplitPlaces split;
  JsonFields aggregator(root.value(kAggregator), kAggregator);
  split.aggregator = read_times(aggregator, problem.size(), true, true);
  split.aggregator_memory_bytes = aggregator.limit_or_none("memory_bytes");
  aggregator.check_all_known();
  const Json& clients = root.array("clients", 1, kMostClients);
  Names names;
  for (size_t i = 0; i < clients.size(); ++i) {
    const std::string path = entry_path("clients", i);
    split.clients.push_back(read_client(clients[i], path, problem, common));
    names.add(split.clients.back().name, path);
    if (split.clients.back().min_cut == 0 && !root.has("input_bytes")) {
      root.refuse("input_bytes", "is missing: " + path + ".min_cut is 0, so the input may travel");
    }
  }
  split.server = static_cast<ServerKind>(
      root.choice_or("server", {"sequential", "joined", "sharing", "uncontended"}, 0));
  refuse_chain_fields(root);
  return split;
}

void read_mode(JsonFields& root, Problem& problem, bool has_clients) {
  const size_t mode = root.choice_or("mode", {"inference", "training"}, has_clients ? 1 : 0);
  problem.training = mode == 1;
  if (has_clients && !problem.training) {
    root.refuse("mode", "must be training in a problem with clients, whose steps always train, got \"inference\"");
  }
}

/// Follows the parser, and stops it where a key occurs twice or the nesting is too deep for any problem.
class ParserGuard {
 public:
  bool operator()(int depth, Json::parse_event_t event, const Json& parsed) {
    using Event = Json::parse_event_t;
    if (depth > kDeepest) throw ProblemError("", "is nested deeper than " + number_text(kDeepest) + " levels");
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(parsed.get_ref<const std::string&>()).second) {
      throw ProblemError("", "has the key " + parsed.dump(-1, ' ', true, Json::error_handler_t::replace) +
                                 " twice in one object");
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;
};

/// nlohmann's message without its tag "[json.exception...] ".
std::string without_tag(const std::string& message) {
  const size_t end = message.find("] ");
  return message.starts_with("[json.exception") && end != std::string::npos ? message.substr(end + 2) : message;
}

}  // namespace

Problem read_problem(const Json& json) {
  Problem problem;
  JsonFields root(json, "");
  const bool has_clients = root.has("clients") || root.has(kAggregator);
  if (has_clients && root.has("devices")) {
    root.refuse("devices", "says nothing in a problem with clients: leave one of the two out");
  }
  CommonCosts common;
  read_blocks(root, problem, common);
  read_mode(root, problem, has_clients);
  read_leakage(root, problem);
  problem.labels_stay = root.flag_or("labels_stay", false);
  problem.input_bytes = has_clients ? root.number_or("input_bytes", 0) : root.number("input_bytes");
  if (has_clients) {
    problem.places = read_split(root, problem, common);
  } else {
    problem.places = read_chain(root, problem, common);
  }
  root.check_all_known();
  return problem;
}

Result<Problem> parse_problem(std::string_view text) {
  if (text.size() > kLargestText) {
    return Error{ErrorCode::kTooLarge, "the problem is larger than 256 MiB"};
  }
  try {
    return read_problem(Json::parse(text, ParserGuard()));
  } catch (const ProblemError& error) {
    return detail::invalid(error.what());
  } catch (const Json::exception& error) {
    return detail::invalid("the problem is not JSON: " + without_tag(error.what()));
  }
}

}  // namespace tandem
