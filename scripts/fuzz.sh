#!/usr/bin/env bash
# Looks for input that the library does not read as it should, with libFuzzer and clang's sanitizers.
#
#   scripts/fuzz.sh [MINUTES] [TARGET...]     MINUTES (10) in all, shared by the targets (all of tests/fuzz/targets.txt)
#
#   IP2P_FUZZ_TORCH     LibTorch for the targets that need it (default: the one that scripts/dependencies.sh keeps);
#                       if empty, these targets are left out
#   IP2P_FUZZ_SEED      seed that makes the mutations repeatable (default: a new one each time)
#   IP2P_FUZZ_RUNS      maximum executions of each target (default: as many as time allows)
#   IP2P_FUZZ_JOBS      parallel compiler processes (default: the number of processors)
#
# Each target first reads its seeds and the interesting inputs of earlier runs (build/fuzz/corpus), then mutations of
# these. Findings are files in build/fuzz/findings, and make the exit status 1; without clang or libFuzzer it is 77.
# build/fuzz/executions.tsv has a line for each run of a target: its name, executions and seconds.
#
#   scripts/fuzz.sh --keep [TARGET...]
#
# reduces the interesting inputs to a set with the same coverage, and writes the smallest of them, 40 kB per target, to
# tests/fuzz/corpus/TARGET.tar.gz, from which later runs start.
#
#   scripts/fuzz.sh --compare [OPTIONS]
#
# compares what the library reads with what Pillow and safetensors read, with OPTIONS of tests/fuzz/differential.py.
# Without these Python packages (tests/parity/venv.sh) the exit status is 77.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "fuzz: $*" >&2; exit 2; }
keep=false compare=false
case "${1:-}" in
  --keep) keep=true; shift ;;
  --compare) compare=true; shift ;;
esac
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

configure() {
  cmake -S tests/fuzz -B $build -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DIP2P_FUZZ_TORCH="$IP2P_FUZZ_TORCH" \
    >"$probe/log" || { cat "$probe/log" >&2; die "cannot configure"; }
}
compile() { ninja -C $build -j "$jobs" "$@" >"$probe/log" || { tail -60 "$probe/log" >&2; die "cannot build"; }; }

if $compare; then
  [ -n "$IP2P_FUZZ_TORCH" ] || die "--compare needs LibTorch; name it in IP2P_FUZZ_TORCH"
  python=${IP2P_PARITY_PYTHON:-build/venv/bin/python}
  [ -x "$python" ] || python=python3
  "$python" tests/fuzz/differential.py --check || exit $?
  configure
  compile read_files
  status=0
  "$python" tests/fuzz/differential.py $build/bin/read_files . "$@" || status=$?
  exit $status
fi

# Reads the table of targets, leaving out those that cannot be built.
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
configure
compile "${names[@]}"

seconds=$(awk -v minutes="$minutes" -v count="${#names[@]}" 'BEGIN { s = int(minutes * 60 / count); print s < 1 ? 1 : s }')
# A smaller quarantine of freed memory than by default, and shorter allocation stacks: an execution needs little memory,
# and findings are examined again with the defaults.
export ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=8:thread_local_quarantine_size_kb=64:malloc_context_size=2}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export OMP_NUM_THREADS=1
symbolizer=$(command -v llvm-symbolizer-14 || command -v llvm-symbolizer || true)
[ -z "$symbolizer" ] || export ASAN_SYMBOLIZER_PATH=$symbolizer

# Puts the seeds of a target into $build/seeds/NAME.
put_seeds() {
  local name=$1 seed
  rm -rf "$build/seeds/$name"
  mkdir -p "$build/seeds/$name"
  for seed in ${seeds_of[$name]} "tests/fuzz/corpus/$name"/*; do
    if [ -f "$seed" ]; then cp "$seed" "$build/seeds/$name/$(tr / _ <<<"$seed")"; fi
  done
  if [ -f "tests/fuzz/corpus/$name.tar.gz" ]; then
    tar -xzf "tests/fuzz/corpus/$name.tar.gz" -C "$build/seeds/$name"
  fi
}

if $keep; then
  for name in "${names[@]}"; do
    put_seeds "$name"
    merged=$build/merged/$name kept=$build/kept/$name
    rm -rf "$merged" "$kept"
    mkdir -p "$merged" "$kept" "$build/corpus/$name" $build/logs
    "$build/bin/$name" -merge=1 -max_len="${most_bytes[$name]}" -timeout=20 -rss_limit_mb=2560 -detect_leaks=0 \
      "$merged" "$build/corpus/$name" "$build/seeds/$name" >"$build/logs/$name.merge" 2>&1 ||
      die "cannot reduce what is kept of $name; all it said: $build/logs/$name.merge"
    rm -rf "$build/corpus/$name"
    cp -r "$merged" "$build/corpus/$name"
    find "$merged" -type f -printf '%s %f\n' | sort -n | awk '(sum += $1) <= 40000 { print $2 }' |
      while read -r file; do cp "$merged/$file" "$kept/$file"; done
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=644 -C "$kept" -cf - . |
      gzip -9n >"tests/fuzz/corpus/$name.tar.gz"
    printf '%-20s %6s inputs, of which %s are kept in %s bytes\n' "$name" "$(find "$merged" -type f | wc -l)" \
      "$(find "$kept" -type f | wc -l)" "$(stat -c %s "tests/fuzz/corpus/$name.tar.gz")"
  done
  exit
fi

status=0
printf '%-20s %12s %10s %10s %9s\n' target executions a\ second coverage findings
for name in "${names[@]}"; do
  corpus=$build/corpus/$name seeds=$build/seeds/$name findings=$build/findings/$name log=$build/logs/$name
  put_seeds "$name"
  mkdir -p "$corpus" "$findings" $build/logs
  options=(-max_total_time="$seconds" -max_len="${most_bytes[$name]}" -timeout=20 -report_slow_units=20
    -rss_limit_mb=2560 -malloc_limit_mb=1024 -entropic=0 -print_final_stats=1 -reload=0 -seed="${IP2P_FUZZ_SEED:-0}"
    -runs="${IP2P_FUZZ_RUNS:--1}" -artifact_prefix="$findings/")
  [ ! -f "tests/fuzz/corpus/$name.dict" ] || options+=(-dict="tests/fuzz/corpus/$name.dict")
  before=$(ls "$findings" | wc -l)
  fault=0 begun=$SECONDS
  nice -n 5 "$build/bin/$name" "${options[@]}" "$corpus" "$seeds" >"$log" 2>&1 || fault=$?
  found=$(($(ls "$findings" | wc -l) - before))
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%s\t%s\t%s\n' "$name" "${executions:-0}" $((SECONDS - begun)) >>$build/executions.tsv
  # A run that fails without writing a finding counts as one, too.
  if [ $fault -ne 0 ] && [ $found -eq 0 ]; then found=1; fi
  printf '%-20s %12s %10s %10s %9s\n' "$name" "$executions" \
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
