#include "tandem/edge_client/program/edge_flags.h"

#include "tandem/core/base/endpoint.h"
#include "tandem/core/transport/keys.h"

namespace tandem::edge_client {

void EdgeFlags::add_to(Flags& flags) {
  flags.group("Network");
  flags.add("name", name,
            "This device's name, for its own lines and under --insecure; otherwise the key says who it is");
  flags.add("endpoint", endpoint,
            "Address of the aggregator, such as tcp://HOST:5555; each address of a host name is tried");
  flags.add("server-key", server_key, "Public key of the aggregator; a server with another one is refused");
  flags.add_path("key-file", key_file, "This device's key pair (made by tandem provision)");
  flags.add("insecure", insecure, "No encryption and no authentication; loopback addresses only");
  flags.add("give-up-after", give_up_after,
            "Seconds without an aggregator after which to stop; 0 never does");

  flags.add(
      "resend-after", resend_after,
      "Seconds without an answer after which a request is sent again, and the aggregator asked what to do");
  flags.add("max-frame-mib", max_frame_mib, "Largest tensor accepted from the aggregator, MiB");
  flags.add("fault", fault,
            "Disturb this program's own messages, for a trial: drop=P, duplicate=P, reorder or reorder=P, "
            "corrupt=P, delay=TIME, disconnect=TIME, comma separated, such as drop=0.01,delay=50ms");
  flags.add("fault-seed", fault_seed, "Seed of --fault");

  flags.group("Data");
  flags.add_data("data", data,
                 "The device's data, such as idx:DIR, idx:DIR,classes=N or synthetic:images,examples=6000");
  flags.add("shard", shard, "I/N: take part I of N of the data; empty takes all");
  flags.add("partition", partition, "How the parts are drawn: iid or dirichlet:ALPHA");
  flags.add("partition-seed", partition_seed, "Seed of the parts; the same on every device");
  flags.add("hold-out", hold_out,
            "Fraction of this device's examples on which it only evaluates, when the aggregator cannot");

  flags.group("Machine and files");
  flags.add("device", device, "cpu, cuda or cuda:N");
  flags.add("threads", threads,
            "Threads of one tensor operation; 0: one less than the cores that this program may use "
            "(affinity, CPU quota)");
  flags.add("prefetch", prefetch, "Batches prepared ahead");
  flags.add_path(
      "run-dir", run_dir,
      "Folder for this device's checkpoints, so that it goes on after its own death; empty keeps them "
      "in memory, for the death of the aggregator");
  flags.add("resume", resume, "Go on from the checkpoints in --run-dir; begins where there were none");
  flags.add_path("seal-key", seal_key,
                 "Seal the checkpoints in --run-dir with the key in this file (tandem seal-key makes one)");
  flags.add_path("save-front", save_front, "Write the final merged front to this .safetensors file");
  flags.add("quiet", quiet, "No progress, only what a person must know");
  flags.not_of_the_run({"name", "endpoint", "server-key", "key-file", "insecure", "give-up-after",
                        "resend-after", "max-frame-mib", "fault", "fault-seed", "device", "threads",
                        "prefetch", "run-dir", "resume", "seal-key", "save-front", "quiet"});
}

Result<void> EdgeFlags::check_no_flag_is_unused() const {
  const EdgeFlags defaults;
  const auto unused = [](const std::string& flag, const std::string& reason, const std::string& remedy) {
    return Error{ErrorCode::kInvalidArgument,
                 "--" + flag + " does nothing " + reason + "; leave it out or " + remedy};
  };
  if (fault.empty() && fault_seed != defaults.fault_seed) {
    return unused("fault-seed", "without --fault: nothing is disturbed", "give --fault");
  }
  if (shard.empty() && partition != defaults.partition) {
    return unused("partition", "without --shard: all of the data is this device's", "give --shard I/N");
  }
  if (run_dir.empty() && !seal_key.empty()) {
    return unused("seal-key", "without --run-dir: nothing is written to the disk", "give --run-dir");
  }
  if (insecure && !(key_file.empty() && server_key.empty())) {
    return Error{ErrorCode::kInvalidArgument,
                 "--insecure and " + std::string(key_file.empty() ? "--server-key" : "--key-file") +
                     " cannot be combined: without encryption neither side shows a key; leave out "
                     "--insecure (or, for a trial, both keys)"};
  }
  return {};
}

Result<FaultOptions> EdgeFlags::fault_options() const {
  auto faults = parse_faults(fault, fault_seed);
  if (!faults) return Error{faults.error().code, "--fault: " + faults.error().message};
  return faults;
}

Result<ZmqClientOptions> EdgeFlags::client_options() const {
  if (insecure && name.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--name is missing: under --insecure no key says who this device is"};
  }
  if (data.empty())
    return Error{ErrorCode::kInvalidArgument,
                 "--data is missing, for example --data idx:/usr/share/datasets/fashion-mnist"};
  if (prefetch < 0 || prefetch > 64) {
    return Error{ErrorCode::kInvalidArgument,
                 "--prefetch must be between 0 and 64, got " + std::to_string(prefetch)};
  }
  if (resume && run_dir.empty()) {
    return Error{ErrorCode::kInvalidArgument, "--resume needs --run-dir: the folder it goes on from"};
  }
  if (max_frame_mib < 1 || max_frame_mib > 16384) {
    return Error{ErrorCode::kInvalidArgument,
                 "--max-frame-mib must be between 1 and 16384, got " + std::to_string(max_frame_mib)};
  }
  if (!(give_up_after >= 0 && give_up_after <= 1e7)) {
    return Error{ErrorCode::kInvalidArgument, "--give-up-after must be between 0 and 10000000 seconds, got " +
                                                  std::to_string(give_up_after)};
  }
  if (!(resend_after >= 0.01 && resend_after <= 3600)) {
    return Error{ErrorCode::kInvalidArgument,
                 "--resend-after must be between 0.01 and 3600 seconds, got " + std::to_string(resend_after)};
  }
  if (auto checked = check_no_flag_is_unused(); !checked) return checked.error();
  if (auto checked = parse_endpoint("--endpoint", endpoint, EndpointUse::kConnect); !checked)
    return checked.error();
  ZmqClientOptions options;
  options.max_frame_bytes = max_frame_mib << 20;
  options.endpoint = endpoint;
  options.insecure = insecure;
  options.insecure_name = name;
  if (insecure) return options;
  if (key_file.empty() || server_key.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--key-file and --server-key are missing; \"tandem provision\" at the aggregator makes a "
                 "start-up kit with both (or --insecure on a loopback address, for a trial)"};
  }
  if (!is_z85_key(server_key)) {
    return Error{ErrorCode::kInvalidArgument,
                 "--server-key is not a public key: expected 40 characters of Z85, got " +
                     std::to_string(server_key.size()) + " characters"};
  }
  auto keys = load_key_pair(key_file);
  if (!keys) return keys.error();
  options.keys = std::move(*keys);
  options.server_public_key = server_key;
  return options;
}

}  // namespace tandem::edge_client
