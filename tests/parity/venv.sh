#!/usr/bin/env bash
# Makes the Python environment of the reference implementations (tests/parity/requirements.txt) under the build folder.
# Usage: tests/parity/venv.sh [FOLDER]     (default: build/venv beside the sources)
# Prints the interpreter's path as its last line; quick when the environment is already complete.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${1:-$(cd "$here/../.." && pwd)/build/venv}"
stamp="$venv/.requirements.txt"

if ! cmp -s "$here/requirements.txt" "$stamp"; then
  if [ ! -x "$venv/bin/python" ]; then
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv"
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
  cp "$here/requirements.txt" "$stamp"
fi
echo "$venv/bin/python"
