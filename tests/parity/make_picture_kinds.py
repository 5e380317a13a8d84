#!/usr/bin/env python3
"""Makes tests/io/fixtures/kinds: small pictures whose orientation, colours or format lie outside the usual places, what
Pillow reads of them, and masks with what they mean.

    make_picture_kinds.py          needs numpy and Pillow with lcms2
"""
import io
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, ImageCms, ImageOps

OUT = pathlib.Path(__file__).parents[1] / "io" / "fixtures"
KINDS = OUT / "kinds"
WIDTH, HEIGHT = 24, 14


def scene():
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    rgb = np.stack([60 + 8 * x, 200 - 9 * y, 30 + 4 * x + 5 * y], -1)
    rgb[(x - 8) ** 2 + (y - 6) ** 2 < 16] = (235, 50, 35)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def save(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- orientation -----------------------------------------------------------------------------------------------------


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_chunks(png, before=b"", after=b""):
    first, end = png.index(b"IDAT") - 4, len(png) - 12
    return png[:first] + before + png[first:end] + after + png[end:]


def segment(jpeg, *contents):
    parts = b"".join(b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content for content in contents)
    return jpeg[:2] + parts + jpeg[2:]


def xmp(value, element=False):
    inner = f"><tiff:Orientation>{value}</tiff:Orientation></rdf:Description>" if element else f' tiff:Orientation="{value}"/>'
    return ('<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{inner}</rdf:RDF></x:xmpmeta>').encode()


def exif(value, tag=0x0112):
    return b"MM\0*" + struct.pack(">IH", 8, 1) + struct.pack(">HHIHH", tag, 3, 1, value, 0) + struct.pack(">I", 0)


def raw_profile(value):
    block = (b"Exif\0\0" + exif(value)).hex()
    lines = "".join(block[i : i + 72] + "\n" for i in range(0, len(block), 72))
    return f"\nexif\n{len(block) // 2:8d}\n{lines}".encode()


def orientations(image):
    jpeg, png = save(image, "JPEG", quality=95, subsampling=0), save(image, "PNG")
    in_jpeg = b"http://ns.adobe.com/xap/1.0/\0"
    itxt = b"XML:com.adobe.xmp\0"
    yield "xmp.jpg", segment(jpeg, in_jpeg + xmp(6))
    yield "xmp_element.jpg", segment(jpeg, in_jpeg + xmp(5, element=True))
    yield "exif_before_xmp.jpg", segment(jpeg, in_jpeg + xmp(6), b"Exif\0\0" + exif(3))
    yield "exif_without_orientation.jpg", segment(jpeg, b"Exif\0\0" + exif(6, tag=0x0100), in_jpeg + xmp(7))
    yield "exif_impossible.jpg", segment(jpeg, b"Exif\0\0" + exif(9), in_jpeg + xmp(6))
    whole = exif(8)
    yield "exif_in_two_parts.jpg", segment(jpeg, b"Exif\0\0" + whole[:12], b"Exif\0\0" + whole[12:])
    yield "xmp.png", with_chunks(png, chunk(b"iTXt", itxt + b"\0\0\0\0" + xmp(6)))
    yield "xmp_packed.png", with_chunks(png, chunk(b"iTXt", itxt + b"\1\0\0\0" + zlib.compress(xmp(8, element=True))))
    yield "xmp_after_pixels.png", with_chunks(png, after=chunk(b"iTXt", itxt + b"\0\0\0\0" + xmp(4)))
    yield "exif_chunk.png", with_chunks(png, chunk(b"eXIf", exif(5)))
    yield "text_packed.png", with_chunks(png, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(6))))
    yield "text.png", with_chunks(png, chunk(b"tEXt", b"Raw profile type exif\0" + raw_profile(7)))
    yield "xmp.webp", save(image, "WEBP", lossless=True, xmp=xmp(6))
    yield "exif_and_xmp.webp", save(image, "WEBP", lossless=True, exif=exif(3), xmp=xmp(6))


# --- colour ----------------------------------------------------------------------------------------------------------


