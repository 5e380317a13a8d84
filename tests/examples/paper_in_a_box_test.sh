#!/usr/bin/env bash
# The whole chain at toy size, without network: the results of every stage exist and load, and a second run makes
# nothing again. Then the ablations in that box.
#
#   bash tests/examples/paper_in_a_box_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
export OMP_NUM_THREADS=1
chain=$source/examples/14_paper_in_a_box/paper_in_a_box.py
exists() { [ -s "$1" ] || fail "expected the file $1"; }

# Three cut-outs with transparent corners, and four flat photographs.
mkdir stamps photographs
python3 - <<'PY'
import struct, zlib
def png(path, side, kind, pixel):
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(side)) for y in range(side))
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", side, side, 8, kind, 0, 0, 0)
    open(path, "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
inside = lambda x, y: 255 if (x - 15.5) ** 2 + (y - 15.5) ** 2 < 220 else 0
for name, colour in {"ball": (230, 40, 30), "pea": (40, 200, 40), "plum": (90, 40, 160)}.items():
    png(f"stamps/{name}.png", 32, 6, lambda x, y: (*colour, inside(x, y)))
for name, colour in {"sand": (220, 200, 140), "sea": (30, 90, 180), "wall": (120, 110, 100), "lawn": (60, 140, 50)}.items():
    png(f"photographs/{name}.png", 80, 2, lambda x, y: [min(255, c + (x + 2 * y) // 8) for c in colour])
PY
cat > words.json <<'JSON'
{"objects": [{"phrase": "a ball", "file": "ball.png"}, {"phrase": "a pea", "file": "pea.png"},
             {"phrase": "a plum", "file": "plum.png"}],
 "places": [{"phrase": "on sand", "instruction": "put it on sand", "file": "sand.png"},
            {"phrase": "at sea", "instruction": "put it at sea", "file": "sea.png"}],
 "looks": [{"phrase": "", "instruction": "make it an ordinary day"},
           {"phrase": "at night", "instruction": "make it night", "edit": "night"}],
 "sizes": [{"phrase": "", "instruction": "make it middling", "number": 0.6}],
 "positions": [{"phrase": "", "instruction": "move it to the middle", "number": 0.5}]}
JSON

echo "== usage and errors"
run 0 small_world --help
for command in scenes clip text-to-image measure-drawings measure-pairs measure-editor; do says "$command"; done
run 2 small_world
run 2 small_world scenes --out out
says "--vocabulary is required"
last_counts=(--stamps --vocabulary --scenes --steps --limit --out --seed)
material=(--vocabulary words.json --stamps stamps --photographs photographs)
run 1 small_world scenes "${material[@]}" --stamps photographs --out out
says "photographs/ball.png: expected a PNG file"
echo '{"objects": []}' > broken.json
run 1 small_world scenes "${material[@]}" --vocabulary broken.json --out out
says 'broken.json: expected a list "objects" of words'
sed 's/"edit": "night"/"edit": "midnight"/' words.json > broken.json
run 1 small_world scenes "${material[@]}" --vocabulary broken.json --out out
says "expected the name of a computed edit, found 'midnight'"
run 1 small_world scenes "${material[@]}" --objects 1 --places 1 --out out
says "expected words for at least 5 captions, found 2 with --objects, --places, --looks, --sizes and --positions"
run 2 small_world scenes "${material[@]}" --places 18446744073709551616 --out out
says "--places"
run 1 small_world scenes "${material[@]}" --resolution 60 --out out
says "--resolution: expected a multiple of 8, found 60"
[ ! -e out ] || fail "expected no folder out"

echo "== scenes are a function of the seed"
few=(--picture-count 6 --held-out-picture-count 2 --pair-count 3 --held-out-pair-count 2 --triplet-count 5 --caption-count 4
  --resolution 32)
for name in one two; do run 0 small_world scenes "${material[@]}" "${few[@]}" --seed 3 --out $name; done
says "12 captions"
diff -r one two > /dev/null || fail "expected the same scenes of the same seed"
run 0 small_world scenes "${material[@]}" "${few[@]}" --seed 4 --out three
cmp -s one/training/000000.png three/training/000000.png && fail "expected other scenes of another seed"
stamps one > before
cp -r stamps stamps-moved
run 0 small_world scenes "${material[@]}" "${few[@]}" --seed 3 --stamps stamps-moved --out one
says "complete already: one"
run 1 small_world scenes "${material[@]}" "${few[@]}" --out one
says "one: belongs to a run with other settings: --seed: had 3, given 0; write elsewhere"
run 1 small_world scenes "${material[@]}" "${few[@]}" --seed 3 --out stamps
says "stamps: expected a new folder, found files"
stamps one | cmp -s - before || fail "expected nothing to be written"
[ "$(wc -l < one/training/captions.jsonl)" -eq 6 ] || fail "expected 6 captions"
python3 - <<'PY' || fail "expected training and held-out captions apart, and pairs that differ in one word"
import json
lines = lambda path, key: {json.loads(line)[key] for line in open(path)}
held = lines("one/held_out/captions.jsonl", "caption")
assert not held & lines("one/training/captions.jsonl", "caption")
assert not held & (lines("one/triplets.jsonl", "input") | lines("one/triplets.jsonl", "output"))
for path, unseen in (("one/pairs/0000000/prompt.json", False), ("one/held_out_pairs/0000000/prompt.json", True)):
    pair = json.load(open(path))
    assert pair["input"] != pair["output"]
    assert (pair["input"] in held) <= unseen
PY

echo "== the chain"
run_chain() {
  local status=$1
  shift
  ends "$status" python3 "$chain" box --programs "$programs" --stamps stamps --photographs photographs \
    --vocabulary words.json --set side=32 --set training=24 --set held_out=2 --set truth_pairs=12 --set held_out_pairs=4 \
    --set clip_steps=12 --set clip_batch=8 --set language_triplets=60 --set language_epochs=4 --set language_width=32 \
    --set captions=12 --set image_steps=16 --set image_batch=8 --set "channels=16 32" --set draw_count=4 \
    --set draw_steps=2 --set samples=1 --set keep=1 --set pair_steps=2 --set filter_image=-1 --set filter_caption=-1 \
    --set filter_direction=-1 --set editor_steps=12 --set editor_batch=4 --set edit_count=3 --set edit_steps=2 \
    --set curve_edits=2 --set curve_scales=1,2 --set photographs=1 --set threads=1 "$@"
}
run_chain 0
says "[photograph-edits]"
for file in scenes/world.json scenes/sheet.png scenes/pairs/seeds.json tokenizers/gpt2/vocab.json clip/clip/model.safetensors \
  clip/report.json language/model.safetensors used_triplets.jsonl text-to-image/model/model_index.json \
  measured/drawings/report.json pairs/paper/seeds.json pairs/no-filter/seeds.json pairs/no-self-attention/seeds.json \
  measured/pairs_no-filter/report.json editors/truth/model/model_index.json measured/truth/sheet.png report.html \
  results.json; do
  exists "box/$file"
done
if command -v gnuplot > /dev/null; then exists box/curves/curves-small.png; fi
[ "$(find box/edits -name '*.compare.png' | wc -l)" -ge 2 ] || fail "expected edits of photographs"
run 0 text_to_image --model box/text-to-image/model --prompt "a photo of a pea at sea" --out pea.png --width 64 \
  --height 64 --steps 2
exists pea.png
grep -q "data:image/png" box/report.html || fail "expected pictures in the report"
grep -q "Editors" box/report.html || fail "expected the editors in the report"

echo "== once more"
find box -name '*.safetensors' -newer box/results.json | grep -q . && fail "expected the report last"
cp box/results.json first.json
run_chain 0
says "[clip] done before"
says "[editor-truth] done before"
grep "^\[" stdout | grep -qv "done before" && fail "expected every stage to be passed over"
cmp -s first.json box/results.json || fail "expected the same results"
run_chain 1 --set clip_steps=13
says "stage 'clip': belongs to a run with other settings: clip_steps: had 12, given 13; pass --change to make it again"
run_chain 2 --set clip_step=13
says "expected one of"
run_chain 1 --programs nowhere --set seed=2
says "seed: had 1, given 2"
run_chain 0 --set edit_count=2 --change
says "[measure-editor-truth] made again: edit_count: had 3, given 2"
grep -q "^\[editor-truth\] done before" stdout || fail "expected the editor to stay"
grep -qF '"edit_count: had 3, given 2"' box/done/measure-editor-truth.json || fail "expected the change to be recorded"
[ "$(python3 -c 'import json; print(json.load(open("box/measured/truth/report.json"))["pairs"])')" = 2 ] ||
  fail "expected the measurement to be made again"
run_chain 0 --set edit_count=2
grep "^\[" stdout | grep -qv "done before" && fail "expected the changed settings to count from then on"

echo "== the programs of the chain, continued"
clip=(clip --scenes box/scenes --tokenizer box/tokenizers/clip --out box/clip --steps 12 --batch 8 --rate 1e-3 --seed 1)
stamps box/clip > before
cp -r box/scenes scenes-moved
run 0 small_world "${clip[@]}" --scenes scenes-moved
says "complete already, after 12 updates: box/clip/clip"
run 1 small_world "${clip[@]}" --steps 14
says "box/clip/training: belongs to a run with other settings: --steps: had 12, given 14; pass --change"
rm scenes-moved/training/000000.png && cp scenes-moved/training/000001.png scenes-moved/training/000000.png
run 1 small_world "${clip[@]}" --scenes scenes-moved
says "which holds something else"
stamps box/clip | cmp -s - before || fail "expected nothing to be written"
cp -r box/clip clip-changed
run 0 small_world "${clip[@]}" --out clip-changed --steps 14 --change
says "resumed at update 12"
grep -qF '"--steps":"12"' clip-changed/training/run.json || fail "expected the change to be recorded"
measure=(measure-pairs --scenes box/scenes --clip box/clip/clip --pairs box/pairs/no-filter --out again --limit 4)
run 0 small_world "${measure[@]}"
cp stdout first-report && stamps again > before
run 0 small_world "${measure[@]}"
diff <(grep -v '^\[' first-report) stdout > /dev/null || fail "expected the report that is there"
run 1 small_world "${measure[@]}" --limit 3
says "again: belongs to a run with other settings: --limit: had 4, given 3"
stamps again | cmp -s - before || fail "expected nothing to be written"
run 0 small_world "${measure[@]}" --limit 3 --change
grep -q '"pairs": 3' again/report.json || fail "expected the measurement to be made again"
ends 1 python3 "$chain" other --programs nowhere --stamps stamps --photographs photographs --vocabulary words.json
says "small_world), found none"

echo "== ablations"
PYTHONPATH=$source/examples/14_paper_in_a_box python3 -B - <<'PY' || fail "expected differences at equal image similarity"
from ablations import difference, differences
# Lines 0.25 apart wherever both exist; a point off the other's line; nothing in common.
line = [(0.1, 0.5), (0.5, 0.3)]
assert abs(difference(line, [(0.2, 0.2), (0.6, 0.0)]) - 0.25) < 1e-12
assert abs(difference([(0.3, 0.1)], line) + 0.3) < 1e-12
assert difference(line, [(0.9, 0.1)]) is None
# Edits differ from each other by far more than the two curves do, which does not widen the paired interval.
rows = [{"curve": name, "point": name} for name in ("filtered", "no filter", "sdedit")]
of = lambda shift, image: {e: {"small/image": image, "small/direction": e % 7 + shift} for e in range(20)}
single = {"filtered": of(0.1, 0.5), "no filter": of(0.0, 0.5), "sdedit": of(0.0, 0.9)}
found = differences(rows, single, 50)
assert [(c["first"], c["second"], c["found"]) for c in found] == [
    ("filtered", "no filter", "above"), ("filtered", "sdedit", "one for the other")], found
close = lambda a, b: abs(a - b) < 1e-9
assert close(found[0]["equal_low"], 0.1) and close(found[0]["equal_high"], 0.1) and found[0]["edits"] == 20
assert found[1]["equal"] is None and close(found[1]["direction_low"], 0.1) and close(found[1]["image_high"], -0.4)
PY
if command -v gnuplot > /dev/null; then
  ablate() {
    ends "$1" python3 -B "$source/examples/14_paper_in_a_box/ablations.py" box --programs "$programs" --set shares=0.25 \
      --set edits=3 --set image_scales=1,1.2 --set text_scales=1,2 --set strengths=0.5,1 --set fractions=0,1 \
      --set layer_edits=2 --set layer_steps=1,2 --set layer_scales=2 --set layer_channels=4 --set layer_views=1 \
      --set resamples=40 "${@:2}"
  }
  ablate 2 --set share=0.5
  says "expected one of shares"
  ablate 0
  says "| truth, 25 % | 1.2 | 3 |"
  says "| text2live | 2 | 2 |"
  [ "$(python3 -c 'import json; print(len(json.load(open("box/pairs/truth-25/seeds.json"))))')" -eq 3 ] ||
    fail "expected a quarter of 12 pairs"
  # At this toy size, there are too few filtered pairs for an editor.
  [ "$(grep -c . box/ablations/differences.csv)" -eq 7 ] || fail "expected six differences"
  python3 -c 'import xml.etree.ElementTree as t; assert len(t.parse("box/ablations/ablations.svg").getroot()) > 50' ||
    fail "expected a figure"
  ablate 0
  says "[editor-truth-25] done before"
  mv box/results.json kept.json
  ablate 1
  says "results.json, with which a run of paper_in_a_box.py ends, found none"
else
  echo "gnuplot is absent: ablations not checked"
fi

report
