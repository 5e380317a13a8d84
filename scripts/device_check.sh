#!/usr/bin/env bash
# Checks and measures this library on the GPU of this machine, with what scripts/device_pack.sh packed:
#
#   scripts/device_check.sh FOLDER OUT [--device cuda|cpu] [--small] [--models FOLDER] [STEP...]
#
# FOLDER is the packed one (or any that holds a program device_check), OUT a folder for the results: table.txt (what is
# printed at the end), results.json and log.txt. LibTorch is that of this machine's Python. Steps run under time limits,
# and what fails or hangs does not keep the next from running; after six minutes no further step begins. Without STEPs:
# all, what matters most first: the machine, kernels and graphs, the speed of edits beside its peers, then the other
# checks and benchmarks. The exit status is 0 where every step ran and nothing failed. Where time is short, make two
# calls of it: one with the steps `machine kernels graphs edit_speed diffusers_eager diffusers_channels-last
# diffusers_compile`, one with the others.
#
#   IP2P_DEVICE_SECONDS  seconds after which no step begins (default 330, so that the whole takes less than six minutes)
#   IP2P_DEVICE_PEERS=0  leaves the comparison with diffusers out
set -uo pipefail

die() { printf 'device_check: %s\n' "$*" >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
device=cuda
small=()
models=
positional=()
while [ $# -gt 0 ]; do
  case "$1" in
    --device) [ $# -gt 1 ] || die "--device: expected cuda or cpu, found nothing"; device=$2; shift ;;
    --small) small=(--small) ;;
    --models) [ $# -gt 1 ] || die "--models: expected a folder, found nothing"; models=$2; shift ;;
    -*) die "expected --device, --small or --models, found $1" ;;
    *) positional+=("$1") ;;
  esac
  shift
