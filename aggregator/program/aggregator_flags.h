#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "tandem/aggregator/session/session_options.h"
#include "tandem/core/base/result.h"
#include "tandem/core/model/initial_weights.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/transport/zmq_server.h"

namespace tandem::aggregator {

/// The flags that say what is trained and how: those of tandem-aggregator and tandem simulate alike.
struct TrainingFlags {
  std::string model = "cnn";
  int32_t cut = 1;
  int32_t head_blocks = 0;
  std::string algorithm = "parallel";
  std::string strategy = "fedavg";
  std::string edge_objective = "end-to-end";
  uint32_t tail_interval = 1;
  std::string auxiliary_head = "linear";
  uint32_t align_interval = 1;
  uint32_t align_memory_mib = 256;
  int32_t align_tail_epochs = -1;
  int32_t align_epochs = 1;
  double align_learning_rate = 1e-4;
  std::string update_order = "arrival";
  std::string batch_norm = "average";
  uint32_t rounds = 5;
  int32_t clients = 1;
  int32_t min_clients = 1;
  int32_t clients_per_round = 0;
  double fraction = 1;
  uint32_t batch_size = 64;
  uint32_t local_epochs = 1;
  uint32_t local_steps = 0;
  uint32_t window = 1;
  uint64_t seed = 1;

  std::string optimizer = "sgd";
  double learning_rate = 0.05;
  std::string lr_schedule = "constant";

  std::string augment;
  std::string normalize;
  std::string eval_data;
  int64_t num_classes = 0;
  std::string input_shape;
  std::filesystem::path init;

  double step_deadline = 0;
  double round_deadline = 0;
  std::string stragglers = "drop";
  double update_deadline = 0;
  double client_timeout = 10;
  int32_t quarantine_after = 20;

  std::string device = "cpu";
  int32_t threads = 0;
  std::filesystem::path run_dir = "runs/latest";
  uint32_t checkpoint_steps = 0;
  bool resume = false;
  std::filesystem::path seal_key;
  bool quiet = false;

  void add_to(Flags& flags);
  /// kInvalidArgument names the flag, the value and the rule.
  Result<SessionOptions> session_options() const;
  /// The weights in the file that --init names; none without one.
  Result<std::optional<InitialWeights>> load_initial_weights() const;

 private:
  Result<void> choose_strategy(SessionOptions& options) const;
};

/// The flags that say where tandem-aggregator listens and who may come.
struct NetworkFlags {
  std::string endpoint = "tcp://127.0.0.1:5555";
  std::filesystem::path key_file;
  std::filesystem::path devices_file;
  bool insecure = false;
  int64_t max_frame_mib = 256;
  std::string fault;
  uint64_t fault_seed = 1;
  int32_t max_connections = 0;
  std::filesystem::path endpoint_file;

  void add_to(Flags& flags);
  /// Reads the key and the device list. Errors name the flag or file.
  Result<ZmqServerOptions> server_options(uint32_t window) const;
};

}  // namespace tandem::aggregator
