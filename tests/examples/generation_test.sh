#!/usr/bin/env bash
# The programs for Stable Diffusion models from outside: each writes its picture, and refuses what it cannot do. With
# seeded models of about 100 kB.
#
#   bash tests/examples/generation_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
fixtures=$source/tests/pipeline/fixtures
export OMP_NUM_THREADS=1

cp -r "$fixtures/tiny-ip2p" sd && rm -r sd/unet && cp -r "$fixtures/tiny-sd/unet" sd/unet
# A mask of 64x64 pixels whose right half is white.
base64 -d > mask.png <<'PNG'
iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAS0lEQVR42u3PMQEAAAwCIPuX3iJ4+UEDkrEbi4CAgICAgICAgICAgICAgICAgICAgICAgICA
gICAgICAgICAgICAgICAgICAgIBA8zoN6VphhhbcAAAAAElFTkSuQmCC
PNG

# draws WIDTH HEIGHT PICTURE PROGRAM ARGUMENTS...: the program writes a PNG of that size and prints its path last.
draws() {
  local width=$1 height=$2 picture=$3 program=$4
  shift 4
  run 0 "$program" --out "$picture" --device cpu --dtype fp32 "$@"
  [ "$(tail -n 1 stdout)" = "$picture" ] || fail "expected the picture's path as the last line: $program"
  local size
  size=$(size_of "$picture")
  [ "$size" = "$width $height" ] || fail "expected a picture of $width x $height, found '$size': $program"
}

# draws_row WIDTH HEIGHT PICTURE PROGRAM ARGUMENTS...: the same of pictures of that height in a row, with labels over them.
draws_row() {
  local width=$1 height=$2 picture=$3 program=$4
  shift 4
  run 0 "$program" --out "$picture" --device cpu --dtype fp32 "$@"
  [ "$(tail -n 1 stdout)" = "$picture" ] || fail "expected the picture's path as the last line: $program"
  read -r found_width found_height <<< "$(size_of "$picture")"
  [ "$found_width" = "$width" ] && [ "$found_height" -gt $((height + 12)) ] ||
    fail "expected a row of $width x $height with labels, found '$found_width x $found_height': $program"
}

# refuses STATUS TEXT PROGRAM ARGUMENTS...: fails with TEXT on standard error, and writes nothing.
refuses() {
  local status=$1 text=$2 program=$3
  shift 3
  rm -f never.png
  run "$status" "$program" --out never.png --device cpu --dtype fp32 "$@"
  grep -qF -- "$text" stderr || fail "expected the error '$text': $program $*"
  [ ! -e never.png ] || fail "expected no picture: $program $*"
}

for program in text_to_image sdedit prompt_to_prompt invert_and_edit inpaint; do
  run 0 $program --help
  grep -q -- "--model" stdout || fail "expected the options in the help of $program"
  run 2 $program --out a.png
done

echo "== text_to_image"
draws 64 64 photo.png text_to_image --model sd --prompt "a hill" --steps 2 --width 64 --height 64
last_counts=(--model --steps --width --mask)
text=(--model sd --prompt "a boat" --steps 2 --width 64 --height 72)
draws 64 72 boat.png text_to_image "${text[@]}"
draws 64 72 again.png text_to_image "${text[@]}"
same boat.png again.png
draws 64 72 other.png text_to_image "${text[@]}" --seed 7
differ boat.png other.png
# In two steps of these levels, the second nearly 0, Euler ancestral equals LCM up to rounding; in four it does not.
longer=("${text[@]}" --steps 4 --schedule karras)
draws 64 72 ancestral.png text_to_image "${longer[@]}"
for sampler in dpm++-2m heun ddim lcm; do
  draws 64 72 sampler.png text_to_image "${longer[@]}" --sampler $sampler
  differ ancestral.png sampler.png
