#pragma once

#include <memory>
#include <set>
#include <string>

#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator {

// Merges that some lying clients cannot steer. All are unweighted, since a client states its own examples,
// and hold every update until the merge. Distances and means are computed in double.

/// Coordinate-wise median (Yin et al. 2018); of an even number the mean of the two in the middle. Buffers are
/// treated like parameters.
std::unique_ptr<Strategy> make_median();

/// Coordinate-wise mean without the floor(fraction n) smallest and as many largest values; `fraction` in
/// [0, 0.5). Buffers are treated like parameters.
std::unique_ptr<Strategy> make_trimmed_mean(double fraction);

/// Krum and Multi-Krum (Blanchard et al. 2017): a client's score is the sum of its max(1, n-f-2) smallest
/// squared distances to others, over all parameters; ties go to the smaller client id. Merged is the mean of
/// the `selected` best, 0: n-f; of their buffers likewise. An attacker may be among more than n-f, so
/// n >= selected + f is required beside n >= 2f+3.
std::unique_ptr<Strategy> make_krum(std::string name, std::set<std::string> buffers, int attackers,
                                    int selected);

/// Bulyan (El Mhamdi et al. 2018): n-2f clients by Krum, each time among those that remain, then for each
/// coordinate the mean of the n-4f values nearest the median of the selected (of two equally near the
/// smaller); n >= 4f+3. Buffers have no part in the selection, and so take the coordinate-wise mean too.
std::unique_ptr<Strategy> make_bulyan(std::set<std::string> buffers, int attackers);

}  // namespace tandem::aggregator
