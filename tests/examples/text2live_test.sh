#!/usr/bin/env bash
# The program text2live from outside, with a seeded CLIP of about 100 kB: its pictures, resumption, messages.
#
#   bash tests/examples/text2live_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
the_program text2live
export OMP_NUM_THREADS=1

# A CLIP folder as transformers saves it, with its tokenizer.
mkdir clip
cp "$source"/tests/vision/fixtures/tiny-clip/* "$source"/tests/pipeline/fixtures/tiny-ip2p/tokenizer/* clip
# Blue in the middle of red, 64x48 pixels.
python3 - <<'PY' > photo.png
import struct, sys, zlib
rows = b"".join(b"\0" + b"".join(b"\x20\x40\xe0" if 16 <= x < 44 and 12 <= y < 36 else b"\xd0\x30\x20" for x in range(64))
                for y in range(48))
chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
sys.stdout.buffer.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)) +
                        chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
PY

last_counts=(--image --scales --source)
good=(--clip clip --image photo.png --prompt "a golden box" --source "a box" --region box --resolution 48 --scales 3
  --channels 8 --views 3 --device cpu)

echo "== help and usage"
run 0 --help
for option in --image --clip --prompt --source --layer --region --out --compare --steps --seed --run --sample-every \
  --resolution --views --scales --device; do
  says "$option"
done
refuses 2 "is required"
refuses 2 "expected a whole number from 1 to" "${good[@]}" --out out/a.png --steps 0
refuses 1 "no such file" "${good[@]}" --out out/a.png --image none.png
refuses 1 "at least 129 pixels for 7 scales" "${good[@]}" --out out/a.png --scales 7
refuses 1 "source: expected what the picture shows" "${good[@]}" --out out/a.png --source ""
refuses 1 "expected a folder to write into" "${good[@]}" --out none/a.png

echo "== an edit, its parts and what it was on the way"
run 0 "${good[@]}" --out a.png --steps 6 --sample-every 2 --compare row.png
[ "$(tail -n 1 stdout)" = a.png ] || fail "expected the picture's path as the last line"
says "mean opacity"
for picture in a.png a_2.png a_4.png a_6.png; do
  [ "$(size_of $picture)" = "64 48" ] || fail "expected $picture of 64 x 48"
done
read -r width height <<< "$(size_of row.png)"
[ "$width" = 280 ] && [ "$height" -gt 60 ] || fail "expected four pictures side by side, with labels"
cmp -s a.png a_6.png || fail "expected the last picture on the way to be the result"
cmp -s a.png a_2.png && fail "expected the edit to go on after its second step"

echo "== at the photograph's own size"
run 0 "${good[@]/#48/36}" --out whole.png --steps 2 --full-size
[ "$(size_of whole.png)" = "64 48" ] || fail "expected the photograph's own size"

echo "== the same seed, another one, and a run in two parts"
run 0 "${good[@]}" --out b.png --steps 6
cmp -s a.png b.png || fail "expected the same bits from the same seed"
run 0 "${good[@]}" --out c.png --steps 6 --seed 7
cmp -s a.png c.png && fail "expected another picture from another seed"
run 0 "${good[@]}" --out d.png --steps 4 --run run
run 0 "${good[@]}" --out d.png --steps 6 --run run
says "resumed at step 4"
cmp -s a.png d.png || fail "expected the bits of a run in one part"
run 0 "${good[@]}" --out marked.png --steps 1 --layer "a (golden:1.4) box"
grep -qF "warning: layer: text2live takes texts as they are, the marks in 'a (golden:1.4) box' included" stderr ||
  fail "expected a warning of marks that are no marks here"
grep -q "warning: prompt" stderr && fail "expected no warning of a text without marks"
refuses 1 "seed: expected 7, found 42" "${good[@]}" --out out/a.png --steps 6 --run run --seed 7

report
