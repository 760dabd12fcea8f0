#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/transport/fault_injector.h"
#include "tandem/core/transport/zmq_client.h"

namespace tandem::edge_client {

/// The flags of tandem-edge.
struct EdgeFlags {
  std::string name;
  std::string endpoint = "tcp://127.0.0.1:5555";
  std::string server_key;
  std::filesystem::path key_file;
  bool insecure = false;
  double give_up_after = 0;
  double resend_after = 15;
  std::string limits;
  std::string fault;

  std::string data;
  std::string shard;
  std::string partition = "iid";
  uint64_t partition_seed = 1;
  double hold_out = 0;

  std::string device = "cpu";
  int32_t threads = 0;
  double slowdown = 1;
  int32_t prefetch = 2;
  std::filesystem::path run_dir;
  bool resume = false;
  std::filesystem::path seal_key;
  std::filesystem::path save_front;
  bool quiet = false;

  void add_to(Flags& flags);
  /// Reads the key. Errors name the flag or file.
  Result<ZmqClientOptions> client_options() const;
  /// What --fault asks for.
  Result<FaultOptions> fault_options() const;

 private:
  void add_network(Flags& flags);
  void add_data(Flags& flags);
  void add_machine(Flags& flags);
  Result<void> check_insecure() const;
};

}  // namespace tandem::edge_client
