#!/usr/bin/env bash
# The program edit_image from outside: its pictures, messages and exit statuses, with a seeded model of about 100 kB.
#
#   bash tests/examples/edit_image_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
the_program edit_image
model=$source/tests/pipeline/fixtures/tiny-ip2p
export OMP_NUM_THREADS=1

red_disc photo.png

last_counts=(--model --steps --resolution --device --dtype)
base=(--model "$model" --steps 4 --resolution 64 --device cpu --dtype fp32)
asked_of_photo=("${base[@]}" --image photo.png)         # lacks an instruction
asked=("${base[@]}" --prompt "make it snowy")           # lacks a photograph
good=("${asked_of_photo[@]}" --prompt "make it snowy")

echo "== help and usage"
run 0 --help
for option in --model --image --prompt --out --steps --image-scale --text-scale --seed --resolution --sampler --schedule \
  --noise --numerics --dtype --device --latents --save-latents --negative-prompt --compare --full-size --low-memory --vae --lora --embedding \
  --graph --count --batch --grid --fit --preview --like --no-settings --overwrite --deep-cache --tf32 --direct-convolution --int8 --download; do
  says "$option"
done
run 0 --version
refuses 2 "is required"
refuses 2 "--prompt is required" --model "$model" --image photo.png --out out/a.png
refuses 2 "--nonsense" "${good[@]}" --out out/a.png --nonsense
refuses 2 "expected a whole number from 1 to" "${good[@]}" --out out/a.png --steps 0
refuses 2 "--steps" "${good[@]}" --out out/a.png --steps ten
refuses 2 "expected a whole number from 64 to 16384, found '8'" "${good[@]}" --out out/a.png --resolution 8
refuses 2 "expected a finite number, found 'nan'" "${good[@]}" --out out/a.png --text-scale nan
refuses 2 "expected a finite number, found '1e999'" "${good[@]}" --out out/a.png --image-scale 1e999
refuses 2 "expected a whole number from 0 to 2^64 - 1, found '-1'" "${good[@]}" --out out/a.png --seed -1
refuses 2 "expected a whole number from 1 to 10000, found '4.0'" "${good[@]}" --out out/a.png --steps 4.0
refuses 2 "found '512x768' (one number, not a size of two)" "${good[@]}" --out out/a.png --resolution 512x768
refuses 2 "found '1,5' (numbers are written with a point)" "${good[@]}" --out out/a.png --image-scale 1,5
refuses 2 "expected a number from -10000 to 10000, found '1e300'" "${good[@]}" --out out/a.png --image-scale 1e300
refuses 1 "--seed: expected at most 4294967295 with --noise torch" "${good[@]}" --out out/a.png --seed 4294967338
refuses 2 "found '18446744073709551616'" "${good[@]}" --out out/a.png --seed 18446744073709551616
refuses 2 "euler-ancestral" "${good[@]}" --out out/a.png --sampler newton
refuses 2 "karras" "${good[@]}" --out out/a.png --schedule cosine
refuses 2 "diffusers" "${good[@]}" --out out/a.png --numerics exact
refuses 2 "bf16" "${good[@]}" --out out/a.png --dtype int8
refuses 2 "expected auto, cpu, cuda or cuda:N, found 'tpu'" "${good[@]}" --out out/a.png --device tpu
refuses 2 "expected a file name ending in .png, .jpg, .jpeg or .webp, found 'out/a.gif'" "${good[@]}" --out out/a.gif
refuses 2 "avifenc out.png out.avif" "${good[@]}" --out out/a.AVIF
refuses 2 "would overwrite the input of --image" "${good[@]}" --out ./photo.png
refuses 2 "name the same file" "${good[@]}" --out out/a.png --compare out/a.png
refuses 2 "ending in .png" "${good[@]}" --out out/a.png --compare out/b.txt
refuses 2 "has no effect with --text-scale 1 and --image-scale 1" "${good[@]}" --out out/a.png --text-scale 1 \
  --image-scale 1 --negative-prompt "blurry"

