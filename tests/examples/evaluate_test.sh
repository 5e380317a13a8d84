#!/usr/bin/env bash
# The program evaluate from outside: configuration, resumption, several processes, figures and page. With the editor that
# ships, a seeded text-to-image model and a seeded CLIP.
#
#   bash tests/examples/evaluate_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
the_program evaluate
fixtures=$source/tests/pipeline/fixtures
export OMP_NUM_THREADS=1

cp -r "$fixtures/tiny-ip2p" sd && rm -r sd/unet && cp -r "$fixtures/tiny-sd/unet" sd/unet
red_to_blue 1 1
red_disc disc.png
cat > edits.jsonl <<'JSON'
{"file": "disc.png", "input": "a red disc", "edit": "make it snowy", "output": "a red disc in snow"}
{"file": "red.jpg", "input": "a red square", "edit": "make it blue", "output": "a blue square"}
{"file": "blue.jpg", "input": "a blue square", "edit": "make it night", "output": "a blue night"}
JSON
cat > both.toml <<TOML
# Every method, two points each.
model = ["editor=$source/models/small-editor", "sd=sd"]
curve = ["instruct model=editor image-scale=1:1.5:0.5 text-scale=2 steps=4 name=editor",
  "sdedit model=sd strength=0.5,1 steps=2",
  "prompt-to-prompt model=sd fraction=0,1 steps=2",
  "input",
  "noise"]
edits = "edits.jsonl"
resolution = 64
grid = 2
clip = ["tiny=$source/tests/vision/fixtures/tiny-clip"]
clip-tokenizer = "$fixtures/tiny-ip2p/tokenizer"
resamples = 200
device = "cpu"
dtype = "fp32"
TOML

# journal_lines FOLDER: samples and headers that its journals hold.
journal_lines() { cat "$1"/samples-*.jsonl 2> /dev/null | wc -l; }
is_png() { [ "$(od -An -tx1 -N8 "$1" 2> /dev/null | tr -d ' ')" = 89504e470d0a1a0a ] || fail "expected a PNG: $1"; }

echo "== usage and configuration"
run 0 --help
for option in --config --curve --model --clip --edits --photographs --pairs --limit --resolution --range --seed --keep-pictures --out; do
  says "$option"
done
# wrong STATUS TEXT ARGUMENTS...: refused with TEXT.
wrong() {
  rm -rf out
  run "$1" --config both.toml --out out "${@:3}"
  says "$2"
}
run 2
run 2 --config both.toml --out out --edits edits.jsonl --pairs set
wrong 2 "expected NAME=PATH" --clip "tiny"
run 2 --config both.toml --out out --range signed
sed 's/^grid/gird/' both.toml > misspelt.toml
run 2 --config misspelt.toml --out out
says "misspelt.toml, line 10: unknown key 'gird'; did you mean --keep-pictures?"
wrong 1 "expected a method among instruct, sdedit, prompt-to-prompt, text2live, input, noise" --curve "text2image"
wrong 1 "curve 'sdedit': sdedit: expected settings among model, noise, sampler, schedule, steps, strength, text-scale, found 'scale'" \
  --curve "sdedit model=sd scale=1"
wrong 1 "curve 'sdedit': model: expected one of editor, sd, found ''" --curve "sdedit strength=0.5"
wrong 1 "expected a text-to-image model, found an InstructPix2Pix model" --curve "sdedit model=editor"
wrong 1 "expected an InstructPix2Pix model, found a text-to-image model" --curve "instruct model=sd"
wrong 1 "curve 'text2live': clip: expected one of tiny, found 'vit'" --curve "text2live clip=vit"
wrong 1 "Text2Live: picture: expected a shorter side whose smallest crop has at least 129 pixels for 7 scales" --curve text2live
wrong 1 "expected FIRST:LAST:STEP" --curve "instruct model=editor image-scale=2:1:0.5"
wrong 1 "expected each name once, found 'input' twice" --curve input --curve input
wrong 1 "names a photograph that is not there" --images nowhere
wrong 1 "nowhere" --clip tiny=nowhere
wrong 1 "--lora: expected the name of a model, one of editor, sd, before '=' and the file, found 'ink.safetensors'" --lora ink.safetensors
wrong 1 "--vae: expected the name of a model, one of editor, sd, before '=' and the file, found 'mine=vae'" --vae mine=vae
wrong 1 "cannot open 'ink.safetensors'" --lora sd=ink.safetensors:0.5 --curve "sdedit model=sd"
rm -rf out

