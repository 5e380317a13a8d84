#!/usr/bin/env bash
# Malformed and mutated requests of raw_http.py, in a short form: some seconds.
#
#   bash tests/studio/raw_http_test.sh PROGRAMS_DIR SOURCE_DIR
set -euo pipefail
exec python3 "$(dirname "$0")/raw_http.py" "$1" "$2" --requests 600 --seed 1