echo "== errors to act on"
refuses 1 "no such file or folder" "${good[@]}" --out out/a.png --model nowhere
refuses 1 "missing.png: no such file" "${asked[@]}" --out out/a.png --image missing.png
refuses 1 "expected a folder to write into" "${good[@]}" --out out/deeper/a.png
ln -s "$scratch/nowhere/b.png" dangling.png
refuses 1 "nowhere: expected a folder to write into, found none ('dangling.png' is a link into it)" "${good[@]}" \
  --out dangling.png
refuses 1 "expected a file name of at most 255 bytes, found 304" "${good[@]}" --out "$(printf 'a%.0s' $(seq 300)).png"
head -c 300 photo.png > cut.png
refuses 1 "cut.png" "${asked[@]}" --out out/a.png --image cut.png
printf 'II*\0and more than enough bytes to be told apart' > picture.tiff
refuses 1 "magick photo.tiff photo.png" "${asked[@]}" --out out/a.png --image picture.tiff
refuses 2 "or stored, found 'pink'" "${good[@]}" --out out/a.png --background pink
refuses 1 "JPEG has no alpha" "${good[@]}" --out out/a.jpg --keep-alpha
refuses 1 "expected UTF-8, found byte 0xFF at position 2" "${asked_of_photo[@]}" --out out/a.png --prompt $'ab\xff'
refuses 1 "cannot open 'missing.safetensors'" "${good[@]}" --out out/a.png --latents missing.safetensors
refuses 1 "no tokenizer" "${good[@]}" --out out/a.png --tokenizer "$scratch"
latest "${good[@]}" --out probe.png --device cuda
if ! "$program" "${words[@]}" > stdout 2> stderr; then
  refuses 1 "expected a CUDA device" "${good[@]}" --out out/a.png --device cuda
fi

echo "== models that do not fit"
cp -r "$model" four && cp -r "$source/tests/unet/fixtures/sd1-4ch/." four/
refuses 1 "text-to-image model, not an InstructPix2Pix model" "${good[@]}" --out out/a.png --model four
mkdir empty
refuses 1 "empty" "${good[@]}" --out out/a.png --model empty
# Four fp16 NaNs a few bytes before the end of a weight file give an error that names the layer, not a black picture.
spoil() {
  local size
  size=$(stat -c %s "$1")
  printf '\377\177\377\177\377\177\377\177' | dd of="$1" bs=1 seek=$((size - $2)) conv=notrunc status=none
}
cp -r "$model" nan-unet && spoil nan-unet/unet/diffusion_pytorch_model.safetensors 8
refuses 1 "found NaN or infinity, first in unet." "${good[@]}" --out out/a.png --model nan-unet
cp -r "$model" nan-vae && spoil nan-vae/vae/diffusion_pytorch_model.safetensors 128  # quant_conv.weight, row 0
refuses 1 "vae encoder: expected finite values, found NaN or infinity, first in vae." "${good[@]}" --out out/a.png --model nan-vae
cp -r "$model" nan-text && spoil nan-text/text_encoder/model.safetensors 8
refuses 1 "expected finite values, found NaN or infinity" "${good[@]}" --out out/a.png --model nan-text
cp -r "$model" cut-model && truncate -s -100 cut-model/unet/diffusion_pytorch_model.safetensors
refuses 1 "diffusion_pytorch_model.safetensors" "${good[@]}" --out out/a.png --model cut-model

echo "== alpha, background and limits"
python3 - <<'PYTHON'
import struct, zlib
def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
width, height = 72, 48
rows = b"".join(b"\0" + b"".join(bytes([200, x * 3, y * 5, 255 if 16 <= x < 56 else 0]) for x in range(width)) for y in range(height))
with open("cut-out.png", "wb") as file:
    file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
               + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
