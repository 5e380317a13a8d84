"""Writes a mask for a PNG: white in its left half, black in the other.

    python3 left_half.py PICTURE.png MASK.png
"""

import struct
import sys
import zlib

with open(sys.argv[1], "rb") as file:
    width, height = struct.unpack(">II", file.read(24)[16:])
row = b"\0" + b"\xff" * (width // 2) + b"\0" * (width - width // 2)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


with open(sys.argv[2], "wb") as file:
    file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b""))
