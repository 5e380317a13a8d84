#!/usr/bin/env bash
# From a fresh Debian or Ubuntu machine to an edited photograph. The last printed line is the path of the picture.
#
#   scripts/quickstart.sh                          the shipped photograph, made snowy
#   scripts/quickstart.sh photo.jpg "make it ..."  your own photograph and instruction
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/.."

photo=docs/images/quickstart.jpg
prompt="make it snowy"
if [ $# -ge 1 ]; then photo=$(cd "$start" && realpath -- "$1"); fi
if [ $# -ge 2 ]; then prompt=$2; fi
[ -f "$photo" ] || { echo "quickstart: $photo: expected a photograph, found no file" >&2; exit 1; }

scripts/build.sh edit_image
mkdir -p out
build/release/examples/edit_image --model models/small-editor --image "$photo" --prompt "$prompt" \
  --full-size --out out/quickstart.png --compare out/quickstart_compare.png >&2
cat >&2 <<NEXT

Try next, in $PWD:
  scripts/quickstart.sh YOUR-PHOTO.jpg "make it autumn"
  scripts/build.sh studio && build/release/examples/studio --model models/small-editor
  build/release/examples/edit_image --model timbrooks/instruct-pix2pix --download --image docs/images/quickstart.jpg \\
    --prompt "put a castle on the hill" --full-size --out out/castle.png
NEXT
printf '%s\n' "$PWD/out/quickstart.png"
