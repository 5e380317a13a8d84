"""Makes the golden files of tests/io: pictures with the pixels Pillow decodes, and hashes of what Pillow resamples.

Run with Pillow 13 or later and, for the pass order of the versions before it, a folder with Pillow 11 or 12:

    pip install --target older-pillow --no-deps 'pillow<13'
    python make_image_fixtures.py --older-pillow older-pillow
"""

import argparse
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "io" / "fixtures"
PICTURES = OUT / "images"
FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


# --- resampling ------------------------------------------------------------------------------------------------------


def noise(width, height, seed):
    """Bytes of a linear congruential generator, which the C++ test repeats; odd seeds give only black and white."""
    state = seed
    values = bytearray(width * height * 3)
    for i in range(len(values)):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values[i] = state >> 24
    array = np.frombuffer(bytes(values), dtype=np.uint8).reshape(height, width, 3)
    return np.where(array > 127, 255, 0).astype(np.uint8) if seed % 2 else array


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def resample_cases():
    pairs = [
        ((1, 1), (1, 1)), ((1, 1), (7, 5)), ((7, 5), (1, 1)), ((1, 9), (1, 3)), ((9, 1), (3, 1)), ((1, 9), (4, 9)),
        ((2, 2), (3, 3)), ((2, 3), (5, 64)), ((3, 2), (64, 5)), ((5, 5), (5, 5)), ((5, 5), (5, 9)), ((5, 5), (9, 5)),
        ((6, 4), (3, 2)), ((8, 8), (4, 4)), ((8, 8), (16, 16)), ((10, 10), (3, 7)), ((13, 17), (17, 13)),
        ((16, 16), (15, 17)), ((17, 31), (31, 17)), ((20, 30), (10, 15)), ((31, 7), (7, 31)), ((33, 33), (32, 32)),
        ((32, 32), (33, 33)), ((40, 60), (13, 7)), ((48, 48), (5, 48)), ((48, 48), (48, 5)), ((50, 20), (49, 19)),
        ((64, 64), (16, 16)), ((64, 48), (28, 21)), ((65, 63), (64, 64)), ((7, 100), (7, 33)), ((100, 7), (33, 7)),
        ((100, 3), (50, 40)), ((3, 100), (40, 50)), ((96, 64), (36, 24)), ((128, 96), (1, 2)), ((2, 1), (128, 96)),
        ((120, 90), (64, 64)), ((50, 120), (40, 60)), ((50, 120), (90, 10)), ((111, 77), (222, 154)),
        ((160, 120), (37, 29)), ((30, 40), (100, 75)), ((4, 150), (3, 2)),
    ]  # fmt: skip
    cases = []
    for index, (source, target) in enumerate(pairs):
        names = ["box", "bicubic", "lanczos"] + (["bilinear", "hamming"] if index % 4 == 0 else [])
        for name in names:
            cases.append({"in": source, "seed": index, "out": target, "filter": name})
    boxes = [
        ((20, 20), (10, 10), (0, 0, 10, 10)), ((20, 20), (10, 10), (5, 5, 15, 15)),
        ((20, 20), (10, 10), (2.5, 3.25, 17.5, 16.75)), ((31, 17), (64, 48), (0.1, 0.2, 30.9, 16.8)),
        ((64, 48), (8, 8), (8, 0, 56, 48)), ((9, 50), (9, 5), (0, 1.5, 9, 49.5)), ((50, 9), (5, 9), (1.5, 0, 49.5, 9)),
        ((40, 40), (40, 40), (0.5, 0.5, 39.5, 39.5)), ((60, 90), (33, 22), (7, 11, 52, 80)),
        ((12, 12), (24, 24), (11.2, 11.2, 12, 12)),
    ]  # fmt: skip
    for index, (source, target, box) in enumerate(boxes):
        for name in FILTERS:
            box32 = [float(np.float32(value)) for value in box]
            cases.append({"in": source, "seed": 100 + index, "out": target, "filter": name, "box": box32})
    fits = [
        ((72, 48), (64, 64)), ((48, 72), (64, 64)), ((98, 98), (44, 44)), ((192, 108), (51, 32)), ((40, 30), (51, 38)),
        ((101, 67), (96, 64)), ((67, 101), (64, 96)), ((3, 50), (7, 11)), ((1, 1), (5, 9)), ((64, 64), (64, 64)),
        ((100, 75), (64, 48)), ((40, 70), (32, 51)),
    ]  # fmt: skip
    for index, (source, target) in enumerate(fits):
        for name in ["lanczos", "bicubic", "box"]:
            cases.append({"in": source, "seed": 200 + index, "out": target, "filter": name, "fit": True})
    return cases