done
draws_row 136 72 two.png text_to_image "${text[@]}" --count 2
draws 96 104 large.png text_to_image "${text[@]}" --enlarge 1.5
grep -q "^64x72 pixels, then 96x104; " stdout || fail "expected both sizes"
draws_row 208 72 walk.png text_to_image "${text[@]}" --walk-to 9 --frames 3
refuses 1 "--walk-to: expected at most 4294967295 with --noise torch" text_to_image "${text[@]}" --walk-to 4294967296
# The options for noise levels and noise have an effect on every way to draw. (All schedules agree in two steps.)
for way in "--enlarge 1.5" "--walk-to 9 --frames 3"; do
  # shellcheck disable=SC2086
  run 0 text_to_image --out plain.png --device cpu --dtype fp32 "${text[@]}" --steps 4 $way
  for other in "--schedule karras" "--noise counter"; do
    # shellcheck disable=SC2086
    run 0 text_to_image --out changed.png --device cpu --dtype fp32 "${text[@]}" --steps 4 $way $other
    differ plain.png changed.png
  done
done
cp -r sd advised-sd
sed -i 's/^{/{"_ip2p_settings": {"steps": 2, "resolution": 64, "text_scale": 4, "sampler": "euler"},/' advised-sd/model_index.json
draws 64 64 advised.png text_to_image --model advised-sd --prompt "a boat"
grep -qF "64x64 pixels; 2 steps of euler over log-linear noise levels; text scale 4 (recommended by the model)" stdout ||
  fail "expected the model's settings"
draws 64 64 spelled.png text_to_image --model sd --prompt "a boat" --steps 2 --width 64 --height 64 --text-scale 4 --sampler euler
same advised.png spelled.png
refuses 1 "size: expected positive multiples of 8" text_to_image "${text[@]}" --width 65
refuses 2 "excludes" text_to_image "${text[@]}" --count 2 --enlarge 2
refuses 1 "this is an InstructPix2Pix model" text_to_image "${text[@]}" --model "$fixtures/tiny-ip2p"

echo "== sdedit"
draws 64 64 redrawn.png sdedit --model sd --image photo.png --prompt "a harbour" --steps 4 --resolution 64
draws_row 208 64 row.png sdedit --model sd --image photo.png --prompt "a harbour" --steps 4 --resolution 64 \
  --strength 0.3 --strength 0.9
says_fit() { grep -qF -- "$1" stdout || fail "expected to be told '$1'"; }
base64 -d > wide.png <<'PNG'
iVBORw0KGgoAAAANSUhEUgAAAGAAAABACAIAAABqVuVZAAABKUlEQVR42u3QgWZCAQBA0feKERERERExImJEREREjBERERERESMixhgRERERESNiRET/ti/o
fsHlfMEJg6AbCUI9EwZRgzjoxSAOihnEQXGDOChhEAclDeKglEEclDaIgzIGcVDWIA7KGcRBeYM46NUgDioYxEFFgzioZBAHvRnEQWWDOKhiEAdVDeKgmkEc
VDeIgxoGcVDTIA5qGcRB7wZx0IdBHNQ2iIM6BnFQ1yAO6hnEQX2DOGhgEAcNDeKgkUEcNDaIgyYGcdDUIA76NIiDZgZx0NwgDloYxEFfBnHQt0Ec9GMQBy0N
4qCVQRy0NoiDNgZx0NYgDtoZxEF7gzjoYBAHHQ3ioJNBHPRrEAedDeKgi0Ec9GcQB10N4qCbQRx0N4iDHgaRf98udaF+nMK5AAAAAElFTkSuQmCC
PNG
fitted=(--model sd --image wide.png --prompt "a harbour" --steps 4 --resolution 64)
draws 64 64 cropped.png sdedit "${fitted[@]}"
says_fit "wide.png, 96x64 -> 64x64, 16 pixels cut left and right"
draws 64 43 padded.png sdedit "${fitted[@]}" --fit pad
says_fit "wide.png, 96x64 -> 64x64, of which the photograph is 64x43"
draws 64 64 stretched.png sdedit "${fitted[@]}" --fit stretch
says_fit "wide.png, 96x64 -> 64x64, 33 % narrower"
draws 96 64 whole.png sdedit "${fitted[@]}" --fit pad --full-size
says_fit "and brought back to full size"
refuses 2 "stretch" sdedit "${fitted[@]}" --fit squeeze
refuses 1 "strength: expected at least 1 of 4 steps" sdedit --model sd --image photo.png --prompt "a harbour" --steps 4 \
  --resolution 64 --strength 0.1