PYTHON
run 0 "${asked[@]}" --out on-white.png --image cut-out.png
run 0 "${asked[@]}" --out on-black.png --image cut-out.png --background black
run 0 "${asked[@]}" --out on-white-again.png --image cut-out.png --background "#ffffff"
run 0 "${asked[@]}" --out hidden.png --image cut-out.png --background stored
same_pixels on-white.png on-white-again.png
differ on-white.png on-black.png
differ on-white.png hidden.png
run 0 "${asked[@]}" --out kept.png --image cut-out.png --keep-alpha
[ "$(od -An -tu1 -j25 -N1 kept.png | tr -d ' ')" = 6 ] || fail "expected a PNG with alpha from --keep-alpha"
[ "$(od -An -tu1 -j25 -N1 on-white.png | tr -d ' ')" = 2 ] || fail "expected an opaque PNG without --keep-alpha"
run 0 "${asked[@]}" --out kept-full.png --image cut-out.png --keep-alpha --full-size
refuses 1 "more than the limit of 3000 pixels" "${good[@]}" --out out/a.png --max-megapixels 0.003
refuses 1 "the limit is 1.2:1" "${good[@]}" --out out/a.png --max-aspect 1.2

echo "== an edit"
run 0 "${good[@]}" --out first.png --save-latents first.safetensors --compare both.png
says "InstructPix2Pix"
says "photo.png, 72x48 -> 64x64, 12 pixels cut left and right"
says "fp32 on cpu"
says "4 steps of euler-ancestral over log-linear noise levels; image scale 1.5, text scale 7.5, resolution 64 (given: steps, resolution); 3 evaluations per step"
says "peak memory: "
says "step 4 of 4"
[ "$(tail -n 1 stdout)" = first.png ] || fail "expected the picture's path as the last line"
grep -q $'\r' stderr && fail "expected plain lines where standard error is no terminal"
head -c 8 first.png | cmp -s - <(printf '\211PNG\r\n\032\n') || fail "expected a PNG file"
[ -s both.png ] || fail "expected the side-by-side picture"
run 0 "${good[@]}" --out again.png --save-latents again.safetensors
same_pixels first.png again.png
same first.safetensors again.safetensors
run 0 "${good[@]}" --out other.png --seed 43
differ first.png other.png
run 0 "${good[@]}" --out large.png --full-size --compare large-both.png
says "brought back to full size"
python3 - photo.png large.png large-both.png <<'PYTHON' || fail "expected the photograph's size with --full-size"
import struct, sys
sizes = [struct.unpack(">II", open(name, "rb").read(24)[16:]) for name in sys.argv[1:]]
sys.exit(sizes[1] != sizes[0] or sizes[2][0] != 2 * sizes[0][0] + 8 or sizes[2][1] < sizes[0][1] + 12)
PYTHON
run 0 "${asked_of_photo[@]}" --out same.png --full-size --prompt ""
[ "$(python3 "$source/tests/examples/picture_difference.py" photo.png same.png 1)" = 0.0 ] ||
  fail "expected the photograph itself from an empty prompt with --full-size"
