#include "tandem/core/partition/client_cuts.h"

#include <limits>
#include <set>

#include "tandem/core/base/specification.h"
#include "tandem/core/base/text.h"

namespace tandem {
namespace {

constexpr const char* kOthers = "*";

Result<int> parse_cut(const std::string& text) {
  const auto cut = parse_integer("cut", text, 1, std::numeric_limits<int>::max());
  if (!cut) return cut.error();
  return static_cast<int>(*cut);
}

Error bad(const std::string& problem) {
  return {ErrorCode::kInvalidArgument,
          problem +
              "; expected a number of blocks, or NAME=CUT for each client and *=CUT for all others, such as "
              "client-1=1,*=2"};
}

}  // namespace

Result<ClientCuts> ClientCuts::parse(const std::string& text) {
  if (text.find('=') == std::string::npos) {
    const auto cut = parse_cut(text);
    return cut ? Result<ClientCuts>(ClientCuts(*cut)) : bad(cut.error().message);
  }
  std::map<std::string, int> cuts;
  for (const std::string_view part : split(text, ',')) {
    const std::string entry(trimmed(part));
    const size_t sign = entry.rfind('=');
    if (sign == std::string::npos || sign == 0) return bad("\"" + entry + "\" is not NAME=CUT");
    const std::string name(trimmed(entry.substr(0, sign)));
    const auto cut = parse_cut(std::string(trimmed(entry.substr(sign + 1))));
    if (!cut) return bad(name + ": " + cut.error().message);
    if (!cuts.emplace(name, *cut).second) return bad(name + " occurs twice");
  }
  const auto others = cuts.extract(kOthers);
  if (!others) return bad("*=CUT is missing in \"" + text + "\"");
  ClientCuts result(others.mapped());
  for (const auto& [name, cut] : cuts) result.own_[ClientId{name}] = cut;
  return result;
}

int ClientCuts::of(const ClientId& client) const {
  const auto found = own_.find(client);
  return found == own_.end() ? others_ : found->second;
}

std::vector<int> ClientCuts::distinct() const {
  std::set<int> cuts;
  if (has_others_) cuts.insert(others_);
  for (const auto& [client, cut] : own_) cuts.insert(cut);
  return {cuts.begin(), cuts.end()};
}

std::string ClientCuts::text() const {
  if (equal()) return std::to_string(lowest());
  std::string text;
  for (const auto& [client, cut] : own_) text += client.name + "=" + std::to_string(cut) + ",";
  return has_others_ ? text + "*=" + std::to_string(others_) : text.substr(0, text.size() - 1);
}

Result<ClientCuts> ClientCuts::of_clients(const std::vector<ClientId>& clients) const {
  std::vector<std::string> names;
  ClientCuts result(others_);
  for (const ClientId& client : clients) {
    names.push_back(client.name);
    result.own_[client] = of(client);
  }
  for (const auto& [client, cut] : own_) {
    if (result.own_.contains(client)) continue;
    const auto nearest = nearest_name(client.name, names);
    return Error{ErrorCode::kNotFound, "there is no client " + client.name +
                                           (nearest ? ", the nearest name is " + *nearest : std::string())};
  }
  result.has_others_ = result.own_.empty();
  return result;
}

}  // namespace tandem
