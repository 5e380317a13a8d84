#!/usr/bin/env bash
# Runs the tests under the compiler's sanitizers, in build folders of their own (build/asan, build/tsan).
#
#   scripts/sanitizers.sh address [CTEST ARGUMENT...]   address and undefined-behaviour sanitizers, all our code
#   scripts/sanitizers.sh thread [CTEST ARGUMENT...]    thread sanitizer, the tests of code that uses threads
#
#   IP2P_SANITIZED="TARGET..."   build only these programs; the arguments must select their tests, as in
#                                IP2P_SANITIZED=tests_tensor scripts/sanitizers.sh address -L io
#   IP2P_JOBS=N                  parallel compiler processes (default: the number of processors)
#
# LibTorch itself is not instrumented, so errors inside it go unnoticed.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-address}
[ $# -eq 0 ] || shift
libtorch=$(scripts/dependencies.sh)
case "$kind" in
  address)
    preset=asan
    define=()
    targets=(all)
    # The tests of messages, installed files and documentation only compile, or run what other tests run; tests/fuzz has
    # its own sanitizers; the library that makes calls fail cannot be preloaded before the sanitizers' runtime.
    selection=(-LE '^(headers|compile_fail|package|docs|fuzz|faults)$')
    export ASAN_OPTIONS=strict_string_checks=1:detect_leaks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}
    ;;
  thread)
    preset=tsan
    files=(core/large_blocks io/hub_download kernels/cpu kernels/table text/cached_text_encoder
      language/completions_client nn/checkpointed nn/frozen nn/prepare nn/winograd data/encoded_pairs data/pair_folder
      data/pair_set pipeline/edit parallel/communicator parallel/sharded_state train/checkpoint_writer train/trainer
      studio/fair_queue studio/runner studio/service)
    # Few files need ip2p::compiled, and all of it would have to be compiled for them.
    define=(-DIP2P_BUILD_COMPILED=OFF "-DIP2P_TEST_FILES=$(printf '%s_test;' "${files[@]}")")
    targets=(tests_tensor tests_modules tests_studio processes)
    selection=(-R "^($(printf '%s_test|' "${files[@]}")parallel/processes_.*)\$")
    # Of a library that is not instrumented only what it allocates and copies would be seen, not how its threads wait.
    # Some tests fork what then starts threads.
    options=second_deadlock_stack=1:ignore_noninstrumented_modules=1:die_after_fork=0
    export TSAN_OPTIONS=$options${TSAN_OPTIONS:+:$TSAN_OPTIONS}
    ;;
  *)
    echo "sanitizers: expected \`address\` or \`thread\`, found \`$kind\`" >&2
    exit 2
    ;;
esac
if [ -n "${IP2P_SANITIZED:-}" ]; then read -ra targets <<<"$IP2P_SANITIZED"; fi

cmake --preset $preset -DTorch_ROOT="$libtorch" "${define[@]}" >&2
cmake --build build/$preset --parallel "${IP2P_JOBS:-$(nproc)}" --target "${targets[@]}" >&2
ctest --test-dir build/$preset --output-on-failure "${selection[@]}" "$@"
