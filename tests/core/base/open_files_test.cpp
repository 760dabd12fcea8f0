#include "tandem/core/base/open_files.h"

#include <sys/resource.h>
//
#include "support/test.h"

using namespace tandem;

namespace {

/// Another soft limit while it lives.
class SoftLimit {
 public:
  explicit SoftLimit(rlim_t files) {
    REQUIRE(getrlimit(RLIMIT_NOFILE, &old_) == 0);
    const rlimit lower{files, old_.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &lower) == 0);
  }
  ~SoftLimit() { setrlimit(RLIMIT_NOFILE, &old_); }
  SoftLimit(const SoftLimit&) = delete;
  SoftLimit& operator=(const SoftLimit&) = delete;

  static int64_t soft() { return static_cast<int64_t>(now().rlim_cur); }
  static int64_t hard() { return static_cast<int64_t>(now().rlim_max); }

 private:
  static rlimit now() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit;
  }
  rlimit old_{};
};

}  // namespace

TEST_SUITE("core/base/open_files") {
  TEST_CASE("the limit of open files is raised to what is wanted, never lowered") {
    const SoftLimit low(256);
    REQUIRE(SoftLimit::hard() >= 300);
    CHECK(raise_open_files(300) == 300);
    CHECK(SoftLimit::soft() == 300);
    CHECK(raise_open_files(100) == 300);
    CHECK(SoftLimit::soft() == 300);
  }

  TEST_CASE("the limit of open files is raised as far as the hard limit allows") {
    const SoftLimit low(256);
    const int64_t hard = SoftLimit::hard();
    if (hard == static_cast<int64_t>(RLIM_INFINITY)) return;
    CHECK(raise_open_files(hard + 1) == hard);
    CHECK(SoftLimit::soft() == hard);
  }
}