done
[ ${#positional[@]} -ge 2 ] || die "expected the packed folder and a folder for the results, found ${#positional[@]} arguments"
folder=$(cd "${positional[0]}" && pwd) || die "expected a folder, found '${positional[0]}'"
out=${positional[1]}
chosen=("${positional[@]:2}")
mkdir -p "$out" || die "cannot make '$out'"
out=$(cd "$out" && pwd)
if [ -z "$models" ]; then
  for models in "$here/../models" "$folder/models" "$PWD/models"; do [ -d "$models/clip-tokenizer" ] && break; done
fi
[ -d "$models/clip-tokenizer" ] || die "expected the repository's folder of models, found none: name it with --models"
[ -x "$folder/device_check" ] || chmod +x "$folder/device_check" 2>/dev/null || true
[ -x "$folder/device_check" ] || die "expected the program $folder/device_check, found none"

scratch=$(mktemp -d) || die "cannot make a folder for steps' results"
weights=
cleanup() { rm -rf "$scratch"; [ -z "$weights" ] || rm -rf "$weights"; }
trap cleanup EXIT
log=$out/log.txt
: >"$log"
say() { printf '%s\n' "$*" | tee -a "$log"; }

# The LibTorch that the program was linked against is not here; Python's is the same version. (A program that finds its
# own, as one that was built here does, keeps to it.)
python=$(command -v python3) || die "expected python3, found none"
if torch=$("$python" -c 'import torch; print(torch.__path__[0])' 2>>"$log"); then
  found=$("$python" -c 'import torch; print(torch.__version__.split("+")[0])')
  if [ -f "$folder/torch-version" ] && [ "$found" != "$(cat "$folder/torch-version")" ]; then
    die "expected PyTorch $(cat "$folder/torch-version"), for which $folder was packed, found $found in $torch"
  fi
  export LD_LIBRARY_PATH="$torch/lib:$torch/../nvidia/cu13/lib:$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
elif [ -d "$folder/lib" ]; then
  export LD_LIBRARY_PATH="$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
site=$scratch/site
if compgen -G "$folder/wheels/*.whl" >/dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
    "$folder"/wheels/*.whl >>"$log" 2>&1 || say "device_check: the wheels in $folder/wheels cannot be installed"
fi

begin=0  # what came before counts too
allowed=${IP2P_DEVICE_SECONDS:-330}
failed=0
wanted() { [ ${#chosen[@]} -eq 0 ] || [[ " ${chosen[*]} " == *" $1 "* ]]; }

# Notes in a step's file why it has no result of its own.
note_failure() {
  "$python" - "$scratch/$1.json" "$1" "$2" <<'PYTHON'
import json, pathlib, sys
path, step, reason = sys.argv[1:]
row = {"step": step, "name": "the step as a whole", "status": "failed", "text": reason}
pathlib.Path(path).write_text(json.dumps({"seconds": 0, "rows": [row]}))
PYTHON
}

export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-lo}  # one process is enough, and there may be no network

# limited LIMIT COMMAND...: runs it for at most LIMIT seconds and what is left of all. It sets `ended` to why it has no
# result, if it has none.
limited() {
  local limit=$1 left status
  shift
  left=$((allowed - (SECONDS - begin)))
  if [ "$left" -le 5 ]; then
    ended="did not begin: the time for all steps was used up"
    failed=1
    return 1
  fi
  [ "$limit" -le "$left" ] || limit=$left
  timeout --kill-after=5 "$limit" "$@" </dev/null 2>&1 | tee -a "$log"
  status=${PIPESTATUS[0]}
  [ "$status" -eq 0 ] && return
  failed=1
  ended="ended with status $status: $(tail -n 1 "$log" | tr -d '\r' | cut -c1-200)"
  if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then ended="ran longer than $limit s"; fi
  return 1
}

# step NAME LIMIT COMMAND...: one step that has a result of its own.
step() {
  local name=$1 limit=$2
  shift 2
  wanted "$name" || return 0
  say "== $name (at most $limit s)"
  limited "$limit" "$@" || [ -f "$scratch/$name.json" ] || note_failure "$name" "$ended"
}

# program NAME LIMIT [OPTION...]: a step of the program, in a process of its own.
program() {
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" "$folder/device_check" --device "$device" "${small[@]}" --models "$models" --out "$scratch" \
    --step "$name" "$@"
}

# together LIMIT NAME...: steps in one process, because each takes seconds to load LibTorch and to set up the device. If
# it dies in one of them, another process does those after it.
together() {
  local limit=$1 name left
  shift
  left=()
  for name in "$@"; do wanted "$name" && left+=("$name"); done
  while [ ${#left[@]} -gt 0 ]; do
    say "== ${left[*]} (at most $limit s)"
    limited "$limit" "$folder/device_check" --device "$device" "${small[@]}" --models "$models" --out "$scratch" \
      --step "$(IFS=,; echo "${left[*]}")" || true
    while [ ${#left[@]} -gt 0 ] && [ -f "$scratch/${left[0]}.json" ]; do left=("${left[@]:1}"); done
    [ ${#left[@]} -gt 0 ] || break
    note_failure "${left[0]}" "$ended"
    left=("${left[@]:1}")
  done
}

[ "$device" = cpu ] || nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 | tee -a "$log"
steps=$("$folder/device_check" --list 2>>"$log") || die "$folder/device_check does not start: $(tail -n 3 "$log")"

checks=() benchmarks=()
while read -r name kind; do
  case "$name" in machine | kernels | graphs | edit_speed) continue ;; esac
  if [ "$kind" = check ]; then checks+=("$name"); else benchmarks+=("$name"); fi
done <<<"$steps"

together 120 machine kernels graphs
if [ "${IP2P_DEVICE_PEERS:-1}" != 0 ] && wanted edit_speed; then
  # Two models of 2 GB; memory is faster than a disk, where it is large enough.
  for place in /dev/shm "${TMPDIR:-/tmp}"; do
    [ "$(df -Pk "$place" 2>/dev/null | awk 'NR == 2 { print $4 }')" -gt 5000000 ] 2>/dev/null && break
  done
  weights=$(mktemp -d -p "$place") || die "cannot make a folder for the model in $place"
fi
# The edit at full size, and at once diffusers with the model that it leaves: the numbers that matter most.
program edit_speed 150 ${weights:+--weights "$weights"}
peer_program=$folder/diffusers_peer.py
[ -f "$peer_program" ] || peer_program=$here/../tests/device/diffusers_peer.py
# peer MODE LIMIT: diffusers, in a mode of diffusers_peer.py.
peer() {
  step "diffusers_$1" "$2" env PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" "$python" "$peer_program" --device "$device" \
    "${small[@]}" --mode "$1" --weights "$weights" --out "$scratch/diffusers_$1.json"
}
if [ -n "$weights" ]; then
  for mode in eager channels-last compile; do peer "$mode" 100; done
fi
together 240 "${checks[@]}"
for name in "${benchmarks[@]}"; do program "$name" 60; done
[ -z "$weights" ] || peer training 60

# Out-of-bounds accesses and races of our own kernels, at tiny sizes: the tool slows a program down a hundred times.
if [[ "$steps" == *"kernels check"* ]] && [ "$device" = cuda ]; then
  if command -v compute-sanitizer >/dev/null; then
    sanitised() {
      mkdir -p "$scratch/sanitised"
      # Our kernels alone are looked at: LibTorch's are many, and it expects some of its calls to fail.
      compute-sanitizer --tool "$1" --error-exitcode 9 --kernel-regex kns=run_kernel --report-api-errors no \
        "$folder/device_check" --device cuda --small --models "$models" --step kernels --out "$scratch/sanitised" \
        >"$scratch/$1.log" 2>&1
      local status=$?
      tail -n 5 "$scratch/$1.log"
      if grep -q 'Device not supported' "$scratch/$1.log"; then
        printf '{"seconds": 0, "rows": [{"step": "%s", "name": "kernels", "status": "skipped", "text": "%s"}]}' "$1" \
          "compute-sanitizer does not support this device" >"$scratch/$1.json"
        return 0
      fi
      [ "$status" -eq 9 ] && note_failure "$1" "$(grep -m 1 '=========' "$scratch/$1.log" | cut -c1-200)"
      [ "$status" -ne 0 ] || printf '{"seconds": 0, "rows": [{"step": "%s", "name": "kernels", "status": "ok"}]}' "$1" \
        >"$scratch/$1.json"
      return "$status"
    }
    export -f sanitised note_failure
    export folder models scratch python
    for tool in memcheck racecheck; do step "$tool" 90 bash -c "sanitised $tool"; done
  else
    for tool in memcheck racecheck; do
      ! wanted "$tool" || printf '{"seconds": 0, "rows": [{"step": "%s", "name": "kernels", "status": "skipped", "text": "%s"}]}' \
        "$tool" "compute-sanitizer is not on this machine" >"$scratch/$tool.json"
    done
  fi
fi

table=$folder/device_table.py
[ -f "$table" ] || table=$here/../tests/device/device_table.py
"$python" "$table" "$scratch" "$out/results.json" $((SECONDS - begin)) | tee "$out/table.txt"
[ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
exit "$failed"
