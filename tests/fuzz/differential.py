#!/usr/bin/env python3
"""Reads files with the library and with the programs that others use, and compares: safetensors with Hugging Face's
package, pictures with Pillow. Files are the seeds of the fuzz targets, what these found interesting, and mutations.

    differential.py READ_FILES SOURCE [--count N] [--seed S] [--corpus FOLDER] [--kind KIND]...

READ_FILES is the program of tests/fuzz/read_files.cpp. What both accept has to be read the same: the same tensors, bit by
bit; the same pixels, for lossy formats within LARGEST_DIFFERENCE. What one refuses and the other reads is counted by its
reason; reasons in JUDGED are known, others make the status 1. `scripts/fuzz.sh --compare` runs it; without the Python
packages the status is 77, of which `--check` alone tells.
"""
import argparse
import collections
import glob
import io
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zlib

try:
    import PIL
    import PIL.Image
    import safetensors
except ImportError as problem:
    print(f"skipped: differential: {problem}; tests/parity/venv.sh installs what it needs")
    sys.exit(77)

warnings.simplefilter("ignore")
PIL.Image.MAX_IMAGE_PIXELS = None

KINDS = ["safetensors", "png", "jpeg", "webp", "bmp", "gif", "tga", "psd", "pnm"]
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tga": "TGA", "psd": "PSD",
           "pnm": "PPM"}
# Decoders of lossy formats may round otherwise.
LARGEST_DIFFERENCE = {"jpeg": 3, "webp": 3}

# What is refused by one alone, by kind, who refuses it, and what the reason matches: why that is right.
JUDGED = [
    (".*", "we do", "FILE: (corrupt|truncated)", "Pillow passes over damage that does not end its decoder; we refuse it"),
    ("pnm", "we do", "FILE: unsupported format, got PNM that is not binary", "text and bilevel PNM are not read"),
    ("tga", "we do", "FILE: unsupported format", "without a mark, more has to be right in the header"),
    ("safetensors", "we do", "FILE: the shape .* overflows", "the reference lets an earlier 0 hide an overflow"),
    ("safetensors", "we do", "FILE: .*duplicate", "the reference takes the last of two tensors of one name"),
    ("bmp", "they do", "OSError: Unsupported BMP Palette size", "where the pixels begin says how long the palette is"),
    ("jpeg", "they do", "UnidentifiedImageError", "Pillow looks for the header past fewer markers than libjpeg (TEM)"),
    ("psd", "they do", "UnidentifiedImageError", "Pillow reads no RGB of 16 bits"),
    ("tga", "they do", "OSError: buffer overrun", "a packed run that goes on after the last pixel is cut"),
    ("webp", "they do", "OSError: failed to read next frame", "Pillow brings libwebp 1.6, which checks more than Debian's 1.2"),
]


def seeds(source, corpus, kind):
    """Contents of the files to begin with."""
    target = kind if kind == "safetensors" else "picture_" + kind
    patterns = []
    for line in (source / "tests/fuzz/targets.txt").read_text().splitlines():
        fields = line.split()
        if fields and fields[0] == target:
            patterns = [str(source / pattern) for pattern in fields[3:]]
    patterns += [f"{source}/tests/fuzz/corpus/{target}/*", f"{corpus}/{target}/*"]
    names = sorted(name for pattern in patterns for name in glob.glob(pattern))
    found = [pathlib.Path(name).read_bytes() for name in names]
    kept = source / f"tests/fuzz/corpus/{target}.tar.gz"
    if kept.exists():
        with tarfile.open(kept) as archive:
            found += [archive.extractfile(member).read() for member in archive if member.isfile()]
    return [content for content in found if content]


def changed(content, other, chance):
    """A few bytes of `content` changed, removed, repeated, or taken from `other`."""
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        place, length = chance.randrange(len(content) + 1), chance.choice([1, 1, 2, 4, 16])
        what = chance.randrange(6)
        if what == 0 and place < len(content):
            content[place] ^= 1 << chance.randrange(8)
        elif what == 1 and place < len(content):
            content[place] = chance.randrange(256)
        elif what == 2:
            del content[place:place + length]
        elif what == 3:
            content[place:place] = content[place:place + length]
        elif what == 4:
            begin = chance.randrange(len(other))
            content[place:place + length] = other[begin:begin + length]
        else:
            digits = [match.span() for match in re.finditer(rb"[0-9]+", content)]
            if digits:
                begin, end = chance.choice(digits)
                content[begin:end] = str(chance.choice([0, 1, 2, 4, 7, 8, 255, 65536, 2**31, 2**63])).encode()
    return bytes(content)


def mutated_safetensors(content, other, chance):
    """Changes the header and keeps its length right; now and then anything."""
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if chance.randrange(8) == 0 or length == 0 or length > len(content) - 8:
        return changed(content, other, chance)
    header = changed(content[8:8 + length], other, chance)
    return struct.pack("<Q", len(header)) + header + content[8 + length:]


