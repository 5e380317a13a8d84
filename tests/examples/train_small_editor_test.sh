#!/usr/bin/env bash
# The program train_small_editor from outside: a few updates of each training, their resumption and their refusals.
#
#   bash tests/examples/train_small_editor_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
the_program train_small_editor
last_counts=(--photographs --threads --tokenizer)
export OMP_NUM_THREADS=1

mkdir photographs
cp "$source"/docs/images/quickstart*.jpg "$source/models/small-editor/examples.jpg" photographs
common=(--photographs photographs --out work --resolution 64 --threads 1)
codec=(autoencoder "${common[@]}" --batch 1 --side 64 --channels 28 28 56 112 --latent-channels 4)

echo "== the autoencoder"
run 1 autoencoder --photographs nowhere --work never/work
run 1 autoencoder --photographs photographs --out never/work --channels 28 28 56 112 --latent-channels 48
says "train_small_editor: --latent-channels: expected a divisor of 112, the last of --channels, found 48"
[ ! -e never ] || fail "expected no folder of a run that failed"
run 0 "${codec[@]}" --steps 2
[ -s work/model/vae/config.json ] || fail "expected an autoencoder"
stamps work > before
cp -r photographs moved
run 0 "${codec[@]}" --steps 2 --photographs moved --threads 2
says "complete already, at step 2: work/model/vae"
run 1 "${codec[@]}" --steps 3 --rate 1e-3
says "work/vae: belongs to a run with other settings: --rate: had 0.0004, given 1e-3; --steps: had 2, given 3; pass --change"
stamps work | cmp -s - before || fail "expected nothing to be written"
run 0 "${codec[@]}" --steps 3 --rate 1e-3 --change
says "resumed at step 2"
run 0 "${codec[@]}" --steps 3 --rate 1e-3
says "complete already, at step 3"

echo "== the editor"
unet=(editor "${common[@]}" --tokenizer "$source/models/clip-tokenizer" --batch 1 --crops 4 --channels 48 48 --coarse-steps 1)
run 0 "${unet[@]}" --steps 2
says "complete at step 2: wrote work/model"
run 0 "${unet[@]}" --steps 2 --tokenizer "$source/models/../models/clip-tokenizer"
says "complete already, at step 2: work/model"
run 1 "${unet[@]}" --steps 2 --unedited 5
says "work/editor: belongs to a run with other settings: --unedited: had 3, given 5"
mkdir -p warm/model
cp -r work/model/vae warm/model
warm=("${unet[@]/#work/warm}")
run 0 "${warm[@]}" --steps 1 --start work/model
says "complete at step 1: wrote warm/model"
run 1 "${warm[@]}" --steps 1
says "warm/editor: belongs to a run with other settings: --start: had 'work/model', given nothing"
run 1 "${warm[@]}" --steps 2 --start work/model/vae --change
for entry in image_scale_range text_scale_range knows winter; do
  grep -q "\"$entry\"" work/model/model_index.json || fail "expected $entry in the model's folder"
done
cmp -s <(python3 -c "import json; print(json.load(open('work/model/model_index.json'))['_ip2p_settings']['knows'])") \
  <(python3 -c "import json; print(dict(sorted(json.load(open('$source/models/small-editor/model_index.json'))['_ip2p_settings']['knows'].items())))") ||
  fail "expected the shipped model to know what the program teaches"

echo "== the decoder"
fit=(decoder --photographs photographs --resolution 64 --threads 1 --batch 2 --side 32 --crops 2)
run 1 "${fit[@]}" --model work/model/vae --out fitted --steps 1
[ ! -e fitted ] || fail "expected no folder of a run that failed"
run 1 "${fit[@]}" --model work/model --out work --steps 1
says "train_small_editor: --out: expected a folder other than that of --model, found 'work'"
run 0 "${fit[@]}" --model work/model --out fitted --steps 2
says "complete at step 2: wrote fitted/model"
for part in unet text_encoder scheduler tokenizer model_index.json vae/config.json; do
  diff -r "work/model/$part" "fitted/model/$part" >/dev/null || fail "expected $part as it was"
done
weights=vae/diffusion_pytorch_model.safetensors
! cmp -s "work/model/$weights" "fitted/model/$weights" || fail "expected another decoder"
python3 - "work/model/$weights" "fitted/model/$weights" <<'EOF_PY' || fail "expected the encoder as it was"
import json, struct, sys
def tensors(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + size])
    head.pop("__metadata__", None)
    return {name: data[8 + size :][slice(*entry["data_offsets"])] for name, entry in head.items()}
before, after = map(tensors, sys.argv[1:])
changed = {name for name in before if before[name] != after[name]}
sys.exit(not changed or not all(name.startswith("decoder.") for name in changed))
EOF_PY
run 0 "${fit[@]}" --model work/model --out fitted --steps 2
says "complete already, at step 2: fitted/model"
run 1 "${fit[@]}" --model work/model --out fitted --steps 3
says "fitted/decoder: belongs to a run with other settings: --steps: had 2, given 3; pass --change"
run 0 "${fit[@]}" --model work/model --out fitted --steps 3 --change
says "resumed at step 2"

report
