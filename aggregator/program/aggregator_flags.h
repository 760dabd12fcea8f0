#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tandem/aggregator/session/session_options.h"
#include "tandem/core/base/form.h"
#include "tandem/core/base/result.h"
#include "tandem/core/model/initial_weights.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/transport/fault_injector.h"
#include "tandem/core/transport/zmq_server.h"

namespace tandem::aggregator {

/// The flags that say what is trained and how: those of tandem-aggregator and tandem simulate alike. Those
/// that take specifications are parsed by training_specifications.h.
struct TrainingFlags {
  std::string model = "cnn";
  std::string cut = "1";
  int32_t head_blocks = 0;
  int64_t num_classes = 0;
  std::string input_shape;
  std::filesystem::path init;
  std::string eval_data;
  std::string augment;
  std::string normalize;

  std::string algorithm = "parallel";
  std::string strategy = "fedavg";
  std::string edge_objective = "end-to-end";
  std::string batch_norm = "average";
  uint32_t rounds = 5;
  uint32_t local_epochs = 1;
  uint32_t local_steps = 0;
  uint32_t batch_size = 64;
  std::string optimizer = "sgd";
  double learning_rate = 0.05;
  std::string lr_schedule = "constant";
  uint64_t seed = 1;

  int32_t clients = 1;
  int32_t min_clients = 1;
  int32_t clients_per_round = 0;
  std::string stragglers = "drop";
  double client_timeout = 10;

  std::string device = "cpu";
  int32_t threads = 0;
  std::filesystem::path run_dir = "runs/latest";
  uint32_t checkpoint_steps = 0;
  bool resume = false;
  std::filesystem::path seal_key;
  bool quiet = false;

  /// Adds a row for each to the table. The object must outlive `flags` and stay where it is.
  void add_to(Flags& flags);
  /// kInvalidArgument names the flag, the value and the rule.
  Result<SessionOptions> session_options() const;
  /// The weights in the file that --init names; none without one.
  Result<std::optional<InitialWeights>> load_initial_weights() const;

 private:
  void add_model(Flags& flags);
  void add_training(Flags& flags);
  void add_steps(Flags& flags);
  void add_participation(Flags& flags);
  void add_machine(Flags& flags);
  bool is_federated() const;
  Result<void> check_min_clients() const;
  Result<void> set_plan(SessionOptions& options) const;
  Result<void> set_strategy(SessionOptions& options) const;
  Result<void> set_participation(SessionOptions& options) const;
};

/// What --limits says: what an aggregator bears from its peers.
struct PeerLimits {
  int64_t max_frame_bytes = 0;
  int max_connections = 0;
  int quarantine_after = 0;
};
/// What --limits takes; without a network, in a simulation, only the mistakes.
const std::vector<Form>& limit_forms(bool has_network);
/// kInvalidArgument names the parameter, its value and its range.
Result<PeerLimits> parse_limits(const std::string& text, bool has_network);

/// The flags that say where tandem-aggregator listens and who may come.
struct NetworkFlags {
  std::string endpoint = "tcp://127.0.0.1:5555";
  std::filesystem::path key_file;
  std::filesystem::path devices_file;
  bool insecure = false;
  std::string limits;
  std::string fault;
  std::filesystem::path endpoint_file;

  void add_to(Flags& flags);
  /// Reads the key and the device list. Errors name the flag or file.
  Result<ZmqServerOptions> server_options(uint32_t window) const;
  /// What --fault asks for.
  Result<FaultOptions> fault_options() const;
};

}  // namespace tandem::aggregator
