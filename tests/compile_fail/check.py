#!/usr/bin/env python3
"""Compiles one file of tests/compile_fail as it is, which must fail as the file says, and corrected, which must not.

    check.py COMPILER FLAGS_FILE SOURCE
"""
import pathlib
import re
import subprocess
import sys


def compile_source(compiler, flags, source, *more):
    command = [compiler, *flags, *more, "-fsyntax-only", "-fdiagnostics-color=never", source]
    return subprocess.run(command, capture_output=True, text=True)


def main():
    compiler, flags_file, source = sys.argv[1:]
    flags = [line for line in pathlib.Path(flags_file).read_text().splitlines() if line]
    text = pathlib.Path(source).read_text()
    expected = re.findall(r"^// expect-error: (.*)$", text, re.MULTILINE)
    most_lines = re.search(r"^// expect-lines: (\d+)$", text, re.MULTILINE)
    if not expected or not re.search(r"^#ifn?def IP2P_CORRECTED$", text, re.MULTILINE):
        sys.exit(f"{source}: expected lines `// expect-error: ...` and `#ifdef IP2P_CORRECTED`")

    corrected = compile_source(compiler, flags, source, "-DIP2P_CORRECTED")
    if corrected.returncode != 0:
        sys.exit(f"{source}: expected the corrected program to compile, but\n{corrected.stderr}")

    wrong = compile_source(compiler, flags, source)
    if wrong.returncode == 0:
        sys.exit(f"{source}: expected an error, but it compiles")
    first = next((line for line in wrong.stderr.splitlines() if re.search(r"error:", line)), "")
    for pattern in expected:
        if not re.search(pattern, first):
            sys.exit(f"{source}: expected a first error with {pattern!r}, found\n{first}\nin\n{wrong.stderr}")
    lines = len(wrong.stderr.splitlines())
    if most_lines and lines > int(most_lines.group(1)):
        sys.exit(f"{source}: expected at most {most_lines.group(1)} lines of messages, found {lines}\n{wrong.stderr}")
    print(f"{first}\n({lines} lines in all)")


if __name__ == "__main__":
    main()
