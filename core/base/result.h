#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

namespace tandem {

/// What kind of thing went wrong. Values are stable: they travel in Refuse messages.
enum class ErrorCode : int {
  kInvalidArgument = 1,  ///< a flag, key or field has a value outside its range
  kNotFound = 2,         ///< a file, device or name does not exist
  kCorrupt = 3,          ///< bytes that do not decode: truncated, bad checksum, wrong magic
  kTooLarge = 4,         ///< a size above the limit that was set for it
  kNonFinite = 5,        ///< NaN, infinity or a magnitude above the limit
  kShapeMismatch = 6,    ///< name, shape or dtype differs from what was agreed
  kIo = 7,               ///< the file system refused: full, read-only, no permission
  kNetwork = 8,          ///< the socket refused: port in use, peer gone
  kTimeout = 9,          ///< nothing arrived in time
  kRefused = 10,         ///< the peer said no, and why
  kProtocol = 11,        ///< a well-formed message at the wrong moment or of the wrong version
  kUnsupported = 12,     ///< this build or machine cannot do it
  kClosed = 13,          ///< the other end of a queue or session is closed
};

/// An error of the outside world, written for its reader: what, where, expected and found, what to do.
struct Error {
  ErrorCode code;
  std::string message;
};

/// A value or an Error. For failures of peers, network and disk; misuse by a caller throws instead.
/// (std::expected is C++23; the member names are the same.)
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  /// Throws std::logic_error with the error's message when there is no value.
  T& value() & { return require(), std::get<0>(state_); }
  const T& value() const& { return require(), std::get<0>(state_); }
  T&& value() && { return require(), std::get<0>(std::move(state_)); }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  /// Requires !has_value().
  const Error& error() const { return std::get<1>(state_); }

 private:
  void require() const {
    if (!has_value()) throw std::logic_error("value of a failed Result: " + error().message);
  }

  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design

  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  void value() const {
    if (error_) throw std::logic_error("value of a failed Result: " + error_->message);
  }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace tandem
