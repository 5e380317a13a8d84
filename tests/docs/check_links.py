#!/usr/bin/env python3
"""Checks that the relative links of the documentation, their anchors, and the docs/ paths named in messages and comments
of the headers lead somewhere, and that no row of a table is broken over several lines, which would end the table. And README.md is short.

    check_links.py ROOT
"""
import pathlib
import re
import sys

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
README_LINES = 120  # what is read in one sitting; the rest is in docs/
NAMED = re.compile(r"docs/[\w/-]+\.md(?:#[\w-]+)?")


def anchors_of(page):
    """Anchors as they are made from headings: lower case, punctuation dropped, spaces to hyphens."""
    found, fenced = set(), False
    for line in page.read_text().splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced:
            title = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(title.replace(" ", "-"))
    return found


def broken(root, source, target):
    """Why the link `target` of file `source` leads nowhere, or None."""
    path, _, anchor = target.partition("#")
    page = source if not path else root / path if path.startswith("docs/") and source.suffix == ".hpp" else source.parent / path
    if not page.exists():
        return f"{source.relative_to(root)}: {target}: no such file"
    if anchor and page.suffix == ".md" and anchor not in anchors_of(page):
        return f"{source.relative_to(root)}: {target}: no such heading"
    return None


def broken_rows(root, page):
    """Rows of tables that do not end on the line they begin on."""
    found, fenced = [], False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fenced ^= line.startswith("```")
        if not fenced and line.startswith("| ") and not line.endswith("|"):
            found.append(f"{page.relative_to(root)}:{number}: expected the row of a table to end with |")
    return found


def main():
    root = pathlib.Path(sys.argv[1])
    found, count = [], 0
    if (length := len((root / "README.md").read_text().splitlines())) > README_LINES:
        found.append(f"README.md: expected at most {README_LINES} lines, found {length}")
    for page in [*root.glob("*.md"), *sorted((root / "docs").rglob("*.md")), *sorted((root / "models").rglob("*.md"))]:
        found += broken_rows(root, page)
        for link in LINK.findall(page.read_text()):
            target = next(filter(None, link))
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            found.append(broken(root, page, target))
    for header in sorted((root / "include").rglob("*.hpp")):
        # A long message is several literals in a row.
        text = re.sub(r'"\s*\n\s*"', "", header.read_text())
        for target in set(NAMED.findall(text)):
            count += 1
            found.append(broken(root, header, target))
    found = [problem for problem in found if problem]
    print("\n".join(found) if found else f"{count} links lead somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
