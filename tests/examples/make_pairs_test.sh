#!/usr/bin/env bash
# The program make_pairs from outside: its set, killed processes and byte-identical sets, dead processes, damaged records,
# folders that cannot be written, pages, and conversions of the set. With seeded models of about 100 kB.
#
#   bash tests/examples/make_pairs_test.sh PROGRAMS_DIR SOURCE_DIR
#
# IP2P_KILLS=100 bash ... kills the processes that often; 20 times by default.
set -uo pipefail
. "$(dirname "$0")/support.sh"
the_program make_pairs
export OMP_NUM_THREADS=1
RANDOM=7  # the kills still differ from run to run, like the load of the machine

cp -r "$source/tests/pipeline/fixtures/tiny-ip2p" sd && rm -r sd/unet && cp -r "$source/tests/pipeline/fixtures/tiny-sd/unet" sd/unet
cp -r "$source/tests/vision/fixtures/tiny-clip" clip && cp sd/tokenizer/* clip/

# 120 triplets; in 7 and 21, the tokenizer cannot tell the captions apart.
for number in $(seq 0 119); do
  after="a blue boat in year $number"
  case $number in 7 | 21) after="A RED  boat in year $number" ;; esac
  echo "{\"caption\": \"a red boat in year $number\", \"edit\": \"make it blue\", \"output\": \"$after\"}"
done > triplets.jsonl
head -n 3 triplets.jsonl > three.jsonl

# Thresholds at which the random models keep some pairs and drop others.
last_counts=(--model --batch --least-change --least-direction --keep-pairs --device --clip --triplets --samples --steps)
models=(--model sd --clip clip --device cpu --dtype fp32 --resolution 64 --steps 1 --samples 6 --batch 3 --keep-pairs 2)
small=("${models[@]}" --samples 3 --triplets triplets.jsonl --least-image -1 --least-caption -1 --least-direction 0.01 --least-change 0)
few=("${models[@]}" --triplets three.jsonl --least-image -1 --least-caption -1 --least-direction -1 --least-change 0)

# The set without its ledger.
same() { diff -r -x .ledger "$1" "$2" > difference || fail "expected $1 and $2 to be equal: $(head -n 3 difference)"; }

echo "== usage and errors"
run 0 --help
for option in --triplets --clip --out --samples --keep-pairs --steps --resolution --batch --no-self-replacement --no-filter --preset \
  --least-image --least-caption --least-direction --least-change --schedule --noise --sheets --lease --patience --model --device; do says "$option"; done
run 2 --model sd --clip clip --out set
says "--triplets is required"
run 2 "${few[@]}" --out set --no-filter --preset released
says "excludes"
run 2 "${few[@]}" --out set --preset mild
run 1 "${few[@]}" --out nowhere/set
says "nowhere: expected a folder to make 'set' in, found none: is the storage mounted?"
run 1 "${few[@]}" --out /sys/set
says "cannot create the folder '/sys/set'"
if [ "$(id -u)" != 0 ]; then
  mkdir read-only && chmod a-w read-only
  run 1 "${few[@]}" --out read-only
  says "cannot write into the folder 'read-only': Permission denied"
elif mkdir read-only && mount -t tmpfs -o ro tmpfs read-only 2> /dev/null; then
  run 1 "${few[@]}" --out read-only
  says "cannot write into the folder 'read-only': Read-only file system"
  umount read-only
fi
run 1 "${few[@]}" --out three.jsonl
says "three.jsonl: expected a folder to write into, found a file"
run 1 "${few[@]}" --out set --clip sd
says "clip"
echo '{"caption": "a", "edit": "b"}' > bad.jsonl
run 1 "${few[@]}" --out set --triplets bad.jsonl
says 'bad.jsonl:1: expected "output"'
[ ! -e set ] || fail "expected no folder yet"
printf '\377\330\377\340\0\020JFIF\n' > photo.jpg
run 1 "${few[@]}" --out set --triplets photo.jpg --sheets pages
says "photo.jpg:1: expected text in UTF-8, found other bytes, the first at place 1"
clean_text stderr
[ ! -e set ] && [ ! -e pages ] || fail "expected no folders of a run that failed"
RANK=2 run 1 "${few[@]}" --out set
says "launch:"

echo "== an undisturbed set"
run 0 "${small[@]}" --out whole/
says "0 of 120 prompts done"
says "3 for captions alike"
says "for directional similarity"
says "120 of 120 prompts done"
says "pairs/s here"
says "left at the overall rate"
grep -q "120 prompts, .* of 360 kept" stdout || fail "expected the sum over all prompts"
[ "$(tail -n 1 stdout)" = whole/ ] || fail "expected the folder as the last line"
[ ! -e whole/0000007 ] && [ ! -e whole/0000021 ] || fail "expected nothing of captions that are alike"
kept=$(find whole -name '*_0.jpg' | wc -l)
[ "$kept" -gt 60 ] && [ "$kept" -lt 230 ] || fail "expected some pairs to be kept and some to be dropped, found $kept kept"
grep -q "good but surplus" stdout || fail "expected more good pairs than are kept"
grep -q '^\[\["0000000", \["' whole/seeds.json || fail "expected seeds.json as published"
for line in whole/0*/metadata.jsonl; do
  grep -vqE '^\{"seed": [0-9]+, "p2p_threshold": 0\.[0-9]+, "cfg_scale": 1?[0-9]\.[0-9]+, "clip_sim_0": -?[0-9.e-]+, "clip_sim_1": -?[0-9.e-]+, "clip_sim_dir": [0-9.e-]+, "clip_sim_image": -?[0-9.e-]+\}$' "$line" &&
    fail "expected the published keys in $line"