echo "== prompt_to_prompt"
asked=(--model sd --source "a red boat" --steps 3 --width 64 --height 64)
swap=("${asked[@]}" --prompt "a blue boat")
draws_row 136 64 swap.png prompt_to_prompt "${swap[@]}"
length=$(grep "^prompt: " stdout)
draws_row 208 64 three.png prompt_to_prompt "${swap[@]}" --prompt "a dark boat"
draws_row 280 64 maps.png prompt_to_prompt "${swap[@]}" --heat-map boat --blend boat --blend boat --weight blue 2
draws_row 208 64 refined.png prompt_to_prompt "${swap[@]}" --prompt "a red boat at night" --edit refine
draws_row 136 64 karras.png prompt_to_prompt "${swap[@]}" --schedule karras
differ swap.png karras.png
refuses 1 "--weight: expected a word of a --prompt, found 'green'" prompt_to_prompt "${swap[@]}" --weight green 2
refuses 1 "--heat-map: expected a word of the prompts" prompt_to_prompt "${swap[@]}" --heat-map green
refuses 1 "--blend: expected one word for --source" prompt_to_prompt "${swap[@]}" --blend boat

# The words of the last version, with a note; two of these and one too few.
draws_row 136 64 old.png prompt_to_prompt --model sd --prompt "a red boat" --edited "a blue boat" --steps 3 --width 64 --height 64
same old.png swap.png
grep -qF "note: --prompt beside --edited is now called --source" stderr || fail "expected a note of the old names"
draws_row 208 64 old.png prompt_to_prompt --model sd --edited "a blue boat" --prompt "a red boat" --edited "a dark boat" --steps 3 \
  --width 64 --height 64
same old.png three.png
refuses 2 "--source is required" prompt_to_prompt --model sd --prompt "a red boat" --prompt "a blue boat"
refuses 2 "--source is required" prompt_to_prompt --model sd --edited "a blue boat"
# Marks in prompts, as every program that draws reads them.
draws_row 136 64 marked.png prompt_to_prompt "${asked[@]}" --prompt "a (blue:1.6) boat"
grep -qx "$length" stdout || fail "expected the marks to be no words"
differ marked.png swap.png
draws_row 136 64 literal.png prompt_to_prompt "${asked[@]}" --prompt "a (blue:1.6) boat" --plain-prompts
grep -qx "$length" stdout && fail "expected the marks as words with --plain-prompts"
mkdir loras && cp "$source/tests/nn/fixtures/lora-peft.safetensors" loras/ink.safetensors
refuses 1 "loras/ink.safetensors: tensor" prompt_to_prompt --model sd --source "a red boat <lora:ink>" \
  --prompt "a blue boat <lora:ink>" --lora-folder loras  # it is applied, and was made for another model
grep -q "ink.safetensors, scale 1, changes" stdout || fail "expected the LoRA that the prompts name"
refuses 1 "<lora:pen>: expected 'loras/pen.safetensors', found none" prompt_to_prompt "${asked[@]}" --lora-folder loras \
  --prompt "a blue boat <lora:pen>"
refuses 1 "expected prompts that name the same LoRAs" prompt_to_prompt "${asked[@]}" --lora-folder loras \
  --prompt "a blue boat <lora:ink>"

echo "== invert_and_edit"
invert=(--model sd --image photo.png --source "a red boat" --steps 3 --inner-steps 2 --resolution 64)
draws_row 208 64 inverted.png invert_and_edit "${invert[@]}" --prompt "a blue boat"
says_fit "photo.png, 64x64 -> 64x64"
grep -q "inversion: reconstruction .* dB to the photograph" stdout || fail "expected the reconstruction's error"
grep -q "null-text optimisation: latent error" stdout || fail "expected the error under guidance"
draws_row 208 64 inverted-whole.png invert_and_edit "${invert[@]}" --prompt "a blue boat" --full-size
differ inverted.png inverted-whole.png
draws_row 208 64 inverted-marked.png invert_and_edit "${invert[@]}" --prompt "a (blue:1.6) boat"
differ inverted.png inverted-marked.png

