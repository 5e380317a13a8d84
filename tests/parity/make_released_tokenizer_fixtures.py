#!/usr/bin/env python3
"""Makes tests/text/fixtures/released_texts.json from the tokenizer of the released program: transformers 4.19.2's slow
CLIPTokenizer, which calls ftfy 6.1.1.

Usage: $(tests/parity/released_venv.sh) make_released_tokenizer_fixtures.py

"prompts": texts, what ftfy makes of them, and their ids; "damaged": seeded texts that were encoded and decoded wrongly, and
what ftfy makes of them.
"""

import json
import random
from pathlib import Path

import ftfy
import transformers
from transformers import tokenization_utils_base

# Without the tokenizers package its AddedToken is a plain class here, without the str() that the package gives it.
tokenization_utils_base.AddedToken.__str__ = lambda token: token.content
from transformers.models.clip.tokenization_clip import CLIPTokenizer  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
assert ftfy.__version__ == "6.1.1" and transformers.__version__ == "4.19.2"

PROMPTS = [
    "", " ", "turn the sky into a sunset", "Make it SNOWY!", "it\u2019s a cat", "it's a cat", "\u201cStop\u201d sign", "\u2018a\u2019 \u201a",
    "don\u02bct", "\u201fx\u201e y\u201b", "make the dog\u2019s fur &quot;red&quot;", "salt &amp; pepper", "salt & pepper", "AT&T", "&lt;b&gt;",
    "&amp;amp;lt;", "a &lt; b <c>", "<b>&eacute;</b>", "&eacute;t&eacute;", "&EACUTE;T&Eacute;", "&nbsp;x&nbsp;", "&#233; &#xe9; &#XE9;",
    "&#39;s &#8217;s &#x2019;s", "&#128;&#150;", "&#0; &#xD800; &#1114112; &#99999999999999999999;", "&#1;&#12;&#13;x&#127;", "&#59; &semi; &#12a;",
    "&hellip &hellip;", "&NotEqualTilde;", "&CounterClockwiseContourIntegral;", "&unknown;", "&NewLine;a&Tab;b", "&szlig; &SZLIG;",
    "first <line>\n&eacute;", "&eacute;\nsecond <line>\n&eacute;", "\ufb01sh \ufb02ag \ufb00 \ufb03 \ufb04 \ufb05 \ufb06", "\u0132 \u0133 \u0149 \u01c4 \u01c5 \u01c6 \u01f1",
    "\uff2d\uff41\uff4b\uff45 \uff49\uff54 \uff12\uff10", "\uff01\uff1f\uff08\uff09\uff5e", "\uff76\uff9e\uff77\uff9e", "\uffe3 \uffe5 \uffe6", "\u3000wide\u3000blank", "\uffa1\uffc2",
    "caf\u00c3\u00a9", "caf\u00e9", "cafe\u0301", "na\u00c3\u00afve fa\u00c3\u00a7ade", "\u00e2\u0080\u0099s", "it\u00e2\u20ac\u2122s", "\u00e2\u20ac\u0153quoted\u00e2\u20ac\ufffd",
    "\u00c3\u00a0 la mode", "\u00c3 la mode", "voil\u00c3 le travail", "\u00c3 s vezes", "\u00c2\u00a35", "\u00c2 5", "a\u00c2 b", "\u00c2\u00b0C", "x\u00c2\u00b2",
    "\u00d0\u00bf\u00d1\u0080\u00d0\u00b8\u00d0\u00b2\u00d0\u00b5\u00d1\u0082", "\u0420\u045f\u0421\u0402\u0420\u0451\u0420\u0406\u0420\u00b5\u0421\u201a", "\u221a\u00a9t\u221a\u00a9", "\u251c\u00ae", "\u00f0\u0178\u02dc\u0080", "\u00f0\u0178\u00a6\u0160 fox",
    "\u00e3\u0081\u00b2\u00e3\u0082\u0089", "\u00c3\u0192\u00c2\u00a9", "\u00c3\u0083\u00c2\u00a9t\u00c3\u0083\u00c2\u00a9", "the word caf\u00c3\u00a9 and \u4f60\u597d", "\u4f60\u597d \u00e2\u20ac\u201c dash", "\u00ed\u00a0\u00bd\u00ed\u00b8\u008d", "nul \u00c0\u0080 in Java",
    "dash \u2014 and \u2026", "smart\u0092s \u0085 \u0096", "\u0093quoted\u0094", "\u0081", "\ufeffstart", "a\ufeffb", "a\x00b\x07c\x1bd\x7f", "\x1b[31mred\x1b[0m", "\x1b[1;32", "a\u206ab\ufff9c\ufffcd",
    "one\r\ntwo\rthree\u2028four\u2029five\u0085six", "tab\tvertical\x0bform\x0cfeed", "a\u200bb\u200cc\u200dd\u2060e", "a\u00adb", "a\u00a0b", "a\u2003b",
    "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3", "\u039f\u0394\u039f\u03a3 \u03a3", "\u03a3\u03a3", "\u0391\u03a3\u0301", "\u0391\u03a3.\u0392", "\u0391\u03a3 \u0392", "\u0391.\u03a3", "\u0391'\u03a3", "1\u03a3", "\u03a3\u0391\u03a3'", "\u0130stanbul", "STRASSE \u1e9e",
    "<|endoftext|>", "<|ENDOFTEXT|>", "a<|EndOfText|>b", "x <|startoftext|> y", "<|STARTOFTEXT|>", "&lt;|endoftext|&gt;", "<|\u017ftartoftext|>", "<|endoftext", "\ufeff<|endoftext|>\u2019s",
    "'s 'S '\u017f \u2019S", "I'LL we'Re", "rock 'n' roll", "\u017ft \u212a \u212b", "\u03b1\u0345 \u1fb3 \u0345", "\u24b6 \u2167 \u2177", "\u00bd cup \u00b2", "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467", "\u4f60\u597d\u4e16\u754c", "\ud55c\uad6d\uc5b4",
    "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "http://example.org/?a=1&amp;b=2", "\u00e5 \u00c5 \u00c6r\u00f8", "\u00bfqu\u00e9? \u00a1hola!", "\u00ab a \u00bb", "na\u00efve\u2122 \u00ae", "\u0152uvre \u0153uvre", "100\u20ac", "\u00a7 5 \u00b6", "caf\u00e9\u2122s",
    "I\u00f1t\u00ebrn\u00e2ti\u00f4n\u00e0liz\u00e6ti\u00f8n", "\u201cMake it \u2018pop\u2019\u201d \u2013 please\u2026", "the " * 80, "\u2019" * 90, "caf\u00c3\u00a9 " * 40,
]
ENCODINGS = ["latin-1", "sloppy-windows-1252", "sloppy-windows-1251", "sloppy-windows-1250", "sloppy-windows-1253",
             "sloppy-windows-1254", "iso-8859-2", "macroman", "cp437", "windows-1252"]
