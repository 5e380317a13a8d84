#!/usr/bin/env bash
# Packs all that scripts/device_check.sh needs on a GPU machine without packages and network into one folder:
#
#   scripts/device_pack.sh OUT
#
# The program device_check, built here for CUDA (in build/cuda; no GPU is needed for that), the image libraries that it
# links, if any, the Python wheels of its peer, and the scripts. The machine brings LibTorch in its Python, of the version
# noted in torch-version, and this repository the models. OUT must be absent or made by this script.
#
#   IP2P_CUDA_ARCH    architectures to compile for (default 9.0a: H100, H200)
#   IP2P_PACK_JOBS    compilers at once (default: as many as cores and memory allow)
#   IP2P_PACK_PEER=0  leaves the wheels out, for a machine that has diffusers or where no peer is wanted
#   IP2P_PACK_LIMIT   most bytes that the folder may take together with this repository's files, for machines to which
#                     not more can be copied (default 67108864)
set -euo pipefail
cd "$(dirname "$0")/.."

# What diffusers asks for when it is imported, beyond what PyTorch and transformers bring. Without code for one Python only.
peer=(diffusers==0.42.1 importlib_metadata==8.7.0 requests==2.34.2 urllib3==2.8.0 idna==3.20 certifi==2026.10.19.post1)

log() { printf '%s\n' "$*" >&2; }
die() { log "device_pack: $*"; exit 1; }

[ $# -eq 1 ] || die "expected one folder for the result, found $# arguments"
out=$1
if [ -e "$out" ]; then
  [ -f "$out/.device-pack" ] || die "$out exists and was not made by this script"
  rm -rf "$out"
fi

libtorch=$(scripts/dependencies.sh)
generator=()
if [ ! -f build/cuda/CMakeCache.txt ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
jobs=${IP2P_PACK_JOBS:-}
if [ -z "$jobs" ]; then
  jobs=$(nproc)
  by_memory=$(awk '/^MemAvailable:/ { print int($2 / 4000000) }' /proc/meminfo)
  [ "$by_memory" -ge "$jobs" ] || jobs=$((by_memory > 1 ? by_memory : 1))
fi
{
  cmake -S . -B build/cuda "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DTorch_ROOT="$libtorch" -DIP2P_CUDA=ON \
    -DTORCH_CUDA_ARCH_LIST="${IP2P_CUDA_ARCH:-9.0a}" -DCMAKE_EXE_LINKER_FLAGS=-Wl,--as-needed \
    -DIP2P_BUILD_EXAMPLES=OFF -DIP2P_BUILD_BENCH=OFF
  cmake --build build/cuda --parallel "$jobs" --target device_check
} >&2

program=build/cuda/tests/device_check
mkdir -p "$out/lib" "$out/wheels"
touch "$out/.device-pack"
strip -o "$out/device_check" "$program"
chmod +x "$out/device_check"

# Image libraries, if it links any, under the names that it asks for: distributions differ in their versions.
while read -r name path; do
  cp -L "$path" "$out/lib/$name"
done < <(ldd "$program" | awk '$1 ~ /^lib(png|jpeg|webp|sharpyuv|lcms2)/ && $3 ~ /^\// { print $1, $3 }')

if [ "${IP2P_PACK_PEER:-1}" != 0 ]; then
  for requirement in "${peer[@]}"; do
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
      --dest "$out/wheels" "$requirement" >&2
  done
fi
cp scripts/device_check.sh tests/device/diffusers_peer.py tests/device/device_table.py "$out/"
sed -n 's/^set(PACKAGE_VERSION "\(.*\)")/\1/p' "$libtorch/share/cmake/Torch/TorchConfigVersion.cmake" >"$out/torch-version"
[ -s "$out/torch-version" ] || die "$libtorch/share/cmake/Torch/TorchConfigVersion.cmake names no version"

bytes=$(du -sb "$out" | cut -f1)
limit=${IP2P_PACK_LIMIT:-67108864}
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
  tracked=$(git ls-files -z --cached --others --exclude-standard | xargs -0 stat -c %s 2>/dev/null | awk '{ sum += $1 } END { print sum }')
  limit=$((limit - tracked))
fi
[ "$bytes" -lt "$limit" ] || die "$out takes $bytes bytes; beside this repository's files there is room for $limit:" \
  "IP2P_PACK_PEER=0 leaves the wheels out"
log "device_pack: $out takes $bytes bytes"
