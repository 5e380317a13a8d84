#!/usr/bin/env bash
# The program train_editor from outside: a small run, its resumption, its refusals, and its model in edit_image.
#
#   bash tests/examples/train_editor_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
export OMP_NUM_THREADS=1
tiny=$source/tests/pipeline/fixtures/tiny-ip2p

exists() { [ -s "$1" ] || fail "expected the file $1"; }

# A text-to-image model: the editor's folder with a UNet of four input channels.
cp -r "$tiny" sd && rm -r sd/unet && cp -r "$source/tests/pipeline/fixtures/tiny-sd/unet" sd/unet

red_to_blue 20 5
cat > small.toml <<'TOML'
data = "set"
crop = 32
resize-smallest = 32
resize-largest = 36
batch = 4
micro-batch = 2
steps = 6
checkpoint-every = 3
log-every = 2
sample-every = 3
samples = 2
sample-steps = 2
TOML

echo "== usage and errors"
run 0 train_editor --help
for option in --config --model --pairs --out --dry-run --cache --batch --micro-batch --optimiser --loss-weight \
  --gradient-checkpointing --shard-state --lora-rank --sample-every; do says "$option"; done
run 2 train_editor --config small.toml --out out
says "--model is required"
run 2 train_editor --config small.toml --model sd --out out --optimiser sgd
run 1 train_editor --config small.toml --model sd --out out --data nowhere
says "'nowhere' is not a folder"
run 1 train_editor --config small.toml --model nowhere --out out
says "nowhere"
run 1 train_editor --config small.toml --model sd --out out --crop 40
says "crop 40"
[ ! -e out ] || fail "expected no folder out"

echo "== a dry run"
run 0 train_editor --config small.toml --model sd --out out --dry-run
says "18 prompts"
says "updates: 6 of 4 samples: 1 process x 2 passes x 2"
says "memory of each process"
says "pictures: random squares of 32x32 pixels, of pictures whose shorter side is made 32 to 36; 50 % mirrored"
[ ! -e out ] || fail "expected a dry run to write nothing"
run 0 train_editor --config "$source/examples/09_train_editor/paper.toml" --model sd --data set --out out --dry-run
says "updates: 10000 of 1024 samples: 1 process x 32 passes x 32"

echo "== a run, whole and in two parts"
run 0 train_editor --config small.toml --model sd --out whole
says "step 6 of 6: loss"
says "images/s"
for file in checkpoints/loss.csv loss.png samples/step_000003.png samples/step_000006.png model/unet/config.json \
  model/model_index.json config.toml; do exists "whole/$file"; done
run 0 train_editor --config small.toml --model sd --out parts --steps 3
# As processes leave them that are killed while they write these files.
left="parts/.config.toml.0123456789abcdef.tmp parts/samples/.step_000003.png.0123456789abcdef.tmp"
touch $left
run 0 train_editor --config small.toml --model sd --out parts
says "resumed at step 3"
for file in $left; do [ ! -e "$file" ] || fail "expected no temporary file, found $file"; done
cmp -s whole/model/unet/diffusion_pytorch_model.safetensors parts/model/unet/diffusion_pytorch_model.safetensors ||
  fail "expected the resumed run's weights to be those of the unbroken one"
read -r width height <<< "$(size_of whole/samples/step_000006.png)"
# Three squares under a title and heads, beside the instruction.
[ "$width" -gt $((3 * 32 + 2 * 8 + 60)) ] && [ "$height" -gt $((32 + 40)) ] ||
  fail "expected labels on the samples, found $width x $height"
echo "== settings of a run that is continued"
stamps parts > before
run 0 train_editor --config small.toml --model sd --out parts
says "complete already, at step 6: parts/model"
# The same in other words and from other places, and what no result depends on.
cp -r set moved && cp -r sd sd-moved
run 0 train_editor --config small.toml --model ./sd-moved --data moved --out parts --rate 1e-4 --workers 0 --threads 1 \
  --sample-every 1 --micro-batch 4
says "complete already"
run 1 train_editor --config small.toml --model sd --out parts --rate 5e-5 --batch 8 --steps 8
says "parts: belongs to a run with other settings: --batch: had 4, given 8; --rate: had 0.0001, given 5e-5"
says "--change"
python3 -c 'import json; json.dump(json.load(open("set/seeds.json"))[:-1], open("moved/seeds.json", "w"))'
run 1 train_editor --config small.toml --model "$tiny" --data moved --out parts --steps 8
says "--pairs: had 'set', given 'moved', which holds something else"
stamps parts | cmp -s - before || fail "expected nothing to be written: $(stamps parts | diff - before)"
run 0 train_editor --config small.toml --model sd --out parts --rate 5e-5 --steps 8 --change
says "resumed at step 6"
grep -qx "# after 6 steps: --rate 0.0001 -> 5e-5" parts/config.toml || fail "expected the change in config.toml"
grep -q "^rate = 5e-05\|^rate = 5e-5" parts/config.toml || fail "expected the rate that was run in config.toml"
grep -q "^change" parts/config.toml && fail "expected a configuration that allows no change"
stamps parts > before
run 0 train_editor --config parts/config.toml --out parts
says "complete already, at step 8"
run 1 train_editor --config small.toml --model sd --out parts --steps 9
says "--rate: had 5e-5, given 0.0001"
stamps parts | cmp -s - before || fail "expected nothing to be written"
cp -r set broken && for picture in broken/*/*.jpg; do echo > "$picture"; done
run 1 train_editor --config small.toml --model sd --data broken --out never/ever
[ ! -e never ] || fail "expected no folder of a run that failed: $(find never)"
printf '\377\330\377\340\0' > photo.toml
run 2 train_editor --config photo.toml --out never
says "photo.toml:1: expected text in UTF-8"
clean_text stderr

echo "== its configuration"
run 0 train_editor --config whole/config.toml --out again
cmp -s whole/model/unet/diffusion_pytorch_model.safetensors again/model/unet/diffusion_pytorch_model.safetensors ||
  fail "expected the written configuration to give the same weights"

echo "== its model edits"
run 0 edit_image --model whole/model --image red.jpg --prompt "make it blue" --out edited.png --steps 2 --resolution 64
exists edited.png

echo "== a signal"
"$programs/train_editor" --config small.toml --model sd --out stopped --steps 100000 --sample-every 0 > stdout 2> stderr &
pid=$!
for _ in $(seq 300); do grep -q "step 4 of" stdout && break; sleep 0.1; done
kill -TERM $pid
wait $pid
found=$?
[ $found -eq 130 ] || fail "expected status 130 after SIGTERM, found $found"
says "run the same command again to continue"
exists stopped/model/unet/config.json
run 0 train_editor --config small.toml --model sd --out stopped --steps 1 --sample-every 0
says "complete already, at step"

echo "== the other choices"
run 0 train_editor --config small.toml --model "$tiny" --out choices --optimiser adafactor --loss-weight min-snr \
  --schedule linear --warmup 2 --gradient-checkpointing --dtype bf16 --cache cache --prediction v_prediction
exists choices/model/unet/config.json
[ "$(find cache -name '*.safetensors' | wc -l)" -ge 2 ] || fail "expected latents and texts in the cache"
run 0 train_editor --config small.toml --model "$tiny" --out lora --lora-rank 2
says "of a LoRA"
exists lora/lora.safetensors
run 0 edit_image --model "$tiny" --lora lora/lora.safetensors --image red.jpg --prompt "make it blue" --out lora.png \
  --steps 2 --resolution 64
says "LoRA: lora/lora.safetensors"

report
