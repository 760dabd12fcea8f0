// The way to include doctest in tests of libraries that do without LibTorch. All others include support/test.h.
#pragma once

#include <doctest/doctest.h>
