#!/usr/bin/env python3
"""Gathers the C++ blocks of the documentation into source files that must compile.

    extract_blocks.py ROOT INTO             all blocks that are not programs, into one file
    extract_blocks.py --programs ROOT INTO  each program into a file of the folder INTO; prints their paths

A block is opened by ```cpp. Blocks of one page stand in one namespace, in their order, so that a later one may use
what an earlier one defined; their #include lines are moved to the top of the file. The file's main() calls each of their
functions whose name ends in keep_the_laws or keeps_the_laws. Words after ```cpp:
    body       statements: the block becomes the body of a function
    fragment   shown for reading only; not compiled
    program    a whole program, compiled by itself as it stands, and run (run_programs.py)
    main       main() of a program that it makes with the page's blocks before it, as a reader joins them; the page's
               CMake names it by add_executable
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
                if word not in (None, "body", "fragment", "program", "main"):
                    sys.exit(f"{page}:{number}: expected ```cpp, with body, fragment, program or main after it, found {line}")
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


def pages_of(root):
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]


def write_if_new(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def programs(root, into):
    for page in pages_of(root):
        name = re.sub(r"\W", "_", page.relative_to(root).with_suffix("").as_posix())
        whole = [(start, lines) for start, word, lines in blocks_of(page) if word == "program"]
        for i, (start, lines) in enumerate(whole, 1):
            path = into / f"{name}_{i}.cpp"
            write_if_new(path, "\n".join([f'#line {start} "{page.relative_to(root)}"', *lines]) + "\n")
            print(path)
        joined = []
        for start, word, lines in blocks_of(page):
            if word in (None, "main"):
                joined += [f'#line {start} "{page.relative_to(root)}"', *lines]
            if word == "main":
                name = re.search(r"^add_executable\((\w+)", page.read_text(), re.M).group(1)
                path = into / f"{name}.cpp"
                write_if_new(path, "\n".join(joined) + "\n")
                print(path)


def main():
    if sys.argv[1] == "--programs":
        return programs(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
    root, into = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    pages = pages_of(root)
    includes, bodies, laws, count = {}, [], [], 0
    for page in pages:
        compiled = [block for block in blocks_of(page) if block[1] not in ("fragment", "program", "main")]
        if not compiled:
            continue
        name = re.sub(r"\W", "_", page.relative_to(root).with_suffix("").as_posix())
        bodies.append(f"namespace page_{name} {{")
        for start, word, lines in compiled:
            count += 1
            if word == "body":
                bodies.append(f"[[maybe_unused]] inline void body_{start}() {{")
            bodies.append(f'#line {start} "{page.relative_to(root)}"')
            laws += [f"page_{name}::{law}" for law in re.findall(r"^void (\w+keeps?_the_laws)\(\)", "\n".join(lines), re.M)]
            for line in lines:
                if re.match(r"\s*#\s*include\b", line):
                    includes[line.strip()] = True
                    bodies.append("")  # keeps the line numbers
                else:
                    bodies.append(line)
            if word == "body":
                bodies.append("}")
        bodies.append(f"}}  // namespace page_{name}")
    if not laws:
        sys.exit("expected a page to check laws, found none")
    main_function = ["int main() {", *(f'{law}();\nfmt::print("{law}\\n");' for law in laws), "}"]
    text = "\n".join(["#include <ip2p/ip2p.hpp>", "#include <fmt/format.h>", *includes, *bodies, *main_function]) + "\n"
    write_if_new(into, text)
    print(f"{count} blocks of {len(pages)} pages")


if __name__ == "__main__":
    main()
