// The system calls by which core/storage changes files. They go through one table so that a test can
// fail or interrupt each of them; nothing else replaces it.
#pragma once

#include <sys/types.h>

namespace tandem {

/// As the manual pages of the same names say.
struct StorageSyscalls {
  int (*open)(const char* path, int flags, mode_t mode);
  ssize_t (*write)(int file, const void* bytes, size_t count);
  int (*fsync)(int file);
  int (*fdatasync)(int file);
  int (*close)(int file);
  int (*rename)(const char* from, const char* to);
  int (*unlink)(const char* path);
  int (*mkdir)(const char* path, mode_t mode);
};

/// The kernel's.
extern const StorageSyscalls kKernelSyscalls;

/// Those in force. Not thread-safe to change.
StorageSyscalls& storage_syscalls();

}  // namespace tandem
