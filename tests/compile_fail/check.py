#!/usr/bin/env python3
"""Compiles one file of tests/compile_fail as it is, which must fail as the file says, and corrected, which must not.

    check.py COMPILER FLAGS_FILE SOURCE

Status 77: there is no such compiler. What the file says:
    // expect-error: <regular expression>     found in the first error that the compiler prints
    // expect-each: <regular expression>      one for each of several wrong types: each is found in an error of its own,
                                              and there are no errors beside them
    // expect-lines: <number>                 at most so many lines of messages in all by g++
    // expect-lines-clang: <number>           and by clang++
"""
import pathlib
import re
import shutil
import subprocess
import sys


def compile_source(compiler, flags, source, *more):
    command = [compiler, *flags, *more, "-fsyntax-only", "-fdiagnostics-color=never", source]
    return subprocess.run(command, capture_output=True, text=True)


def main():
    compiler, flags_file, source = sys.argv[1:]
    if not shutil.which(compiler):
        print("skipped: clang++ was not found")
        sys.exit(77)
    flags = [line for line in pathlib.Path(flags_file).read_text().splitlines() if line]
    text = pathlib.Path(source).read_text()
    first_error = re.findall(r"^// expect-error: (.*)$", text, re.MULTILINE)
    each = re.findall(r"^// expect-each: (.*)$", text, re.MULTILINE)
    lines_of = "expect-lines-clang" if "clang" in pathlib.Path(compiler).name else "expect-lines"
    most_lines = re.search(rf"^// {lines_of}: (\d+)$", text, re.MULTILINE)
    if not (first_error or each) or not re.search(r"^#ifn?def IP2P_CORRECTED$", text, re.MULTILINE):
        sys.exit(f"{source}: expected lines `// expect-error: ...` and `#ifdef IP2P_CORRECTED`")

    if lines_of == "expect-lines":  # that the rest of the file is sound need not be asked of every compiler
        corrected = compile_source(compiler, flags, source, "-DIP2P_CORRECTED")
        if corrected.returncode != 0:
            sys.exit(f"{source}: expected the corrected program to compile, but\n{corrected.stderr}")

    wrong = compile_source(compiler, flags, source)
    if wrong.returncode == 0:
        sys.exit(f"{source}: expected an error, but it compiles")
    errors = [line for line in wrong.stderr.splitlines() if re.search(r"error:", line)]
    first = errors[0] if errors else ""
    for pattern in first_error:
        if not re.search(pattern, first):
            sys.exit(f"{source}: expected a first error with {pattern!r}, found\n{first}\nin\n{wrong.stderr}")
    left = list(errors)
    for pattern in each:
        found = next((line for line in left if re.search(pattern, line)), None)
        if found is None:
            sys.exit(f"{source}: expected an error with {pattern!r}, found\n" + "\n".join(left))
        left.remove(found)
    if each and left:
        sys.exit(f"{source}: expected {len(each)} errors, found besides\n" + "\n".join(left))
    lines = len(wrong.stderr.splitlines())
    if most_lines and lines > int(most_lines.group(1)):
        sys.exit(f"{source}: expected at most {most_lines.group(1)} lines of messages, found {lines}\n{wrong.stderr}")
    print("\n".join(errors if each else [first]) + f"\n({lines} lines in all)")


if __name__ == "__main__":
    main()
