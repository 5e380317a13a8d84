#!/usr/bin/env bash
# scripts/device_check.sh on a folder as scripts/device_pack.sh leaves it, with a stand-in for the machine's PyTorch: its
# version is compared, steps run, one that is not there is reported, and the table and its ratios are written.
#
#   packed_check_test.sh PROGRAM SOURCES
set -euo pipefail
program=$1
sources=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "packed_check_test: $*" >&2; cat "$work/output" >&2; exit 1; }

pack=$work/pack
mkdir -p "$pack/lib" "$work/python/torch"
ln -s "$program" "$pack/device_check"
cp "$sources"/scripts/device_check.sh "$sources"/tests/device/device_table.py "$pack"
echo 2.11.0 >"$pack/torch-version"
echo "__version__ = '2.11.0+cu130'" >"$work/python/torch/__init__.py"
check() {
  PYTHONPATH=$work/python bash "$pack/device_check.sh" "$pack" "$work/results" --models "$sources/models" --device cpu \
    --small "$@" >"$work/output" 2>&1
}

IP2P_DEVICE_PEERS=0 check machine kernels || fail "expected status 0"
for line in '| machine |' '| kernels |' 'comparisons passed, 2 steps'; do
  grep -qF -- "$line" "$work/results/table.txt" || fail "expected '$line' in the table"
done
python3 -m json.tool "$work/results/results.json" >/dev/null || fail "expected results.json to be JSON"

echo 2.9.1 >"$pack/torch-version"
! check machine || fail "expected another version of PyTorch to be refused"
grep -qF 'expected PyTorch 2.9.1' "$work/output" || fail "expected a message that names the version"

mkdir "$work/steps"
cat >"$work/steps/edit_speed.json" <<'JSON'
{"seconds": 1, "rows": [
 {"step": "edit_speed", "name": "eager, batch 8: rate", "status": "measured", "value": 1.0, "unit": "edits/s"},
 {"step": "edit_speed", "name": "our kernels, batch 8: rate", "status": "measured", "value": 3.0, "unit": "edits/s"},
 {"step": "edit_speed", "name": "DeepCache of interval 3, batch 8: rate", "status": "measured", "value": 9.0}]}
JSON
for mode in eager:2.0 compile:1.5 training:100; do
  printf '{"seconds": 1, "rows": [{"step": "diffusers_%s", "name": "batch 8: rate", "status": "measured", "value": %s}]}' \
    "${mode%:*}" "${mode#*:}" >"$work/steps/diffusers_${mode%:*}.json"
done
python3 "$pack/device_table.py" "$work/steps" "$work/joined.json" 4 >"$work/output" || fail "expected status 0"
grep -qF '| edits, batch 8 | 3/s (our kernels) | 2/s | 1.50 |' "$work/output" || fail "expected the exact ways' ratio"
