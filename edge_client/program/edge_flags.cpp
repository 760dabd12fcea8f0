#include "tandem/edge_client/program/edge_flags.h"

#include "tandem/core/base/endpoint.h"
#include "tandem/core/program/compute_options.h"
#include "tandem/core/program/link_options.h"
#include "tandem/core/transport/keys.h"

namespace tandem::edge_client {
namespace {

const std::vector<Form>& limit_forms() {
  static const std::vector<Form> forms = {{"", "", {frame_limit("the aggregator")}}};
  return forms;
}

}  // namespace

void EdgeFlags::add_to(Flags& flags) {
  add_network(flags);
  add_data(flags);
  add_machine(flags);
}

Result<void> EdgeFlags::check_insecure() const {
  if (!insecure || (key_file.empty() && server_key.empty())) return {};
  return Error{ErrorCode::kInvalidArgument,
               "--insecure and " + std::string(key_file.empty() ? "--server-key" : "--key-file") +
                   " cannot be combined: without encryption neither side shows a key; leave out "
                   "--insecure (or, for a trial, both keys)"};
}

void EdgeFlags::add_network(Flags& flags) {
  flags.section("network", "Network");
  flags
      .add("name", name,
           "This device's name, for its own lines and under --insecure; otherwise the key says who it is")
      .not_of_the_run();
  flags
      .add("endpoint", endpoint,
           "Address of the aggregator, such as tcp://HOST:5555; each address of a host name is tried")
      .not_of_the_run();
  flags.add("server-key", server_key, "Public key of the aggregator; a server with another one is refused")
      .not_of_the_run();
  flags.add_path("key-file", key_file, "This device's key pair (made by tandem provision)").not_of_the_run();
  flags.add("insecure", insecure, "No encryption and no authentication; loopback addresses only")
      .not_of_the_run()
      .checked_by([this] { return check_insecure(); });
  flags.add("give-up-after", give_up_after, "Seconds without an aggregator after which to stop; 0 never does")
      .between(0, 1e7)
      .not_of_the_run();
  flags
      .add("resend-after", resend_after,
           "Seconds without an answer after which a request is sent again, and the aggregator asked what to "
           "do")
      .between(0.01, 3600)
      .not_of_the_run();
  flags.add("limits", limits, "What is borne from the aggregator")
      .takes(limit_forms())
      .not_of_the_run()
      .replaces("max-frame-mib", "frame-mib");
  add_fault(flags, fault);
}

void EdgeFlags::add_data(Flags& flags) {
  flags.section("data", "Data");
  flags.add_data("data", data,
                 "The device's data, such as idx:DIR, idx:DIR,classes=N or synthetic:images,examples=6000");
  flags.add("shard", shard, "I/N: take part I of N of the data; empty takes all");
  flags.add("partition", partition, "How the parts are drawn: iid or dirichlet:ALPHA")
      .does_nothing("without --shard", "all of the data is this device's", "give --shard I/N",
                    [this] { return shard.empty(); });
  flags.add("partition-seed", partition_seed, "Seed of the parts; the same on every device");
  flags.add("hold-out", hold_out,
            "Fraction of this device's examples on which it only evaluates, when the aggregator cannot");
}

void EdgeFlags::add_machine(Flags& flags) {
  flags.section("machine", "Machine and files");
  add_device(flags, device).not_of_the_run();
  add_threads(flags, threads).not_of_the_run();
  add_slowdown(flags, slowdown).not_of_the_run();
  flags.add("prefetch", prefetch, "Batches prepared ahead").between(0, 64).not_of_the_run();
  flags
      .add_path("run-dir", run_dir,
                "Folder for this device's checkpoints, so that it goes on after its own death; empty keeps "
                "them in memory, for the death of the aggregator")
      .not_of_the_run();
  flags.add("resume", resume, "Go on from the checkpoints in --run-dir; begins where there were none")
      .not_of_the_run()
      .checked_by([this]() -> Result<void> {
        if (!resume || !run_dir.empty()) return {};
        return Error{ErrorCode::kInvalidArgument, "--resume needs --run-dir: the folder it goes on from"};
      });
  flags
      .add_path("seal-key", seal_key,
                "Seal the checkpoints in --run-dir with the key in this file (tandem seal-key makes one)")
      .does_nothing("without --run-dir", "nothing is written to the disk", "give --run-dir",
                    [this] { return run_dir.empty(); })
      .not_of_the_run();
  flags.add_path("save-front", save_front, "Write the final merged front to this .safetensors file")
      .not_of_the_run();
  flags.add("quiet", quiet, "No progress, only what a person must know").not_of_the_run();
}

Result<FaultOptions> EdgeFlags::fault_options() const {
  return parse_fault_option(fault);
}

Result<ZmqClientOptions> EdgeFlags::client_options() const {
  if (insecure && name.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--name is missing: under --insecure no key says who this device is"};
  }
  if (data.empty())
    return Error{ErrorCode::kInvalidArgument,
                 "--data is missing, for example --data idx:/usr/share/datasets/fashion-mnist"};
  if (auto checked = parse_endpoint("--endpoint", endpoint, EndpointUse::kConnect); !checked)
    return checked.error();
  const auto form = parse_form("--limits", limits, limit_forms());
  if (!form) return form.error();
  ZmqClientOptions options;
  options.max_frame_bytes = form->whole("frame-mib") << 20;
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
