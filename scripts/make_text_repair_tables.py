#!/usr/bin/env python3
"""Writes include/ip2p/text/text_repair_tables.hpp: the character data of ftfy 6.1.1 and of Python's str.lower.

Code pages come from Python's codecs, names of characters from its html module, case from its str; which characters occur
in mis-decoded text, and in which company, is what ftfy found.

Usage: make_text_repair_tables.py      (in the environment of tests/parity/released_venv.sh)
"""

import html.entities
import re
import unicodedata
from pathlib import Path

import ftfy
from ftfy import badness, chardata

assert ftfy.__version__ == "6.1.1"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CLASSES = ["common", "c1", "bad", "currency", "start_punctuation", "end_punctuation", "numeric", "kaomoji",
           "upper_accented", "lower_accented", "upper_common", "lower_common", "box"]
CLUES = ["utf8_first_of_2", "utf8_first_of_3", "utf8_first_of_4", "utf8_continuation", "utf8_continuation_strict"]


def ranges(pairs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(first, last, value) of neighbours with equal values."""
    out: list[tuple[int, int, int]] = []
    for c, value in pairs:
        if out and out[-1][1] == c - 1 and out[-1][2] == value:
            out[-1] = (out[-1][0], c, value)
        else:
            out.append((c, c, value))
    return out


def rows(items: list[str]) -> str:
    lines, line = [], " "
    for item in items:
        if len(line) + len(item) + 2 > 118:
            lines.append(line)
            line = " "
        line += f" {item},"
    return "\n".join([*lines, line])


def string_rows(items: list[str]) -> str:
    lines = [""]
    for item in items:
        if len(lines[-1]) + len(item) > 114:
            lines.append("")
        lines[-1] += item
    return "\n".join(f'  "{line}"' for line in lines)


def hexes(values) -> list[str]:
    return [str(v) if v < 10 else f"0x{v:X}" for v in values]


def code_pages() -> str:
    out = []
    for name in chardata.CHARMAP_ENCODINGS[1:]:
        sloppy = name.startswith("sloppy")
        upper = [ord(c) for c in bytes(range(0x80, 0x100)).decode(name)]
        assert len(set(upper)) == 128 and min(upper) >= 0x80 and max(upper) < 0x10000 and 0xFFFD not in upper
        assert (bytes([0x1A]).decode(name) == "\ufffd") == sloppy
        out.append(f"  {{  // {name}\n   {'true' if sloppy else 'false'}, {{\n{rows(hexes(upper))}\n  }}}},")
    return "\n".join(out)


def classes() -> list[tuple[int, int, int]]:
    sets = [badness.MOJIBAKE_CATEGORIES[name] for name in CLASSES] + [chardata.UTF8_CLUES[name] for name in CLUES]
    assert len(badness.MOJIBAKE_CATEGORIES) == len(CLASSES) and len(chardata.UTF8_CLUES) == len(CLUES)
    expressions = [re.compile(f"[{members}]") for members in sets]
    pairs = []
    for c in range(0x20, 0x10000):
        if 0xD800 <= c < 0xE000:
            continue
        mask = sum(1 << i for i, e in enumerate(expressions) if e.match(chr(c)))
        firsts = mask >> len(CLASSES) & 7
        assert firsts & (firsts - 1) == 0  # A character begins a sequence of one length only.
        if mask:
            pairs.append((c, mask))
    return ranges(pairs)


def case_classes() -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Characters that count, and those that do not, when str.lower decides whether a capital sigma ends a word."""
    cased, ignorable = [], []
    for c in CODE_POINTS:
        if ("A\u03a3" + chr(c)).lower()[1] == "\u03c3":
            cased.append((c, 0))
        elif ("A\u03a3" + chr(c) + "A").lower()[1] == "\u03c3":
            ignorable.append((c, 0))
    return ranges(cased), ranges(ignorable)


def entities() -> list[str]:
    expression = chardata.HTML_ENTITY_RE
    found = {name[1:-1]: text for name, text in chardata.HTML_ENTITIES.items() if expression.fullmatch(name)}
    return [f"{name} {' '.join(f'{ord(c):X}' for c in text)};" for name, text in sorted(found.items())]


def widths() -> list[int]:
    out = []
    for c in range(0xFF01, 0xFFF0):
        wide = unicodedata.normalize("NFKC", chr(c))
        assert wide == chardata.WIDTH_MAP.get(c, chr(c))
        assert len(wide) == 1 or (c == 0xFFE3 and wide == " \u0304")
        out.append(0 if wide == chr(c) else ord(wide[0]))
    return out


def code_ranges(found: list[tuple[int, int, int]]) -> str:
    return rows([f"{{{', '.join(hexes(r[:2]))}}}" for r in found])


def main() -> None:
    assert chardata.CHARMAP_ENCODINGS[0] == "latin-1"
    cased, ignorable = case_classes()
    names = entities()
    blob = string_rows(names)
    class_rows = rows([f"{{{', '.join(hexes(r))}}}" for r in classes()])
    target = Path(__file__).parent.parent / "include" / "ip2p" / "text" / "text_repair_tables.hpp"
    target.write_text(f"""#pragma once

/// \\file
/// Character data of `repair_text`. Written by scripts/make_text_repair_tables.py from ftfy {ftfy.__version__}, Python's
/// codecs and Unicode {unicodedata.unidata_version}; do not edit. The classes of characters are those of ftfy (copyright
/// Robyn Speer, MIT License, https://github.com/rspeer/python-ftfy).

#include <cstdint>
#include <string_view>

#include "ip2p/text/unicode_tables.hpp"

// clang-format off
namespace ip2p::detail {{

/// What bytes 0x80 to 0xFF stand for. `marks_losses`: byte 0x1A stands for U+FFFD, a character that was lost.
struct CodePage {{ bool marks_losses; char16_t upper[128]; }};

/// In the order in which they are tried, after Latin-1.
inline constexpr CodePage code_pages[] = {{
{code_pages()}
}};

struct ClassRange {{ char32_t first, last; std::uint32_t classes; }};

/// Bits, from the lowest: {', '.join(CLASSES)},
/// {', '.join(CLUES)}.
inline constexpr ClassRange mojibake_classes[] = {{
{class_rows}
}};

/// Characters with case, of Python's str.lower.
inline constexpr CodeRange cased[] = {{
{code_ranges(cased)}
}};

/// Characters that str.lower passes over where it looks for the end of a word.
inline constexpr CodeRange case_ignorable[] = {{
{code_ranges(ignorable)}
}};

/// What U+FF01 to U+FFEF are of usual width, 0: themselves. (U+FFE3 is followed by U+0304 besides.)
inline constexpr char16_t usual_width[] = {{
{rows(hexes(widths()))}
}};

/// Names of HTML entities without their & and ;, each with its code points in hexadecimal; those in capitals besides.
inline constexpr std::string_view html_entities =
{blob};

}}  // namespace ip2p::detail
// clang-format on
""")
    print(len(names), "entities,", len(cased), "+", len(ignorable), "ranges of case,", len(blob), "bytes")


if __name__ == "__main__":
    main()
