#!/usr/bin/env bash
# Fails on a header that does not compile alone, or not twice. Most have been compiled alone already: a source
# file includes its own header first, and only those that speak of torch may have had the precompiled one
# before it. Of these headers just the `#pragma once` is looked for.
#   check_headers.sh [ROOT]       every public header below ROOT (default: this repository)
#   check_headers.sh --self-test  shows on small trees that broken headers are caught
set -euo pipefail

readonly folders=(core datasets augment edge_client aggregator)
readonly jobs=2

# check_one INCLUDE_ROOT HEADER: the header is the first and the second line of a file of its own.
check_one() {
  printf '#include "%s"\n#include "%s"\n' "$2" "$2" |
    "${CXX:-g++}" -std=c++20 -fsyntax-only -Wall -Wextra -Werror \
      -Wno-unused-parameter -Wno-missing-field-initializers \
      -I"$1" -isystem /usr/include/torch/csrc/api/include -x c++ - || {
    printf 'does not compile alone: %s\n' "$2"
    return 1
  }
}
export -f check_one

# compiled_alone INCLUDE_ROOT HEADER
compiled_alone() {
  local source=$1/${2%.h}.cpp
  [[ -f $source ]] && ! grep -q torch "$source" &&
    [[ $(grep -m1 '^#include' "$source") == "#include \"$2\"" ]] && grep -q '^#pragma once$' "$1/$2"
}

# check_tree ROOT
check_tree() (
  include_root=$(mktemp -d)
  trap 'rm -rf "$include_root"' EXIT
  ln -s "$(realpath "$1")" "$include_root/tandem"
  cd "$1"
  existing=()
  for folder in "${folders[@]}"; do
    if [[ -d $folder ]]; then existing+=("$folder"); fi
  done
  mapfile -t headers < <(find "${existing[@]}" -name '*.h' ! -name '*_detail.h' | sort)
  if [[ ${#headers[@]} -eq 0 ]]; then
    printf 'no headers below %s\n' "$1"
    exit 1
  fi
  unproved=()
  for header in "${headers[@]}"; do
    compiled_alone "$include_root" "tandem/$header" || unproved+=("$header")
  done
  status=0
  # shellcheck disable=SC2016  # $0 and $1 are for the inner shell
  for header in "${unproved[@]}"; do printf 'tandem/%s\n' "$header"; done |
    xargs -r -P "$jobs" -I{} bash -c 'check_one "$0" "$1"' "$include_root" {} || status=1
  printf 'headers: %d, %d of them compiled alone by their own source files, %s\n' "${#headers[@]}" \
    "$((${#headers[@]} - ${#unproved[@]}))" "$([[ $status -eq 0 ]] && echo 'all compile alone' || echo failed)"
  exit "$status"
)

# expect pass|fail CONTENT [SOURCE]: what check_tree must say about a tree with one such header and source file.
expect() {
  local tree outcome=pass
  tree=$(mktemp -d)
  mkdir -p "$tree/core"
  printf '%b' "$2" >"$tree/core/a.h"
  if [[ $# -gt 2 ]]; then printf '%b' "$3" >"$tree/core/a.cpp"; fi
  check_tree "$tree" >/dev/null 2>&1 || outcome=fail
  rm -rf "$tree"
  if [[ $outcome != "$1" ]]; then
    printf 'self-test: expected %s, got %s for:\n%b\n' "$1" "$outcome" "$2"
    return 1
  fi
}

self_test() {
  expect pass '#pragma once\n#include <string>\nstruct A { std::string name; };\n'
  expect fail '#pragma once\nstruct A { std::string name; };\n'
  expect fail 'struct A { int n; };\n'
  expect fail '#pragma once\n#include "tandem/core/missing.h"\n'
  local own='#include "tandem/core/a.h"\n' needs_string='#pragma once\nstruct A { std::string name; };\n'
  expect pass "$needs_string" "$own"
  expect fail "$needs_string" "#include <string>\n$own"
  expect fail "$needs_string" "$own#include <torch/torch.h>\n"
  expect fail 'struct A { int n; };\n' "$own"
  printf 'headers self-test: passed\n'
}

case ${1-} in
  --self-test) self_test ;;
  -*)
    printf 'usage: %s [ROOT | --self-test]\n' "$0" >&2
    exit 2
    ;;
  *) check_tree "${1:-$(dirname "${BASH_SOURCE[0]}")/../..}" ;;
esac
