#!/usr/bin/env bash
# Sets up, builds and runs every test. The last line is the summary; the exit status is 0 if all passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

long=no
filter=

usage() {
  cat <<'END'
usage: tests/run.sh [--long] [--filter REGEX]

  --long           also soak tests, ten minutes of each fuzzer, and everything again under
                   AddressSanitizer and UndefinedBehaviorSanitizer, and what runs no LibTorch kernel
                   under ThreadSanitizer
  --filter REGEX   only the tests whose name matches
  --help           this text
END
}

parse_arguments() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      --long) long=yes ;;
      --filter)
        if [[ $# -lt 2 ]]; then
          printf 'error: --filter needs a regular expression\n' >&2
          exit 2
        fi
        filter=$2
        shift
        ;;
      --help | -h) usage; exit 0 ;;
      *)
        usage >&2
        printf '\nerror: unknown option %s\n' "$1" >&2
        exit 2
        ;;
    esac
    shift
  done
}

passed=0
failed=0
broken=0

# run_ctest PRESET [ctest option ...]: counts what passed and failed; broken if nothing ran.
run_ctest() {
  local preset=$1 output=build/ctest-$1.log status=0 summary
  shift
  if [[ -n $filter ]]; then set -- "$@" -R "$filter"; fi
  if [[ $long == no ]]; then set -- "$@" -LE long; fi
  ctest --preset "$preset" --no-tests=error "$@" </dev/null 2>&1 | tee "$output" || status=$?
  summary=$(sed -n 's/^[0-9]*% tests passed, \([0-9]*\) tests failed out of \([0-9]*\)$/\1 \2/p' "$output")
  if [[ -z $summary && -n $filter && $preset != release ]]; then return; fi
  if [[ -z $summary ]]; then
    printf 'error: ctest ran no test of preset %s\n' "$preset" >&2
    broken=1
    return
  fi
  failed=$((failed + ${summary% *}))
  passed=$((passed + ${summary#* } - ${summary% *}))
  if [[ $status -ne 0 && ${summary% *} -eq 0 ]]; then broken=1; fi
}

# build_sanitized PRESET TARGET
build_sanitized() {
  printf 'building %s\n' "$1"
  if cmake --preset "$1" >"build/$1.log" 2>&1 </dev/null &&
    cmake --build --preset "$1" --parallel "$(nproc)" --target "$2" >>"build/$1.log" 2>&1 </dev/null; then
    return 0
  fi
  tail -n 40 "build/$1.log" >&2
  broken=1
  return 1
}

has_fuzzer() {
  printf 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
    clang++ -x c++ -fsanitize=fuzzer,address,undefined -o build/has_fuzzer - >/dev/null 2>&1
}

# A few seconds of each fuzzer; ten minutes with --long.
run_fuzzers() {
  if [[ -n $filter && $filter != *fuzz* ]]; then return; fi
  if ! has_fuzzer; then
    printf 'skipped: fuzzing, which needs clang and its libFuzzer (apt-get install clang libclang-rt-dev)\n'
    return
  fi
  if build_sanitized fuzz fuzzers; then run_ctest fuzz; fi
}

summary() {
  local total=$((passed + failed)) percent=0
  if [[ $total -gt 0 ]]; then percent=$((100 * passed / total)); fi
  printf '%d%% tests passed, %d tests failed out of %d\n' "$percent" "$failed" "$total"
}

main() {
  parse_arguments "$@"
  ./setup.sh --with-tests
  run_ctest release
  run_fuzzers
  if [[ $long == yes ]]; then
    if build_sanitized asan-ubsan all; then run_ctest asan-ubsan; fi
    if build_sanitized tsan tests_tsan; then run_ctest tsan -L '^tsan$'; fi
  fi
  printf '\n'
  if [[ $broken -ne 0 ]]; then printf 'error: not everything could be built and run, see above\n' >&2; fi
  summary
  [[ $broken -eq 0 && $failed -eq 0 && $passed -gt 0 ]]
}

main "$@"
