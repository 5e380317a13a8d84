#!/usr/bin/env bash
# Runs a test as a processor with fewer instructions would.
#
#   bash tests/support/with_isa.sh avx512|avx2|baseline COMMAND...
#
# LibTorch's own kernels obey ATEN_CPU_CAPABILITY, those of oneDNN ONEDNN_MAX_CPU_ISA. Exits with 77, CTest's status for
# a skipped test, if the processor lacks these instructions or has no others, so that the ordinary run was the same.
set -uo pipefail
level=$1
shift
skip() { echo "skipped: $1"; exit 77; }
has() { grep -m 1 '^flags' /proc/cpuinfo 2> /dev/null | grep -qw -- "$1"; }

has sse2 || skip "expected an x86 processor"
case $level in
  avx512)
    for flag in avx512f avx512bw avx512vl avx512dq; do has $flag || skip "this processor has no $flag"; done
    has avx512_bf16 || has avx512_vnni || has amx_tile || skip "this processor has nothing beyond AVX-512"
    export ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE
    ;;
  avx2)
    has avx2 || skip "this processor has no avx2"
    has avx512f || has avx_vnni || skip "this processor has nothing beyond AVX2"
    export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
    ;;
  baseline) export ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 ;;
  *) echo "expected avx512, avx2 or baseline, found $level"; exit 2 ;;
esac
exec "$@"
