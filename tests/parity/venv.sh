#!/usr/bin/env bash
# Makes the Python environment of the reference implementations (tests/parity/requirements*.txt) under the build folder.
# Usage: tests/parity/venv.sh [FOLDER]     (default: build/venv beside the sources)
# Prints the interpreter's path as its last line; quick if the environment is already complete.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${1:-$(cd "$here/../.." && pwd)/build/venv}"
stamp="$venv/.requirements.txt"

lists=("$here/requirements.txt" "$here/requirements-no-deps.txt")

if ! cat "${lists[@]}" | cmp -s - "$stamp"; then
  if [ ! -x "$venv/bin/python" ]; then
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv"
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "${lists[0]}" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "${lists[1]}" >&2
  cat "${lists[@]}" > "$stamp"
fi
echo "$venv/bin/python"
