#!/usr/bin/env bash
# The load of load.py in a short form: a few seconds. The whole of it: python3 tests/studio/load.py PROGRAMS_DIR SOURCE_DIR
#
#   bash tests/studio/load_test.sh PROGRAMS_DIR SOURCE_DIR
set -euo pipefail
exec python3 "$(dirname "$0")/load.py" "$1" "$2" --clients 16 --requests 100 --warm 20 --seconds-slow 1 --growth 1