def mutated_png(content, other, chance):
    """Keeps the sums of chunks right; now and then not."""
    content = bytearray(changed(content, other, chance))
    place = 8
    while chance.randrange(32) and place + 12 <= len(content):
        length = int.from_bytes(content[place:place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(content):
            break
        content[end:end + 4] = zlib.crc32(content[place + 4:end]).to_bytes(4, "big")
        place = end + 4
    return bytes(content)


def others_read(kind, content):
    """As the program answers; pixels are under "pixels"."""
    try:
        if kind == "safetensors":
            # The package's functions that return tensors leave out what their library lacks; this one does not.
            tensors = {name: [info["dtype"], list(info["shape"]), zlib.crc32(bytes(info["data"]))]
                       for name, info in safetensors.deserialize(content)}
            return {"tensors": tensors}
        with PIL.Image.open(io.BytesIO(content), formats=[FORMATS[kind]]) as picture:
            if picture.width * picture.height > 1 << 22:
                return {"refused": "beyond the limit of this test"}
            frame = picture.tile[0][1] if kind == "gif" else None
            indexed = kind == "tga" and picture.mode == "P"
            if picture.mode in ("I;16", "I") and kind in ("png", "pnm"):
                # Pillow clips these at 255, which turns most pictures white; we take the high byte, as it does of RGB.
                picture = picture.point(lambda level: level / 256).convert("L") if picture.mode == "I" else (
                    PIL.Image.frombytes("L", picture.size, picture.tobytes()[1::2]))
            rgb = picture.convert("RGB")
            return {"width": rgb.width, "height": rgb.height, "pixels": rgb.tobytes(), "frame": frame, "indexed": indexed}
    except Exception as problem:  # Pillow's decoders raise whatever their code meets
        return {"refused": f"{type(problem).__name__}: {problem}"}


def reason(answer, path):
    """The message without what differs from file to file."""
    message = answer["refused"].replace(str(path), "FILE")
    return re.sub(r"'[^']*'", "'...'", re.sub(r"[0-9]+", "N", message))[:110]


def same(kind, ours, theirs, path):
    if kind == "safetensors":
        return ours["tensors"] == theirs["tensors"]
    if (ours["width"], ours["height"]) != (theirs["width"], theirs["height"]):
        return False
    pixels, others = pathlib.Path(f"{path}.rgb").read_bytes(), theirs["pixels"]
    if pixels == others:
        return True
    if len(pixels) != len(others):
        return False
    limit, frame = LARGEST_DIFFERENCE.get(kind, 0), theirs["frame"]
    for place in range(0, len(pixels), 3):
        ours_here, theirs_here = pixels[place:place + 3], others[place:place + 3]
        if ours_here == theirs_here or all(abs(a - b) <= limit for a, b in zip(ours_here, theirs_here)):
            continue
        y, x = divmod(place // 3, ours["width"])
        # What the first frame leaves open is clear; Pillow shows the first colour there.
        if frame and not (frame[0] <= x < frame[2] and frame[1] <= y < frame[3]):
            continue
        # An index beyond the palette: stb shows the first colour, Pillow black.
        if theirs["indexed"] and theirs_here == bytes(3):
            continue
        return False
    return True


def main():
    if sys.argv[1:] == ["--check"]:
        return 0
    options = argparse.ArgumentParser()
    options.add_argument("program")
    options.add_argument("source", type=pathlib.Path)
    options.add_argument("--count", type=int, default=2000, help="files of each kind, with the seeds")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--corpus", type=pathlib.Path, default="build/fuzz/corpus")
    options.add_argument("--kind", action="append", choices=KINDS)
    options.add_argument("--findings", type=pathlib.Path, default="build/fuzz/findings/differential")
    arguments = options.parse_args()
    chance = random.Random(arguments.seed)
    status = 0
    print(f"Pillow {PIL.__version__}, safetensors {safetensors.__version__}")
    print(f"{'kind':12} {'files':>7} {'same':>7} {'refused':>7} {'we do':>7} {'they do':>7} {'differ':>7}")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, subprocess.Popen(
            [arguments.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as program:
        for kind in arguments.kind or KINDS:
            originals = seeds(arguments.source, arguments.corpus, kind)
            counts, reasons, firsts = collections.Counter(), collections.Counter(), {}
            path = pathlib.Path(folder, f"file.{kind}")
            mutate = {"safetensors": mutated_safetensors, "png": mutated_png}.get(kind, changed)
            for i in range(max(arguments.count, len(originals))):
                content = originals[i] if i < len(originals) else mutate(
                    chance.choice(originals), chance.choice(originals), chance)
                path.write_bytes(content)
                program.stdin.write(f"{path}\n")
                ours = json.loads(program.stdout.readline())
                theirs = others_read(kind, content)
                if "refused" in ours and "refused" in theirs:
                    outcome = "refused"
                elif "refused" in ours:
                    outcome = "we do"
                elif "refused" in theirs:
                    outcome = "they do"
                else:
                    outcome = "same" if same(kind, ours, theirs, path) else "differ"
                counts[outcome] += 1
                if outcome in ("refused", "same"):
                    continue
                why = reason(ours if outcome == "we do" else theirs, path) if outcome != "differ" else "another picture"
                reasons[outcome, why] += 1
                if any(re.fullmatch(k, kind) and who == outcome and re.match(begin, why)
                       for k, who, begin, _ in JUDGED):
                    continue
                status = 1
                if (outcome, why) not in firsts:
                    firsts[outcome, why] = arguments.findings / f"{zlib.crc32(content):08x}.{kind}"
                    arguments.findings.mkdir(parents=True, exist_ok=True)
                    firsts[outcome, why].write_bytes(content)
            print(f"{kind:12} {sum(counts.values()):7} " + " ".join(
                f"{counts[outcome]:7}" for outcome in ("same", "refused", "we do", "they do", "differ")))
            for (outcome, why), first in firsts.items():
                print(f"    {reasons[outcome, why]:6} {outcome}: {why}, for example {first}")
            sys.stdout.flush()
        program.stdin.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
