#!/usr/bin/env python3
"""Draws the gallery of the README: photographs that the small editor was not trained on, each edited in seven ways at its
own size, reduced and set side by side.

    scripts/photographs.sh photographs
    scripts/gallery.py build/release/examples photographs docs/images/gallery.jpg

Takes Pillow (Debian: python3-pil).
"""
import pathlib
import subprocess
import sys
import tempfile

from PIL import Image, ImageDraw, ImageFont, ImageOps

PHOTOGRAPHS = ["lomiri-wallpapers-16.04_aitzgorri_by_Aitzol_Berasategi.jpg",
               "lomiri-wallpapers-16.04_sunset_by_Aitzol_Berasategi.jpg",
               "lomiri-wallpapers-16.04_Wine_by_Jakkub_Mede.jpg"]
PROMPTS = ["make it a snowy winter scene", "make it autumn", "turn day into night", "make it foggy", "make it sepia",
           "put it in the desert", "make it look underwater"]
COLUMNS, WIDTH, HEIGHT, GAP, LINE = 4, 400, 266, 4, 22
MOST_BYTES = 400_000


def main(programs, photographs, out):
    models = pathlib.Path(__file__).resolve().parent.parent / "models"
    tile_height = HEIGHT + LINE + GAP
    rows = -(-(len(PROMPTS) + 1) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + GAP) - GAP, len(PHOTOGRAPHS) * rows * tile_height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    with tempfile.TemporaryDirectory() as work:
        prompts = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
        subprocess.run([programs / "edit_image", "--model", models / "small-editor", "--image",
                        *(photographs / name for name in PHOTOGRAPHS), *prompts, "--full-size", "--quality", "95",
                        "--out", f"{work}/{{name}}-{{prompt}}.jpg"], check=True)
        for number, name in enumerate(PHOTOGRAPHS):
            edited = [sorted(pathlib.Path(work).glob(f"{pathlib.Path(name).stem}-*{prompt.replace(' ', '*')}*.jpg"))[0]
                      for prompt in PROMPTS]
            for place, (path, words) in enumerate(zip([photographs / name, *edited], ["photograph", *PROMPTS])):
                row, column = divmod(place, COLUMNS)
                left, top = column * (WIDTH + GAP), (number * rows + row) * tile_height
                with Image.open(path) as picture:
                    sheet.paste(ImageOps.fit(picture.convert("RGB"), (WIDTH, HEIGHT), Image.Resampling.LANCZOS),
                                (left, top))
                draw.text((left + 3, top + HEIGHT + 2), words, "black", font)
    for quality in range(92, 40, -4):
        sheet.save(out, quality=quality, optimize=True)
        if out.stat().st_size <= MOST_BYTES:
            break
    print(f"{out}: {sheet.width}x{sheet.height}, {out.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(pathlib.Path, sys.argv[1:]))
