"""How much two PNG pictures differ: the percentage of their values that differ by at least LEVELS.

    python3 picture_difference.py A.png B.png LEVELS [FROM]

With FROM, only the columns from this one on count.

Two runs of one computation may differ by a level here and there, because another processor rounds otherwise: what must
differ does so in many places by several levels. Reads what the programs write (8 bits, not interlaced) with Python's own
library alone; pictures of different sizes differ everywhere.
"""

import struct
import sys
import zlib


def pixels(path):
    """Width, height and the bytes of a PNG."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        sys.exit(f"{path}: expected a PNG file")
    at, packed, width, height, channels = 8, b"", 0, 0, 0
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            if depth != 8 or colour not in (0, 2, 6) or interlace:
                sys.exit(f"{path}: expected 8 bits a channel, not interlaced")
            channels = {0: 1, 2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    raw, row = zlib.decompress(packed), width * channels
    above, result = bytearray(row), bytearray()
    for y in range(height):
        filtered = raw[y * (row + 1)]
        line = bytearray(raw[y * (row + 1) + 1 : (y + 1) * (row + 1)])
        for x in range(row):
            left = line[x - channels] if x >= channels else 0
            corner = above[x - channels] if x >= channels else 0
            if filtered == 1:
                guess = left
            elif filtered == 2:
                guess = above[x]
            elif filtered == 3:
                guess = (left + above[x]) // 2
            elif filtered == 4:
                base = left + above[x] - corner
                guess = min((abs(base - p), i, p) for i, p in enumerate((left, above[x], corner)))[2]
            else:
                guess = 0
            line[x] = (line[x] + guess) & 255
        result += line
        above = line
    return width, height, result


def main():
    first, second, levels = pixels(sys.argv[1]), pixels(sys.argv[2]), int(sys.argv[3])
    if first[:2] != second[:2] or len(first[2]) != len(second[2]):
        print(100.0)
        return
    width, height, values = first
    channels = len(values) // (width * height)
    begin = channels * int(sys.argv[4]) if len(sys.argv) > 4 else 0
    counted = [at for at in range(len(values)) if at % (width * channels) >= begin]
    apart = sum(abs(values[at] - second[2][at]) >= levels for at in counted)
    print(round(100.0 * apart / max(1, len(counted)), 3))


main()
