"""Makes tests/data/fixtures/augment.json: checksums of what Pillow makes of a picture's size, crop and mirroring.

The steps are those of InstructPix2Pix's edit_dataset.py: resize with Lanczos, 2 x / 255 - 1 in fp32, crop, flip; the size
of a picture that is not square is torchvision's, int(side * longer / shorter), or, squeezed as there, side x side. Run with
Pillow 13 or later. The fp32 arithmetic is numpy's, which gives torch's bits here.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "data" / "fixtures" / "augment.json"


def patterned(width, height, shift):
    """The picture that tests/data/made_pairs.hpp makes."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * 7 + y * 13 + x * y // 16 + c * 50 + shift) % 256).astype(np.uint8)


def case(width, height, side, top, left, crop, mirrored, squeezed=False):
    shorter, longer = min(width, height), max(width, height)
    other = int(side * longer / shorter)
    size = (side, side) if squeezed else (side, other) if width <= height else (other, side)
    resized = Image.fromarray(patterned(width, height, 3)).resize(size, Image.Resampling.LANCZOS)
    values = np.float32(2) * np.array(resized).astype(np.float32) / np.float32(255) - np.float32(1)
    values = values.transpose(2, 0, 1)[:, top : top + crop, left : left + crop]
    if mirrored:
        values = values[:, :, ::-1]
    values = np.ascontiguousarray(values)
    return {
        "width": width, "height": height, "side": side, "top": top, "left": left, "crop": crop, "mirrored": mirrored,
        "resized": list(size), "crc32": zlib.crc32(values.tobytes()), "mean": float(values.astype(np.float64).mean()),
        "squeezed": squeezed,
    }


cases = [
    case(512, 512, 277, 11, 20, 256, False),
    case(512, 512, 288, 32, 0, 256, True),
    case(512, 512, 256, 0, 0, 256, False),
    case(640, 427, 271, 15, 131, 256, True),
    case(321, 512, 261, 160, 5, 256, False),
    case(512, 512, 256, 0, 0, 256, True, squeezed=True),
    case(640, 427, 256, 0, 0, 256, False, squeezed=True),
    case(321, 512, 288, 32, 7, 256, True, squeezed=True),
]
OUT.parent.mkdir(parents=True, exist_ok=True)
OUT.write_text(json.dumps({"pillow": PIL.__version__, "cases": cases}, indent=1) + "\n")
