#!/usr/bin/env bash
# edit_image with many photographs, sheets, previews, and settings that are written and read back; with a seeded model of
# about 100 kB.
#
#   bash tests/examples/edit_many_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
the_program edit_image
model=$source/tests/pipeline/fixtures/tiny-ip2p
export OMP_NUM_THREADS=1

mkdir photos
red_disc photos/a.png
# Two more of the same size with other colours, one of another shape, and one that is damaged.
python3 - <<'PYTHON'
import struct, zlib
def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
def write(path, width, height, red):
    rows = b"".join(b"\0" + b"".join(bytes([red, x * 3 % 256, y * 5 % 256]) for x in range(width)) for y in range(height))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
                   + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
write("photos/b.png", 72, 48, 20)
write("photos/c.png", 72, 48, 220)
write("photos/wide.png", 160, 72, 120)
PYTHON
last_counts=(--steps)
good=(--model "$model" --steps 3 --resolution 64 --device cpu --dtype fp32)
of_a=("${good[@]}" --image photos/a.png)
one=("${of_a[@]}" --prompt "make it snowy")

# text_of PNG KEYWORD: the text of a chunk.
text_of() {
  python3 - "$1" "$2" <<'PYTHON'
import struct, sys, zlib
data, at = open(sys.argv[1], "rb").read(), 8
while at < len(data):
    (length,) = struct.unpack(">I", data[at : at + 4])
    kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
    assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
    keyword, _, text = body.partition(b"\0")
    if kind in (b"tEXt", b"iTXt") and keyword.decode() == sys.argv[2]:
        print((text[4:] if kind == b"iTXt" else text).decode())
    at += length + 12
PYTHON
}

echo "== settings in the picture"
run 0 "${one[@]}" --out first.png --seed 7 --image-scale 1.2 --negative-prompt "rain"
text_of first.png parameters > parameters
cat > expected <<TEXT
make it snowy
Negative prompt: rain
Steps: 3, Sampler: Euler a, CFG scale: 7.5, Image CFG scale: 1.2, Seed: 7, Size: 64x64, Model: tiny-ip2p, Version: ip2p $("$program" --version)
TEXT
diff parameters expected > /dev/null || { cat parameters; fail "expected the parameters in the form of the front ends"; }
text_of first.png ip2p > settings
python3 - settings <<'PYTHON' || fail "expected the settings as JSON"
import hashlib, json, sys
settings = json.load(open(sys.argv[1]))
options = settings["options"]
assert settings["program"] == "edit_image", settings
assert settings["photo"] == hashlib.sha256(open("photos/a.png", "rb").read()).hexdigest(), settings
assert options["image-scale"] == 1.2 and options["seed"] == 7 and options["model"] == "tiny-ip2p", options
assert options["fit"] == "crop" and options["sampler"] == "euler-ancestral" and options["dtype"] == "fp32", options
PYTHON
for private in "$scratch" "$model" photos; do
  grep -qF "$private" first.png && fail "expected no path in the picture, found $private"
done
run 0 "${one[@]}" --out bare.png --seed 7 --image-scale 1.2 --negative-prompt "rain" --no-settings
same_pixels first.png bare.png
[ -z "$(text_of bare.png parameters)$(text_of bare.png ip2p)" ] || fail "expected no settings with --no-settings"

echo "== --like"
run 0 --like first.png --image photos/a.png --model "$model" --device cpu --out again.png
same first.png again.png
run 0 --like first.png --image photos/a.png --model "$model" --device cpu --out other.png --seed 8
differ first.png other.png
run 0 "${one[@]}" --out other-spelled.png --seed 8 --image-scale 1.2 --negative-prompt "rain"
same other.png other-spelled.png
run 0 --like first.png --image photos/b.png --model "$model" --device cpu --out b-like.png
says "note: first.png is of another photograph"
run 0 "${of_a[@]}" --out first.jpg --seed 7 --quality 80 --prompt "rends-le neigé ☃"
run 0 --like first.jpg --image photos/a.png --model "$model" --device cpu --out again.jpg
same first.jpg again.jpg
run 0 "${one[@]}" --out all.png --seed 9 --sampler heun --schedule karras --noise counter --numerics diffusers --full-size \
  --plain-prompts --background black --fit pad --deep-cache 2
run 0 --like all.png --image photos/a.png --model "$model" --device cpu --out all-again.png
same all.png all-again.png
if "$program" "${one[@]}" --out first.webp --seed 7 > stdout 2> stderr; then
  run 0 --like first.webp --image photos/a.png --model "$model" --device cpu --out again.webp
  same first.webp again.webp
else
  says "no libwebp"
fi
refuses 2 "--model: the picture of --like was made with 'tiny-ip2p', which is not here" --like first.png \
  --image photos/a.png --out out/a.png
refuses 2 "--image is required" --like first.png --model "$model" --out out/a.png
refuses 2 "expected a picture with settings of ip2p, found none" --like bare.png --image photos/a.png --model "$model" --out out/a.png
refuses 2 "missing.png: no such file" --like missing.png --image photos/a.png --model "$model" --out out/a.png
head -c -20 first.png > cut.png
refuses 2 "the file is truncated" --like cut.png --image photos/a.png --model "$model" --out out/a.png

