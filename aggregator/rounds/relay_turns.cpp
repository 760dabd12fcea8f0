#include "tandem/aggregator/rounds/relay_turns.h"

namespace tandem::aggregator {

void RelayTurns::begin() {
  while (!over() && !round_.participants().at(holder()).active) ++turn_;
  asked_for_front_ = false;
}

void RelayTurns::pass_on() {
  ++turn_;
  begin();
}

std::vector<ClientId> RelayTurns::later() const {
  const std::vector<ClientId>& turns = round_.turns();
  if (turn_ + 1 >= turns.size()) return {};
  return {turns.begin() + static_cast<std::ptrdiff_t>(turn_) + 1, turns.end()};
}

}  // namespace tandem::aggregator
