#!/usr/bin/env bash
# One case of the package tests, named by the argument; tests/package/CMakeLists.txt sets the environment.
set -euo pipefail

case_name=$1
prefix=$IP2P_WORK/prefix
here=$IP2P_WORK/$case_name
torch_lib=$IP2P_TORCH_DIR/../../../lib

fail() { printf '%s: %s\n' "$case_name" "$*" >&2; exit 1; }

# Configures a copy of consumer/ in $here/<$1>; the rest are options.
configure() {
  local name=$1
  shift
  rm -rf "${here:?}/$name"
  mkdir -p "$here/$name"
  cp -r "$IP2P_SOURCE/tests/package/consumer" "$here/$name/source"
  "$CMAKE" -S "$here/$name/source" -B "$here/$name/build" -G "$IP2P_GENERATOR" -DCMAKE_BUILD_TYPE=None \
    -DCMAKE_CXX_COMPILER_LAUNCHER="$IP2P_LAUNCHER" -DTorch_DIR="$IP2P_TORCH_DIR" -DTORCH_CUDA_ARCH_LIST=9.0 \
    --no-warn-unused-cli "$@"
}

# Builds what configure() made and runs the program that needs every library that ip2p links to.
build_and_run() {
  "$CMAKE" --build "$here/$1/build"
  (cd "$here/$1/build" && ./hello)
}

