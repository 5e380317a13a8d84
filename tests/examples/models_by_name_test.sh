#!/usr/bin/env bash
# Models by name, as a user gives them: from a cache, and from a server that plays the Hub (tests/io/fake_hub.py).
#
#   bash tests/examples/models_by_name_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
the_program edit_image
export OMP_NUM_THREADS=1
for variable in $(compgen -e | grep -E '^(HF_|HUGGING|TRANSFORMERS_)'); do unset "$variable"; done
tiny=$source/tests/pipeline/fixtures/tiny-ip2p
export HF_HOME=$scratch/home no_proxy=127.0.0.1

red_disc photo.png
mkdir -p hub/someone out
cp -r "$tiny" hub/someone/an-editor
echo "not needed" > hub/someone/an-editor/unet/diffusion_pytorch_model.bin
mkfifo until_closed
python3 "$source/tests/io/fake_hub.py" hub < until_closed > ports &
exec 9> until_closed
while [ ! -s ports ]; do sleep 0.05; done
read -r port _ < ports
hub() { export HF_ENDPOINT=http://127.0.0.1:$port/$1/$RANDOM; }

edit=(--image photo.png --prompt "make it snowy" --steps 2 --resolution 64 --device cpu --dtype fp32)
run 0 "${edit[@]}" --model "$tiny" --out expected.png

echo "== what is absent"
hub fine
refuses 1 "cannot open the model 'someone/an-editor': there is no such file or folder, and the cache '$HF_HOME/hub' holds no model of this name; --download fetches a model of the Hugging Face Hub" \
  "${edit[@]}" --model someone/an-editor --out out/a.png
refuses 1 "cannot fetch the model 'someone/else': 127.0.0.1:$port has no model of this name, or a private one" \
  "${edit[@]}" --model someone/else --download --out out/a.png
HF_HUB_OFFLINE=1 refuses 1 "HF_HUB_OFFLINE forbids the network" \
  "${edit[@]}" --model someone/an-editor --download --out out/a.png
HF_ENDPOINT=http://127.0.0.1:1 refuses 1 "no answer from 127.0.0.1:1" \
  "${edit[@]}" --model someone/an-editor --download --out out/a.png

echo "== fetched, and found from then on"
hub cut
run 0 "${edit[@]}" --model someone/an-editor --download --out fetched.png
says "fetching someone/an-editor: "
says "1.2 MB of 1.2 MB"
# No rate and no time left before anything has come.
grep "fetching" stderr | head -n 1 | grep -q "left" && fail "expected no time left of a download that has just begun"
[ "$(grep "fetching" stderr | tail -n 1 | grep -c "0:00 left")" = 1 ] || fail "expected the rate at the end"
same_pixels fetched.png expected.png
hub down
run 0 "${edit[@]}" --model someone/an-editor --out found.png
same_pixels found.png expected.png
run 0 "${edit[@]}" --model someone/an-editor --download --out again.png
same_pixels again.png expected.png
for name in someone/an-editor@main "$HF_HOME/hub/models--someone--an-editor" "$HF_HOME"/hub/models--*/snapshots/*; do
  run 0 "${edit[@]}" --model "$name" --out named.png
  same_pixels named.png expected.png
done
run 0 "${edit[@]}" --model "$tiny" --vae someone/an-editor/vae --tokenizer someone/an-editor --out parts.png
same_pixels parts.png expected.png

echo "== only what is needed"
rm -r "$HF_HOME"
hub fine
run 0 "${edit[@]}" --model someone/an-editor --vae "$tiny/vae" --tokenizer "$tiny" --download --out less.png
same_pixels less.png expected.png
for part in vae tokenizer; do
  [ ! -e "$(echo "$HF_HOME"/hub/models--*/snapshots/*)/$part" ] || fail "expected no $part to be fetched"
done

exec 9>&-
wait
report