PIECES = [
    "caf\u00e9", "\u201cquotes\u201d", "it\u2019s", "\u00e0 la mode", "\u00e0s vezes", "\u00e0quele", "\u043f\u0440\u0438\u0432\u0435\u0442", "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1", "\U0001f525\U0001f600", "\u65e5\u672c\u8a9e", "\u3042\u308a\u304c\u3068\u3046",
    "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e", "\u2026", "\u2014", "\u2022", "\u00a35", "\u20ac20", "x\u00b2", "\u00df", "\u0160a\u013ea", "\u00c6r\u00f8", "\u0141\u00f3d\u017a", "\u00bfqu\u00e9?", "\u00a0", "\u00ad", "\u2028", "\ufeff", "\0", "&amp;", "&eacute;", "<b>",
    "\ufb01", "\uff21", "\u221a\u00b1", "\u00c2", "\u00c3 ", "\u00e2\u20ac\u0153", "?", "\ufffd", "\x85", "\x93", "\x1a", "\u03a3", "cat", "the ", " ", "\n",
]


def damaged(count: int) -> list[str]:
    rng = random.Random(20220601)
    out: list[str] = []
    while len(out) < count:
        text = "".join(rng.choice(PIECES) + rng.choice(["", "", " "]) for _ in range(rng.randint(1, 5)))
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            text = text.encode("utf-8").decode(rng.choice(ENCODINGS), "replace")
        if rng.random() < 0.3:
            text = text.replace("\u00a0", " ")
        if rng.random() < 0.2:
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice("?\ufffd\u00a0 \u00e9<") + text[place + 1:]
        if rng.random() < 0.4:
            text = rng.choice(PIECES) + text + rng.choice(PIECES)
        out.append(text)
    return out


def main() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "models" / "clip-tokenizer")
    rows = []
    for text in dict.fromkeys(PROMPTS):
        ids = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
        every = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
        assert ids == [49406, *every[:75], *[49407] * (76 - len(every[:75]))]
        rows.append({"text": text, "fixed": ftfy.fix_text(text), "ids": every})
    spoilt = [{"text": text, "fixed": ftfy.fix_text(text)} for text in damaged(500)]

    def compact(items: list[dict]) -> str:
        return ",\n".join(json.dumps(item, separators=(",", ":")) for item in items)

    made_by = f"transformers {transformers.__version__}, ftfy {ftfy.__version__}"
    (ROOT / "tests" / "text" / "fixtures" / "released_texts.json").write_text(
        f'{{"made_by":"{made_by}",\n"prompts":[\n{compact(rows)}\n],\n"damaged":[\n{compact(spoilt)}\n]}}\n')
    print(len(rows), "prompts,", sum(row["text"] != row["fixed"] for row in spoilt), "of", len(spoilt), "damaged texts change")


if __name__ == "__main__":
    main()