run 0 "${good[@]}" --out first.jpg --compare
[ -s first.jpg ] && [ -s first-compare.jpg ] || fail "expected first.jpg and first-compare.jpg"
run 0 "${asked_of_photo[@]}" --out empty.png --compare empties.png --prompt ""
says "prompt: 0 tokens"
grep -q "step 1 of" stderr && fail "expected no steps for the empty instruction"
[ "$(size_of empty.png)" = "64 64" ] || fail "expected the fitted photograph"
# The photograph again, at the size that it now has: nothing needs fitting.
run 0 "${base[@]}" --out empty-again.png --image empty.png --prompt ""
same_pixels empty.png empty-again.png
run 0 "${asked_of_photo[@]}" --out empty-sampled.png --prompt "" --numerics diffusers
says "step 4 of 4"
run 0 "${asked_of_photo[@]}" --out empty-negative.png --prompt "" --negative-prompt "rain"
differ empty.png empty-negative.png
run 0 "${good[@]}" --out plain.png --text-scale 1 --image-scale 1
says "1 evaluation per step (both scales are 1: guidance is off)"
run 0 "${good[@]}" --out negative.png --negative-prompt "rain"
differ first.png negative.png
run 0 "${good[@]}" --out karras.png --schedule karras --sampler euler
says "4 steps of euler over karras noise levels"
run 0 "${good[@]}" --out gpu-noise.png --noise cuda
differ first.png gpu-noise.png
run 0 "${good[@]}" --out counted.png --noise counter
differ first.png counted.png
differ gpu-noise.png counted.png
refuses 2 "counter" "${good[@]}" --out out/a.png --noise white
run 0 "${good[@]}" --out diffusers.png --numerics diffusers
says "72x48 -> 64x40, 6 % lower"
says "over linear"
run 0 "${good[@]}" --out small.png --low-memory
run 0 "${good[@]}" --out small-again.png --low-memory
same_pixels small.png small-again.png
run 0 "${good[@]}" --out half.png --dtype bf16
run 0 "${asked_of_photo[@]}" --out long.png --prompt "$(printf 'the %.0s' $(seq 200))and LAST words"
says "warning: prompt: only the first 75 of"
says 'last words"'

echo "== how it computes"
run 0 "${good[@]}" --out exact.png --deep-cache 1
same_pixels first.png exact.png
run 0 "${good[@]}" --out cached.png --deep-cache 2
differ first.png cached.png
run 0 "${good[@]}" --out small-cached.png --low-memory --deep-cache 2
differ small.png small-cached.png
refuses 2 "expected a whole number from 1 to 1000, found '0'" "${good[@]}" --out out/a.png --deep-cache 0
# The smallest model whose convolutions are wide enough to have two forms.
run 0 "${good[@]}" --model "$source/models/small-editor" --out wide.png
run 0 "${good[@]}" --model "$source/models/small-editor" --out direct.png --direct-convolution
share=$(python3 "$source/tests/examples/picture_difference.py" wide.png direct.png 2)
awk -v share="${share:-100}" 'BEGIN { exit !(share < 0.1) }' ||
  fail "expected the pictures of both forms of convolution to differ by rounding, found $share % of the values"
run 0 "${good[@]}" --model "$source/models/small-editor" --out rounded.png --int8
cmp -s wide.png rounded.png && fail "expected weights in 8 bits to change the picture"
share=$(python3 "$source/tests/examples/picture_difference.py" wide.png rounded.png 16)
awk -v share="${share:-100}" 'BEGIN { exit !(share < 1) }' ||
  fail "expected weights in 8 bits to change the picture slightly, found $share % of the values far off"
refuses 1 "int8: expected a model that computes in fp32, found BFloat16" "${good[@]}" --out out/a.png --int8 --dtype bf16
# TF32 is a matter of GPUs.
run 0 "${good[@]}" --out tf32.png --tf32
same_pixels first.png tf32.png
refuses 1 "--graph: expected a CUDA device" "${good[@]}" --out out/a.png --graph

echo "== what the model recommends"
cp -r "$model" advised
sed -i 's/^{/{"_ip2p_settings": {"steps": 3, "resolution": 64, "image_scale": 1.2, "text_scale": 4, "sampler": "euler"},/' \
  advised/model_index.json
advised=(--model advised --image photo.png --prompt "make it snowy" --device cpu --dtype fp32)
run 0 "${advised[@]}" --out advised.png
says "3 steps of euler over log-linear noise levels; image scale 1.2, text scale 4, resolution 64 (recommended by the model); 3 evaluations per step"
says "72x48 -> 64x64"
run 0 "${advised[@]}" --out partly.png --steps 4 --image-scale 1.5
says "4 steps of euler over log-linear noise levels; image scale 1.5, text scale 4, resolution 64 (given: steps, image scale; recommended by the model: sampler, text scale, resolution)"
run 0 "${good[@]}" --out spelled.png --steps 3 --image-scale 1.2 --text-scale 4 --sampler euler
same_pixels advised.png spelled.png

