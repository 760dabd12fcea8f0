// Included before everything else where clang cannot otherwise read LibTorch (clang 14, libstdc++ 12): it
// instantiates the constexpr functions of C++20's std::vector early, when LibTorch's IValue, which holds
// vectors of itself, is not complete yet. Nothing here is evaluated at compile time, so they lose the word.
#pragma once

#include <cstddef>  // _GLIBCXX_RELEASE

#if defined(__clang__) && _GLIBCXX_RELEASE == 12

#include <memory>
#include <string>

#pragma push_macro("_GLIBCXX20_CONSTEXPR")
#undef _GLIBCXX20_CONSTEXPR
#define _GLIBCXX20_CONSTEXPR
// A helper of std::fill for vector<bool> was declared above, with the word, so its definition gets another
// name. Nothing here fills a vector<bool> so; what did would not link.
#define __fill_a1 __fill_a1_of_bits
#include <vector>
#undef __fill_a1
#pragma pop_macro("_GLIBCXX20_CONSTEXPR")

#endif
