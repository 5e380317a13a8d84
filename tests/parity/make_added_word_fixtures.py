#!/usr/bin/env python3
"""Makes tests/text/fixtures/added-words.json: the token ids that transformers gives where a tokenizer's folder names
added words in one of the places that transformers reads.

    $(tests/parity/venv.sh) tests/parity/make_added_word_fixtures.py

Each case changes the files of tests/pipeline/fixtures/tiny-ip2p/tokenizer: an object is merged into a file, null removes
it. A "tokenizer.json" holds the added tokens only; the test, as this script, builds the rest from vocab.json and
merges.txt.
"""

import json
import shutil
import tempfile
from pathlib import Path

from transformers import CLIPTokenizer

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "pipeline/fixtures/tiny-ip2p/tokenizer"
FIRST = len(json.loads((SOURCE / "vocab.json").read_text()))
WORD = "<cat-toy>"
TEXTS = [
    f"make it {WORD}",
    "<CAT-TOY> here",
    f"a{WORD}b",
    "make it <sks> now",
    f"  {WORD}  ",
    f"a {WORD}, {WORD}",
    "make <|endoftext|> and <|ENDOFTEXT|>",
]
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False}
ALONE = {"vocab.json": None, "merges.txt": None, "special_tokens_map.json": None}


def token(content, normalized=True, special=False, **more):
    return {"content": content, "normalized": normalized, "special": special, **FLAGS, **more}


def listed(*words):
    special = [token(w, False, True, id=FIRST - 2 + i) for i, w in enumerate(("<|startoftext|>", "<|endoftext|>"))]
    return {"added_tokens": special + [token(w, id=FIRST + i) for i, w in enumerate(words)]}


CASES = {
    "added_tokens.json": {"added_tokens.json": {WORD: FIRST}},
    "two words": {"added_tokens.json": {"<sks>": FIRST + 1, WORD: FIRST}},
    "a word in capitals": {"added_tokens.json": {"<Cat-Toy>": FIRST}},
    "special tokens among them": {"added_tokens.json": {"<|startoftext|>": FIRST - 2, "<|endoftext|>": FIRST - 1, WORD: FIRST}},
    "decoder": {"tokenizer_config.json": {"added_tokens_decoder": {str(FIRST): token(WORD)}}},
    "decoder, as written": {"tokenizer_config.json": {"added_tokens_decoder": {str(FIRST): token(WORD, False)}}},
    "decoder and added_tokens.json": {
        "tokenizer_config.json": {"added_tokens_decoder": {str(FIRST): token("<sks>")}},
        "added_tokens.json": {WORD: FIRST},
    },
    "special_tokens_map.json": {"special_tokens_map.json": {"additional_special_tokens": [WORD]}},
    "map and added_tokens.json": {
        "special_tokens_map.json": {"additional_special_tokens": [WORD]},
        "added_tokens.json": {WORD: FIRST},
    },
    "additional tokens": {"tokenizer_config.json": {"additional_special_tokens": [WORD]}},
    "extra tokens": {"tokenizer_config.json": {"extra_special_tokens": [WORD]}},
    "tokenizer.json beside": {"tokenizer.json": listed(WORD)},
    "tokenizer.json beside, and more": {"tokenizer.json": listed(WORD), "added_tokens.json": {"<sks>": FIRST + 1}},
    "tokenizer.json alone": {"tokenizer.json": listed(WORD), **ALONE},
    "tokenizer.json alone, no config": {"tokenizer.json": listed(WORD), "tokenizer_config.json": None, **ALONE},
    "tokenizer.json and added_tokens.json": {"tokenizer.json": listed(), "added_tokens.json": {WORD: FIRST}, **ALONE},
    "tokenizer.json and decoder": {
        "tokenizer.json": listed(),
        "tokenizer_config.json": {"added_tokens_decoder": {str(FIRST): token(WORD)}},
        **ALONE,
    },
}


def ids_of(changes):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for file in SOURCE.iterdir():
            shutil.copy(file, folder)
        whole = Path(scratch) / "whole"
        CLIPTokenizer.from_pretrained(str(SOURCE)).save_pretrained(str(whole))
        for name, change in changes.items():
            path = folder / name
            if change is None:
                path.unlink()
                continue
            base = whole / name if name == "tokenizer.json" else path
            content = json.loads(base.read_text()) if base.exists() else {}
            path.write_text(json.dumps({**content, **change}))
        shutil.rmtree(whole)
        tokenizer = CLIPTokenizer.from_pretrained(str(folder))
        return [tokenizer(text).input_ids[1:-1] for text in TEXTS]


def main():
    cases = [{"name": name, "files": files, "ids": ids_of(files)} for name, files in CASES.items()]
    path = ROOT / "text/fixtures/added-words.json"
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    path.write_text(f'{{"texts": {json.dumps(TEXTS)},\n "cases": [\n{lines}\n]}}\n')
    print(path)


if __name__ == "__main__":
    main()
