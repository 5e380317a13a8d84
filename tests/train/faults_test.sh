#!/usr/bin/env bash
# Sends signals and a full disk to the program `faults`, and checks what becomes of its run.
#   bash tests/train/faults_test.sh PROGRAM SCENARIO
set -euo pipefail

program=$1
scenario=$2
export OMP_NUM_THREADS=1
work=$(mktemp -d)
finish() {
  umount "$work/disk" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

fail() {
  printf '%s: %s\n' "$scenario" "$*" >&2
  tail -n 5 "$work"/*.log >&2 || true
  exit 1
}

case $scenario in
  terminated)  # SIGTERM and Ctrl-C: the update is finished, a checkpoint is written, status 0
    for signal in TERM INT; do
      rm -f "$work/train.log"
      "$program" train "$work/run" 400 >"$work/train.log" 2>"$work/note.log" &
      pid=$!
      for _ in $(seq 600); do
        if [ "$(grep -c '^step' "$work/train.log" || true)" -ge 23 ]; then break; fi
        sleep 0.05
      done
      kill -"$signal" $pid
      status=0
      wait $pid || status=$?
      [ $status = 0 ] || fail "expected status 0 after $signal, found $status"
      last=$(grep '^step' "$work/train.log" | tail -n 1 | cut -d' ' -f2)
      [ "$last" -lt 400 ] || fail "expected to end before step 400"
      grep -qx "ends at step $last" "$work/train.log" || fail "expected the last update to be finished"
      [ -f "$work/run/step_$last/manifest.json" ] || fail "expected a checkpoint of step $last"
    done
    "$program" train "$work/run" 400 >"$work/train.log"
    grep -qx "step $((last + 1))" "$work/train.log" || fail "expected to go on after step $last"
    "$program" train "$work/whole" 400 >"$work/whole.log"
    "$program" compare "$work/whole" "$work/run"
    ;;

  full_disk)  # a small file system that fills up; needs the right to mount one, which a user namespace gives
    if [ "${3:-}" != inside ]; then
      unshare=(unshare --mount)
      [ "$(id -u)" = 0 ] || unshare=(unshare --user --map-root-user --mount)
      if ! "${unshare[@]}" mount -t tmpfs tmpfs "$work" 2>/dev/null; then
        echo "skipped full_disk: this system does not let us mount a file system"
        exit 77
      fi
      "${unshare[@]}" bash "$0" "$program" full_disk inside
      exit
    fi
    mkdir "$work/disk"
    mount -t tmpfs -o size=4m tmpfs "$work/disk"
    head -c 3000000 /dev/zero >"$work/disk/other"
    status=0
    "$program" train "$work/disk/run" 60 >"$work/train.log" || status=$?
    [ $status = 3 ] || fail "expected an Error on a full disk, found status $status"
    grep -q "cannot write checkpoint '.*/step_[0-9]*': cannot write .*: No space left on device" "$work/train.log" ||
      fail "expected words about the full disk"
    for checkpoint in "$work"/disk/run/step_*; do
      [[ $checkpoint != *.tmp ]] || fail "expected nothing unfinished, found $checkpoint"
      [ -f "$checkpoint/manifest.json" ] || fail "expected whole checkpoints, found $checkpoint"
    done
    [ -d "$work/disk/run/step_10" ] || fail "expected the first checkpoint to be intact"
    tail -n 1 "$work/train.log"
    rm "$work/disk/other"
    "$program" train "$work/disk/run" 60 >"$work/train.log"
    grep -q '^step 1$' "$work/train.log" && fail "expected to go on, not to start again"
    "$program" train "$work/whole" 60 >"$work/whole.log"
    "$program" compare "$work/whole" "$work/disk/run"
    ;;

  *) fail "no such scenario" ;;
esac
