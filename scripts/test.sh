#!/usr/bin/env bash
# Dependencies, build, all tests. Arguments go to ctest: scripts/test.sh -R io
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build.sh
status=0
# One more than there are processors: tests of failing servers and killed processes mostly wait.
ctest --test-dir build/release --output-on-failure --parallel "$(($(nproc) + 1))" "$@" || status=$?

# A test that lacks its data passes with a note. Nobody reads the log of a passing test, so repeat the note here.
skipped=$(grep -h '^skipped: ' build/release/Testing/Temporary/LastTest.log 2>/dev/null | sort -u || true)
[ -z "$skipped" ] || printf '\nPassed without being run in full:\n%s\n' "$skipped"
exit $status
