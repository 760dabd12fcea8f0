// Many edges in one process, each with its own encrypted connection, session and data: what hundreds of
// devices are to an aggregator, for measuring it on one machine.
//
//   many_edges --kits DIR --endpoint tcp://HOST:PORT --data SPEC [--prefix client-] --count N [--first I --of
//   M]
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tandem/augment/pipeline.h"
#include "tandem/core/base/interrupt.h"
#include "tandem/core/base/open_files.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/program/program.h"
#include "tandem/core/transport/keys.h"
#include "tandem/core/transport/zmq_client.h"
#include "tandem/datasets/data_source.h"
#include "tandem/edge_client/program/edge_client.h"

using namespace tandem;

namespace {

struct BenchFlags {
  std::filesystem::path kits;
  std::string endpoint;
  std::string data = "synthetic:images,examples=8000";
  std::string prefix = "client-";
  int32_t first = 1;
  int32_t count = 1;
  int32_t of = 0;

  void add_to(Flags& flags) {
    flags.add_path("kits", kits, "Folder that tandem provision made");
    flags.add("endpoint", endpoint, "Address of the aggregator");
    flags.add("data", data, "The data that the edges share out");
    flags.add("prefix", prefix, "Names of the devices without their number, which counts from 1");
    flags.add("first", first, "Number of the first device here");
    flags.add("count", count, "Edges");
    flags.add("of", of, "Edges in all such processes, which share out the data; 0: those of this one");
  }
};

/// A connection, its wake-up, and what libzmq opens for a context with two threads.
constexpr int64_t kFilesOfEdge = 24;

/// One device; the members' order is that of their making.
class BenchEdge {
 public:
  BenchEdge(std::unique_ptr<ZmqClient> transport, const std::string& endpoint,
            std::shared_ptr<const Dataset> data, uint64_t instance)
      : data_(std::move(data)),
        transport_(std::move(transport)),
        session_({.instance = instance, .prefetch = 0}, {.transport = transport_.get(),
                                                         .dataset = data_.get(),
                                                         .make_augmenter = augment::build_pipeline,
                                                         .now = std::chrono::steady_clock::now}),
        client_(session_, *transport_, {.endpoint = endpoint}, [](const std::string&) {}) {}

  Result<void> run() { return client_.run(stop_requested); }
  bool finished() const { return session_.phase() == edge_client::EdgeSession::Phase::kFinished; }

 private:
  std::shared_ptr<const Dataset> data_;
  std::unique_ptr<ZmqClient> transport_;
  edge_client::EdgeSession session_;
  edge_client::EdgeClient client_;
};

Result<int> run(const BenchFlags& flags) {
  const int64_t files = flags.count * kFilesOfEdge + 128;
  if (const int64_t limit = raise_open_files(files); limit < files) {
    return Error{ErrorCode::kIo, std::to_string(flags.count) + " edges need " + std::to_string(files) +
                                     " open files and this process may have " + std::to_string(limit) +
                                     "; raise its limit (ulimit -Hn) or use more processes"};
  }
  auto whole = datasets::open_dataset(flags.data, datasets::Split::kTrain);
  if (!whole) return whole.error();
  const auto server = load_key_pair(flags.kits / "aggregator" / "aggregator.key");
  if (!server) return server.error();
  std::vector<std::unique_ptr<BenchEdge>> edges;
  for (int32_t i = flags.first; i < flags.first + flags.count; ++i) {
    const std::string name = flags.prefix + std::to_string(i);
    const std::string shard =
        std::to_string(i - 1) + "/" + std::to_string(flags.of > 0 ? flags.of : flags.count);
    auto part = datasets::take_shard(*whole, {.shard = shard});
    if (!part) return part.error();
    auto keys = load_key_pair(flags.kits / name / "device.key");
    if (!keys) return keys.error();
    ZmqClientOptions options;
    options.endpoint = flags.endpoint;
    options.keys = std::move(*keys);
    options.server_public_key = server->public_key;
    auto transport = ZmqClient::make(std::move(options));
    if (!transport) return transport.error();
    edges.push_back(std::make_unique<BenchEdge>(std::move(*transport), flags.endpoint, std::move(*part),
                                                static_cast<uint64_t>(i)));
  }
  std::atomic<int> finished{0};
  std::vector<std::thread> threads;
  for (const auto& edge : edges) {
    threads.emplace_back([&] {
      if (auto ran = edge->run(); !ran) spdlog::error("{}", ran.error().message);
      if (edge->finished()) ++finished;
    });
  }
  for (std::thread& thread : threads) thread.join();
  spdlog::info("{} of {} edges finished", finished.load(), edges.size());
  return finished == static_cast<int>(edges.size()) ? kExitDone : kExitFailed;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags("many_edges", "Many edges in one process, for measuring an aggregator.");
  BenchFlags bench;
  bench.add_to(flags);
  if (const auto status = flags.parse(argc, argv)) return *status;
  stop_on_signals();
  return run_program("many_edges", 1, [&] { return run(bench); });
}