def s15(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(kind, space, pcs, name, tags):
    """An ICC profile of version 2."""
    text = name.encode()
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(78), b"cprt": b"text\0\0\0\0free\0",
            b"wtpt": b"XYZ \0\0\0\0" + s15(0.9642, 1.0, 0.8249), **tags}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"\0\0\0\0", 0x02100000, kind, space, pcs)
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + s15(0.9642, 1.0, 0.8249)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + body


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def rgb_profile(name, red, green, blue, curve):
    xyz = {b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue}
    return profile(b"mntr", b"RGB ", b"XYZ ", name, {**{tag: b"XYZ \0\0\0\0" + s15(*values) for tag, values in xyz.items()},
                                                     b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def cmyk_profile(points=7):
    """A table of Lab: four dull inks over paper, each of which takes away light in proportion."""
    inks = np.array([[30, 5, 5], [5, 40, 10], [0, 5, 45], [90, 90, 90]], float) / 100  # taken from red, green and blue
    steps = np.stack(np.meshgrid(*[np.linspace(0, 1, points)] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = np.prod(1 - steps[..., None] * inks, 1)
    lightness = 95 * light.mean(1) ** 0.5
    lab = np.stack([lightness * 2.55, 128 + 60 * (light[:, 0] - light[:, 1]), 128 + 60 * (light[:, 1] - light[:, 2])], -1)
    table, line = np.clip(np.round(lab), 0, 255).astype(np.uint8).tobytes(), bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, points, 0]) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + line * 4 + table + line * 3
    return profile(b"prtr", b"CMYK", b"Lab ", "Some press", {b"A2B0": lut})


P3 = rgb_profile("Display P3, made for a test", (0.515102, 0.241182, -0.001050), (0.291965, 0.692236, 0.041882),
                 (0.157153, 0.066582, 0.784378), gamma(2.2))
# Nearly sRGB's own numbers: such a profile only adds rounding.
LEVELS = np.linspace(0, 1, 1024)
CURVE = np.where(LEVELS <= 0.04045, LEVELS / 12.92, ((LEVELS + 0.055) / 1.055) ** 2.4)
SRGB = rgb_profile("sRGB, made for a test", (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708),
                   (0.14307, 0.06061, 0.71410), b"curv\0\0\0\0" + struct.pack(">I", 1024) + (CURVE * 65535).round().astype(">u2").tobytes())
GRAY = profile(b"mntr", b"GRAY", b"XYZ ", "Gray of a scanner", {b"kTRC": gamma(1.4)})


def colours(image):
    gray, cmyk = image.convert("L"), image.convert("CMYK")
    yield "p3.jpg", save(image, "JPEG", quality=97, subsampling=0, icc_profile=P3)
    yield "p3.png", save(image, "PNG", icc_profile=P3)
    yield "p3.webp", save(image, "WEBP", lossless=True, icc_profile=P3)
    yield "srgb_profile.png", save(image, "PNG", icc_profile=SRGB)
    yield "gray_profile.jpg", save(gray, "JPEG", quality=97, icc_profile=GRAY)
    yield "gray_profile.png", save(gray, "PNG", icc_profile=GRAY)
    yield "cmyk_profile.jpg", save(cmyk, "JPEG", quality=97, icc_profile=cmyk_profile())
    yield "p3_turned.jpg", segment(save(image, "JPEG", quality=97, subsampling=0, icc_profile=P3), b"Exif\0\0" + exif(6))


# --- formats ---------------------------------------------------------------------------------------------------------


def cut_out(image):
    rgba = image.convert("RGBA")
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgba.putalpha(Image.fromarray(np.clip(300 - 30 * np.hypot(x - 12, y - 7), 0, 255).astype(np.uint8)))
    return rgba


def packed_psd(image):
    """A PSD file of RGB in 8 bits, its rows packed by PackBits without runs."""
    planes = np.asarray(image).transpose(2, 0, 1)
    rows = [bytes([WIDTH - 1]) + row.tobytes() for plane in planes for row in plane]
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, HEIGHT, WIDTH, 8, 3) + struct.pack(">III", 0, 0, 0)
    return head + struct.pack(">H", 1) + b"".join(struct.pack(">H", len(row)) for row in rows) + b"".join(rows)


def padded_bmp(image):
    """32 bits a pixel, of which the fourth byte is padding that is not 0."""
    rgb = np.asarray(image)[::-1]
    data = np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 7, np.uint8)]).tobytes()
    return (b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 32, 0, len(data), 2835, 2835, 0, 0) + data)


def formats(image):
    indexed = image.quantize(11)
    yield "rgb.bmp", save(image, "BMP")
    yield "palette.bmp", save(indexed, "BMP")
    yield "bilevel.bmp", save(image.convert("1"), "BMP")
    yield "padded.bmp", padded_bmp(image)
    yield "palette.gif", save(indexed, "GIF")
    clear = indexed.copy()
    yield "clear.gif", save(clear, "GIF", transparency=clear.getpixel((0, 0)), background=3)
    yield "animated.gif", save(indexed, "GIF", save_all=True, append_images=[indexed.rotate(180)], duration=50)
    yield "rgb.tga", save(image, "TGA")
    yield "packed.tga", save(image, "TGA", compression="tga_rle")
    yield "rgba.tga", save(cut_out(image), "TGA")
    yield "gray.tga", save(image.convert("L"), "TGA")
    yield "palette.tga", save(indexed, "TGA")
    yield "rgb.psd", packed_psd(image)
    yield "rgb.ppm", save(image, "PPM")
    yield "gray.pgm", save(image.convert("L"), "PPM")
    narrow = np.asarray(image.convert("L")) // 17
    yield "few_levels.pgm", b"P5\n# sixteen levels\n%d %d 15\n" % (WIDTH, HEIGHT) + narrow.tobytes()
    wide = (np.asarray(image).astype(np.uint16) * 4).astype(">u2")
    yield "ten_bits.ppm", b"P6 %d %d 1020\n" % (WIDTH, HEIGHT) + wide.tobytes()


