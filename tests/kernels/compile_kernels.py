#!/usr/bin/env python3
"""Compiles all CUDA kernels for one compute capability and prints what each takes of a multiprocessor.

    compile_kernels.py NVCC INCLUDE OUT [90a]     exit status 1 if a kernel spills registers to memory, 77 where NVCC is not
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

KERNEL = re.compile(r"Compiling entry function '(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")


def readable(names):
    """Names of kernels without the namespace and the wrapper around all of them."""
    tool = shutil.which("c++filt")
    if tool is None:
        return names
    text = subprocess.run([tool, "-p"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    short = [re.sub(r"ip2p::kernels::|\(ip2p::kernels::MapPass\)", "", line) for line in text.splitlines()]
    return [re.sub(r"^(?:void )?run_kernel<(.*)>$", r"\1", line.strip()) for line in short]


def kernels_of(report):
    """(name, registers, bytes of stack, bytes spilled) of each kernel in what ptxas says."""
    found = []
    name, stack = None, (0, 0, 0)
    for line in report.splitlines():
        if match := KERNEL.search(line):
            name, stack = match[1], (0, 0, 0)
        elif match := STACK.search(line):
            stack = tuple(map(int, match.groups()))
        elif (match := USED.search(line)) and name is not None:
            found.append((name, int(match[1]), stack[0], stack[1] + stack[2]))
            name = None
    return found


def main():
    nvcc, include, out = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    capability = sys.argv[4] if len(sys.argv) > 4 else "90a"
    if not os.access(nvcc, os.X_OK):
        print(f"skipped: kernels/compiled_for_{capability}: no nvcc is here")
        return 77
    unit = out / "all_kernels.cu"
    unit.write_text("#include <ip2p/kernels/cuda/launch.cuh>\n")
    done = subprocess.run([nvcc, "-std=c++20", "-O3", f"-arch=sm_{capability}", "-Werror", "all-warnings", "-I", include, "-Xptxas", "-v",
                           "-c", str(unit), "-o", str(out / "all_kernels.o")], capture_output=True, text=True, check=False)
    report = done.stdout + done.stderr
    if done.returncode != 0:
        print(report)
        return 1
    kernels = kernels_of(report)
    names = readable([name for name, *_ in kernels])
    print("registers  stack  spilled  kernel")
    for name, (_, registers, stack, spilled) in zip(names, kernels):
        print(f"{registers:9}  {stack:5}  {spilled:7}  {name}")
    spilling = [name for name, (_, _, stack, spilled) in zip(names, kernels) if spilled or stack]
    seconds = sum(os.times()[2:4])  # of the compiler's processes
    print(f"{len(kernels)} kernels in {seconds:.0f} s of a processor, {len(spilling)} with variables in memory")
    if len(kernels) < 50:
        print("expected more than 50 kernels in the report")
        return 1
    for name in spilling:
        print(f"expected all variables in registers, found some in memory: {name}")
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
