#!/usr/bin/env python3
"""Pillow reads the settings that edit_image writes into pictures, where docs/reference/picture-settings.md says they are.

    settings_in_pillow.py EDIT_IMAGE SOURCE

Exit status 77 where Pillow is not installed.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree

try:
    import PIL.Image
except ImportError:
    print("skipped: no Pillow")
    sys.exit(77)

USER_COMMENT, EXIF_FOLDER = 0x9286, 0x8769
PROMPT = "rends-le neigé ☃ & \"froid\" <b>"


def user_comment(picture):
    """The text of EXIF's UserComment: eight bytes that name the encoding, and UTF-16 in the file's byte order."""
    exif = picture.getexif()
    value = exif.get_ifd(EXIF_FOLDER)[USER_COMMENT]
    assert value[:8] == b"UNICODE\0", value[:8]
    return value[8:].decode("utf-16-be" if exif.endian == ">" else "utf-16-le")


def xmp_settings(picture):
    """The JSON of XMP's attribute, as Pillow hands on the packet."""
    packet = picture.info["xmp"]
    text = packet.decode() if isinstance(packet, bytes) else packet
    root = tree.fromstring(re.sub(r"<\?xpacket[^>]*\?>", "", text).strip())
    found = [value for element in root.iter() for name, value in element.attrib.items()
             if name == "{urn:ip2p:1.0:}settings"]
    assert len(found) == 1, text
    return found[0]


def main():
    program, source = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    read = []
    with tempfile.TemporaryDirectory() as folder:
        photo = pathlib.Path(folder) / "photo.png"
        PIL.Image.linear_gradient("L").resize((80, 64)).convert("RGB").save(photo)
        for kind in ("png", "jpg", "webp"):
            out = photo.with_name(f"out.{kind}")
            run = subprocess.run([program, "--model", source / "tests/pipeline/fixtures/tiny-ip2p", "--image", photo, "--prompt",
                                  PROMPT, "--steps", "2", "--seed", "7", "--resolution", "64", "--device", "cpu", "--dtype",
                                  "fp32", "--plain-prompts", "--out", out], capture_output=True, text=True, check=False)
            if kind == "webp" and "no libwebp" in run.stderr:
                print("WebP: not in this build")
                continue
            assert run.returncode == 0, run.stderr
            with PIL.Image.open(out) as picture:
                picture.load()
                if kind == "png":
                    text, settings = picture.text["parameters"], picture.text["ip2p"]
                else:
                    text, settings = user_comment(picture), xmp_settings(picture)
            settings = json.loads(settings)
            lines = text.rstrip("\0").splitlines()
            assert lines[0] == PROMPT, (kind, lines)
            assert lines[-1].startswith("Steps: 2, Sampler: Euler a, "), (kind, lines)
            assert "Seed: 7, Size: 64x64, Model: tiny-ip2p" in lines[-1], (kind, lines)
            options = settings["options"]
            assert settings["program"] == "edit_image" and options["prompt"] == PROMPT and options["seed"] == 7, (kind, settings)
            read.append(kind)
    print(f"Pillow {PIL.__version__} reads the settings of {', '.join(read)}")


if __name__ == "__main__":
    main()
