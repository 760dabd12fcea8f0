#include <algorithm>
#include <cmath>

#include "tandem/core/planning/matrix_game_detail.h"

namespace tandem::detail {
namespace {

constexpr double kZero = 1e-11;

/// The tableau of: maximise the sum of y so that payoff x y <= 1, y >= 0, for a payoff above 0. Its columns are
/// the game's, then a slack for each row, then the right-hand side; its last line is the objective.
class Tableau {
 public:
  Tableau(const std::vector<std::vector<double>>& payoff, double shift, double scale)
      : rows_(payoff.size()), columns_(payoff[0].size()), width_(columns_ + rows_ + 1) {
    cells_.assign((rows_ + 1) * width_, 0.0);
    for (size_t r = 0; r < rows_; ++r) {
      for (size_t c = 0; c < columns_; ++c) at(r, c) = (payoff[r][c] + shift) / scale;
      at(r, columns_ + r) = 1;
      at(r, width_ - 1) = 1;
      basis_.push_back(columns_ + r);
    }
    for (size_t c = 0; c < columns_; ++c) at(rows_, c) = -1;
  }

  void solve() {
    const size_t most = 50 * (rows_ + columns_);
    for (size_t step = 0; step < most; ++step) {
      // The steepest column is quick; Bland's rule, which cannot cycle, ends the search where that one does not.
      const size_t column = entering(step > most / 2);
      if (column == width_) return;
      const size_t row = leaving(column);
      if (row == rows_) return;
      pivot(row, column);
    }
  }

  GameSolution solution() const {
    GameSolution game{std::vector<double>(rows_, 0.0), std::vector<double>(columns_, 0.0)};
    for (size_t r = 0; r < rows_; ++r) {
      if (basis_[r] < columns_) game.columns[basis_[r]] = std::max(0.0, cell(r, width_ - 1));
      game.rows[r] = std::max(0.0, cell(rows_, columns_ + r));
    }
    normalise(game.rows);
    normalise(game.columns);
    return game;
  }

 private:
  double& at(size_t row, size_t column) { return cells_[row * width_ + column]; }
  double cell(size_t row, size_t column) const { return cells_[row * width_ + column]; }

  size_t entering(bool first) const {
    size_t best = width_;
    for (size_t c = 0; c + 1 < width_; ++c) {
      if (cell(rows_, c) >= -kZero) continue;
      if (best == width_ || cell(rows_, c) < cell(rows_, best)) best = c;
      if (first) break;
    }
    return best;
  }

  size_t leaving(size_t column) const {
    size_t best = rows_;
    double least = 0;
    for (size_t r = 0; r < rows_; ++r) {
      if (cell(r, column) <= kZero) continue;
      const double ratio = cell(r, width_ - 1) / cell(r, column);
      if (best == rows_ || ratio < least || (ratio == least && basis_[r] < basis_[best])) {
        best = r;
        least = ratio;
      }
    }
    return best;
  }

  void pivot(size_t row, size_t column) {
    const double by = at(row, column);
    for (size_t c = 0; c < width_; ++c) at(row, c) /= by;
    for (size_t r = 0; r <= rows_; ++r) {
      const double factor = at(r, column);
      if (r == row || factor == 0) continue;
      for (size_t c = 0; c < width_; ++c) at(r, c) -= factor * at(row, c);
    }
    basis_[row] = column;
  }

  static void normalise(std::vector<double>& probabilities) {
    double sum = 0;
    for (const double p : probabilities) sum += p;
    for (double& p : probabilities) p = sum > 0 ? p / sum : 1.0 / static_cast<double>(probabilities.size());
  }

  size_t rows_;
  size_t columns_;
  size_t width_;
  std::vector<double> cells_;
  std::vector<size_t> basis_;
};

}  // namespace

GameSolution solve_game(const std::vector<std::vector<double>>& payoff) {
  double low = payoff[0][0];
  double high = low;
  for (const auto& row : payoff) {
    low = std::min(low, *std::min_element(row.begin(), row.end()));
    high = std::max(high, *std::max_element(row.begin(), row.end()));
  }
  // The payoffs come to lie between 1 and 2: adding a constant changes no strategy.
  const double scale = high > low ? high - low : 1;
  Tableau tableau(payoff, scale - low, scale);
  tableau.solve();
  return tableau.solution();
}

}  // namespace tandem::detail