done
run 0 "${small[@]}" --out whole
says "120 of 120 prompts done"
grep -q "pairs/s here" stdout && fail "expected nothing to be drawn again"
stamps whole > before
cp -r sd sd-moved && cp triplets.jsonl moved.jsonl
run 0 "${small[@]}" --out whole --model sd-moved --triplets ./moved.jsonl --batch 2
run 1 "${small[@]}" --out whole --steps 2 --no-self-replacement
says "belongs to a run with other settings: --no-self-replacement: had false, given true; --steps: had 1, given 2"
run 1 "${small[@]}" --out whole --triplets three.jsonl
says "--triplets: had 'triplets.jsonl', given 'three.jsonl', which holds something else"
stamps whole | grep -v '/claims/' | cmp -s - before || fail "expected nothing to be written: $(stamps whole | diff - before)"
cp -r whole changed
rm -r changed/0000003 changed/.ledger/done/0000003.json
run 0 "${small[@]}" --out changed --least-change 1 --change
grep -q '"step":119' changed/.ledger/settings.json || fail "expected where the new settings begin"
run 0 "${small[@]}" --out changed --least-change 1

echo "== the set is converted"
run() { ends "$1" "$programs/$2" "${@:3}"; }
run 0 convert_pairs --folder whole --out shards
grep -q "^$kept pairs of .* prompts in 1 shards .* 0 pairs skipped" stdout || fail "expected all $kept pairs in shards"
python3 "$source/tests/data/read_shards.py" shards > count || fail "expected shards that tarfile reads"
[ "$(cat count)" = "$kept" ] || fail "expected $kept pairs in shards, found $(cat count)"
run 0 convert_pairs --folder whole --out images --to imagefolder
grep -q "^$kept pairs of .* prompts; 0 pairs skipped" stdout || fail "expected all $kept pairs in the image folder"
[ "$(wc -l < images/metadata.jsonl)" = "$kept" ] || fail "expected a line a pair"
run 0 convert_pairs --folder whole --out images-split --to imagefolder --split train
[ -s images-split/train/metadata.jsonl ] || fail "expected the split's folder"
the_program make_pairs

echo "== options"
run 0 "${few[@]}" --out shared
run 0 "${few[@]}" --out apart --no-self-replacement
grep -q '"p2p_threshold": 0.0, ' apart/0000000/metadata.jsonl || fail "expected a share of 0"
run 0 "${few[@]}" --out gpu-noise --noise cuda
cmp -s shared/0000000/metadata.jsonl gpu-noise/0000000/metadata.jsonl && fail "expected other pictures from other noise"
# In two steps all schedules have the same levels, so these runs have four.
run 0 "${few[@]}" --steps 4 --out four-steps
run 0 "${few[@]}" --steps 4 --out karras --schedule karras
cmp -s four-steps/0000000/metadata.jsonl karras/0000000/metadata.jsonl && fail "expected other pictures from other noise levels"
run 1 "${few[@]}" --out shared --noise cuda
says "--noise: had counter, given cuda"
# Every pair passes these thresholds except the test of pixels, which the released program does not have.
run 0 "${models[@]}" --triplets three.jsonl --out paper --least-image -1 --least-caption -1 --least-direction -1 --least-change 255
says "for pixel change"
run 0 "${models[@]}" --triplets three.jsonl --out no-change --preset released --least-image -1 --least-caption -1 --least-direction -1
grep -Eq '"--least-change": ?0.0' no-change/.ledger/settings.json || fail "expected no test of pixels"
run 0 "${models[@]}" --triplets three.jsonl --out first --no-filter
says "3 prompts, 6 of 6 kept; 6 pairs drawn here"
[ "$(find first -name '*_0.jpg' | wc -l)" = 6 ] || fail "expected two pairs of each prompt"
run 0 "${models[@]}" --triplets three.jsonl --out released --preset released --sheets pages
for text in "dropped: " "direction " "a red boat in year 0" "edit: make it blue"; do
  grep -qF "$text" pages/0000000/index.html || fail "expected '$text' on the page"
