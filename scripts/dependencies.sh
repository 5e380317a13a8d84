#!/usr/bin/env bash
# Installs what a build needs: Debian packages, and LibTorch from PyPI if the machine has none.
# Log lines go to stderr; the last line on stdout is the folder that holds LibTorch (its CMake prefix).
# Takes a moment when everything is already installed.
#
#   CMAKE_PREFIX_PATH, Torch_DIR   use this LibTorch instead of downloading one
#   XDG_CACHE_HOME                 where a downloaded LibTorch is kept (default ~/.cache)
#   IP2P_SKIP_APT=1                never call apt-get (the packages come from elsewhere)
#   IP2P_CUDA_RUNTIME=1            also fetch the CUDA libraries that libtorch_cuda needs (2 GB, for a GPU machine)
#   IP2P_LINT_TOOLS=1              also install what scripts/lint.sh and scripts/docs.sh need
set -euo pipefail

torch_version=2.11.0
packages=(g++ cmake ninja-build ccache pkg-config python3 python3-pip
  libfmt-dev nlohmann-json3-dev libeigen3-dev libstb-dev libpng-dev libjpeg-dev libwebp-dev liblcms2-dev
  libcurl4-openssl-dev libgloo-dev libcli11-dev libtomlplusplus-dev libcpp-httplib-dev
  gnuplot-nox catch2 libbenchmark-dev)
[ "${IP2P_LINT_TOOLS:-0}" = 0 ] || packages+=(clang-format-14 clang-tidy-14 doxygen)

# The wheels that are unpacked, each with the SHA-256 sums that are accepted (x86_64, aarch64): what a package index gives
# under these names has to be what the project was tested with. The last two are what libtorch_cpu.so needs at run time on
# a machine without CUDA.
libtorch_wheel=(torch==$torch_version
  --hash=sha256:7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a
  --hash=sha256:d91aac77f24082809d2c5a93f52a5f085032740a1ebc9252a7b052ef5a4fddc6)
cuda_runtime_wheel=(nvidia-cuda-runtime==13.0.96
  --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
  --hash=sha256:ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55)
cupti_wheel=(nvidia-cuda-cupti==13.0.85
  --hash=sha256:4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8
  --hash=sha256:796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151)

log() { printf '%s\n' "$*" >&2; }
die() { log "dependencies: $*"; exit 1; }

