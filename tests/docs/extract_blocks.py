#!/usr/bin/env python3
"""Gathers the C++ blocks of the documentation into source files that must compile.

    extract_blocks.py ROOT INTO

A block is opened by ```cpp. Blocks of one page stand in one namespace, in their order, so that a later one may use
what an earlier one defined; their #include lines are moved to the top of the file. Words after ```cpp:
    body       statements: the block becomes the body of a function
    fragment   shown for reading only; not compiled
"""
import pathlib
import re
import sys

OPEN = re.compile(r"^```cpp(?: +(\w+))?$")


def blocks_of(page):
    """(line number, word, lines) of each block of a page."""
    found, lines, word, start = [], None, None, 0
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if lines is None:
            opened = OPEN.match(line)
            if opened:
                word, start, lines = opened.group(1), number + 1, []
                if word not in (None, "body", "fragment"):
                    sys.exit(f"{page}:{number}: expected ```cpp, ```cpp body or ```cpp fragment, found {line}")
            elif re.match(r"^```\s*(c\+\+|C\+\+|cxx|CPP|cpp)", line):
                sys.exit(f"{page}:{number}: expected ```cpp, found {line}")
        elif line == "```":
            found.append((start, word, lines))
            lines = None
        else:
            lines.append(line)
    if lines is not None:
        sys.exit(f"{page}:{start}: expected the block to end")
    return found


def main():
    root, into = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    includes, bodies, count = {}, [], 0
    for page in pages:
        compiled = [block for block in blocks_of(page) if block[1] != "fragment"]
        if not compiled:
            continue
        name = re.sub(r"\W", "_", page.relative_to(root).with_suffix("").as_posix())
        bodies.append(f"namespace page_{name} {{")
        for start, word, lines in compiled:
            count += 1
            if word == "body":
                bodies.append(f"[[maybe_unused]] inline void body_{start}() {{")
            bodies.append(f'#line {start} "{page}"')
            for line in lines:
                if re.match(r"\s*#\s*include\b", line):
                    includes[line.strip()] = True
                    bodies.append("")  # keeps the line numbers
                else:
                    bodies.append(line)
            if word == "body":
                bodies.append("}")
        bodies.append(f"}}  // namespace page_{name}")
    text = "\n".join(["#include <ip2p/ip2p.hpp>", *includes, *bodies]) + "\n"
    into.parent.mkdir(parents=True, exist_ok=True)
    if not into.exists() or into.read_text() != text:
        into.write_text(text)
    print(f"{count} blocks of {len(pages)} pages")


if __name__ == "__main__":
    main()