echo "== many photographs"
run 0 "${good[@]}" --image photos --prompt "make it snowy" --out made
says "4 of 4 results made in"
says "photo: photos/wide.png, 160x72 -> 128x64"
[ "$(ls made | tr '\n' ' ')" = "a.png b.png c.png wide.png " ] || fail "expected a result for each photograph, found $(ls made)"
for name in a b c wide; do
  run 0 "${good[@]}" --image photos/$name.png --prompt "make it snowy" --out single.png
  same made/$name.png single.png
done
for noise in torch cuda counter; do
  rm -rf alone together
  run 0 "${good[@]}" --image photos/a.png photos/b.png --image photos/c.png --prompt "make it snowy" --noise $noise --out alone
  run 0 "${good[@]}" --image 'photos/[abc].png' --prompt "make it snowy" --noise $noise --out together --batch 3
  for name in a b c; do
    share=$(python3 "$source/tests/examples/picture_difference.py" alone/$name.png together/$name.png 2)
    awk -v share="${share:-100}" 'BEGIN { exit !(share < 0.5) }' ||
      fail "expected $name in a batch to differ from itself alone by rounding, found $share % of the values ($noise)"
  done
done
grep -c "step 3 of 3" stderr | grep -qx 1 || fail "expected one run for three photographs of one size"

echo "== instructions, seeds and names"
printf 'b.png\n\nc.png\n' > photos/list.txt
run 0 "${good[@]}" --image photos/list.txt --prompt "make it snowy" --prompt "Make it night!" --count 2 --seed 5 --out named
[ "$(ls named | tr '\n' ' ')" = "b-make-it-night-5.png b-make-it-night-6.png b-make-it-snowy-5.png b-make-it-snowy-6.png c-make-it-night-5.png c-make-it-night-6.png c-make-it-snowy-5.png c-make-it-snowy-6.png " ] ||
  fail "expected eight names, found $(ls named)"
run 0 "${good[@]}" --image photos/c.png --prompt "Make it night!" --seed 6 --out single.png
same named/c-make-it-night-6.png single.png
run 0 "${good[@]}" --image photos/a.png --prompt "make it snowy" --count 2 --out 'patterns/{number}-{name}-{seed}.jpg' --compare
[ "$(ls patterns | tr '\n' ' ')" = "1-a-42-compare.jpg 1-a-42.jpg 2-a-43-compare.jpg 2-a-43.jpg " ] || fail "found $(ls patterns)"
refuses 2 "expected {name}, {prompt}, {seed} or {number}, found '{size}'" "${one[@]}" --out 'out/{size}.png'
refuses 2 "expected a folder or a pattern" "${one[@]}" --count 2 --out out/a.png
refuses 1 "expected a folder or a pattern" "${good[@]}" --image photos --prompt "make it snowy" --out out/a.png
refuses 1 "a name of its own for each result" "${one[@]}" --count 2 --out 'out/{name}.png'
refuses 1 "would overwrite a photograph" "${one[@]}" --out 'photos/{name}.png'
refuses 1 "expected photographs by this pattern, found none" "${good[@]}" --image 'photos/*.bmp' --prompt "x" --out out
mkdir nothing
refuses 1 "expected photographs in this folder, found none" "${good[@]}" --image nothing --prompt "x" --out out
refuses 2 "expected --out to name one picture" "${one[@]}" --out out --save-latents out/a.safetensors
mkdir loras && cp "$source/tests/nn/fixtures/lora-peft.safetensors" loras/ink.safetensors
refuses 1 "expected prompts that name the same LoRAs" "${one[@]}" --prompt "make it night <lora:ink>" --lora-folder loras --out out