done
[ "$(find pages/0000000 -name '*.jpg' | wc -l)" = 6 ] || fail "expected all pairs on the page"
[ "$(grep -c 0000002/index.html pages/index.html)" = 1 ] || fail "expected an index of the pages"
run 0 "${few[@]}" --out paged --sheets kept-pages --sheet-every 2
[ -e kept-pages/0000002/index.html ] && [ ! -e kept-pages/0000001 ] || fail "expected a page for every second prompt"
grep -q "class=kept" kept-pages/0000000/index.html || fail "expected kept pairs on the page"
same shared paged

echo "== damage"
cp -r whole damaged
sed -i 's/"judged":3/"judged":2/' damaged/.ledger/done/0000003.json
truncate -s 20 damaged/.ledger/done/0000007.json
: > damaged/.ledger/done/0000030.json
rm -r damaged/0000004 damaged/seeds.json
run 0 "${small[@]}" --out damaged
for prompt in 0000003 0000007 0000030; do says "prompt $prompt: its record is missing or damaged; redoing it"; done
says "prompt 0000004: its folder is missing; redoing it"
same whole damaged

echo "== two processes, and one that dies for good"
export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=1
start() { latest "${small[@]}"; RANK=$1 LOCAL_RANK=$1 "$program" "${words[@]}" --out "$2" --lease 1 > "out$1" 2> "err$1" < /dev/null & }
begun() { for _ in $(seq 600); do grep -q "prompts done" "$1" && return; sleep 0.02; done; fail "expected rank to begin: $(cat err*)"; }
start 0 pair; first=$!
start 1 pair; second=$!
begun out1
for _ in $(seq 600); do grep -q "rank 1: 00000" out1 && break; sleep 0.02; done
kill -9 $second; wait $second 2> /dev/null
wait $first || fail "expected the other to finish: $(cat err0)"
grep -q "rank 1: 0000060: " out1 || fail "expected rank 1 to begin in the middle"
grep -q "rank 0: 0000119: " out0 || fail "expected rank 0 to take over"
same whole pair

wanted=${IP2P_KILLS:-20}
echo "== killed $wanted times"
kills=0 late=0
while [ $kills -lt "$wanted" ]; do
  : > out0; : > out1
  start 0 killed; first=$!
  start 1 killed; second=$!
  # Most kills hit a process at work, some at its start.
  if [ $((RANDOM % 5)) != 0 ]; then begun out0; late=$((late + 1)); fi
  sleep "0.$(printf %03d $((RANDOM % 700)))"
  for process in $first $second; do
    kill -9 $process 2> /dev/null && kills=$((kills + 1))
    wait $process 2> /dev/null
  done
  # A complete set leaves no work: remove part of it, as if those prompts had not been made.
  if [ -e killed/seeds.json ]; then
    rm -rf killed/seeds.json killed/00000[0-9]5 killed/.ledger/done/0000[01][0-9][5-9].json
  fi
done
echo "$late rounds of two kills hit work; $(find killed/.ledger/done -name '0*.json' | wc -l) prompts were done by then"
unset WORLD_SIZE
run 0 "${small[@]}" --out killed --lease 1
same whole killed
find killed -name '*.tmp' | grep -v '^killed/.ledger' | grep -q . && fail "expected nothing unfinished in the set"

echo "== a signal"
"$program" "${few[@]}" --out stopped > out0 2> err0 &
pid=$!
begun out0
kill -TERM $pid
wait $pid
found=$?
[ $found -eq 130 ] || fail "expected status 130 after SIGTERM, found $found"
grep -q "finished prompts are kept; run the same command again to continue" err0 || fail "expected words about going on"
[ -z "$(ls stopped/.ledger/claims)" ] || fail "expected the claim to be given back"
run 0 "${few[@]}" --out stopped
same shared stopped

report