echo "== a whole run"
run 0 --config both.toml --out whole
says "8 points of 3 edits: 24 samples, 0 of them done"
says "whole/report.html"
[ "$(journal_lines whole)" -eq 25 ] || fail "expected a journal of 25 lines, found $(journal_lines whole)"
# 8 points, 4 scores of the CLIP and SSIM each.
[ "$(wc -l < whole/curves.csv)" -eq 41 ] || fail "expected a table of 41 lines"
grep -q '^input,,input,tiny/direction,3,0,0,0$' whole/curves.csv || fail "expected no direction of what is not edited"
grep -q '^input,,input,ssim,3,1,1,1$' whole/curves.csv || fail "expected the photograph to be like itself"
[ "$(cut -d, -f6 whole/curves.csv | sort -u | wc -l)" -gt 20 ] || fail "expected different scores"
cp whole/curves.csv first.csv
run 0 --config both.toml --out whole
says "24 samples, 24 of them done"
same whole/curves.csv first.csv
[ "$(journal_lines whole)" -eq 25 ] || fail "expected nothing to be drawn again"
is_png whole/sheet.png
[ "$(size_of whole/sheet.png | cut -d ' ' -f 2)" -gt $((10 * 136)) ] || fail "expected a label over each of ten rows"
grep -q 'sheet.png' whole/report.html || fail "expected the sheet on the page"
grep -q 'a red disc in snow' whole/report.html || fail "expected the words of the edits on the page"
stamps whole > before
says "photographs: edited at 64 pixels; edges beyond sides of multiples of 64 are cut"
ln -s "$source/models/small-editor" linked && cp -r sd sd-moved && cp -r "$source/tests/vision/fixtures/tiny-clip" clip-moved
run 0 --config both.toml --out whole --model editor=./linked --model sd=sd-moved --clip tiny=clip-moved
says "24 samples, 24 of them done"
run 1 --config both.toml --out whole --seed 1 --range compat
says "whole: belongs to a run with other settings: --range: had correct, given compat; --seed: had 42, given 1"
stamps whole | cmp -s - before || fail "expected nothing to be written: $(stamps whole | diff - before)"
# Photographs are known by what they hold.
mkdir elsewhere && cp disc.png red.jpg blue.jpg elsewhere
run 0 --config both.toml --out whole --photographs elsewhere
says "24 samples, 24 of them done"
cp blue.jpg elsewhere/red.jpg
run 1 --config both.toml --out whole --photographs elsewhere
says "whole: belongs to a run with other settings: --photographs: had '.', given 'elsewhere', which holds something else (1: red.jpg); pass --change"
stamps whole | cmp -s - before || fail "expected nothing to be written: $(stamps whole | diff - before)"
cp -r whole changed
run 0 --config both.toml --out changed --photographs elsewhere --limit 1  # without the one that differs
says "8 samples, 8 of them done"
run 0 --config both.toml --out changed --range compat --curve input --curve "noise name=other" --limit 2 --change
says "4 samples, 4 of them done"
run 0 --config both.toml --out changed --range compat --curve "instruct name=again model=editor image-scale=1 text-scale=1 steps=2" --change
says "3 samples, 0 of them done"
grep -q "Settings changed after 24 steps: --range correct -&gt; compat" changed/report.html || fail "expected the change on the page"
printf '\377\330\377\340\0\020JFIF\n' > photo.jpg
run 1 --config both.toml --out never --edits photo.jpg
says "photo.jpg, line 1: expected text in UTF-8"
clean_text stderr
run 1 --config both.toml --out never --curve "instruct model=sd"
[ ! -e never ] || fail "expected no folder of a run that failed: $(find never)"
run 0 --config both.toml --out scales --limit 1 --curve "instruct model=editor image-scale=1,1.6 text-scale=9 steps=1"
grep -q "warning: curve 'instruct': --text-scale 9 is outside of" stderr || fail "expected a warning of the scale"

echo "== figures"
if command -v gnuplot > /dev/null; then
  is_png whole/curves-tiny.png
  python3 - whole/curves-tiny.svg <<'PYTHON' || fail "expected a figure with every curve and its labels"
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
assert root.tag.endswith("svg")
words = {"".join(text.itertext()).strip() for text in root.iter("{http://www.w3.org/2000/svg}text")}
for word in ("editor", "sdedit", "prompt-to-prompt", "input", "noise", "1.5", "0.5", "CLIP image similarity"):
    assert word in words, (word, words)
PYTHON
  grep -q 'curves-tiny.svg' whole/report.html || fail "expected the figure on the page"
else
  echo "gnuplot is absent: figures not checked"
fi
rm whole/sheet.png
run 1 --config both.toml --out whole --gnuplot no-such-program
says "no-such-program: cannot be started"
says "the table and the page were written without figures"
same whole/curves.csv first.csv

echo "== fewer edits, other curves: what is done counts"
run 0 --config both.toml --out whole --limit 2 --curve input --curve "instruct name=again model=editor image-scale=1,1.5,2 text-scale=2 steps=4"
says "4 points of 2 edits: 8 samples, 6 of them done"

