#!/usr/bin/env bash
# Configures build/release and builds the targets given as arguments (default: all). Installs dependencies first.
# `scripts/build.sh --configure` builds nothing.
# Log lines go to stderr.
#
#   IP2P_CMAKE_ARGS   more arguments for CMake, separated by spaces
set -euo pipefail
cd "$(dirname "$0")/.."

libtorch=$(scripts/dependencies.sh)

generator=()
if [ ! -f build/release/CMakeCache.txt ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi

# A compiler process can need 4 GB, so memory limits the number of jobs too.
jobs=$(nproc)
if [ -r /proc/meminfo ]; then
  by_memory=$(awk '/^MemAvailable:/ { print int($2 / 4000000) }' /proc/meminfo)
  [ "$by_memory" -ge "$jobs" ] || jobs=$((by_memory > 1 ? by_memory : 1))
fi

configure_only=false
if [ "${1:-}" = --configure ]; then configure_only=true; shift; fi
targets=()
[ $# -eq 0 ] || targets=(--target "$@")
{
  # shellcheck disable=SC2086
  cmake -S . -B build/release "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DTorch_ROOT="$libtorch" ${IP2P_CMAKE_ARGS:-}
  $configure_only || cmake --build build/release --parallel "$jobs" "${targets[@]}"
} >&2
