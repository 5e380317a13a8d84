#!/usr/bin/env python3
"""Makes tests/text/fixtures from transformers' CLIPTokenizer (see requirements.txt for the version).

Usage: make_tokenizer_fixtures.py [HUMAN_PROMPTS.jsonl]     (from ../shared/data where it is not given)

hard_texts.json    texts with their ids, for four ways in which model folders define the special tokens
code_points.txt    per 1,024 code points, a hash over the ids of texts that hold each of them
random_texts.txt   per 100 texts of a seeded generator, a hash over their ids
triplets.txt       per line of human-written-prompts.jsonl, a hash over the ids of its three texts
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import tokenizers
import transformers
from transformers import CLIPTokenizer

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "models" / "clip-tokenizer"
OUT = ROOT / "tests" / "text" / "fixtures"
START, END = "<|startoftext|>", "<|endoftext|>"
MASK = (1 << 64) - 1


def token(content: str, normalized: bool) -> dict:
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}


ROLES = {
    role: {"__type": "AddedToken", **token(content, True)}
    for role, content in (("bos_token", START), ("eos_token", END), ("unk_token", END))
}
# Folders as they occur: SD 1 and SD 2, the vocabulary alone, and what transformers 5 saves (one file).
CONFIGS = {
    "sd1": {**ROLES, "pad_token": END},
    "sd2": {**ROLES, "pad_token": "!"},
    "bare": None,
    "decoder": {
        "added_tokens_decoder": {
            "49406": {**token(START, True), "special": True},
            "49407": {**token(END, True), "special": True},
        },
        "bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END,
    },
}


def tokenizer(config: dict | None) -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(SOURCE / name, folder)
        if config is not None:
            text = json.dumps({"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", **config})
            (Path(folder) / "tokenizer_config.json").write_text(text)
        return CLIPTokenizer.from_pretrained(folder)


def fold(hash_: int, ids: list[int]) -> int:
    """FNV-1a over 32-bit ids, with the length first."""
    for value in [len(ids), *ids]:
        for byte in value.to_bytes(4, "little"):
            hash_ = ((hash_ ^ byte) * 0x100000001B3) & MASK
    return hash_


EMPTY = 0xCBF29CE484222325


def texts_hash(reference: CLIPTokenizer, texts: list[str]) -> str:
    hash_ = EMPTY
    reference.backend_tokenizer.no_truncation()  # an earlier call with padding left both on
    reference.backend_tokenizer.no_padding()
    for encoding in reference.backend_tokenizer.encode_batch(texts, add_special_tokens=False):
        hash_ = fold(hash_, encoding.ids)
    return f"{hash_:016x}"


HARD = [
    "", " ", "   \t\n  ", "a", "A", "turn the sky into a sunset", "Make it SNOWY!", "what if it were 1987?", "don't", "DON'T",
    "it's we're they've I'm she'll he'd can't 'tis rock 'n' roll", "'s", "''s", "'S", "!'s", "a'b'c", "''''", "'", "\u2019s",
    "don\u2019t", "a  b   c", "tab\tnew\nline\r\nend", "a\u00a0b", "a\u200bb", "a\u200cb", "a\u200db", "a\u2060b", "a\ufeffb",
    "\ufeffstart", "a\u3000b", "a\u2003b", "a\u2028b\u2029c", "a\u0085b", "a\u1680b", "a\u180eb", "a\x0bb\x0cc", "a\x1cb\x1fc",
    "nul\0inside", "\0", "\x01\x02\x7f", "&amp;", "&lt;b&gt; &quot;x&quot; &#39; &nbsp;", "<b>bold</b>", "a</w>b", "</w>",
    "<|endoftext|>", "<|startoftext|>", "a<|endoftext|>b", "a <|endoftext|> b <|startoftext|> c", "<|ENDOFTEXT|>",
    "!<|EndOfText|>!", "x<|STARTOFTEXT|>.", "<|startoftext|", "<|endoftext", "|>", "<|endoftext|><|endoftext|>",
    "<|\u00e9ndoftext|>", "<|endo\u0066text|>", "<|endoftext|>!!", "!", "!!", "! !", "hello!", "wow!!!", "a!b", "?!", "!?!",
    "...", "a.b,c;d:e", "1234567890", "3.14159", "1,000,000", "10x zoom", "x2", "2x", "\u00bd cup", "\u00b2\u00b3\u00b9",
    "\u2460\u2461\u2462", "\u2167 XIV", "\u0661\u0662\u0663", "\u0967\u0968\u0969", "\U0001d7d8\U0001d7d9", "\u3007\u4e00\u4e8c",
    "caf\u00e9", "cafe\u0301", "CAF\u00c9", "CAFE\u0301", "na\u00efve", "\u00c5ngstr\u00f6m \u212b A\u030a", "\u1e9b\u0323",
    "\u0344", "\u0340\u0341", "a\u0323\u0307", "a\u0307\u0323", "q\u0307\u0323", "\u1e0b\u0323", "o\u0302\u0301",
    "\u1ed1", "e\u0301\u0301\u0301\u0301", "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324a\u0325l\u0321g\u0322o",
    "\u0301alone", " \u0301", "\u0130stanbul", "I\u0307", "\u0131", "STRASSE stra\u00dfe \u1e9e", "\u039f\u0394\u039f\u03a3",
    "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3", "\u1f88\u1fbc", "\u01c4 \u01c5 \u01c6", "\ufb01sh \ufb03", "\uff21\uff22\uff23\uff11",
    "\u24b6\u24b7", "\u2160", "\u1f70\u0345", "\u03b1\u0345\u0301", "\u212a\u2126", "\u00b5 \u03bc", "\u0149",
    "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440", "\u0419 \u0418\u0306", "\u0401\u0436",
    "\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\ufb2a \ufb1d", "\u0645\u0631\u062d\u0628\u0627",
    "\u0627\u0653 \u0622", "\u202bRTL\u202c", "\u200fmark", "\u061c", "\ufdfa", "\u0646\u0650\u064b",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0915\u093c \u0958", "\u09cb \u09c7\u09be", "\u0b94", "\u0dde", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\u0f73 \u0f75 \u0f81", "\u0f71\u0f72\u0f74", "\u1026 \u1025\u102e", "\u4f60\u597d\u4e16\u754c", "\u65e5\u672c\u8a9e",
    "\u304c \u304b\u3099", "\u30d1 \u30cf\u309a", "\uff76\uff9e", "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab", "\uac00\u11a8",
    "\uac01", "\u1100\u1161\u11a7", "\u1161\u11a8", "\uf900 \ufa0e \ufa10", "\U0002f800", "\U00020000",
    "\U0001f600", "\U0001f600\U0001f600 \U0001f600", "make it \U0001f525\U0001f525", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f44d\U0001f3fd", "\u2764\ufe0f \u2764", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "1\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "\u263a\ufe0e", "\u2192\u2190 \u221e \u2260 =\u0338", "\u226e <\u0338", "\u2adc \u2add\u0338", "\u2329\u232a", "\u037e \u0387 \u1fef",
    "\u2000\u2001", "$100 \u20ac50 \u00a320 \u00a5", "100% #tag @user", "C++ & C#", "a_b-c/d\\e", "[x](y) {z}", "\"quoted\"",
    "\u201cquoted\u201d \u2014 dash \u2026", "http://example.org/a?b=c&d=e#f", "me@example.org", "\u00ad soft\u00adhyphen",
    "\ufffd", "\uffff", "\ufdd0", "\U0010ffff", "\ue000", "\U000f0000", "\u0378", "\U0001d15e", "\U0001d15f\U0001d165",
    "\U00010400\U00010428", "\U0001e900", "\ua7dc \ua7cb \u1c89", "\U00010d50", "\U00016ea0", "\u1c90", "\u13a0 \uab70",
    "\u2c2f", "\U00011938 \U00011935\U00011930", "\U000105c9 \U000105d2\u0307", "\u0898\u0327 a\u0898\u0323", "a\u1df6\u0323",
    "\u9fff \U0002ebf0 \U00031350 \U000323b0", "\U00013460", "\U000116d0", "\u0c3c\u0c4d", "supercalifragilisticexpialidocious",
    "a" * 75, "a" * 300, "ab" * 200, "!" * 300, "1" * 80, "\U0001f600" * 40, "e\u0301" * 100, "the " * 75, "the " * 76, "the " * 200,
    "word" + "\u0301" * 200, "x" * 74 + " y z w",
    " ".join(f"item {i} is red," for i in range(40)),
]
ILL_FORMED = [
    "ff", "61ff62", "c3", "c328", "e282", "e28261", "e228a1", "f0288cbc", "f0908cff", "f09f98", "f09f9861", "eda080", "edb080",
    "eda081edb081", "c080", "c1bf", "e08080", "e09fbf", "f0808080", "f08fbfbf", "f4908080", "f5808080", "80", "8080bf", "fe", "61c3",
    "61e282ac62ff63", "00ff00", "e282ace2", "f48fbfbf", "ee8080", "63616665cc81ff",
]
POOLS = [
    (0x20, 0x7E), (0x41, 0x5A), (0x300, 0x36F), (0xC0, 0x24F), (0x370, 0x3FF), (0x1100, 0x11FF), (0xAC00, 0xD7A3),
    (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x590, 0x74F), (0x900, 0xDFF), (0xF00, 0xFFF), (0x1F1E6, 0x1F1FF),
    (0x1F300, 0x1F6FF), (0xF900, 0xFAFF), (0x3040, 0x30FF), (0x1D160, 0x1D1FF), (0x1000, 0x1AFF), (0x0, 0xD7FF), (0xE000, 0x10FFFF),
]
PHRASES = ["<|endoftext|>", "<|STARTOFTEXT|>", "'s", "'LL", "  ", "!!", "the", "</w>"]


def random_texts(count: int) -> list[str]:
    """Texts of a 64-bit linear congruential generator, which the C++ test repeats."""
    state = 1

    def draw(n: int) -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        return (state >> 33) % n

    out = []
    for _ in range(count):
        text = ""
        for _ in range(1 + draw(24)):
            pool = draw(len(POOLS) + 1)
            if pool == len(POOLS):
                text += PHRASES[draw(len(PHRASES))]
            else:
                first, last = POOLS[pool]
                text += chr(first + draw(last - first + 1))
        out.append(text)
    return out


def main() -> None:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data" / "human-written-prompts.jsonl"
    OUT.mkdir(parents=True, exist_ok=True)
    made_by = f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}"
    references = {name: tokenizer(config) for name, config in CONFIGS.items()}

    def ids(reference: CLIPTokenizer, text: str) -> list[int]:
        return reference(text, padding="max_length", max_length=77, truncation=True).input_ids

    def case(text: str) -> dict:
        first = references["sd1"]
        row: dict = {"text": text, "all": first(text, add_special_tokens=False).input_ids}
        whole = {name: ids(reference, text) for name, reference in references.items()}
        row["ids"] = whole["sd1"]
        row.update({name: value for name, value in whole.items() if value != whole["sd1"]})
        row["decoded"] = first.decode(row["all"])
        if len(row["all"]) > 75:
            row["dropped"] = first.decode(row["all"][75:])
        return row

    def compact(rows: list[dict]) -> str:
        return ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)

    hard = [case(text) for text in dict.fromkeys(HARD)]
    for row in hard:  # BOS, EOS and padding repeat what "all" says; the test puts them back.
        assert row["ids"] == [49406, *row["all"][:75], 49407, *[49407] * (75 - len(row["all"]))]
        del row["ids"]
        for name in ("sd2", "bare", "decoder"):
            if name in row:
                while len(row[name]) > 1 and row[name][-1] == row[name][-2]:
                    row[name].pop()
    ill = [{"bytes": h, "all": case(bytes.fromhex(h).decode("utf-8", "replace"))["all"]} for h in ILL_FORMED]
    (OUT / "hard_texts.json").write_text(
        f'{{"made_by":"{made_by}",\n"configs":{json.dumps(CONFIGS)},\n"texts":[\n{compact(hard)}\n],\n'
        f'"ill_formed":[\n{compact(ill)}\n]}}\n'
    )

    blocks = []
    for begin in range(0, 0x110000, 1024):
        points = [chr(c) for c in range(begin, begin + 1024) if not 0xD800 <= c < 0xE000]
        blocks.append(texts_hash(references["sd1"], [f"a{c}B e{c}\u0301\u0327 {c}1" for c in points]))
    (OUT / "code_points.txt").write_text(f"# {made_by}\n" + "\n".join(blocks) + "\n")

    texts = random_texts(4000)
    hashes = [texts_hash(references["sd1"], texts[i : i + 100]) for i in range(0, len(texts), 100)]
    (OUT / "random_texts.txt").write_text(f"# {made_by}\n" + "\n".join(hashes) + "\n")

    lines = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    hashes = [texts_hash(references["sd1"], [line[k] for k in ("input", "edit", "output")]) for line in lines]
    (OUT / "triplets.txt").write_text(f"# {made_by}\n" + "\n".join(hashes) + "\n")
    print(len(hard), "hard texts,", len(ill), "ill-formed,", len(blocks), "blocks,", len(lines), "triplets")


if __name__ == "__main__":
    main()