def resample_results():
    results = []
    for case in resample_cases():
        image = Image.fromarray(noise(*case["in"], case["seed"]))
        method = FILTERS[case["filter"]]
        if case.get("fit"):
            result = ImageOps.fit(image, case["out"], method)
        else:
            result = image.resize(case["out"], method, box=case.get("box"))
        data = result.tobytes()
        results.append({"fnv": fnv1a(data), "pixels": data.hex() if len(data) <= 192 else ""})
    return results


def released_size(width, height, resolution):
    """The size rule of the released editing code."""
    import math

    factor = resolution / max(width, height)
    factor = math.ceil(min(width, height) * factor / 64) * 64 / min(width, height)
    return [int((width * factor) // 64) * 64, int((height * factor) // 64) * 64]


def make_resample(older):
    cases = resample_cases()
    now = resample_results()
    before = json.loads(
        subprocess.check_output(
            [sys.executable, __file__, "--print-resampled"], env={**os.environ, "PYTHONPATH": str(older.resolve())}
        )
    )
    assert int(PIL.__version__.split(".")[0]) >= 13 and int(before["pillow"].split(".")[0]) < 13
    for case, adaptive, horizontal in zip(cases, now, before["results"]):
        case["adaptive"] = adaptive
        if horizontal != adaptive:
            case["horizontal_first"] = horizontal
    sizes = []
    for resolution in (256, 512, 768):
        for width, height in [
            (720, 480), (3000, 2000), (768, 512), (1920, 1080), (4032, 3024), (98, 98), (103, 103), (107, 107),
            (322, 322), (347, 347), (644, 644), (512, 512), (640, 427), (427, 640), (1, 1), (1, 3), (1000, 31),
            (333, 500), (517, 511), (5000, 100),
        ]:  # fmt: skip
            sizes.append([width, height, resolution, *released_size(width, height, resolution)])
    written = {"pillow": [PIL.__version__, before["pillow"]], "released_sizes": sizes, "cases": cases}
    text = json.dumps(written, separators=(",", ":")).replace('},{"in"', '},\n{"in"')
    (OUT / "resample.json").write_text(text + "\n")


# --- decoding --------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 21, 13


def picture(channels, seed=0, width=WIDTH, height=HEIGHT, dtype=np.uint8):
    """Gradients with an edge and a little noise."""
    y, x = np.mgrid[0:height, 0:width]
    top = np.iinfo(dtype).max
    planes = []
    for channel in range(channels):
        wave = 0.5 + 0.45 * np.sin(x / (3 + channel) + y / (5 - channel) + seed) + 0.3 * (x + y > 17)
        planes.append(wave + np.random.default_rng(seed * 7 + channel).normal(0, 0.04, wave.shape))
    return np.squeeze((np.clip(np.stack(planes, -1), 0, 1) * top).astype(dtype))


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(array, depth, colour, interlaced=False, extra=b"", size=None):
    """A PNG with depths and interlacing that Pillow cannot write. `array` holds samples [H, W, channels]."""
    height, width = array.shape[:2]

    def scanlines(part):
        if 0 in part.shape[:2]:
            return b""
        lines = b""
        for row in part.reshape(part.shape[0], -1):
            if depth == 16:
                lines += b"\0" + row.astype(">u2").tobytes()
            elif depth == 8:
                lines += b"\0" + row.astype(np.uint8).tobytes()
            else:
                bits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
                lines += b"\0" + np.packbits(bits.reshape(-1)).tobytes()
        return lines

    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        data = b"".join(scanlines(array[y0::dy, x0::dx]) for x0, y0, dx, dy in passes)
    else:
        data = scanlines(array)
    shown = size or (width, height)
    header = struct.pack(">IIBBBBB", *shown, depth, colour, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )


def save(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def orientation_block(value, big_endian=False):
    order = ">" if big_endian else "<"
    # There is another entry before the orientation, so that the directory must be searched.
    entries = struct.pack(order + "HHIHH", 0x0100, 3, 1, 99, 0) + struct.pack(order + "HHIHH", 0x0112, 3, 1, value, 0)
    head = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", 2) + entries + struct.pack(order + "I", 0)


def decoder_files():
    rgb, rgba = Image.fromarray(picture(3)), Image.fromarray(picture(4, 1))
    gray = Image.fromarray(picture(1, 2))
    palette = rgb.quantize(13)
    files = {
        "rgb.png": save(rgb, format="PNG"),
        "rgba.png": save(rgba, format="PNG"),
        "gray.png": save(gray, format="PNG"),
        "gray_alpha.png": save(Image.merge("LA", (gray, rgba.getchannel("A"))), format="PNG"),
        "bilevel.png": save(gray.convert("1"), format="PNG"),
        "palette.png": save(palette, format="PNG"),
        "palette_2bit.png": save(rgb.quantize(4), format="PNG", bits=2),
        "palette_transparent.png": save(palette, format="PNG", transparency=bytes([0, 40, 128, 255, 200])),
        "gray_2bit.png": raw_png(picture(1, 3)[..., None] >> 6, 2, 0),
        "gray_4bit.png": raw_png(picture(1, 3)[..., None] >> 4, 4, 0),
        "rgb_interlaced.png": raw_png(picture(3, 4), 8, 2, interlaced=True),
        "gray_1bit_interlaced.png": raw_png(picture(1, 4)[..., None] >> 7, 1, 0, interlaced=True),
        "rgb_16bit.png": raw_png(picture(3, 5, dtype=np.uint16), 16, 2),
        "rgba_16bit.png": raw_png(picture(4, 5, dtype=np.uint16), 16, 6),
        "rgba_16bit_interlaced.png": raw_png(picture(4, 6, dtype=np.uint16), 16, 6, interlaced=True),
        "gray_16bit.png": raw_png(picture(1, 6, dtype=np.uint16)[..., None], 16, 0),
        "rgb_key.png": raw_png(picture(3, 7), 8, 2, extra=chunk(b"tRNS", struct.pack(">HHH", *map(int, picture(3, 7)[4, 4])))),
        "animated.png": save(rgb, format="PNG", save_all=True, append_images=[Image.fromarray(picture(3, 8))]),
        "orientation_6.png": save(rgb, format="PNG", exif=orientation_block(6)),
        "rgb_420.jpg": save(rgb, format="JPEG", quality=90),
        "rgb_422.jpg": save(rgb, format="JPEG", quality=80, subsampling=1),
        "rgb_444.jpg": save(rgb, format="JPEG", quality=95, subsampling=0),
        "rgb_stored_as_rgb.jpg": save(rgb, format="JPEG", quality=95, keep_rgb=True),
        "progressive.jpg": save(rgb, format="JPEG", quality=85, progressive=True),
        "restarts.jpg": save(rgb, format="JPEG", quality=85, subsampling=0, restart_marker_blocks=1),
        "gray.jpg": save(gray, format="JPEG", quality=90),
        "cmyk.jpg": save(Image.fromarray(picture(4, 9), "CMYK"), format="JPEG", quality=95),
        "orientation_big_endian.jpg": save(rgb, format="JPEG", exif=b"Exif\0\0" + orientation_block(8, True)),
        "lossy.webp": save(rgb, format="WEBP", quality=80),
        "lossless.webp": save(rgb, format="WEBP", lossless=True),
        "alpha_lossy.webp": save(rgba, format="WEBP", quality=80),
        "alpha_lossless.webp": save(rgba, format="WEBP", lossless=True, exact=True),
        "animated.webp": save(rgb, format="WEBP", save_all=True, append_images=[Image.fromarray(picture(3, 8))], lossless=True),
        "orientation_5.webp": save(rgb, format="WEBP", lossless=True, exif=orientation_block(5)),
    }  # fmt: skip
    cmyk = files["cmyk.jpg"]
    adobe = cmyk.index(b"Adobe")
    files["ycck.jpg"] = cmyk[: adobe + 11] + b"\x02" + cmyk[adobe + 12 :]
    for value in range(1, 9):
        files[f"orientation_{value}.jpg"] = save(rgb, format="JPEG", quality=90, exif=b"Exif\0\0" + orientation_block(value))
    return files


def over_white(image):
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return white


def make_decoder():
    PICTURES.mkdir(parents=True, exist_ok=True)
    for old in PICTURES.iterdir():
        old.unlink()
    expected = []
    for name, data in decoder_files().items():
        (PICTURES / name).write_bytes(data)
        image = Image.open(io.BytesIO(data))
        upright = ImageOps.exif_transpose(image)
        if name == "gray_16bit.png":
            # Pillow clips 16-bit gray at 255, which turns the picture white; here all 16-bit files are scaled.
            upright = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
        entry = {"file": name, "size": upright.size, "pixels": upright.convert("RGB").tobytes().hex()}
        if image.mode in ("RGBA", "LA") or "transparency" in image.info:
            entry["white"] = over_white(image).tobytes().hex()
        if upright.size != image.size or upright.tobytes() != image.tobytes():
            entry["stored"] = {"size": image.size, "pixels": image.convert("RGB").tobytes().hex()}
        if name == "gray_16bit.png":
            del entry["stored"]
        expected.append(entry)
    text = json.dumps({"pillow": PIL.__version__, "pictures": expected}, separators=(",", ":"))
    (OUT / "images.json").write_text(text.replace('},{"file"', '},\n{"file"') + "\n")

    tiny = Image.fromarray(picture(3, width=4, height=3))
    for extension, kind in [("tiff", "TIFF"), ("avif", "AVIF"), ("ico", "ICO"),
                            ("jp2", "JPEG2000")]:  # fmt: skip
        (PICTURES / f"foreign.{extension}").write_bytes(save(tiny, format=kind))
    # Small files that claim to be large: by area, and by aspect ratio (this one is complete).
    (PICTURES / "claims_10_gigapixel.png").write_bytes(raw_png(picture(3), 8, 2, size=(100000, 100000)))
    (PICTURES / "thin.png").write_bytes(raw_png(np.zeros((65535, 1, 1), np.uint8), 1, 0))
    jpeg = bytearray(save(Image.fromarray(picture(3)), format="JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    (PICTURES / "claims_4_gigapixel.jpg").write_bytes(jpeg)
    claims = bytearray(save(Image.fromarray(picture(3)), format="WEBP", lossless=True))
    stream = claims.index(b"VP8L") + 9  # chunk name, size, signature; then width - 1 and height - 1 in 14 bits each
    bits = int.from_bytes(claims[stream : stream + 4], "little") >> 28
    claims[stream : stream + 4] = (bits << 28 | 16382 << 14 | 16382).to_bytes(4, "little")
    (PICTURES / "claims_268_megapixel.webp").write_bytes(claims)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--older-pillow", type=Path, help="folder with an unpacked Pillow before version 13")
    parser.add_argument("--print-resampled", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.print_resampled:
        print(json.dumps({"pillow": PIL.__version__, "results": resample_results()}))
        return
    if arguments.older_pillow is None:
        parser.error("--older-pillow is needed")
    OUT.mkdir(parents=True, exist_ok=True)
    make_resample(arguments.older_pillow)
    make_decoder()


if __name__ == "__main__":
    main()
