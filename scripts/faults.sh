#!/usr/bin/env bash
# The campaigns of tests/faults at full length: failing calls, memory that runs out, and numbers that are none, over every
# program. Takes an hour or more; builds the programs first. The tests run a short part of it (`ctest -L faults`).
#
#   scripts/faults.sh                     all of it
#   scripts/faults.sh calls|memory|numbers [OPTIONS]   one of them; OPTIONS as the script in tests/faults says
#
#   IP2P_PROGRAMS=FOLDER   take the programs there; nothing is built
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-all}
[ $# -eq 0 ] || shift
case "$what" in
  all|calls|memory|numbers) ;;
  *) echo "faults: expected \`calls\`, \`memory\`, \`numbers\` or nothing, found \`$what\`" >&2; exit 2 ;;
esac

programs=${IP2P_PROGRAMS:-}
if [ -z "$programs" ]; then
  scripts/build.sh
  programs=build/release/examples
fi
library=$(mktemp --suffix=.so)
trap 'rm -f "$library"' EXIT
status=0
if [ "$what" = all ] || [ "$what" = calls ]; then
  ${CXX:-g++} -std=c++20 -O1 -shared -fPIC tests/faults/failing_calls.cpp -o "$library" -ldl
  python3 tests/faults/failing_calls.py "$programs" "$library" . --jobs "$(nproc)" "$@" || status=1
fi
if [ "$what" = all ] || [ "$what" = memory ]; then python3 tests/faults/memory.py "$programs" . "$@" || status=1; fi
if [ "$what" = all ] || [ "$what" = numbers ]; then
  python3 tests/faults/numbers.py "$programs" . --jobs "$(nproc)" "$@" || status=1
fi
exit $status