echo "== inpaint"
hole=(--image photo.png --mask mask.png --prompt "a cat" --steps 3 --resolution 64)
draws 64 64 filled.png inpaint --model sd "${hole[@]}"
draws 64 64 edited.png inpaint --model "$fixtures/tiny-ip2p" "${hole[@]}"
differ filled.png edited.png
draws 64 64 filled-karras.png inpaint --model sd "${hole[@]}" --schedule karras
differ filled.png filled-karras.png
draws 64 64 edited-karras.png inpaint --model "$fixtures/tiny-ip2p" "${hole[@]}" --schedule karras
differ edited.png edited-karras.png
cp -r "$fixtures/tiny-ip2p" advised
sed -i 's/^{/{"_ip2p_settings": {"steps": 2, "resolution": 64, "image_scale": 1.2, "text_scale": 4, "sampler": "euler"},/' advised/model_index.json
draws 64 64 advised-edit.png inpaint --model advised --image photo.png --mask mask.png --prompt "a cat"
draws 64 64 spelled-edit.png inpaint --model "$fixtures/tiny-ip2p" "${hole[@]}" --steps 2 --image-scale 1.2 --text-scale 4 \
  --sampler euler
same advised-edit.png spelled-edit.png
refuses 1 "mask: expected the photograph's size 64x64" inpaint --model sd "${hole[@]}" --mask boat.png
# The photograph's size, and all of it outside of the mask.
draws 144 96 wide.png text_to_image --model sd --prompt "a hill" --steps 2 --width 144 --height 96
python3 "$source/tests/examples/left_half.py" wide.png wide-mask.png
large=(--image wide.png --mask wide-mask.png --prompt "a cat" --steps 3 --resolution 64)
for painter in sd "$fixtures/tiny-ip2p"; do
  draws 144 96 whole.png inpaint --model "$painter" "${large[@]}"
  says_fit "photo: wide.png, 144x96 -> 64x64, 24 pixels cut left and right, and brought back to full size, where only the mask is redrawn"
  differ wide.png whole.png
  [ "$(python3 "$source/tests/examples/picture_difference.py" wide.png whole.png 1 72)" = 0.0 ] ||
    fail "expected the photograph outside of the mask"
  draws 144 96 padded.png inpaint --model "$painter" "${large[@]}" --fit pad
  says_fit "photo: wide.png, 144x96 -> 64x64, of which the photograph is 64x43, and brought back"
  grep -q "at edges that the model does not see" stderr && fail "expected the whole photograph to be seen with --fit pad"
  differ whole.png padded.png
  [ "$(python3 "$source/tests/examples/picture_difference.py" wide.png padded.png 1 72)" = 0.0 ] ||
    fail "expected the photograph outside of the mask with --fit pad"
  draws 64 43 small.png inpaint --model "$painter" "${large[@]}" --model-size --fit pad
  draws 64 64 small.png inpaint --model "$painter" "${large[@]}" --model-size --fit stretch
  says_fit "144x96 -> 64x64, 33 % narrower"
  draws 64 64 small.png inpaint --model "$painter" "${large[@]}" --model-size
done
grep -q "% of the mask lies at edges that the model does not see; the result lacks them" stderr ||
  fail "expected a warning of the edges"
refuses 1 "--strength: expected a Stable Diffusion or an inpainting model" inpaint --model "$fixtures/tiny-ip2p" "${hole[@]}" --strength 0.5
refuses 1 "--image-scale: expected an InstructPix2Pix model" inpaint --model sd "${hole[@]}" --image-scale 1.2
refuses 2 "--keep-codec requires --model-size" inpaint --model sd "${hole[@]}" --keep-codec
draws 64 64 codec.png inpaint --model sd "${hole[@]}" --keep-codec --model-size --strength 0.7

report