# Puts empty libraries in place of the CUDA libraries that libtorch_cuda needs and this machine lacks: they are called
# only on a GPU, but the loader requires them.
stand_in_for_missing_libraries() {
  local library
  mkdir -p "$here/stand-ins"
  for library in $(ldd "$torch_lib/libtorch_cuda.so" | awk '/not found/ { print $1 }' | sort -u); do
    echo "standing in for $library"
    "$CXX" -shared -x c++ /dev/null -Wl,-soname,"$library" -o "$here/stand-ins/$library"
  done
  export LD_LIBRARY_PATH=$here/stand-ins${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# Each nvcc that a configuration could find.
compilers_of_cuda() {
  local folder
  while read -r folder; do
    if [ -f "$folder/nvcc" ] && [ -x "$folder/nvcc" ]; then printf '%s\n' "$folder/nvcc"; fi
  done < <(printf '%s:%s' "$PATH" "${CUDA_HOME:+$CUDA_HOME/bin:}/usr/local/cuda/bin" | tr : '\n')
}

case $case_name in
  install)
    rm -rf "$prefix"
    "$CMAKE" --install "$IP2P_BUILD" --prefix "$prefix"
    # What compile-time messages point to.
    found=$(find "$prefix" -path '*/docs/reference/concepts.md')
    [ -n "$found" ] || fail "expected docs/reference/concepts.md among the installed files, found none"
    ;;

  installed)
    configure consumer -DCMAKE_PREFIX_PATH="$prefix" -DCONSUMER_OWN_PARTS=ON
    build_and_run consumer
    "$here/consumer/build/custom_policy"
    "$here/consumer/build/own_parts"
    ;;

  compiled)
    # Requested but not installed: the message says what to do.
    if configure consumer -DCMAKE_PREFIX_PATH="$prefix" -DCONSUMER_COMPILED=ON >"$here.log" 2>&1; then
      fail "expected a request for a component that is not installed to fail"
    fi
    tr -s ' \n' ' ' <"$here.log" | grep -q 'component compiled was not installed' || fail "found $(cat "$here.log")"
    rm -rf "$here/prefix"
    "$CMAKE" --install "$IP2P_BUILD" --prefix "$here/prefix"
    "$CMAKE" --install "$IP2P_BUILD" --prefix "$here/prefix" --component compiled
    configure consumer -DCMAKE_PREFIX_PATH="$here/prefix" -DCONSUMER_COMPILED=ON
    "$CMAKE" --build "$here/consumer/build" --target compiled
    "$here/consumer/build/compiled" "$IP2P_SOURCE/models/small-editor"
    ;;

  kernels)
    # Asked for where it cannot be: a sentence that says what to do.
    if configure consumer -DCMAKE_PREFIX_PATH="$prefix" -DCONSUMER_KERNELS=ON -DIP2P_CUDA=OFF >"$here.log" 2>&1; then
      fail "expected a request for kernels without CUDA to fail"
    fi
    tr -s ' \n' ' ' <"$here.log" | grep -q 'component kernels needs LibTorch with CUDA' || fail "found $(cat "$here.log")"
    if [ -z "$(compilers_of_cuda)" ] || [ ! -e "$torch_lib/libtorch_cuda.so" ]; then
      echo "skipped: package/kernels: no nvcc, or a LibTorch without CUDA"
      exit 0
    fi
    # Unoptimised: what the kernels take is another test's business.
    configure consumer -DCMAKE_PREFIX_PATH="$prefix" -DCONSUMER_KERNELS=ON -DIP2P_CUDA=ON \
      -DCMAKE_CUDA_FLAGS="-Xcicc -O0 -Xptxas -O0" -DCMAKE_EXE_LINKER_FLAGS=-Wl,--as-needed
    "$CMAKE" --build "$here/consumer/build" --target kernels
    stand_in_for_missing_libraries
    "$here/consumer/build/kernels"
    ;;

  moved)
    rm -rf "$here"
    mkdir -p "$here"
    cp -r "$prefix" "$here/elsewhere"
    # This case must not use the place it was installed to.
    configure consumer -DCMAKE_PREFIX_PATH="$here/elsewhere"
    if grep -rn "$prefix" "$here/consumer/build/build.ninja" "$here/consumer/build/CMakeCache.txt"; then
      fail "expected no trace of the first prefix, found the lines above"
    fi
    build_and_run consumer
    ;;

  build_tree)
    configure consumer -Dip2p_DIR="$IP2P_BUILD"
    build_and_run consumer
    ;;

  added_as_subfolder)
    configure consumer -DCONSUMER_ADDS="$IP2P_SOURCE"
    build_and_run consumer
    ;;

  too_new)
    for version in 0.2 1.0; do
      if configure consumer -DCMAKE_PREFIX_PATH="$prefix" -DCONSUMER_VERSION=$version >"$here.log" 2>&1; then
        fail "expected a request for version $version to fail"
      fi
      tr -s ' \n' ' ' <"$here.log" | grep -q "compatible with requested version \"$version\"" || fail "expected a version message, found $(cat "$here.log")"
    done
    ;;

  no_build_paths)
    mkdir -p "$here"
    for path in "$IP2P_SOURCE" "$IP2P_BUILD" "$prefix" "${IP2P_TORCH_DIR%/share/cmake/Torch}" "$HOME/"; do
      if grep -rnF "$path" "$prefix"; then fail "expected no $path in installed files, found the lines above"; fi
    done
    if grep -rnE '(/usr/lib|/usr/include|/usr/local)' "$prefix/share/cmake"; then
      fail "expected no system path in the package files, found the lines above"
    fi
    ;;

  torch_first)
    if ! configure consumer -DCMAKE_PREFIX_PATH="$prefix" -DTORCH_FIRST=ON >"$here.log" 2>&1; then
      cat "$here.log"
      grep -qE 'CUDA cannot be found|Your installed Caffe2 version uses CUDA' "$here.log" || fail "expected Torch to be found"
      echo "skipped: package/torch_first: LibTorch's own package needs a CUDA toolkit, and none is here"
      exit 0
    fi
    cat "$here.log"
    [ ! -e "$torch_lib/libtorch_cuda.so" ] || stand_in_for_missing_libraries
    build_and_run consumer
    ;;

  nccl_in_a_wheel)
    # As pip lays them out: PyTorch, and beside it the package of NCCL.
    rm -rf "${here:?}"
    mkdir -p "$here/site-packages/nvidia/nccl/include"
    ln -s "$(realpath "$torch_lib/..")" "$here/site-packages/torch"
    touch "$here/site-packages/nvidia/nccl/include/nccl.h"
    if [ -z "$(compilers_of_cuda)" ] || [ ! -e "$torch_lib/libtorch_cuda.so" ]; then
      echo "skipped: package/nccl_in_a_wheel: no nvcc, or a LibTorch without CUDA"
      exit 0
    fi
    for first in OFF ON; do  # whether the consumer finds Torch itself
      configure "first_$first" -DCMAKE_PREFIX_PATH="$prefix" -DIP2P_CUDA=ON -DTORCH_FIRST="$first" \
        -DTorch_DIR="$here/site-packages/torch/share/cmake/Torch"
      for found in -DIP2P_HAS_NCCL=1 site-packages/nvidia/nccl/include; do
        grep -rqe "$found" "$here/first_$first/build" --include=build.ninja --include=flags.make ||
          fail "expected $found where TORCH_FIRST is $first"
      done
    done
    ;;

  without_cuda)
    if [ "${IP2P_INSIDE:-0}" = 0 ]; then
      if [ -n "$(compilers_of_cuda)" ] && ! unshare --mount true 2>/dev/null; then
        echo "skipped: package/without_cuda: hiding the CUDA toolkit needs the right to unshare mounts"
        exit 0
      fi
      # Really hides the toolkit, in a mount namespace of the test's own.
      if [ -n "$(compilers_of_cuda)" ]; then IP2P_INSIDE=1 exec unshare --mount bash "$0" without_cuda; fi
    fi
    for folder in /usr/local/cuda /usr/local/cuda-*; do
      if [ -d "$folder" ]; then mount -t tmpfs none "$(realpath "$folder")"; fi
    done
    for compiler in $(compilers_of_cuda); do mount --bind /dev/null "$compiler"; done
    unset CUDA_HOME CUDA_PATH CUDACXX CUDAToolkit_ROOT LIBRARY_PATH LD_LIBRARY_PATH
    if [ -n "$(compilers_of_cuda)" ]; then fail "expected nvcc to be hidden, found $(compilers_of_cuda)"; fi

    # The reason for this case: LibTorch's own package cannot be found here.
    if [ -e "$torch_lib/libtorch_cuda.so" ] && configure torch_only -DCMAKE_PREFIX_PATH="$prefix" -DTORCH_FIRST=ON \
         >"$here.log" 2>&1; then
      fail "expected LibTorch's own package to stop without a toolkit"
    fi
    configure consumer -DCMAKE_PREFIX_PATH="$prefix"
    build_and_run consumer
    if ldd "$here/consumer/build/hello" | grep -E 'not found|libtorch_cuda'; then
      fail "expected a CPU-only program with all its libraries, found the lines above"
    fi

    # The library's own build: configured completely; one of its programs is built and run.
    rm -rf "$here/own"
    "$CMAKE" -S "$IP2P_SOURCE" -B "$here/own" -G "$IP2P_GENERATOR" -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_CXX_COMPILER_LAUNCHER="$IP2P_LAUNCHER" -DTorch_DIR="$IP2P_TORCH_DIR" -DIP2P_BUILD_COMPILED=OFF
    "$CMAKE" --build "$here/own" --target toolkit_free
    "$here/own/tests/package/toolkit_free"
    ;;

  *) fail "no such case" ;;
esac
