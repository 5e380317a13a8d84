#!/usr/bin/env bash
# The program convert_pairs from outside: shards that tar reads, damage that it lists, runs that resume, image folders.
#
#   bash tests/examples/convert_pairs_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
the_program convert_pairs

red_to_blue 10 11 22

echo "== usage and errors"
run 0 --help
for option in --pairs --out --to --split --scan --shard-size --shard-count --largest-damage --trust; do says "$option"; done
run 2 --pairs set
says "--out is required"
run 2 --pairs set --out out --split half
run 1 --pairs nowhere --out out
says "'nowhere' is not a folder"
mv set/seeds.json list.json
run 1 --pairs set --out out
says "expected seeds.json"
says "--scan"
run 0 --pairs set --out scanned --scan
mv list.json set/seeds.json
[ ! -e out ] || fail "expected no folder out"

echo "== a conversion"
rm set/0000003/22_1.jpg
run 0 --pairs set --out out --shard-count 8
says "set: 10 prompts, split all"
says "19 pairs of 10 prompts in 3 shards (3 written, 0 kept); 1 pairs skipped"
says "skipped set/0000003/22: set/0000003/22_1.jpg: no such file"
[ "$(tail -n 1 stdout)" = out ] || fail "expected the folder as the last line"
tar xf out/pairs-00000.tar || fail "expected tar to read the shard"
cmp -s 0000000_11.before.jpg red.jpg && cmp -s 0000000_11.after.jpg blue.jpg || fail "expected the pictures unchanged"
grep -q '"edit":"make it blue"' 0000000_11.json || fail "expected the words"
run 0 --pairs set --out out --shard-count 8
says "(0 written, 3 kept); 1 pairs skipped"
truncate -s 3000 out/pairs-00001.tar
run 0 --pairs set --out out --shard-count 8
says "(1 written, 2 kept)"
stamps out > before
run 1 --pairs set --out out --shard-count 9
says "out: belongs to a run with other settings: --shard-count: had 8, given 9; write elsewhere"
run 1 --pairs set --out out --to imagefolder
says "--to: had shards, given imagefolder"
cp -r set other && python3 -c 'import json; a = json.load(open("set/seeds.json")); json.dump(a[:-1], open("other/seeds.json", "w"))'
run 1 --pairs other --out out --shard-count 8
says "--pairs: had 'set', given 'other', which holds something else"
stamps out | cmp -s - before || fail "expected nothing to be written: $(stamps out | diff - before)"
cp -r set moved
run 0 --pairs moved --out out --shard-count 8 --largest-damage 50
says "(0 written, 3 kept)"
run 1 --pairs set --out strict --largest-damage 0
says "expected at most 0 damaged pairs, found 1"
run 0 --pairs set --out test --split test
says "2 pairs of 1 prompts in 1 shards"

echo "== an image folder"
run 0 --pairs set --out images --to imagefolder
says "19 pairs of 10 prompts; 1 pairs skipped"
says "skipped set/0000003/22: set/0000003/22_1.jpg: no such file"
[ "$(tail -n 1 stdout)" = images ] || fail "expected the folder as the last line"
cmp -s images/0000004/22_0.jpg red.jpg && cmp -s images/0000004/22_1.jpg blue.jpg || fail "expected the pictures unchanged"
[ "$(wc -l < images/metadata.jsonl)" = 19 ] || fail "expected a line for each pair"
run 0 --pairs images --out again
says "19 pairs of 10 prompts"
run 1 --pairs other --out images --to imagefolder
says "images: belongs to a run with other settings: --pairs: had 'set', given 'other'"
run 0 --pairs set --out images --to imagefolder
says "19 pairs of 10 prompts; 1 pairs skipped"
run 0 --pairs set --out images --to imagefolder --split test
[ "$(wc -l < images/test/metadata.jsonl)" = 2 ] || fail "expected the split in a folder of its name"
run 1 --pairs set --out strict --to imagefolder --largest-damage 0
says "expected at most 0 damaged pairs, found 1"
run 2 --pairs set --out out --to parquet

report
