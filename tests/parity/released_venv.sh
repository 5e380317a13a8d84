#!/usr/bin/env bash
# Makes the Python environment of the released program's tokenizer: transformers of that time and the ftfy that it calls.
# They conflict with the versions of tests/parity/requirements.txt and therefore have their own folder.
# Usage: tests/parity/released_venv.sh [FOLDER]     (default: build/released_venv beside the sources)
# Prints the interpreter's path as its last line.
set -euo pipefail

venv="${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/released_venv}"
if [ ! -x "$venv/bin/python" ]; then
  mkdir -p "$(dirname "$venv")"
  python3 -m venv "$venv"
fi
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" ftfy==6.1.1 wcwidth==0.2.14 regex==2025.11.3 filelock packaging pyyaml requests tqdm numpy >&2
# Without their dependencies: the slow tokenizer is plain Python, and the tokenizers package of that time has no wheel.
"${pip[@]}" --no-deps transformers==4.19.2 huggingface-hub==0.10.1 >&2
echo "$venv/bin/python"
