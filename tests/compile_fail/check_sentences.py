#!/usr/bin/env python3
"""Every sentence that the library's headers say at compile time is expected by a file of tests/compile_fail.

    check_sentences.py ROOT
"""
import pathlib
import re
import sys

# Depends on the machine, so no program can fail here.
WITHOUT_TEST = ("ip2p: safetensors files are read on little-endian machines",)


def main():
    root = pathlib.Path(sys.argv[1])
    patterns = []
    for source in (root / "tests/compile_fail").glob("*/*.cpp"):
        patterns += re.findall(r"^// expect-(?:error|each): (.*)$", source.read_text(), re.MULTILINE)
    found, count = [], 0
    for header in sorted((root / "include").glob("ip2p/**/*.hpp")):
        for assertion in re.findall(r"static_assert\((?:[^;\"]*?)((?:\"[^\"]*\"\s*)+)\)", header.read_text()):
            sentence = "".join(re.findall(r'"([^"]*)"', assertion))
            if not sentence.startswith("ip2p: ") or sentence.startswith(WITHOUT_TEST):
                continue
            count += 1
            if not any(re.search(pattern, sentence) for pattern in patterns):
                found.append(f"{header.relative_to(root)}: expected a test of \"{sentence}\", found none")
    print("\n".join(found) if found else f"{count} sentences")
    return 1 if found or count < 40 else 0


if __name__ == "__main__":
    sys.exit(main())
