#!/usr/bin/env bash
# Runs the campaigns of tests/faults in full, over every program: failing calls, running out of memory, failing storage,
# invalid numbers, many edits in one process. Builds the programs first and takes hours. The tests run a short version
# (`ctest -L faults`).
#
#   scripts/faults.sh                     all campaigns
#   scripts/faults.sh calls|memory|storage|numbers|long [OPTIONS]   one; for OPTIONS, see its script in tests/faults
#   scripts/faults.sh long --threads 2    makes the pictures to compare with on two threads
#
#   IP2P_PROGRAMS=FOLDER   use the programs in FOLDER, and FOLDER/../tests/many_edits, instead of building them
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-all}
[ $# -eq 0 ] || shift
case "$what" in
  all|calls|memory|storage|numbers|long) ;;
  *) echo "faults: expected \`calls\`, \`memory\`, \`storage\`, \`numbers\`, \`long\` or nothing, found \`$what\`" >&2; exit 2 ;;
esac

programs=${IP2P_PROGRAMS:-}
if [ -z "$programs" ]; then
  scripts/build.sh
  programs=build/release/examples
fi
library=$(mktemp --suffix=.so)
trap 'rm -f "$library"' EXIT
status=0
wanted() { [ "$what" = all ] || [ "$what" = "$1" ]; }
if wanted calls || wanted storage || wanted numbers; then
  ${CXX:-g++} -std=c++20 -O1 -shared -fPIC tests/faults/failing_calls.cpp -o "$library" -ldl
fi
if wanted calls; then
  python3 tests/faults/failing_calls.py "$programs" "$library" . --jobs "$(nproc)" "$@" || status=1
fi
if wanted memory; then python3 tests/faults/memory.py "$programs" . "$@" || status=1; fi
if wanted storage; then  # 77: the system does not allow mounts, as the script reports
  python3 tests/faults/storage.py "$programs" "$library" . "$@" || [ $? = 77 ] || status=1
fi
if wanted numbers; then python3 tests/faults/numbers.py "$programs" "$library" . --jobs "$(nproc)" "$@" || status=1; fi
if wanted long; then python3 tests/faults/long_run.py "$programs" "$programs/../tests/many_edits" . "$@" || status=1; fi
exit $status
