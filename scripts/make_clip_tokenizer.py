#!/usr/bin/env python3
"""Derives CLIP's vocab.json and merges.txt from the vocabulary in the open_clip_torch wheel.

CLIP's vocabulary is defined by a list of merges alone: 256 bytes, the same 256 bytes at the end of a word, one token
per merge in order (the first 48,894 lines of the file), and the two special tokens. This script writes the files in the
form that transformers and this library read.

Usage: make_clip_tokenizer.py WHEEL [FOLDER]     (WHEEL: open_clip_torch-*.whl, as `pip download --no-deps` stores it)
"""

import gzip
import json
import sys
import zipfile
from pathlib import Path

MERGES = 49152 - 256 - 2
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_characters() -> list[str]:
    """Printable character of each token for one byte, in token order: printable Latin-1 first, then the rest at U+0100.."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def main() -> None:
    wheel = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent.parent / "models" / "clip-tokenizer"
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read("open_clip/bpe_simple_vocab_16e6.txt.gz")).decode("utf-8")
        names = [n for n in archive.namelist() if n.endswith("/LICENSE")]
        licence = archive.read(names[0]).decode("utf-8")
    merges = text.split("\n")[1 : MERGES + 1]
    characters = byte_characters()
    tokens = characters + [c + "</w>" for c in characters] + ["".join(m.split()) for m in merges] + [START, END]
    assert len(tokens) == len(set(tokens)) == 49408, len(tokens)

    out.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (out / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    (out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")

    def special(content: str) -> dict:
        return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    roles = {"bos_token": special(START), "eos_token": special(END), "pad_token": END, "unk_token": special(END)}
    (out / "special_tokens_map.json").write_text(json.dumps(roles, indent=2) + "\n", encoding="utf-8")
    typed = {k: v if isinstance(v, str) else {"__type": "AddedToken", **v} for k, v in roles.items()}
    config = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
        **typed,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / "LICENSE").write_text(licence, encoding="utf-8")


if __name__ == "__main__":
    main()
