#!/usr/bin/env python3
"""Hugging Face's `datasets` loads what convert_pairs --to imagefolder writes: splits, columns, texts and pixels.

    load_image_folder.py CONVERT_PAIRS

Exit status 77 where `datasets` is not installed (tests/parity/venv.sh does not install it; pip install datasets does).
"""
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import datasets
except ImportError:
    print("skipped: no datasets")
    sys.exit(77)
import numpy
import PIL.Image

PROMPTS = 20


def picture(seed):
    """JPEG bytes of a picture unlike the others."""
    pixels = numpy.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=numpy.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).resize((40, 32)).save(buffer, "jpeg", quality=100)
    return buffer.getvalue()


def write_set(root):
    """Writes a set in the published layout: prompt i has 1 + i % 2 pairs."""
    seeds = []
    for i in range(PROMPTS):
        folder = root / f"{i:07d}"
        folder.mkdir(parents=True)
        words = {"input": f"before {i}", "edit": f"edit \"{i}\"", "output": f"after \u00e9 {i}"}
        (folder / "prompt.json").write_text(json.dumps(words))
        names = [str(100 + k) for k in range(1 + i % 2)]
        for k, name in enumerate(names):
            (folder / f"{name}_0.jpg").write_bytes(picture(4 * i + k))
            (folder / f"{name}_1.jpg").write_bytes(picture(1000 + 4 * i + k))
        seeds.append([folder.name, names])
    (root / "seeds.json").write_text(json.dumps(seeds))


def pixels_of(path):
    return numpy.asarray(PIL.Image.open(path).convert("RGB"))


def check_rows(rows, root, prompts):
    expected = [(i, 100 + k) for i in prompts for k in range(1 + i % 2)]
    assert len(rows) == len(expected), f"expected {len(expected)} rows, found {len(rows)}"
    columns = {"original_prompt", "original_image", "edit_prompt", "edited_prompt", "edited_image"}
    assert set(rows.column_names) == columns, f"found the columns {rows.column_names}"
    for row, (i, seed) in zip(rows, expected):
        assert row["original_prompt"] == f"before {i}", row
        assert row["edit_prompt"] == f"edit \"{i}\"", row
        assert row["edited_prompt"] == f"after \u00e9 {i}", row
        for column, which in (("original_image", 0), ("edited_image", 1)):
            found = numpy.asarray(row[column].convert("RGB"))
            assert (found == pixels_of(root / f"{i:07d}" / f"{seed}_{which}.jpg")).all(), (column, i, seed)


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        root = scratch / "set"
        write_set(root)
        for split in ("all", "train", "validation", "test"):
            out = scratch / ("whole" if split == "all" else "splits")
            subprocess.run([program, "--pairs", root, "--out", out, "--to", "imagefolder", "--split", split],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        def load(name):
            return datasets.load_dataset("imagefolder", data_dir=str(scratch / name), cache_dir=str(scratch / "cache"))
        whole = load("whole")
        assert list(whole) == ["train"], f"found the splits {list(whole)}"
        check_rows(whole["train"], root, range(PROMPTS))
        splits = load("splits")
        assert set(splits) == {"train", "validation", "test"}, f"found the splits {list(splits)}"
        check_rows(splits["train"], root, range(18))
        check_rows(splits["validation"], root, range(18, 19))
        check_rows(splits["test"], root, range(19, 20))
    print(f"datasets {datasets.__version__}: {len(whole['train'])} rows of {PROMPTS} prompts, and in three splits")


main()