echo "== what the model was trained for"
small=(--model "$source/models/small-editor" --image photo.png --steps 1 --device cpu --dtype fp32 --out small.png)
run 0 "${small[@]}" --prompt "Make it SNOWY!" --text-scale 1.2
grep -q warning stderr && fail "expected no warning within the limits"
run 0 "${small[@]}" --prompt "make it night" --text-scale 9 --image-scale 1.5
grep -q "^warning: --text-scale 9 is outside of [0-9.]* to [0-9.]*, and --image-scale 1.5 is outside of [0-9.]* to [0-9.]*, for which this model was trained" stderr ||
  fail "expected a warning with the ranges"
run 0 "${small[@]}" --prompt "add a dog"
grep -q "^warning: this small model knows only these edits, and the instruction names none of them: autumn, black and white, blue" stderr ||
  fail "expected a warning with what the model knows"
cp -r "$model" misled
sed -i 's/^{/{"_ip2p_settings": {"text_scale_range": [2, 1]},/' misled/model_index.json
refuses 1 "_ip2p_settings: text_scale_range: expected two numbers, the lower first, found [2,1]" "${good[@]}" --model misled --out out/a.png

echo "== latents there and back"
run 0 "${good[@]}" --out start.png --sampler euler --save-latents start.safetensors
run 0 "${good[@]}" --out given.png --sampler euler --latents start.safetensors --seed 7 --save-latents given.safetensors
same_pixels start.png given.png
# The draw that the given noise replaces is still made, so that the noise of the steps is that of the seed.
run 0 "${good[@]}" --out first-given.png --latents first.safetensors --save-latents first-given.safetensors
same_pixels first.png first-given.png
same first.safetensors first-given.safetensors
run 0 "${good[@]}" --out other-steps.png --latents first.safetensors --seed 7
differ first.png other-steps.png
refuses 1 "latents: expected [1, 4, 16, 24], found [1, 4, 8, 8]" "${good[@]}" --resolution 128 --out out/a.png \
  --latents start.safetensors
refuses 1 "expected a tensor 'latents', found" "${good[@]}" --out out/a.png \
  --latents "$model/vae/diffusion_pytorch_model.safetensors"
refuses 2 "would overwrite the input of --latents" "${good[@]}" --out out/a.png --latents start.safetensors \
  --save-latents start.safetensors

echo "== LoRAs and embeddings"
lora=$source/tests/nn/fixtures/lora-kohya.safetensors
embedding=$source/tests/text/fixtures/embedding-cat-toy.safetensors
run 0 "${good[@]}" --out lora.png --lora "$lora:0.5" --lora "$source/tests/nn/fixtures/lora-peft.safetensors"
says "lora-kohya.safetensors, scale 0.5, changes 26 layers of the UNet and 6 of the text encoder"
says "lora-peft.safetensors, scale 1, changes 15 layers of the UNet and 6 of the text encoder"
differ first.png lora.png
mkdir loras && cp "$lora" loras/ink.safetensors
run 0 "${asked_of_photo[@]}" --out tag.png --lora-folder loras --prompt "make it snowy <lora:ink:0.5>" \
  --lora "$source/tests/nn/fixtures/lora-peft.safetensors"
says "ink.safetensors, scale 0.5, changes 26 layers of the UNet and 6 of the text encoder"
refuses 1 "prompt: <lora:pen>: expected 'loras/pen.safetensors', found none" "${asked_of_photo[@]}" --out out/a.png \
  --lora-folder loras --prompt "make it snowy <lora:pen>"
refuses 1 "--lora: scale of '$lora': expected a finite number, found '0,8' (numbers are written with a point)" \
  "${good[@]}" --out out/a.png --lora "$lora:0,8"
