#!/usr/bin/env bash
# Kills every resumable program N times (3 by default) at random moments and compares its result with that of an
# undisturbed run; kills the service too and checks the results it kept. Then kills training alone, 50 times as often,
# with a network so small that most kills hit the writing of a checkpoint, and one of two processes that train together,
# 10 times as often.
#
#   scripts/kills.sh [N [SEED]]
#
#   IP2P_PROGRAMS=FOLDER   use the programs in FOLDER; nothing is built, and the separate training kills are left out
set -euo pipefail
cd "$(dirname "$0")/.."

kills=${1:-3}
case "$kills" in
  *[!0-9]*|'') echo "kills: expected a number, found \`$kills\`" >&2; exit 2 ;;
esac
seed=${2:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
if [ -n "${IP2P_PROGRAMS:-}" ]; then
  exec python3 tests/faults/kills.py "$IP2P_PROGRAMS" . --kills "$kills" --seed "$seed"
fi
scripts/build.sh
python3 tests/faults/kills.py build/release/examples . --kills "$kills" --seed "$seed"
build/release/tests/faults killed $((kills * 50)) "$seed"
python3 tests/parallel/kills.py build/release/tests/processes --kills $((kills * 10)) --seed "$seed"
