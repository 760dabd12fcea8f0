// The one way to include doctest. LibTorch (glog) defines CHECK and friends, which abort instead of
// failing a test; so LibTorch comes first, its macros go, and doctest comes last.
#pragma once

#include <torch/torch.h>

#undef CHECK
#undef CHECK_EQ
#undef CHECK_NE
#undef CHECK_LT
#undef CHECK_LE
#undef CHECK_GT
#undef CHECK_GE
#undef CHECK_OP
#undef CHECK_NOTNULL

#include <ostream>

#include "tandem/core/base/ids.h"

#include <doctest/doctest.h>

namespace tandem {
/// How a failing check shows a client.
inline std::ostream& operator<<(std::ostream& out, const ClientId& client) {
  return out << client.name;
}
}  // namespace tandem
