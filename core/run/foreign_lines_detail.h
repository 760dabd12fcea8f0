#pragma once

#include <functional>
#include <string>
#include <thread>

namespace tandem::detail {

/// While it lives, what is written to descriptor 2 by libraries that know nothing of our log (LibTorch's
/// warnings, OpenBLAS, OpenMP, libzmq) comes to `on_line`, line by line, on a thread of its own. What the
/// program itself has to say goes to log_descriptor(), which is what 2 was. A crash hands through what waits.
/// One at a time.
class ForeignLines {
 public:
  /// Where there are no descriptors left, everything stays as it was.
  explicit ForeignLines(std::function<void(const std::string&)> on_line);
  ~ForeignLines();
  ForeignLines(const ForeignLines&) = delete;
  ForeignLines& operator=(const ForeignLines&) = delete;

  /// Where the log goes, with such an object or without. Any thread.
  static int log_descriptor();

 private:
  void read_lines();

  std::function<void(const std::string&)> on_line_;
  int real_ = -1;
  int pipe_ = -1;  // its reading end
  std::thread reader_;
};

}  // namespace tandem::detail
