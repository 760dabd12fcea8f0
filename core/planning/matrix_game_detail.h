#pragma once

#include <cstddef>
#include <vector>

namespace tandem::detail {

/// Mixed strategies of a matrix game: the row player wants much, the column player little.
struct GameSolution {
  std::vector<double> rows;     ///< probabilities
  std::vector<double> columns;  ///< probabilities
};

/// Solves the game by the simplex method, up to rounding. `payoff[row][column]`, at least one of each.
GameSolution solve_game(const std::vector<std::vector<double>>& payoff);

}  // namespace tandem::detail
