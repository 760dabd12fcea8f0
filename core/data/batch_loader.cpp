#include "tandem/core/data/batch_loader.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "tandem/core/base/random.h"

namespace tandem {
namespace {

/// Which example stands at a position of the client's endless sequence of epochs. Keeps the order of one
/// epoch, so positions should mostly grow.
class ExampleSequence {
 public:
  struct Entry {
    uint64_t epoch;
    int64_t index;
  };

  ExampleSequence(int64_t num_examples, uint64_t run_seed, uint64_t client_hash)
      : num_examples_(num_examples), run_seed_(run_seed), client_hash_(client_hash) {}

  Entry at(uint64_t position) {
    const uint64_t n = static_cast<uint64_t>(num_examples_);
    const uint64_t epoch = position / n;
    if (epoch != epoch_ || order_.empty()) {
      order_ = random_permutation(num_examples_,
                                  derive_seed(run_seed_, RandomPurpose::kShuffle, {client_hash_, epoch}));
      epoch_ = epoch;
    }
    return {epoch, order_[position % n]};
  }

  uint64_t augmentation_seed(const Entry& entry) const {
    return derive_seed(run_seed_, RandomPurpose::kAugment,
                       {client_hash_, entry.epoch, static_cast<uint64_t>(entry.index)});
  }

 private:
  int64_t num_examples_;
  uint64_t run_seed_;
  uint64_t client_hash_;
  uint64_t epoch_ = 0;
  std::vector<int64_t> order_;
};

Batch empty_batch(const DataDescription& description) {
  std::vector<int64_t> shape{0};
  shape.insert(shape.end(), description.input_shape.begin(), description.input_shape.end());
  return {at::empty(shape, at::kFloat), at::empty({0}, at::kLong)};
}

void check(const DataDescription& description, const BatchLoaderOptions& options) {
  if (options.prefetch < 0) {
    throw std::invalid_argument("BatchLoaderOptions.prefetch must be >= 0, got " +
                                std::to_string(options.prefetch));
  }
  if (description.num_examples < 1) throw std::invalid_argument("BatchLoader: the data set has no examples");
}

}  // namespace

struct BatchLoader::Impl {
  struct Task {
    uint64_t position;
    uint32_t size;
  };

  Impl(const Dataset& dataset_in, const Augmenter& augmenter_in, BatchLoaderOptions options_in)
      : dataset(dataset_in),
        augmenter(augmenter_in),
        options(options_in),
        description(dataset.describe()),
        sequence(description.num_examples, options.run_seed, options.client_hash) {
    check(description, options);
    if (options.prefetch > 0) start_thread();
  }

  ~Impl() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    work.notify_one();
    if (thread.joinable()) thread.join();
  }

  /// LibTorch keeps the thread count twice: per thread, and process-wide as what a thread takes over at
  /// its first parallel operation. The preparing thread's 1 must stay its own, so the process-wide value
  /// is put back before anything else can take it over.
  void start_thread() {
    const int callers_count = at::get_num_threads();
    std::promise<void> counted;
    thread = std::thread([this, &counted] {
      (void)at::get_num_threads();  // takes over now, or the first operation would undo the next line
      at::set_num_threads(1);
      counted.set_value();
      run();
    });
    counted.get_future().wait();
    at::set_num_threads(callers_count);
  }

  void start(uint64_t first_example, std::vector<uint32_t> batch_sizes) {
    {
      std::lock_guard lock(mutex);
      ++generation;
      position = first_example;
      sizes = std::move(batch_sizes);
      claimed = 0;
      delivered = 0;
      ready.clear();
      failure = nullptr;
    }
    work.notify_one();
  }

  Batch next() {
    std::unique_lock lock(mutex);
    if (delivered == sizes.size()) {
      throw std::logic_error("BatchLoader::next called after the last of " + std::to_string(sizes.size()) +
                             " batches");
    }
    if (options.prefetch == 0) prepare_here();
    arrived.wait(lock, [&] { return !ready.empty() || failure; });
    if (ready.empty()) std::rethrow_exception(failure);
    Batch batch = std::move(ready.front());
    ready.pop_front();
    ++delivered;
    lock.unlock();
    work.notify_one();
    return batch;
  }

  /// Without a preparing thread: what `run` does, for one batch. Nobody else takes the mutex then.
  void prepare_here() {
    if (failure) return;
    try {
      ready.push_back(prepare(claim()));
    } catch (...) {
      failure = std::current_exception();
    }
  }

  /// The preparing thread.
  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return stopping || has_work(); });
      if (stopping) return;
      const uint64_t started = generation;
      const Task task = claim();
      lock.unlock();
      Batch batch;
      std::exception_ptr thrown;
      try {
        batch = prepare(task);
      } catch (...) {
        thrown = std::current_exception();
      }
      lock.lock();
      if (generation != started) continue;  // a new start: this batch belongs to the old sequence
      if (thrown) {
        failure = thrown;
      } else {
        ready.push_back(std::move(batch));
      }
      arrived.notify_one();
    }
  }

  bool has_work() const {
    return !failure && claimed < sizes.size() && ready.size() < static_cast<size_t>(options.prefetch);
  }

  Task claim() {
    const Task task{position, sizes[claimed]};
    position += task.size;
    ++claimed;
    return task;
  }

  Batch prepare(const Task& task) {
    if (task.size == 0) return empty_batch(description);
    std::vector<int64_t> indices;
    std::vector<uint64_t> seeds;
    indices.reserve(task.size);
    seeds.reserve(task.size);
    for (uint64_t p = task.position; p != task.position + task.size; ++p) {
      const ExampleSequence::Entry entry = sequence.at(p);
      indices.push_back(entry.index);
      seeds.push_back(sequence.augmentation_seed(entry));
    }
    Batch batch = dataset.get(indices);
    batch.inputs = augmenter.augment(batch.inputs, seeds);
    return batch;
  }

  const Dataset& dataset;
  const Augmenter& augmenter;
  const BatchLoaderOptions options;
  const DataDescription description;
  ExampleSequence sequence;  // used only by whoever prepares

  std::mutex mutex;
  std::condition_variable work;     // there may be something to prepare, or it is time to stop
  std::condition_variable arrived;  // a batch or a failure
  // guarded by mutex:
  uint64_t generation = 0;  // counts calls of start
  uint64_t position = 0;    // of the next batch to prepare
  std::vector<uint32_t> sizes;
  size_t claimed = 0;    // batches whose preparation has begun
  size_t delivered = 0;  // batches that `next` has returned
  std::deque<Batch> ready;
  std::exception_ptr failure;  // stays until the next start
  bool stopping = false;

  std::thread thread;
};

BatchLoader::BatchLoader(const Dataset& dataset, const Augmenter& augmenter, BatchLoaderOptions options)
    : impl_(std::make_unique<Impl>(dataset, augmenter, options)) {}

BatchLoader::~BatchLoader() = default;

void BatchLoader::start(uint64_t first_example, std::vector<uint32_t> batch_sizes) {
  impl_->start(first_example, std::move(batch_sizes));
}

Batch BatchLoader::next() {
  return impl_->next();
}

}  // namespace tandem