echo "== a layer that is trained"
run 0 --config both.toml --out layer --limit 1 --curve "text2live steps=1,3 scales=2 channels=8 views=2"
says "2 points of 1 edits: 2 samples, 0 of them done"
[ "$(grep -c '^text2live,.*/direction,1,' layer/curves.csv)" -eq 2 ] || fail "expected the directions of two points"
[ "$(grep '^text2live,.*/image,1,' layer/curves.csv | cut -d, -f6 | sort -u | wc -l)" -eq 2 ] ||
  fail "expected more updates to change the picture"

echo "== killed and resumed"
"$program" --config both.toml --out killed > /dev/null 2>&1 &
pid=$!
for _ in $(seq 6000); do
  [ "$(journal_lines killed)" -ge 3 ] && break
  sleep 0.01
done
kill -9 $pid
wait $pid 2> /dev/null
lines=$(journal_lines killed)
{ [ "$lines" -ge 3 ] && [ "$lines" -lt 25 ]; } || fail "expected a run in its middle, found $lines lines"
printf '{"edit":"1: red.jpg","point":"noi' >> killed/samples-0000.jsonl
run 0 --config both.toml --out killed
same killed/curves.csv first.csv
[ "$(journal_lines killed)" -eq 25 ] || fail "expected each sample once"

echo "== two processes"
for rank in 0 1; do
  RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29400 \
    "$program" --config both.toml --out shared > "rank$rank" 2>&1 &
done
wait
[ "$(journal_lines shared)" -eq 26 ] || fail "expected two journals with 26 lines, found $(journal_lines shared)"
for rank in 0 1; do
  [ "$(wc -l < shared/samples-000$rank.jsonl)" -gt 8 ] || fail "expected samples of process $rank: $(cat rank$rank)"
done
same shared/curves.csv first.csv
same shared/sheet.png killed/sheet.png

echo "== a process that is refused leaves what belongs to another, which has no samples yet"
mkdir taken
cp killed/run.json taken
cp taken/run.json before.json
touch taken/samples-0000.jsonl
exec 9< taken/samples-0000.jsonl
flock --exclusive --nonblock 9 || fail "cannot lock a journal"
run 1 --config both.toml --out taken
says "expected no other process writing to it, found one"
same taken/run.json before.json
[ -e taken/samples-0000.jsonl ] || fail "expected the other's journal"
exec 9<&-

echo "== the published layout of pairs"
published=(--pairs set --split all --resolution 64 --clip "tiny=$source/tests/vision/fixtures/tiny-clip"
  --clip-tokenizer "$fixtures/tiny-ip2p/tokenizer" --device cpu)
run 0 --pairs set --split all --curve input --curve noise --out pairs --resolution 64 \
  --clip "tiny=$source/tests/vision/fixtures/tiny-clip" --clip-tokenizer "$fixtures/tiny-ip2p/tokenizer" --device cpu
says "2 points of 1 edits: 2 samples"
sed -i 's/make it blue/make it green/' set/0000000/prompt.json
run 1 "${published[@]}" --curve input --curve noise --out pairs
says "--pairs: had 'set', given 'set', which holds something else (0: 0000000/1)"
sed -i 's/make it green/make it blue/' set/0000000/prompt.json

echo "== what is added to models"
# Another LoRA, scale or autoencoder is another model, whose samples are not those that are there.
cp "$source/tests/nn/fixtures/lora-peft.safetensors" ink.safetensors
added=("${published[@]}" --model "tiny=$fixtures/tiny-ip2p" --curve "instruct steps=2" --out added)
run 0 "${added[@]}"
says "1 samples, 0 of them done"
run 0 "${added[@]}" --lora ink.safetensors:0.5
says "1 samples, 0 of them done"
says "ink.safetensors, scale 0.5, changes"
mkdir moved && cp ink.safetensors moved
run 0 "${added[@]}" --lora tiny=moved/ink.safetensors:0.5
says "1 samples, 1 of them done"
run 0 "${added[@]}" --lora ink.safetensors:0.75
says "1 samples, 0 of them done"
run 0 "${added[@]}" --vae "$fixtures/tiny-ip2p/vae"
says "1 samples, 1 of them done"  # the same as its own
run 0 "${added[@]}" --vae "tiny=$source/tests/codec/fixtures/dc-autoencoder"
says "1 samples, 0 of them done"
run 1 "${added[@]}" --deep-cache 2
says "--deep-cache: had nothing, given 2"
cp -r "$fixtures/tiny-ip2p" tiny
printf 'model = ["tiny=tiny"]\nlora = ["moved/ink.safetensors:0.5", "tiny=moved/ink.safetensors:0.5"]\n' > added.toml
(cd / && "$program" --config "$scratch/added.toml" --pairs "$scratch/set" --split all --resolution 64 --device cpu \
  --curve "instruct steps=2" --clip "tiny=$source/tests/vision/fixtures/tiny-clip" \
  --clip-tokenizer "$fixtures/tiny-ip2p/tokenizer" --out "$scratch/twice") > stdout 2> stderr ||
  fail "expected LoRAs beside the configuration"

report
