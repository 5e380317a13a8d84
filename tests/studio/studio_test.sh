#!/usr/bin/env bash
# The service from outside, with the small model: what studio_test.py says.
#
#   bash tests/studio/studio_test.sh PROGRAMS_DIR SOURCE_DIR [TEST...]
set -euo pipefail
exec python3 "$(dirname "$0")/studio_test.py" "$@"
