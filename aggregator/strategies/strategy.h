#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem::aggregator {

/// What one client brings to a merge. Names, shapes and dtypes are those of the global weights throughout.
struct ClientUpdate {
  ClientId client;
  NamedTensors weights;         ///< w_k, after the client's local training
  uint64_t examples = 0;        ///< n_k, the weight in weighted means; >= 1
  uint32_t steps = 0;           ///< local optimiser steps; >= 1 for fednova, others do not read it
  uint32_t staleness = 0;       ///< merges since the weights it started from; read by fedbuff only
  NamedTensors base;            ///< the weights it started from; empty: the global ones; read by fedbuff only
  NamedTensors control_change;  ///< scaffold: c_k' - c_k, float32, one per parameter; empty: no change
};

/// How client weights become the next global weights. One merge is `begin`, `add` for each update, `merge`.
///
/// Tensors are of three kinds. Parameters are floating-point and follow the strategy's formula. Buffers
/// (batch-norm statistics: floating-point, named in StrategyOptions.buffers) never meet a server optimiser:
/// they are averaged by examples; median, trimmed-mean and bulyan merge them like parameters, krum and
/// multi-krum take the plain mean of the selected clients'. Integer tensors (counters) take the maximum, of
/// the selected clients where there is a selection.
///
/// Streaming strategies keep sums in double, so their memory does not grow with the number of clients; those
/// where needs_single_updates() hold every update until `merge`. Not thread-safe.
class Strategy {
 public:
  virtual ~Strategy() = default;

  /// As in the specification, for example "fedadam".
  virtual const std::string& name() const = 0;

  /// Begins a merge into `global`, of which it keeps a copy. Updates of a merge under way are dropped.
  virtual void begin(const NamedTensors& global) = 0;

  /// Called in client-id order, so that the result does not depend on arrival. kShapeMismatch, kNonFinite
  /// and kInvalidArgument (fednova: no steps) name client and tensor, and that update is left out. Throws
  /// std::invalid_argument unless `examples` >= 1, and where needs_single_updates() for a client's second
  /// update in one merge; std::logic_error before `begin`. Where needs_single_updates() the tensors must not
  /// be written before `merge`; the others read them here only.
  virtual Result<void> add(ClientUpdate update) = 0;

  /// Updates added since `begin`; 0 after `merge`.
  virtual int updates() const = 0;

  /// Fewest updates this strategy can merge: krum 2f+3, multi-krum max(2f+3, m+f), bulyan 4f+3, others 1.
  virtual int minimum_updates() const = 0;

  /// The new global weights, in storage of their own, in the dtypes and memory formats of `global`. Ends the
  /// merge. kInvalidArgument says what came and what is needed when there are too few updates;
  /// kShapeMismatch when loaded state is of another model, kNonFinite when the result exceeds its dtype
  /// (finite but huge updates and a server step); momentum and the like are then as before `begin`.
  /// Throws std::logic_error before `begin`.
  virtual Result<NamedTensors> merge() = 0;

  /// SCAFFOLD's server control c, float32, one per parameter, for the clients; empty means zero (before the
  /// first merge, and for other strategies).
  virtual NamedTensors control() const { return {}; }

  /// N, the number of clients in the run, for SCAFFOLD's control: c += |S|/N mean(change). At least 1; the
  /// default 1, like any number below |S|, counts as |S|. Throws std::invalid_argument below 1.
  virtual void set_population(int clients);

  /// What a checkpoint keeps, copied: momentum "m.<name>" and second moments "v.<name>" in double, SCAFFOLD's
  /// control "c.<name>" in float32. Empty before the first merge and for strategies without memory.
  virtual NamedTensors state() const = 0;

  /// Takes what `state` gave, copied; empty starts anew. kShapeMismatch, kNonFinite or kInvalidArgument name
  /// the first tensor that does not fit, and the state is then as it was.
  virtual Result<void> load_state(const NamedTensors& state) = 0;

  /// Of a merge under way what was added so far, copied for a checkpoint; empty before the first `add`, and
  /// where merges are not interrupted (all but fedbuff).
  virtual NamedTensors added() const { return {}; }

  /// Takes what `added` gave, after `begin` with the same weights. kShapeMismatch, kNonFinite, kCorrupt or
  /// kInvalidArgument say what does not fit; the merge is then to be begun again.
  virtual Result<void> load_added(const NamedTensors& added);

  /// Whether it must see each update by itself (median, Krum, ...): such a strategy cannot work with secure
  /// aggregation, which shows sums only.
  virtual bool needs_single_updates() const { return false; }

  /// Clients that krum, multi-krum and bulyan did not select in the last merge, in id order; else empty.
  virtual std::vector<ClientId> left_out() const { return {}; }
};

struct StrategyOptions {
  /// `name` or `name:parameter=value,...`, see make_strategy.
  std::string specification = "fedavg";
  /// Names of the tensors that are buffers, not parameters; names the model lacks do no harm.
  std::set<std::string> buffers;
  /// The clients' SGD momentum, in [0, 1); fednova normalises by it.
  double momentum = 0;
};

/// What the clients and the session must do for a strategy.
struct StrategyTraits {
  std::string name;
  double proximal_mu = 0;             ///< fedprox: clients add (mu/2) |w_k - w|^2 to their loss
  bool control_variates = false;      ///< scaffold: clients keep c_k, receive c and send c_k' - c_k
  bool server_rate = false;           ///< its eta scales the server's step
  int buffer = 0;                     ///< fedbuff: merge whenever so many updates came; 0: once a round
  bool planned_order = false;         ///< fedbuff: updates are taken as if all clients were equally fast
  bool needs_single_updates = false;  ///< see Strategy
  int minimum_updates = 1;            ///< see Strategy
};

/// Strategies, their parameters and defaults (w global, n clients in the merge):
///
///   fedavg                              mean by examples (McMahan et al. 2017)
///   fedprox:mu=0.01                     as fedavg; the clients' loss has mu (Li et al. 2020, who tune it)
///   fedavgm:beta=0.9,eta=1              server momentum (Hsu et al. 2019)
///   fedadam:eta=0.01,beta1=0.9,beta2=0.99,tau=0.001,v0=tau^2, and fedyogi alike (Reddi et al. 2021)
///   fedadagrad:eta=0.1,beta1=0.9,tau=0.001,v0=tau^2
///       No bias correction. The paper tunes eta for each task; these defaults are ours.
///   fednova                             normalised by local steps (Wang et al. 2020)
///   scaffold:eta=1                      control variates (Karimireddy et al. 2020)
///   median                              coordinate-wise, unweighted (Yin et al. 2018)
///   trimmed-mean:fraction=0.25          floor(fraction n) off either end of each coordinate, unweighted; of
///                                       fewer than 1/fraction updates nothing is trimmed
///   krum:f=1                            the update nearest its n-f-2 neighbours (Blanchard et al. 2017)
///   multi-krum:f=1,m=N                  mean of the m best, default n-f as in the paper's experiments
///   bulyan:f=1                          (El Mhamdi et al. 2018)
///   fedbuff:buffer=10,eta=1,order=arrival
///       Asynchronous (Nguyen et al. 2022). Updates are taken in the order of their arrival, or with
///       order=planned as if all clients were equally fast.
///
/// kInvalidArgument names the unknown strategy or parameter, with the nearest known one, or the value and
/// its range.
Result<std::unique_ptr<Strategy>> make_strategy(const StrategyOptions& options);

/// The errors are those of make_strategy.
Result<StrategyTraits> strategy_traits(const std::string& specification);

/// All names, in the order above.
std::vector<std::string> strategy_names();

}  // namespace tandem::aggregator
