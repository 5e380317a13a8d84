#!/usr/bin/env python3
"""What the library costs a compiler: CPU seconds and memory of units, and their ratio to one that includes torch/torch.h.

    compile_time.py BUILD                 the table of docs/benchmarks.md (needs the build folder configured, not built)
    compile_time.py BUILD --units [N]     compiles every unit of the build once more and lists the N that take most memory
    compile_time.py BUILD --headers [N]   compiles every public header alone and lists the N that take longest

Options: --repeat R takes the least of R runs (1); --only TEXT... prints only the table's rows whose names contain one of the
texts, and the first. The compiler, its flags and LibTorch are those of BUILD. Run it on a quiet
machine; only ratios within one run can be compared.
"""
import argparse
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def measured(command, folder):
    """(CPU seconds, peak GB) of a command. Exits with the command's messages if it fails."""
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, cwd=folder, stdout=messages, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            messages.seek(0)
            sys.exit(f"{shlex.join(command)}\n{messages.read().decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def program_of(page):
    """The first whole program of a page of the documentation."""
    return re.search(r"```cpp program\n(.*?)```", (ROOT / page).read_text(), re.DOTALL).group(1)


def rows(compiler, flags, repeat, only):
    include = "#include <{}>\nint main() {{}}\n"
    tutorial = program_of("docs/tutorials/first-edit.md")
    compiled = ["-DIP2P_COMPILED=1", "-UFMT_HEADER_ONLY"]
    units = [
        ("`torch/torch.h` alone", include.format("torch/torch.h"), []),
        ("`ATen/core/Tensor.h` alone", include.format("ATen/core/Tensor.h"), []),
        ("a guidance policy of your own", (ROOT / "bench/compile_time/policy.cpp").read_text(), []),
        ("`pipeline/edit.hpp` and `unet/unet.hpp`",
         "#include <ip2p/pipeline/edit.hpp>\n" + include.format("ip2p/unet/unet.hpp"), []),
        ("the umbrella `ip2p/ip2p.hpp`", include.format("ip2p/ip2p.hpp"), []),
        ("the tutorial's program, header-only", tutorial, []),
        ("the same with `ip2p::compiled`", tutorial, compiled),
        ("all of `edit_image` with `ip2p::compiled`",
         "".join(f'#include "{file}"\n' for file in sorted((ROOT / "examples/01_edit_image").glob("*.cpp"))),
         [*compiled, f"-I{ROOT}/examples"]),
    ]
    units[1:] = [unit for unit in units[1:] if not only or any(text in unit[0] for text in only)]
    reference = None
    print("| unit, -O2 | CPU s | ratio | GB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, text, more in units:
            source = pathlib.Path(folder) / "unit.cpp"
            source.write_text(text)
            command = [compiler, *flags, *more, "-O2", "-c", str(source), "-o", str(source) + ".o"]
            if reference is None:
                measured(command, folder)  # reads the compiler and headers from the disk
            seconds, memory = min(measured(command, folder) for _ in range(repeat))
            reference = reference or seconds
            print(f"| {name} | {seconds:.1f} | {seconds / reference:.2f} | {memory:.2f} |", flush=True)


def list_units(build, count):
    found = []
    for entry in json.loads((build / "compile_commands.json").read_text()):
        words = shlex.split(entry["command"])
        while not re.search(r"(g\+\+|clang\+\+|c\+\+)[^/]*$", words[0]):
            words.pop(0)  # a launcher before the compiler, such as a cache
        with tempfile.TemporaryDirectory() as folder:
            words[words.index("-o") + 1] = f"{folder}/unit.o"
            seconds, memory = measured(words, entry["directory"])
        found.append((memory, seconds, os.path.relpath(entry["file"], ROOT)))
    show(sorted(found, reverse=True)[:count])
    print(f"{len(found)} units, {sum(seconds for _, seconds, _ in found):.0f} CPU s")


def list_headers(compiler, flags, count):
    found = []
    for header in sorted((ROOT / "include").glob("ip2p/**/*.hpp")):
        command = [compiler, *flags, "-fsyntax-only", "-x", "c++", "-include", str(header), os.devnull]
        seconds, memory = measured(command, ROOT)
        found.append((seconds, memory, str(header.relative_to(ROOT / "include"))))
    show([(memory, seconds, name) for seconds, memory, name in sorted(found, reverse=True)[:count]])


def show(lines):
    print("| unit | CPU s | GB |\n|---|---|---|")
    for memory, seconds, name in lines:
        print(f"| `{name}` | {seconds:.1f} | {memory:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--units", nargs="?", type=int, const=10, metavar="N")
    parser.add_argument("--headers", nargs="?", type=int, const=10, metavar="N")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT")
    parser.add_argument("--repeat", type=int, default=1, metavar="R")
    options = parser.parse_args()
    cache = (options.build / "CMakeCache.txt").read_text()
    compiler = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", cache, re.MULTILINE).group(1)
    flags = [line for line in (options.build / "user_flags.txt").read_text().splitlines() if line]
    if options.units:
        list_units(options.build, options.units)
    elif options.headers:
        list_headers(compiler, flags, options.headers)
    else:
        rows(compiler, flags, options.repeat, options.only)


if __name__ == "__main__":
    main()