def rgbe(image):
    """A flat Radiance file of powers of two, whose pixels are known: 255 * value ^ (1 / 2.2), rounded down after + 0.5."""
    values = 2.0 ** -(np.arange(WIDTH * HEIGHT * 3).reshape(HEIGHT, WIDTH, 3) % 5)
    largest = values.max(-1, keepdims=True)
    mantissas = (values / largest * 128).astype(np.uint8)
    exponents = (np.log2(largest) + 129).astype(np.uint8)
    data = np.concatenate([mantissas, exponents], -1).tobytes()
    shown = np.clip(values ** (1 / 2.2) * 255 + 0.5, 0, 255).astype(np.uint8)
    return b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (HEIGHT, WIDTH) + data, shown


# --- masks -----------------------------------------------------------------------------------------------------------


def masks(image):
    """Ways of saying that the same disc shall be edited."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    disc = (x - 12) ** 2 + (y - 7) ** 2 < 25
    white = np.where(disc, 255, 0).astype(np.uint8)
    plain = Image.fromarray(white)

    def layer(inside, outside):
        colour = np.where(disc[..., None], inside, outside).astype(np.uint8)
        return Image.fromarray(np.dstack([colour, white]))

    index = Image.fromarray((white // 255).astype(np.uint8), "P")
    index.putpalette([0, 0, 0, 128, 0, 0])
    files = {
        "gray.png": plain, "bilevel.png": plain.convert("1"), "rgb.png": plain.convert("RGB"), "palette.png": plain.convert("P"),
        "class_index.png": index, "layer_white.png": layer((255,) * 3, (255,) * 3), "layer_black.png": layer((255,) * 3, (0,) * 3),
        "layer_red.png": layer((220, 20, 30), (0, 0, 0)), "hole.png": Image.fromarray(np.dstack([np.asarray(image), 255 - white])),
        "zero_and_one.png": Image.fromarray(white // 255), "zero_and_one_16bit.png": Image.fromarray((white // 255).astype(np.uint16)),
        "low_byte_16bit.png": Image.fromarray(white.astype(np.uint16)),
        "high_byte_16bit.png": Image.fromarray(white.astype(np.uint16) * 257), "gray_alpha.png": Image.merge("LA", (plain, plain)),
    }  # fmt: skip
    return files, disc


def shown(data):
    """What Pillow shows: upright, in sRGB, over white."""
    image = Image.open(io.BytesIO(data))
    image.load()
    icc = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if icc and icc != SRGB:
        image = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"), outputMode="RGB")
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image.convert("RGB"), mask=image.getchannel("A"))
        image = white
    return image.convert("RGB")


def main():
    KINDS.mkdir(parents=True, exist_ok=True)
    for old in KINDS.iterdir():
        old.unlink()
    image, expected = Image.fromarray(scene()), {}
    for group, files in (("orientations", orientations(image)), ("colours", colours(image)), ("formats", formats(image))):
        expected[group] = []
        for name, data in files:
            (KINDS / f"{group}_{name}").write_bytes(data)
            picture = shown(data)
            expected[group].append({"file": f"{group}_{name}", "size": picture.size, "pixels": picture.tobytes().hex()})
    data, pixels = rgbe(image)
    (KINDS / "formats_flat.hdr").write_bytes(data)
    expected["formats"].append({"file": "formats_flat.hdr", "size": [WIDTH, HEIGHT], "pixels": pixels.tobytes().hex()})
    files, disc = masks(image)
    for name, mask in files.items():
        mask.save(KINDS / f"masks_{name}")
    expected["masks"] = {"files": [f"masks_{name}" for name in files], "size": [WIDTH, HEIGHT],
                         "levels": np.where(disc, 255, 0).astype(np.uint8).tobytes().hex()}
    expected["pillow"] = PIL.__version__
    text = json.dumps(expected, separators=(",", ":"))
    (OUT / "kinds.json").write_text(text.replace('{"file"', '\n{"file"') + "\n")


main()
