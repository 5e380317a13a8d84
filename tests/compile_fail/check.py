#!/usr/bin/env python3
"""Compiles files of tests/compile_fail in one unit as they are, where each must fail as it says, and corrected, which
must compile.

    check.py COMPILER FLAGS_FILE SOURCE...

LibTorch's headers take a compiler most of ten seconds, what a file here adds a few hundredths: hence one unit. Each file
stands in a namespace of its own, and an error counts for the file whose lines led to it. A single SOURCE is checked in the
same way. Status 77: there is no such compiler. What a file says:
    // expect-error: <regular expression>     found in the first error that comes of the file
    // expect-each: <regular expression>      one for each of several wrong types: each is found in an error of its own,
                                              and there are no errors beside them
    // expect-lines: <number>                 at most so many lines of messages by g++ come of the file, not counting
                                              those that say which file included which
    // expect-lines-clang: <number>           and by clang++
    // corrected-by: <where>                  in place of `#ifdef IP2P_CORRECTED`: another test compiles it corrected
"""
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys

LOCATION = re.compile(r"(?P<file>[^\s:][^:]*):(?P<line>\d+):(?:\d+:)? +(?P<kind>(?:fatal )?error|note|warning)?")
# A line of the source and what is underlined in it.
EXCERPT = re.compile(r"\s+(?:\d+ )?\||\s*[~^]")
INCLUDED = re.compile(r"In file included from|\s+from ")
CORRECTED = re.compile(r"^#ifn?def IP2P_CORRECTED$|\bLACKING\(", re.MULTILINE)
CORRECTED_BY = re.compile(r"^// corrected-by: ", re.MULTILINE)


@dataclasses.dataclass
class Message:
    """An error with the lines before it that say where it occurred and the notes after it."""
    source: str | None
    error: str
    lines: list[str]


def is_clang(compiler):
    return "clang" in pathlib.Path(compiler).name


def compile_unit(compiler, flags, sources, *more):
    unit = "".join(f'#include "{source}"\n' for source in sources)
    limit = ["-ferror-limit=0"] if is_clang(compiler) else []
    command = [compiler, *flags, *limit, *more, "-fsyntax-only", "-fdiagnostics-color=never", "-x", "c++", "-"]
    return subprocess.run(command, input=unit, capture_output=True, text=True)


def messages(output, sources):
    """Errors in the order in which they are printed. Each belongs to the source that is named last among the places it
    came through: g++ prints these before the error unless they are those of the error before, clang++ after it. If there
    is only one source, all errors are its own."""
    found, context = [], []
    for line in output.splitlines():
        place = LOCATION.match(line)
        kind = place["kind"] if place else None
        if kind and kind.endswith("error"):
            by = [LOCATION.match(before) for before in context if not INCLUDED.match(before)]
            files = [at["file"] for at in [place, *by] if at and at["file"] in sources]
            last = found[-1].source if found and not files and not by else None
            only = sources[0] if len(sources) == 1 else None
            found.append(Message(files[-1] if files else last or only, line, [*context, line]))
            context = []
        elif found and (kind or EXCERPT.match(line)):
            found[-1].lines += [*context, line]
            context = []
            if kind == "note" and "requested here" in line and place["file"] in sources:
                found[-1].source = place["file"]
        else:
            context.append(line)
    return found


def wrong_in(source, found, lines_of):
    """What differs from what the file says, or None; `found` are its messages."""
    text = pathlib.Path(source).read_text()
    first_error = re.findall(r"^// expect-error: (.*)$", text, re.MULTILINE)
    each = re.findall(r"^// expect-each: (.*)$", text, re.MULTILINE)
    most_lines = re.search(rf"^// {lines_of}: (\d+)$", text, re.MULTILINE)
    if not (first_error or each) or not (CORRECTED.search(text) or CORRECTED_BY.search(text)):
        return "expected lines `// expect-error: ...` and `#ifdef IP2P_CORRECTED`"
    if not found:
        return "expected an error, found none"
    printed = "\n".join(line for message in found for line in message.lines)
    for pattern in first_error:
        if not re.search(pattern, found[0].error):
            return f"expected a first error with {pattern!r}, found\n{found[0].error}\nin\n{printed}"
    left = [message.error for message in found]
    for pattern in each:
        match = next((error for error in left if re.search(pattern, error)), None)
        if match is None:
            return f"expected an error with {pattern!r}, found\n" + "\n".join(left)
        left.remove(match)
    if each and left:
        return f"expected {len(each)} errors, found besides\n" + "\n".join(left)
    lines = sum(not INCLUDED.match(line) for message in found for line in message.lines)
    if most_lines and lines > int(most_lines[1]):
        return f"expected at most {most_lines[1]} lines of messages, found {lines}\n{printed}"
    print(*(message.error for message in (found if each else found[:1])), f"({lines} lines in all)\n", sep="\n")
    return None


def main():
    compiler, flags_file, *sources = sys.argv[1:]
    if not shutil.which(compiler):
        print("skipped: clang++ was not found")
        sys.exit(77)
    flags = [line for line in pathlib.Path(flags_file).read_text().splitlines() if line]
    sources = [str(pathlib.Path(source).resolve()) for source in sources]
    lines_of = "expect-lines-clang" if is_clang(compiler) else "expect-lines"

    failures = []
    with_correction = [source for source in sources if not CORRECTED_BY.search(pathlib.Path(source).read_text())]
    if with_correction and not is_clang(compiler):  # one compiler is enough to show that the rest of a file is sound
        corrected = compile_unit(compiler, flags, with_correction, "-DIP2P_CORRECTED")
        if corrected.returncode != 0:
            failures.append(f"expected the corrected programs to compile, but\n{corrected.stderr}")

    wrong = compile_unit(compiler, flags, sources)
    found = messages(wrong.stderr, sources)
    for message in found:
        if message.source is None:
            failures.append("expected errors that come of the programs alone, found\n" + "\n".join(message.lines))
    for source in sources:
        failure = wrong_in(source, [message for message in found if message.source == source], lines_of)
        if failure:
            failures.append(f"{source}: {failure}")
    sys.exit("\n\n".join(failures) if failures else 0)


if __name__ == "__main__":
    main()
