#pragma once

#include <map>
#include <string>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"

namespace tandem {

/// Says after how many blocks the model of each client of a run is cut: one number for all clients, or
/// numbers of their own for some of them and one for all others.
class ClientCuts {
 public:
  /// Cuts the model of every client after `everybody` blocks.
  explicit ClientCuts(int everybody = 1) : others_(everybody) {}

  /// Reads "2", or a list such as "client-1=1,client-2=3,*=2", in which `*` stands for every client that the
  /// list does not name and must occur. kInvalidArgument quotes the entry that is not NAME=CUT, the name that
  /// occurs twice, or says that `*` is missing. Whether a cut fits the model is ModelPartition's to say.
  static Result<ClientCuts> parse(const std::string& text);

  int of(const ClientId& client) const;
  /// Whether every client has the same cut.
  bool equal() const { return lowest() == highest(); }
  int lowest() const { return distinct().front(); }
  int highest() const { return distinct().back(); }
  /// Returns every cut that some client has or may have, in ascending order.
  std::vector<int> distinct() const;
  /// Returns the text that `parse` reads, with the names in alphabetical order.
  std::string text() const;

  /// Returns the cuts of exactly these clients, so that `distinct` has no cut that nobody uses. kNotFound
  /// names a client of the list that is not among them, with the nearest name.
  Result<ClientCuts> of_clients(const std::vector<ClientId>& clients) const;

  bool operator==(const ClientCuts&) const = default;

 private:
  int others_ = 1;
  bool has_others_ = true;  // false once every client is named
  std::map<ClientId, int> own_;
};

}  // namespace tandem
