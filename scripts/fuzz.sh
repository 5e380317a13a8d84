#!/usr/bin/env bash
# Looks for input that the library reads otherwise than it should, with libFuzzer and the sanitizers of clang.
#
#   scripts/fuzz.sh [MINUTES] [TARGET...]     MINUTES (10) in all, shared by the targets (all of tests/fuzz/targets.txt)
#
#   IP2P_FUZZ_TORCH     LibTorch for the targets that need it (default: the one that scripts/dependencies.sh keeps);
#                       empty: these are left out
#   IP2P_FUZZ_SEED      makes the same mutations each time (default: others each time)
#   IP2P_FUZZ_RUNS      most executions of each target (default: as many as there is time for)
#
# Each target first reads its seeds and all that earlier runs found interesting (build/fuzz/corpus), then what it makes
# of these. Findings are files in build/fuzz/findings, and the status is then 1; without clang or libFuzzer it is 77.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "fuzz: $*" >&2; exit 2; }
minutes=10
if [[ ${1:-} =~ ^[0-9]+(\.[0-9]+)?$ ]]; then minutes=$1; shift; fi
jobs=${IP2P_FUZZ_JOBS:-$(nproc)}
build=build/fuzz

compiler=$(command -v clang++-14 || command -v clang++ || true)
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' >"$probe/probe.cpp"
if [ -z "$compiler" ] ||
   ! "$compiler" -fsanitize=fuzzer,address,undefined "$probe/probe.cpp" -o "$probe/probe" 2>/dev/null; then
  echo "skipped: fuzz: ${compiler:-clang++}: no compiler with libFuzzer and sanitizers; install Debian's packages" \
    "clang-14 and libclang-rt-14-dev"
  exit 77
fi

if [ -z "${IP2P_FUZZ_TORCH+set}" ]; then
  IP2P_FUZZ_TORCH=$(compgen -G "${XDG_CACHE_HOME:-$HOME/.cache}/ip2p/libtorch-*/torch" | sort -V | tail -1 || true)
fi

# The table, without targets that cannot be built.
declare -A most_bytes seeds_of
names=()
while read -r name needs most seeds; do
  [[ $name =~ ^[a-z] ]] || continue
  if [ "$needs" = torch ] && [ -z "$IP2P_FUZZ_TORCH" ]; then continue; fi
  names+=("$name")
  most_bytes[$name]=$most
  seeds_of[$name]=$seeds
done <tests/fuzz/targets.txt
for name in "$@"; do
  [ -n "${most_bytes[$name]:-}" ] || die "expected a target, found '$name'; there are: ${names[*]}"
done
[ $# -eq 0 ] || names=("$@")

echo "fuzz: building ${#names[@]} targets"
cmake -S tests/fuzz -B $build -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DIP2P_FUZZ_TORCH="$IP2P_FUZZ_TORCH" >"$probe/log" ||
  { cat "$probe/log" >&2; die "cannot configure"; }
ninja -C $build -j "$jobs" "${names[@]}" >"$probe/log" || { tail -60 "$probe/log" >&2; die "cannot build"; }

seconds=$(awk -v minutes="$minutes" -v count="${#names[@]}" 'BEGIN { s = int(minutes * 60 / count); print s < 1 ? 1 : s }')
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1} UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export OMP_NUM_THREADS=1
symbolizer=$(command -v llvm-symbolizer-14 || command -v llvm-symbolizer || true)
[ -z "$symbolizer" ] || export ASAN_SYMBOLIZER_PATH=$symbolizer

status=0
printf '%-20s %12s %10s %10s %9s\n' target executions a\ second coverage findings
for name in "${names[@]}"; do
  corpus=$build/corpus/$name seeds=$build/seeds/$name findings=$build/findings/$name log=$build/logs/$name
  rm -rf "$seeds"
  mkdir -p "$corpus" "$seeds" "$findings" $build/logs
  for seed in ${seeds_of[$name]} "tests/fuzz/corpus/$name"/*; do
    if [ -f "$seed" ]; then cp "$seed" "$seeds/$(tr / _ <<<"$seed")"; fi
  done
  options=(-max_total_time="$seconds" -max_len="${most_bytes[$name]}" -timeout=20 -rss_limit_mb=2560
    -malloc_limit_mb=1024 -print_final_stats=1 -reload=0 -seed="${IP2P_FUZZ_SEED:-0}"
    -runs="${IP2P_FUZZ_RUNS:--1}" -artifact_prefix="$findings/")
  [ ! -f "tests/fuzz/corpus/$name.dict" ] || options+=(-dict="tests/fuzz/corpus/$name.dict")
  before=$(ls "$findings" | wc -l)
  fault=0
  nice -n 5 "$build/bin/$name" "${options[@]}" "$corpus" "$seeds" >"$log" 2>&1 || fault=$?
  found=$(($(ls "$findings" | wc -l) - before))
  # A run that ends without having written a finding has failed all the same.
  if [ $fault -ne 0 ] && [ $found -eq 0 ]; then found=1; fi
  printf '%-20s %12s %10s %10s %9s\n' "$name" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
    "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")" \
    "$(grep -o ' cov: [0-9]*' "$log" | tail -1 | grep -o '[0-9]*')" "$found"
  if [ $found -ne 0 ]; then
    status=1
    grep -aE '^fuzz: |ERROR: |SUMMARY: |runtime error: |what\(\): |^    #[0-9] .*ip2p|Test unit written to' "$log" |
      head -12 | sed 's/^/    /'
    echo "    again: $build/bin/$name FILE; all it said: $log"
  fi
done
exit $status
