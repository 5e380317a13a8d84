#!/usr/bin/env python3
"""Checks that the messages which docs/how-to/troubleshooting.md explains are messages of the library or its programs.

    check_messages.py ROOT

A message stands in code font in the first column of a table; `...` in it stands for anything.
"""
import pathlib
import re
import sys


def literals_of(root):
    """The string literals of the sources, one per line; adjacent ones are joined."""
    texts = []
    for folder in ("include", "examples"):
        for path in sorted([*(root / folder).rglob("*.[hc]pp"), *(root / folder).rglob("*.inc")]):
            text = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE)
            text = re.sub(r'"\s*\n\s*"', "", text)
            texts += re.findall(r'"((?:[^"\\\n]|\\.)*)"', text)
    return "\n".join(texts).replace('\\"', '"')


def main():
    root = pathlib.Path(sys.argv[1])
    page = root / "docs/how-to/troubleshooting.md"
    literals, found, count = literals_of(root), [], 0
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.startswith("| `"):
            continue
        for message in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
            count += 1
            if not re.search(".*".join(re.escape(part) for part in message.split("...")), literals):
                found.append(f"{page.relative_to(root)}:{number}: expected a message of the sources, found '{message}'")
    print("\n".join(found) if found else f"{count} messages are those of the sources")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
