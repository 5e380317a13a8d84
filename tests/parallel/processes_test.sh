#!/usr/bin/env bash
# Starts the program `processes` as several processes and looks at what they did.
#   bash tests/parallel/processes_test.sh PROGRAM SCENARIO
set -euo pipefail

program=$1
scenario=$2
export OMP_NUM_THREADS=1
work=$(mktemp -d)
pids=()
finish() {
  local pid
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

fail() {
  printf '%s: %s\n' "$scenario" "$*" >&2
  tail -n +1 "$work"/*.log >&2 || true
  exit 1
}

# A port that is free now, below those that systems give to connections.
free_port() {
  python3 - <<'PYTHON'
import random, socket
while True:
    port = random.randrange(20000, 30000)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
PYTHON
}

# start SIZE RANK ARGUMENTS...: one process, in the background, its words in $work/RANK.log.
start() {
  local size=$1 rank=$2
  shift 2
  RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$size MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
    "$program" "$@" >"$work/$rank.log" 2>"$work/$rank.err.log" &
  pids+=($!)
}

# expect PLACE STATUS: waits for the process that was started at that place.
expect() {
  local status=0
  wait "${pids[$1]}" || status=$?
  [ "$status" = "$2" ] || fail "process $1: expected status $2, found $status"
}

# together SIZE ARGUMENTS...: that many processes, all of which must end well.
together() {
  local size=$1 rank
  shift
  port=$(free_port)
  pids=()
  for ((rank = 0; rank < size; ++rank)); do start "$size" "$rank" "$@"; done
  for ((rank = 0; rank < size; ++rank)); do expect "$rank" 0; done
  cat "$work"/[0-9].log
  rm -f "$work"/*.log
}

says() { grep -qE "$2" "$work/$1.log" || fail "process $1: expected '$2'"; }

patience=120
case $scenario in
  laws)
    "$program" laws $patience
    for size in 2 3; do together $size laws $patience; done
    ;;

  same_training)  # the number of processes, threads and parts changes only the order of additions
    together 1 train $patience "$work/1" 6 1 1
    together 2 train $patience "$work/2" 6 1 1
    together 4 train $patience "$work/4" 6 1 1
    together 2 train $patience "$work/2x2" 6 2 1
    together 2 train $patience "$work/2t2" 6 1 2
    for other in 2 4 2x2 2t2; do "$program" compare "$work/1" "$work/$other" 1e-5; done
    ;;

  resumed)
    together 2 train $patience "$work/whole" 5 1 1
    together 2 train $patience "$work/parts" 3 1 1
    together 2 train $patience "$work/parts" 5 1 1 | tee "$work/words"
    [ "$(grep -c 'resumed from step 3 to 5' "$work/words")" = 2 ] || fail "expected both processes to resume"
    "$program" compare "$work/whole" "$work/parts" 0
    # A checkpoint that does not verify is found by rank 0, and all stop.
    mkdir "$work/other"
    mv "$work/parts/step_5" "$work/other/step_5"
    sed -i 's/"ema_updates"/"something"/' "$work/other/step_5/manifest.json"
    port=$(free_port) pids=()
    for rank in 0 1; do start 2 $rank train $patience "$work/other" 6 1 1; done
    expect 0 1
    expect 1 1
    says 1 'rank 0 could not resume'
    ;;

  nan)
    port=$(free_port)
    for rank in 0 1 2; do start 3 $rank nan $patience; done
    for rank in 0 1 2; do
      expect $rank 3
      says $rank 'not finite 2 times in a row, last at step 3 on rank 2'
      says $rank 'step 2'
    done
    ;;

  killed | killed_in_backward)
    place=loss
    if [ $scenario = killed_in_backward ]; then place=backward; fi
    port=$(free_port)
    for rank in 0 1 2; do start 3 $rank killed 10 $place; done
    expect 2 137
    for rank in 0 1; do
      expect $rank 3
      says $rank 'step 2'
      says $rank "after [0-9.]+ s: rank $rank of 3: .* expected all processes to take part within 10 s"
      says $rank 'no sign of rank 2\)'
    done
    if [ $place = backward ]; then says 0 'mean of the gradients'; else says 0 'all_reduce of Double \[3\]'; fi
    ;;

  stopped)
    port=$(free_port)
    for rank in 0 1; do start 2 $rank stopped 5 loss; done
    expect 0 3
    says 0 'after ([5-9]|1[0-9])[0-9.]* s: rank 0 of 2: all_reduce'
    says 0 'no sign of rank 1\)'
    ;;

  absent)  # one of three does not come
    port=$(free_port)
    for rank in 0 1; do start 3 $rank alone 3; done
    expect 0 3
    says 0 "launch: rank 0 of 3 waited 3 s for rank 2 at 127.0.0.1:$port"
    expect 1 3
    says 1 "launch: rank 1 of 3"
    port=$(free_port) pids=()
    start 2 1 alone 2
    expect 0 3
    says 1 "launch: rank 1 of 2 at 127.0.0.1:$port: .*"
    "$program" twice | tee "$work/words"
    grep -q 'expected each rank once, found rank 1 twice' "$work/words" || fail "expected rank 1 to be refused"
    ;;

  *) fail "no such scenario" ;;
esac
cat "$work"/[0-9].log 2>/dev/null || true
