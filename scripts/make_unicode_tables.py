#!/usr/bin/env python3
"""Writes include/ip2p/text/unicode_tables.hpp: the character data that transformers' CLIPTokenizer works with.

The `tokenizers` package behind it mixes three editions of Unicode (its normaliser, its regular expressions and its
lower-casing come from different libraries), so no one Unicode library gives the same tokens. This script therefore asks
the package itself about every code point, and Python's unicodedata for the shape of the decompositions.

Usage: make_unicode_tables.py      (in the environment of tests/parity/requirements.txt)
"""

import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import Regex, normalizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)
nfc = normalizers.NFC().normalize_str


def members(pattern: str) -> list[int]:
    replace = normalizers.Replace(Regex(pattern), "\0").normalize_str
    return [c for c in CODE_POINTS if c and replace(chr(c)) == "\0"]


def ranges(points: list[int]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for c in points:
        out[-1:] = [(out[-1][0], c)] if out and out[-1][1] == c - 1 else [*out[-1:], (c, c)]
    return out


def lower_case() -> list[tuple[int, int, int, int]]:
    """(first, last, stride, delta); the one character with a longer lower case, U+0130, is left to the caller."""
    lower = normalizers.Lowercase().normalize_str
    pairs = [(c, lower(chr(c))) for c in CODE_POINTS if lower(chr(c)) != chr(c)]
    assert [c for c, s in pairs if len(s) > 1] == [0x130]
    out: list[tuple[int, int, int, int]] = []
    for c, delta in [(c, ord(s) - c) for c, s in pairs if len(s) == 1]:
        if out and out[-1][3] == delta:
            first, last, stride, _ = out[-1]
            if c - last == stride or (first == last and c - last <= 2):
                out[-1] = (first, c, c - last, delta)
                continue
        out.append((c, c, 1, delta))
    return out


def combining_classes() -> list[tuple[int, int, int]]:
    """(first, last, class) of marks. A mark is known to the normaliser if it changes place with a mark of another class."""
    by_class: dict[int, str] = {}
    for c in CODE_POINTS:
        if unicodedata.combining(chr(c)) and nfc(chr(c)) == chr(c):
            by_class.setdefault(unicodedata.combining(chr(c)), chr(c))
    marks = []
    for c in CODE_POINTS:
        own = unicodedata.combining(chr(c))
        if not own:
            continue
        base = "\u4e00"
        moved = any(
            nfc(base + text) != base + text
            for other, probe in by_class.items()
            if other != own
            for text in (chr(c) + probe, probe + chr(c))
        )
        if moved:
            marks.append((c, own))
    out: list[tuple[int, int, int]] = []
    for c, own in marks:
        if out and out[-1][1] == c - 1 and out[-1][2] == own:
            out[-1] = (out[-1][0], c, own)
        else:
            out.append((c, c, own))
    return out


def decompositions() -> tuple[list[tuple[int, int]], list[tuple[int, int, int]]]:
    """Canonical decompositions known to the normaliser: to one character, and to two (second 0x80000000 set: one way)."""
    singles, pairs = [], []
    for c in CODE_POINTS:
        text = unicodedata.decomposition(chr(c))
        if not text or text.startswith("<") or c in HANGUL:
            continue
        parts = [int(p, 16) for p in text.split()]
        if len(parts) == 1:
            assert nfc(chr(c)) != chr(c)
            singles.append((c, parts[0]))
        else:
            composed = nfc("".join(map(chr, parts))) == chr(c)
            if composed or nfc(chr(c)) != chr(c):
                pairs.append((c, parts[0], parts[1] if composed else parts[1] | 0x80000000))
    return singles, pairs


def rows(name: str, comment: str, kind: str, table: list[tuple[int, ...]]) -> str:
    lines, line = [], " "
    for row in table:
        cell = " {" + ", ".join(str(v) if -10 < v < 10 else (f"-0x{-v:X}" if v < 0 else f"0x{v:X}") for v in row) + "},"
        if len(line) + len(cell) > 119:
            lines.append(line)
            line = " "
        line += cell
    lines.append(line)
    return f"/// {comment}\ninline constexpr {kind} {name}[] = {{\n" + "\n".join(lines) + "\n};\n"


def main() -> None:
    singles, pairs = decompositions()
    spaces = ranges(members(r"\s"))
    parts = [
        "#pragma once\n",
        "/// \\file\n/// Character data of the tokenizer. Written by scripts/make_unicode_tables.py from "
        f"tokenizers {tokenizers.__version__}; do not edit.\n/// The data are facts of the Unicode Character Database "
        "(https://www.unicode.org/license.txt).\n",
        "#include <cstdint>\n",
        "// clang-format off\nnamespace ip2p::detail {\n",
        "struct CodeRange { char32_t first, last; };\nstruct LowerRange { char32_t first, last; std::int32_t stride, "
        "delta; };\nstruct MarkRange { char32_t first, last; std::uint8_t combining_class; };\n"
        "struct Singleton { char32_t whole, part; };\nstruct Pair { char32_t whole, first; std::uint32_t second; };\n",
        rows("white_spaces", "`\\s` of the reference's regular expressions.", "CodeRange", spaces),
        rows("letters", "`\\p{L}`.", "CodeRange", ranges(members(r"\p{L}"))),
        rows("numbers", "`\\p{N}`.", "CodeRange", ranges(members(r"\p{N}"))),
        rows("lower_case", "Every `stride`-th code point of the range has its lower case `delta` further on.", "LowerRange",
             lower_case()),
        rows("marks", "Canonical combining classes other than 0.", "MarkRange", combining_classes()),
        rows("singletons", "Canonical decompositions to one code point.", "Singleton", singles),
        rows("pairs", "Canonical decompositions to two code points, by `whole`; bit 31 of `second`: never composed again.",
             "Pair", pairs),
        "}  // namespace ip2p::detail\n// clang-format on\n",
    ]
    out = Path(__file__).parent.parent / "include" / "ip2p" / "text" / "unicode_tables.hpp"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
