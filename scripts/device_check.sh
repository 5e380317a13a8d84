#!/usr/bin/env bash
# Checks and measures this library on the GPU of this machine, with what scripts/device_pack.sh packed:
#
#   scripts/device_check.sh FOLDER OUT [--device cuda|cpu] [--small] [--models FOLDER] [STEP...]
#
# FOLDER is the packed one (or any that holds a program device_check), OUT a folder for the results: table.txt (what is
# printed at the end), results.json and log.txt. LibTorch is that of this machine's Python. Every step runs in its own
# process under its own time limit, and what fails or hangs does not keep the next from running; after six minutes no
# further step begins. Without STEPs: all, correctness first, then speed, then the peers. The exit status is 0 where
# every step ran and nothing failed.
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
if torch=$("$python" -c 'import torch; print(torch.__path__[0])' 2>/dev/null); then
  export LD_LIBRARY_PATH="$torch/lib:$torch/../nvidia/cu13/lib:$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
elif [ -d "$folder/lib" ]; then
  export LD_LIBRARY_PATH="$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
site=$scratch/site
if compgen -G "$folder/wheels/*.whl" >/dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
    "$folder"/wheels/*.whl >>"$log" 2>&1 || say "device_check: the wheels in $folder/wheels cannot be installed"
fi

begin=$SECONDS
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

# step NAME LIMIT COMMAND...: runs it for at most LIMIT seconds and what is left of all.
step() {
  local name=$1 limit=$2 left status
  shift 2
  wanted "$name" || return 0
  left=$((allowed - (SECONDS - begin)))
  if [ "$left" -le 5 ]; then
    note_failure "$name" "did not begin: the time for all steps was used up"
    failed=1
    return
  fi
  [ "$limit" -le "$left" ] || limit=$left
  say "== $name (at most $limit s)"
  timeout --kill-after=5 "$limit" "$@" </dev/null 2>&1 | tee -a "$log"
  status=${PIPESTATUS[0]}
  [ "$status" -eq 0 ] && return
  failed=1
  [ -f "$scratch/$name.json" ] && return
  if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
    note_failure "$name" "ran longer than $limit s"
  else
    note_failure "$name" "ended with status $status: $(tail -n 1 "$log" | tr -d '\r' | cut -c1-200)"
  fi
}

program() {
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" "$folder/device_check" --device "$device" "${small[@]}" --models "$models" --out "$scratch" \
    --step "$name" "$@"
}

[ "$device" = cpu ] || nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 | tee -a "$log"
steps=$("$folder/device_check" --list 2>>"$log") || die "$folder/device_check does not start: $(tail -n 3 "$log")"

while read -r name kind; do
  [ "$kind" = check ] && program "$name" 60
done <<<"$steps"

if [ "${IP2P_DEVICE_PEERS:-1}" != 0 ]; then
  weights=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo /tmp)")
fi
# The edit at full size, and at once diffusers with the model that it leaves: the numbers that matter most.
program edit_speed 120 ${weights:+--weights "$weights"}
if [ -n "$weights" ]; then
  peer=$folder/diffusers_peer.py
  [ -f "$peer" ] || peer=$here/../tests/device/diffusers_peer.py
  for mode in eager channels-last compile; do
    step "diffusers_$mode" 100 env PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" "$python" "$peer" --device "$device" \
      "${small[@]}" --mode "$mode" --weights "$weights" --out "$scratch/diffusers_$mode.json"
  done
fi
while read -r name kind; do
  [ "$kind" != benchmark ] || [ "$name" = edit_speed ] || program "$name" 60
done <<<"$steps"

# Out-of-bounds accesses and races of our own kernels, at tiny sizes: the tool slows a program down a hundred times.
if [[ "$steps" == *"kernels check"* ]] && [ "$device" = cuda ]; then
  if command -v compute-sanitizer >/dev/null; then
    sanitised() {
      mkdir -p "$scratch/sanitised"
      compute-sanitizer --tool "$1" --error-exitcode 9 --target-processes all "$folder/device_check" --device cuda \
        --small --models "$models" --step kernels --out "$scratch/sanitised" >"$scratch/$1.log" 2>&1
      local status=$?
      tail -n 5 "$scratch/$1.log"
      [ "$status" -eq 9 ] && note_failure "$1" "$(grep -m 1 '=========' "$scratch/$1.log" | cut -c1-200)"
      [ "$status" -ne 0 ] || printf '{"seconds": 0, "rows": [{"step": "%s", "name": "kernels", "status": "ok"}]}' "$1" \
        >"$scratch/$1.json"
      return "$status"
    }
    export -f sanitised note_failure
    export folder models scratch python
    for tool in memcheck racecheck; do step "$tool" 45 bash -c "sanitised $tool"; done
  else
    say "compute-sanitizer is not on this machine: kernels were not run under it"
  fi
fi

table=$folder/device_table.py
[ -f "$table" ] || table=$here/../tests/device/device_table.py
"$python" "$table" "$scratch" "$out/results.json" $((SECONDS - begin)) | tee "$out/table.txt"
[ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
exit "$failed"