install_packages() {
  local missing=() package
  command -v dpkg-query >/dev/null || { log "no dpkg here: assuming that the build tools are installed"; return; }
  for package in "${packages[@]}"; do
    case "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" in
      installed) ;;
      *) missing+=("$package") ;;
    esac
  done
  # Tools installed by other means need no package.
  local wanted=()
  for package in "${missing[@]}"; do
    case "$package" in
      python3-pip) python3 -m pip --version >/dev/null 2>&1 || wanted+=("$package") ;;
      ninja-build) command -v ninja >/dev/null || wanted+=("$package") ;;
      python3|cmake|ccache|pkg-config|g++|clang-format-14|clang-tidy-14|doxygen) command -v "$package" >/dev/null || wanted+=("$package") ;;
      *) wanted+=("$package") ;;
    esac
  done
  [ ${#wanted[@]} -eq 0 ] && return
  [ "${IP2P_SKIP_APT:-0}" = 1 ] && { log "IP2P_SKIP_APT=1: not installing ${wanted[*]}"; return; }
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "packages ${wanted[*]} are missing; run as root or install sudo"
    as_root=(sudo)
  fi
  log "installing Debian packages: ${wanted[*]}"
  "${as_root[@]}" apt-get update -q >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${wanted[@]}" >&2
}

# Prints the prefix of a LibTorch that the environment names, or nothing.
named_libtorch() {
  local prefix
  if [ -n "${Torch_DIR:-}" ]; then
    [ -f "$Torch_DIR/TorchConfig.cmake" ] || die "Torch_DIR=$Torch_DIR: no TorchConfig.cmake in this folder"
    (cd "$Torch_DIR/../../.." && pwd)
    return
  fi
  local IFS=:
  for prefix in ${CMAKE_PREFIX_PATH:-}; do
    if [ -f "$prefix/share/cmake/Torch/TorchConfig.cmake" ]; then printf '%s\n' "$prefix"; return; fi
  done
}

# Downloads wheels into folder $1; the rest are options and requirements.
download() {
  local into=$1 machine glibc tags=()
  shift
  machine=$(uname -m)
  for glibc in $(seq 28 -1 17); do tags+=(--platform "manylinux_2_${glibc}_$machine"); done
  tags+=(--platform "manylinux2014_$machine")
  # The interpreter version only selects a wheel; Python itself is not used.
  python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --only-binary=:all: \
    --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none "${tags[@]}" --dest "$into" "$@" >&2
}

# Downloads one wheel into folder $1, in scratch. The rest are its requirement and sums; pip deletes a wheel with another
# sum and fails. Sums can only be given in a file of requirements.
download_checked() {
  local into=$1
  shift
  printf '%s\n' "$*" >"$scratch/requirements.txt"
  download "$into" --no-deps --require-hashes --requirement "$scratch/requirements.txt"
}

# Unpacks what a C++ build needs of the wheels in folder $1 into folder $2 (torch without its Python files).
unpack() {
  python3 - "$1" "$2" <<'PYTHON'
import pathlib, sys, zipfile
wheels, into = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            parts = member.filename.split("/")
            wanted = parts[0].endswith(".dist-info") or parts[0] == "nvidia" or (
                parts[0] == "torch" and parts[1] in ("include", "lib", "share") and parts[-1] != "libtorch_python.so")
            if wanted:
                archive.extract(member, into)
PYTHON
}

fetch_libtorch() {
  local home=$1
  [ -d "$home" ] && return
  mkdir -p "$(dirname "$home")"
  # One download at a time: a second caller waits, then finds the folder.
  exec 9>"$(dirname "$home")/.lock"
  flock 9
  [ -d "$home" ] && return
  scratch=$(mktemp -d "$home.partial-XXXXXX")
  log "fetching LibTorch $torch_version (530 MB) into $home"
  mkdir "$scratch/wheels" "$scratch/tree"
  download_checked "$scratch/wheels" "${libtorch_wheel[@]}"
  unpack "$scratch/wheels" "$scratch/tree"
  rm -rf "$scratch/wheels"
  if grep -q 'libcudart\.so\.13' "$scratch/tree/torch/lib/libtorch_cpu.so"; then
    mkdir "$scratch/wheels"
    download_checked "$scratch/wheels" "${cuda_runtime_wheel[@]}"
    download_checked "$scratch/wheels" "${cupti_wheel[@]}"
    unpack "$scratch/wheels" "$scratch/tree"
  fi
  [ -f "$scratch/tree/torch/share/cmake/Torch/TorchConfig.cmake" ] || die "torch==$torch_version has no TorchConfig.cmake"
  # Renamed last, so an incomplete folder is never mistaken for a complete one.
  chmod 755 "$scratch/tree"
  mv -T "$scratch/tree" "$home"
  rm -rf "$scratch"
}

# The CUDA libraries that torch lists as requirements, for a machine with a GPU.
fetch_cuda_runtime() {
  local home=$1
  [ -f "$home/.cuda-runtime" ] && return
  scratch=$(mktemp -d "$home.partial-XXXXXX")
  log "fetching the CUDA libraries that torch $torch_version requires"
  mapfile -t requirements < <(
    sed -nE 's/^Requires-Dist: ((cuda-toolkit|nvidia-)[^;]*);.*/\1/p' "$home"/torch-*.dist-info/METADATA)
  [ ${#requirements[@]} -gt 0 ] || die "torch $torch_version names no CUDA libraries among its requirements"
  download "$scratch" "${requirements[@]}"
  unpack "$scratch" "$home"
  touch "$home/.cuda-runtime"
  rm -rf "$scratch"
}

scratch=
trap 'rm -rf "$scratch"' EXIT
install_packages
prefix=$(named_libtorch)
if [ -z "$prefix" ]; then
  home=${XDG_CACHE_HOME:-$HOME/.cache}/ip2p/libtorch-$torch_version
  fetch_libtorch "$home"
  [ "${IP2P_CUDA_RUNTIME:-0}" = 1 ] && fetch_cuda_runtime "$home"
  prefix=$home/torch
fi
printf '%s\n' "$prefix"
