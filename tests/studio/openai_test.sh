#!/usr/bin/env bash
# OpenAI's own Python client with the service. Where the package openai is absent, the test is skipped (exit status 77).
#
#   bash tests/studio/openai_test.sh PROGRAMS_DIR SOURCE_DIR
# IP2P_STUDIO_PYTHON names a Python that has it; otherwise it is that of tests/parity/venv.sh, or the system's.
set -euo pipefail
python=${IP2P_STUDIO_PYTHON:-$(cd "$(dirname "$0")/../.." && pwd)/build/venv/bin/python}
[ -x "$python" ] || python=python3
"$python" -c 'import openai' 2>/dev/null || { echo "skipped openai_test.py: $python has no openai"; exit 77; }
exec "$python" "$(dirname "$0")/openai_test.py" "$@"
