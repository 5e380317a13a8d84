#!/usr/bin/env bash
# The program convert_pairs from outside: shards that tar reads, damage that it lists, runs that go on.
#
#   bash tests/examples/convert_pairs_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
program=$(realpath -- "$1")/convert_pairs
[ -x "$program" ] || { echo "convert_pairs_test: $program: expected the program, found none"; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0

fail() {
  echo "FAILED: $*"
  echo "--- stdout"; cat stdout; echo "--- stderr"; cat stderr; echo "---"
  failures=$((failures + 1))
}

# run STATUS ARGUMENTS...: runs the program and checks its exit status.
run() {
  local status=$1
  shift
  "$program" "$@" > stdout 2> stderr < /dev/null
  local found=$?
  [ $found -eq "$status" ] || fail "expected status $status, found $found: $*"
}

# says TEXT: the last run printed TEXT.
says() { grep -qF -- "$1" stdout stderr || fail "expected the words '$1'"; }

# A red and a blue picture of 8x8 pixels; ten prompts with two pairs each.
head=/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAARCAAIAAgDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAA
base64 -d > red.jpg <<< "${head}X/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFQEBAQAAAAAAAAAAAAAAAAAABAb/xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwCOACqH/9k="
base64 -d > blue.jpg <<< "${head}b/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFQEBAQAAAAAAAAAAAAAAAAAAAwb/xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwCXAVAH/9k="
list=
for prompt in $(seq -f %07g 0 9); do
  mkdir -p "set/$prompt"
  echo '{"edit": "make it blue", "input": "red", "output": "blue"}' > "set/$prompt/prompt.json"
  for seed in 11 22; do cp red.jpg "set/$prompt/${seed}_0.jpg"; cp blue.jpg "set/$prompt/${seed}_1.jpg"; done
  list="$list${list:+, }[\"$prompt\", [\"11\", \"22\"]]"
done
echo "[$list]" > set/seeds.json

echo "== usage and errors"
run 0 --help
for option in --folder --out --split --scan --shard-size --shard-count --largest-damage --trust; do says "$option"; done
run 2 --folder set
says "--out is required"
run 2 --folder set --out out --split half
run 1 --folder nowhere --out out
says "'nowhere' is no folder"
mv set/seeds.json list.json
run 1 --folder set --out out
says "expected seeds.json"
run 0 --folder set --out scanned --scan
mv list.json set/seeds.json
[ ! -e out ] || fail "expected no folder out"

echo "== a conversion"
rm set/0000003/22_1.jpg
run 0 --folder set --out out --shard-count 8
says "set: 10 prompts, split all"
says "19 pairs of 10 prompts in 3 shards (3 written, 0 kept); 1 pairs skipped"
says "skipped set/0000003/22: set/0000003/22_1.jpg: no such file"
[ "$(tail -n 1 stdout)" = out ] || fail "expected the folder as the last line"
tar xf out/pairs-00000.tar || fail "expected tar to read the shard"
cmp -s 0000000_11.before.jpg red.jpg && cmp -s 0000000_11.after.jpg blue.jpg || fail "expected the pictures unchanged"
grep -q '"edit":"make it blue"' 0000000_11.json || fail "expected the words"
run 0 --folder set --out out --shard-count 8
says "(0 written, 3 kept); 1 pairs skipped"
truncate -s 3000 out/pairs-00001.tar
run 0 --folder set --out out --shard-count 8
says "(1 written, 2 kept)"
run 1 --folder set --out out --shard-count 9
says "belongs to another conversion"
run 1 --folder set --out strict --largest-damage 0
says "expected at most 0 damaged pairs, found 1"
run 0 --folder set --out test --split test
says "2 pairs of 1 prompts in 1 shards"

[ $failures -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "all passed"
