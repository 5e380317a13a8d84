#!/usr/bin/env bash
# Runs browser_test.py, which drives ip2p studio in Chromium. Where the browser, its driver or Python's selenium is absent,
# the test is skipped (exit status 77) and says which.
#
#   bash tests/studio/browser_test.sh PROGRAMS_DIR SOURCE_DIR
# Debian has the first two as chromium and chromium-driver; IP2P_STUDIO_PYTHON names a Python that has selenium.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${IP2P_STUDIO_PYTHON:-$root/build/venv/bin/python}
[ -x "$python" ] || python=python3
for program in chromium chromedriver; do
  command -v "$program" >/dev/null || { echo "skipped browser_test.py: no $program"; exit 77; }
done
"$python" -c 'import selenium' 2>/dev/null || { echo "skipped browser_test.py: $python has no selenium"; exit 77; }
exec "$python" "$root/tests/studio/browser_test.py" "$@"
