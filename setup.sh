#!/usr/bin/env bash
# Installs what is missing, configures and builds; programs end up in build/release/bin.
# Safe to run again: what is done is not done twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly build_dir=build/release
readonly log=build/setup.log

build_packages=(
  build-essential cmake ninja-build pkg-config
  libtorch-dev libopenblas0-openmp
  libzmq3-dev cppzmq-dev libcereal-dev libssl-dev zlib1g-dev libxxhash-dev
  libcli11-dev libtomlplusplus-dev libspdlog-dev nlohmann-json3-dev libstb-dev libcpp-httplib-dev
  doctest-dev
)
test_packages=(python3 python3-torch)
fuzz_packages=(clang libclang-rt-dev)
data_packages=(dataset-fashion-mnist)

build=yes
tests=no

usage() {
  cat <<'END'
usage: ./setup.sh [--no-build] [--with-tests]

  --no-build     only install the packages
  --with-tests   also build the tests, and install what they need
  --help         this text

Installs missing packages with apt (Debian 12 or 13), configures with CMake and builds into
build/release. Elsewhere: says what to install, and builds if CMake finds everything.
END
}

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

parse_arguments() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      --no-build) build=no ;;
      --with-tests) tests=yes ;;
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

is_installed() {
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Prints those of the given packages that are not installed.
missing_of() {
  local package
  for package in "$@"; do
    is_installed "$package" || printf '%s\n' "$package"
  done
}

has_candidate() {
  local candidate
  candidate=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
  [[ -n $candidate && $candidate != '(none)' ]]
}

# Runs a command as root, or says which one to run.
as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    return 1
  fi
}

logged() {
  mkdir -p build
  "$@" >>"$log" 2>&1 </dev/null
}

fail_with_log() {
  say "--- last lines of $log:" >&2
  tail -n 40 "$log" >&2
  fail "$1 (everything is in $log)"
}

without() {
  if [[ $1 == dataset-* ]]; then
    printf 'the quickstart will use synthetic data'
  else
    printf 'the tests will not fuzz'
  fi
}

install_with_apt() {
  local wanted=("${build_packages[@]}") useful=("${data_packages[@]}") required=() optional=() package
  if [[ $tests == yes ]]; then
    wanted+=("${test_packages[@]}")
    useful+=("${fuzz_packages[@]}")
  fi
  mapfile -t required < <(missing_of "${wanted[@]}")
  mapfile -t optional < <(missing_of "${useful[@]}")

  if [[ ${#required[@]} -gt 0 ]]; then
    if [[ $EUID -ne 0 ]] && ! command -v sudo >/dev/null; then
      fail "packages are missing and there is no sudo; run this as root:
  apt-get update && apt-get install -y --no-install-recommends ${required[*]} ${optional[*]}"
    fi
    say "installing with apt: ${required[*]} ${optional[*]}"
    logged as_root apt-get update || fail_with_log "apt-get update failed"
  fi
  for package in "${optional[@]}"; do
    if has_candidate "$package"; then
      required+=("$package")
    else
      warn "$package is not in the configured apt sources: $(without "$package")"
    fi
  done
  if [[ ${#required[@]} -eq 0 ]]; then return; fi
  logged as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${required[@]}" ||
    fail_with_log "apt-get install failed; as root: apt-get install ${required[*]}"
  changed=yes
}

say_what_to_install() {
  cat <<'END'
There is no apt here. Tandem needs, with headers and CMake packages:
  g++ 12, CMake 3.25, Ninja, pkg-config
  LibTorch 1.13.1 (CPU), an OpenBLAS that uses OpenMP
  libzmq 4.3.4 with CURVE, cppzmq 4.9, cereal 1.3.2, OpenSSL 3.0, zlib 1.2.13, xxHash 0.8.1
  CLI11 2.1, toml++ 3.3, spdlog 1.10, nlohmann-json 3.11, stb_image, cpp-httplib 0.11
  doctest 2.4.9, Python 3.11 and its torch for the tests
Trying with what is there.
END
}

# The pthread OpenBLAS keeps its own threads beside OpenMP's and the two fight; the reference BLAS is
# twenty times slower.
check_blas() {
  local name wanted current
  name=libblas.so.3-$(g++ -print-multiarch 2>/dev/null || true)
  current=$(update-alternatives --query "$name" 2>/dev/null | sed -n 's/^Value: //p')
  case $current in
    '' | *openblas*openmp*) return ;;
  esac
  wanted=$(update-alternatives --list "$name" 2>/dev/null | grep 'openblas.*openmp' | head -n 1 || true)
  warn "libblas.so.3 is $current; the OpenMP build of OpenBLAS is faster here. To switch, as root:
  update-alternatives --set $name ${wanted:-PATH_OF_THE_OPENMP_BUILD}"
}

# One compiler a core, as long as each can have 2 GiB.
job_count() {
  local cores kib limit jobs
  cores=$(nproc)
  kib=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || true)
  if [[ $limit =~ ^[0-9]+$ && $((limit / 1024)) -lt $kib ]]; then kib=$((limit / 1024)); fi
  jobs=$((kib / (2 * 1024 * 1024)))
  if [[ $jobs -gt $cores ]]; then jobs=$cores; fi
  if [[ $jobs -lt 1 ]]; then jobs=1; fi
  printf '%s\n' "$jobs"
}

cached() { sed -n "s/^$1:[^=]*=//p" "$build_dir/CMakeCache.txt" 2>/dev/null; }

# Tests are switched on when asked for and then stay: switching them off would discard their objects.
configure() {
  local options=()
  if [[ ! -f $build_dir/build.ninja || $(cached CMAKE_HOME_DIRECTORY) != "$PWD" ]]; then
    options=(--fresh "-DTANDEM_BUILD_TESTS=$([[ $tests == yes ]] && echo ON || echo OFF)")
  elif [[ $tests == yes && $(cached TANDEM_BUILD_TESTS) != ON ]]; then
    options=(-DTANDEM_BUILD_TESTS=ON)
  elif [[ CMakePresets.json -nt $build_dir/build.ninja ]]; then
    options=("-DTANDEM_BUILD_TESTS=$(cached TANDEM_BUILD_TESTS)")
  else
    return 0
  fi
  say "configuring $build_dir"
  logged cmake --preset release "${options[@]}" || fail_with_log "cmake could not configure the project"
  changed=yes
}

compile() {
  local target=tandem_programs jobs plan
  if [[ $tests == yes ]]; then target=all; fi
  plan=$(ninja -C "$build_dir" -n "$target" 2>/dev/null | tail -n 1 || true)
  if [[ $plan == *'no work to do'* ]]; then return; fi
  jobs=$(job_count)
  say "building with $jobs jobs; the first time takes minutes (progress: tail -f $log)"
  logged cmake --build --preset release --parallel "$jobs" --target "$target" ||
    fail_with_log "the build failed"
  changed=yes
}

main() {
  parse_arguments "$@"
  changed=no
  mkdir -p build
  : >"$log"
  if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    install_with_apt
  else
    say_what_to_install
  fi
  if command -v update-alternatives >/dev/null; then check_blas; fi
  if [[ $build == yes ]]; then
    configure
    compile
  fi
  if [[ $changed == no && $build == yes ]]; then
    say "nothing to do: everything is installed and built"
  elif [[ $changed == no ]]; then
    say "nothing to do: everything is installed"
  elif [[ $build == yes ]]; then
    say "done: the programs are in $build_dir/bin"
  else
    say "done"
  fi
}

main "$@"