run 0 "${asked_of_photo[@]}" --out weighted.png --prompt "make it (snowy:1.4)"
differ first.png weighted.png
says "prompt: 6 tokens"  # as without the marks
run 0 "${asked_of_photo[@]}" --out escaped.png --prompt 'make it \(snowy\)'
run 0 "${asked_of_photo[@]}" --out literal.png --prompt 'make it (snowy)' --plain-prompts
same_pixels escaped.png literal.png
run 0 "${good[@]}" --out lora-off.png --lora "$lora:0"
same_pixels first.png lora-off.png
run 0 "${good[@]}" --out small-lora.png --low-memory --lora "$lora" --embedding "$embedding"
differ small.png small-lora.png
run 0 "${asked_of_photo[@]}" --out word.png --embedding "$embedding" --prompt "make it <cat-toy>"
says 'embedding-cat-toy.safetensors, stands in prompts as "<cat-toy>", 3 vectors'
says "prompt: 5 tokens"
differ first.png word.png
run 0 "${good[@]}" --out unused.png --embedding "$embedding"
same_pixels first.png unused.png
refuses 1 "expected a new word, but" "${good[@]}" --out out/a.png --embedding "$embedding" \
  --embedding "$embedding"
refuses 1 "cannot open 'missing.safetensors'" "${good[@]}" --out out/a.png --lora missing.safetensors:2
# A copy whose layer mid_block.resnets.1 is called resnets.7: a name of the same length, so the header stays valid.
LC_ALL=C sed 's/mid_block_resnets_1/mid_block_resnets_7/g' "$lora" > odd-lora.safetensors
refuses 1 "lora_unet_mid_block_resnets_7_conv2 (3 tensors); nearest: 'unet.mid_block.resnets.0.conv2'" "${good[@]}" \
  --out out/a.png --lora odd-lora.safetensors
run 0 "${good[@]}" --out partial.png --lora odd-lora.safetensors --lora-partial
says "warning: odd-lora.safetensors: 3 tensors belong to no layer of the unet: 'lora_unet_mid_block_resnets_7_conv2.alpha'"
LC_ALL=C sed 's/lora_unet_mid_block_resnets_1/lora_uneT_mid_block_resnets_1/g' "$lora" > odd-lora.safetensors
refuses 1 "3 tensors have names that no LoRA for such a model has: 'lora_uneT_mid_block_resnets_1_conv2.alpha'" \
  "${good[@]}" --out out/a.png --lora odd-lora.safetensors
run 0 "${good[@]}" --out partial.png --lora odd-lora.safetensors --lora-partial
says "warning: odd-lora.safetensors: 3 tensors have names"
refuses 1 "this LoRA was made for another model" "${good[@]}" --out out/a.png --lora "$lora" --model four

echo "== another autoencoder"
run 0 "${good[@]}" --out own-vae.png --vae "$model/vae"
same_pixels first.png own-vae.png
refuses 1 "vae encoder: expected finite values, found NaN or infinity, first in vae." "${good[@]}" --out out/a.png \
  --vae nan-vae/vae
refuses 1 "nowhere" "${good[@]}" --out out/a.png --vae nowhere

echo "== Ctrl-C"
rm -rf out && mkdir out
interrupted 'grep -q "step 1 of" stderr' "$program" "${good[@]}" --steps 10000 --out out/a.png --save-latents out/a.safetensors
says "cancelled before step"
says "nothing was written"
[ -z "$(ls out)" ] || fail "expected no output after SIGINT, found $(ls out)"

echo "== a terminal"
if command -v script > /dev/null; then
  printf -v line '%q ' "$program" "${good[@]}" --out tty.png
  script -qec "$line" /dev/null > stdout 2> stderr < /dev/null || fail "expected status 0 on a terminal"
  says "4/4"
  says "it"
  says "left"
  grep -q $'\r\[' stdout || fail "expected a bar that redraws itself"
else
  echo "skipped: the program script is not here"
fi

report
