#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tandem::wire {

/// Immutable bytes and whatever keeps them alive: a string, a tensor's storage, a received network
/// message. Copies share the bytes. Safe to pass between threads.
class Frame {
 public:
  Frame() = default;

  /// Owns a copy-free string.
  static Frame own(std::string bytes) {
    auto holder = std::make_shared<const std::string>(std::move(bytes));
    return borrow(holder, holder->data(), holder->size());
  }

  /// Borrows `size` bytes at `data`, valid and unwritten for as long as `owner` lives.
  static Frame borrow(std::shared_ptr<const void> owner, const void* data, size_t size) {
    Frame frame;
    frame.owner_ = std::move(owner);
    frame.data_ = static_cast<const std::byte*>(data);
    frame.size_ = size;
    return frame;
  }

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  const std::shared_ptr<const void>& owner() const { return owner_; }

 private:
  std::shared_ptr<const void> owner_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// One message: the header and body, then one frame a tensor.
using Frames = std::vector<Frame>;

inline size_t total_bytes(const Frames& frames) {
  size_t sum = 0;
  for (const Frame& frame : frames) sum += frame.size();
  return sum;
}

}  // namespace tandem::wire
