#!/usr/bin/env bash
# run_fuzzer.sh BUILD_DIR TARGET SECONDS: fuzzes one target, from the kept inputs on. What it finds stays in
# BUILD_DIR/fuzz-findings/TARGET; fixed, it moves to tests/fuzz/regressions/TARGET.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

build_dir=$1
target=$2
seconds=$3

findings=$build_dir/fuzz-findings/$target
work=$build_dir/fuzz-corpus/$target  # what is new in this run, and goes on from there in the next
mkdir -p "$findings" "$work"

kept=()
for folder in "tests/fuzz/corpus/$target" "tests/fuzz/regressions/$target"; do
  if [[ -d $folder ]]; then kept+=("$folder"); fi
done
dictionary=()
if [[ -f tests/fuzz/dictionaries/$target.dict ]]; then
  dictionary=("-dict=tests/fuzz/dictionaries/$target.dict")
fi

# LibTorch alone takes some 150 MiB; a message or file of 4 KiB may take 128 MiB nowhere.
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:quarantine_size_mb=16
export UBSAN_OPTIONS=print_stacktrace=1
export OMP_NUM_THREADS=1
exec "$build_dir/bin/fuzz_$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 \
  -malloc_limit_mb=128 -max_len=4096 -print_final_stats=1 -artifact_prefix="$findings/" \
  "${dictionary[@]}" "$work" "${kept[@]}"
