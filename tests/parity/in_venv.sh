#!/usr/bin/env bash
# Runs a test script with the Python of the reference implementations, which tests/parity/venv.sh installs. If it is not
# installed, the test is skipped (exit status 77) and says so.
#   bash tests/parity/in_venv.sh SCRIPT ARGUMENTS...
set -euo pipefail
python=${IP2P_PARITY_PYTHON:-$(cd "$(dirname "$0")/../.." && pwd)/build/venv/bin/python}
if [ ! -x "$python" ]; then
  echo "skipped $(basename "$1"): no $python; tests/parity/venv.sh installs it"
  exit 77
fi
exec "$python" "$@"
