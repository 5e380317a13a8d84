#!/usr/bin/env bash
# Starts the program `processes` as several processes and checks what they did.
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

# A port that is free now, below those that systems use for outgoing connections.
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

# start SIZE RANK ARGUMENTS...: one process in the background, with its output in $work/RANK.log.
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

# together SIZE ARGUMENTS...: that many processes, all of which must succeed.
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

# supervised SIZE ARGUMENTS...: that many processes; if one of them fails, all of them again with the same command, as
# torchrun does. Their output stays in $work/START.RANK.log.
supervised() {
  local size=$1 restart rank failed
  shift
  port=$(free_port)
  for restart in 0 1 2; do
    export TORCHELASTIC_RESTART_COUNT=$restart
    pids=() failed=0
    for ((rank = 0; rank < size; ++rank)); do start "$size" "$rank" "$@"; done
    for ((rank = 0; rank < size; ++rank)); do wait "${pids[$rank]}" || failed=1; done
    for ((rank = 0; rank < size; ++rank)); do mv "$work/$rank.log" "$work/$restart.$rank.log"; done
    if [ $failed = 0 ]; then return; fi
  done
  fail "expected the restarts to end well"
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

  divided)  # who keeps which state changes no bit, and a run may continue with another number of processes
    together 1 train $patience "$work/1" 6 1 1
    together 2 train $patience "$work/2" 6 1 1
    together 2 train $patience "$work/2d" 6 1 1 divided
    together 4 train $patience "$work/4" 6 1 1
    together 4 train $patience "$work/4d" 6 1 1 divided
    "$program" compare "$work/2" "$work/2d" 0
    "$program" compare "$work/4" "$work/4d" 0
    for other in 2d 4d; do "$program" compare "$work/1" "$work/$other" 1e-5; done
    together 4 train $patience "$work/moved" 2 1 1 divided
    together 1 train $patience "$work/moved" 3 1 1 divided
    together 2 train $patience "$work/moved" 4 2 1 divided  # 2 parts per process: written without a copy
    together 2 train $patience "$work/moved" 5 1 1
    together 4 train $patience "$work/moved" 6 1 1 divided
    "$program" compare "$work/1" "$work/moved" 1e-5
    together 2 train $patience "$work/f2" 6 1 1 whole adafactor
    together 2 train $patience "$work/f2d" 6 1 1 divided adafactor
    "$program" compare "$work/f2" "$work/f2d" 0
    ;;

  resumed)
    together 2 train $patience "$work/whole" 5 1 1
    together 2 train $patience "$work/parts" 3 1 1
    together 2 train $patience "$work/parts" 5 1 1 | tee "$work/words"
    [ "$(grep -c 'resumed from step 3 to 5' "$work/words")" = 2 ] || fail "expected both processes to resume"
    "$program" compare "$work/whole" "$work/parts" 0
    # Rank 0 finds a checkpoint that does not verify, and all stop.
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

  killed | killed_backward)
    place=loss
    if [ $scenario = killed_backward ]; then place=backward; fi
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

  absent)  # one of three does not appear
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

  restarted)  # a process is killed, the others say which, and after a restart all end as if nothing had happened
    together 2 restarts $patience "$work/whole" 9 -1 0 end
    supervised 2 restarts 10 "$work/one" 9 1 5 end
    says 0.0 'unexpected: rank 0 of 2: .*no sign of rank 1\)'
    # Rank 0 begins the checkpoint of step 4 before it meets rank 1 again, and finishes it before it gives up.
    for rank in 0 1; do says 1.$rank 'start 1 from step 4'; done
    "$program" compare "$work/whole" "$work/one" 0
    # The checkpoint of step 4, which rank 0 is writing, may be lost with it.
    supervised 2 restarts 10 "$work/zero" 9 0 5 end
    says 0.1 'unexpected: rank 1 of 2: '
    says 1.0 'start 1 from step [24]'
    "$program" compare "$work/whole" "$work/zero" 0
    ;;

  killed_in_*)  # one of four dies there; the others say so, and a restart ends as if nothing had happened, but for the
                # order of additions: c10d's Reducer sends gradients in other buckets in its first pass
    phase=${scenario#killed_in_}
    victim=3 step=5
    case $phase in
      checkpoint) victim=0 step=4 ;;  # the first of two files of that step
      end) step=6 ;;
    esac
    together 4 restarts $patience "$work/whole" 6 -1 0 end divided
    begin=$SECONDS
    supervised 4 restarts 20 "$work/run" 6 $victim $step "$phase" divided
    for rank in 0 1 2 3; do
      if [ $rank != $victim ]; then says 0.$rank "unexpected: rank $rank of 4: .* expected all processes to take part"; fi
    done
    [ $phase = start ] || says 1.1 'start 1 from step [24]'
    "$program" compare "$work/whole" "$work/run" 1e-6
    echo "$phase: rank $victim of 4 killed in update $step, restarted and ended in $((SECONDS - begin)) s"
    ;;

  torchrun)  # the same with the real one, if the Python environment of tests/parity/venv.sh is installed
    python=${IP2P_PARITY_PYTHON:-$(cd "$(dirname "$0")/../.." && pwd)/build/venv/bin/python}
    if [ ! -x "$python" ]; then
      echo "skipped torchrun: no $python; tests/parity/venv.sh installs it"
      exit 77
    fi
    together 2 restarts $patience "$work/whole" 9 -1 0 end
    "$python" -m torch.distributed.run --no-python --standalone --nproc-per-node=2 --max-restarts=2 \
      "$program" restarts 10 "$work/run" 9 1 5 end >"$work/0.log" 2>"$work/0.err.log" || fail "expected torchrun to end well"
    for rank in 0 1; do says 0 "rank $rank of 2: start 1 from step [24]"; done
    "$program" compare "$work/whole" "$work/run" 0
    ;;

  *) fail "no such scenario" ;;
esac
cat "$work"/[0-9]*.log 2>/dev/null || true
