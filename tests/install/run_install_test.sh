#!/usr/bin/env bash
# Installs a build tree into an empty prefix, moves the prefix, and builds and runs a project that uses
# it from there.
#   run_install_test.sh [BUILD_DIR]   default: build/release
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly build_dir=${1:-$here/../../build/release}

fail() {
  printf 'install: %s\n' "$*" >&2
  exit 1
}

# quietly COMMAND ...: its output is shown only if it fails.
quietly() {
  "$@" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    fail "failed: $*"
  }
}

# An exported file with a path of this machine works on this machine only.
check_exported_files() {
  local config_dir
  config_dir=$(dirname "$(find "$1" -name TandemConfig.cmake)")
  # PACKAGE_PREFIX_DIR handling and comments name /usr/lib without depending on it.
  if grep -nE '"[^"$]*/(usr|home|tmp|root|build)/|;/usr/' "$config_dir"/TandemTargets*.cmake; then
    fail "absolute paths in the exported targets"
  fi
  if grep -rn "$(realpath "$build_dir")" "$1"/include "$config_dir"; then
    fail "installed files name the build tree"
  fi
  if find "$1/include" -name '*_detail.h' | grep .; then fail "private headers were installed"; fi
}

main() {
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  quietly cmake --install "$build_dir" --prefix "$work/first"
  check_exported_files "$work/first"
  mv "$work/first" "$work/moved"
  quietly cmake -S "$here" -B "$work/consumer" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_PREFIX_PATH="$work/moved"
  if ! grep -q "^Tandem_DIR:PATH=$work/moved/" "$work/consumer/CMakeCache.txt"; then
    fail "find_package found another Tandem than the one just installed"
  fi
  quietly cmake --build "$work/consumer"
  "$work/consumer/consumer" || fail "the consumer computed something else"
  printf 'install: a project using the installed, moved package builds and runs\n'
}

main