echo "== resuming"
touch -d "2001-01-01" made/*.png
rm made/b.png
run 0 "${good[@]}" --image photos --prompt "make it snowy" --out made
says "1 of 4 results made in"
says "3 were there already"
[ -z "$(find made -name 'a.png' -newermt 2002-01-01)" ] || fail "expected a.png to be left alone"
run 1 "${good[@]}" --image photos --prompt "make it snowy" --out made --image-scale 1.1
says "made/a.png: was made with --image-scale 1.5, now --image-scale 1.1; --overwrite makes it again"
says "0 of 4 results made, 4 failed"
run 0 "${good[@]}" --image photos --prompt "make it snowy" --out made --image-scale 1.1 --overwrite
says "4 of 4 results made"
cp photos/b.png photos/a-copy.png && cp made/a.png made/a-copy.png
run 1 "${good[@]}" --image photos/a-copy.png --prompt "make it snowy" --out made/ --image-scale 1.1
says "made/a-copy.png: was made of another photograph"
rm photos/a-copy.png

echo "== a photograph that fails"
head -c 300 photos/a.png > photos/bad.png
run 1 "${good[@]}" --image photos --image photos/none.png --prompt "make it snowy" --out partly --batch 2
says "edit_image: photos/bad.png: corrupt PNG"
says "edit_image: photos/none.png: no such file"
says "4 of 6 results made"
says "2 failed"
[ "$(ls partly | tr '\n' ' ')" = "a.png b.png c.png wide.png " ] || fail "expected the others, found $(ls partly)"
rm photos/bad.png

echo "== proportions"
run 0 "${good[@]}" --image photos/wide.png --prompt "make it snowy" --out cropped.png
says "photo: photos/wide.png, 160x72 -> 128x64, 8 pixels cut left and right"
run 0 "${good[@]}" --image photos/wide.png --prompt "make it snowy" --out cropped-too.png --fit crop
same cropped.png cropped-too.png
run 0 "${good[@]}" --image photos/wide.png --prompt "make it snowy" --out padded.png --fit pad --compare padded-both.png
says "160x72 -> 128x64, of which the photograph is 128x58"
[ "$(size_of padded.png)" = "128 58" ] || fail "expected the photograph's own frame, found $(size_of padded.png)"
differ cropped.png padded.png
run 0 "${good[@]}" --image photos/wide.png --prompt "" --out unedited.png --fit pad --full-size
same_pixels photos/wide.png unedited.png
run 0 "${good[@]}" --image photos/wide.png --prompt "make it snowy" --out stretched.png --fit stretch
says "160x72 -> 128x64, 10 % narrower"
[ "$(size_of stretched.png)" = "128 64" ] || fail "expected the size of the edit, found $(size_of stretched.png)"
refuses 2 "pad" "${one[@]}" --out out/a.png --fit squash

echo "== a sheet"
run 0 "${one[@]}" --out sheet.png --grid text-scale=3,7.5 image-scale=1,1.5,2
read -r width height <<< "$(size_of sheet.png)"
# The photograph and two columns, with the labels of the rows beside them; three rows.
[ "$width" -gt $((3 * 64 + 2 * 8)) ] && [ "$height" -gt $((3 * 64 + 2 * 8 + 30)) ] || fail "expected a sheet, found $width x $height"
run 0 "${one[@]}" --out cell.png --text-scale 7.5 --image-scale 1.5
python3 - "$source/tests/examples" sheet.png cell.png <<'PYTHON' || fail "expected the edit that is made alone to be on the sheet"
import sys
sys.argv, names = ["", sys.argv[2], sys.argv[2], "1"], sys.argv
source = open(names[1] + "/picture_difference.py").read().rsplit("main()", 1)[0]
exec(source)
(w, h, sheet), (cw, ch, cell) = pixels(names[2]), pixels(names[3])
first = bytes(cell[: cw * 3])
for y in range(h - ch + 1):
    row = bytes(sheet[y * w * 3 : (y + 1) * w * 3])
    x = row.find(first)
    if x >= 0 and x % 3 == 0:
        same = all(sheet[((y + k) * w) * 3 + x : ((y + k) * w) * 3 + x + cw * 3] == cell[k * cw * 3 : (k + 1) * cw * 3] for k in range(ch))
        sys.exit(0 if same else 1)
sys.exit(1)
PYTHON
run 0 --like sheet.png --image photos/a.png --model "$model" --device cpu --out sheet-again.png
same sheet.png sheet-again.png
run 0 "${one[@]}" --out line.png --grid sampler=euler,heun,ddim
refuses 2 "expected one of text-scale, image-scale, steps, seed, sampler, schedule, found 'size'" "${one[@]}" --out out/a.png --grid size=1,2
refuses 2 "text-scale: expected a finite number, found 'x'" "${one[@]}" --out out/a.png --grid text-scale=1,x
refuses 1 "expected two different axes, found seed twice" "${one[@]}" --out out/a.png --grid seed=1,2 seed=3
refuses 2 "cannot be combined with --grid" "${one[@]}" --out out/a.png --grid seed=1,2 --compare

echo "== previews"
run 0 "${one[@]}" --steps 5 --out watched.png --preview 2
run 0 "${one[@]}" --steps 5 --out unwatched.png
same watched.png unwatched.png
[ "$(size_of watched-preview.png)" = "64 64" ] || fail "expected a preview of the picture's size"
differ watched.png watched-preview.png
run 0 "${good[@]}" --image photos/a.png photos/b.png --prompt "make it snowy" --out previews --preview 1 --batch 2
[ "$(ls previews | tr '\n' ' ')" = "a-preview.png a.png b-preview.png b.png " ] || fail "found $(ls previews)"

echo "== standard output"
"$program" "${one[@]}" --seed 7 --image-scale 1.2 --negative-prompt "rain" --out - > piped.png 2> stderr < /dev/null || fail "expected status 0 for --out -"
same first.png piped.png
grep -q "peak memory" stderr || fail "expected the report on standard error"
refuses 2 "takes one result" "${one[@]}" --count 2 --out -

echo "== Ctrl-C"
rm -rf stopped
interrupted "[ -e stopped/a.png ]" "$program" "${good[@]}" --steps 400 --image photos --prompt "make it snowy" \
  --out stopped --preview 1
says "stopped, run the same command again to go on"
[ -e stopped/a.png ] || fail "expected the first result to be kept"

report
