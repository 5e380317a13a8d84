#!/usr/bin/env python3
"""Runs the whole programs of the documentation and compares what they do with what edit_image does.

    run_programs.py ROOT PROGRAMS EDIT_IMAGE

Each program runs in a folder where the names that its page uses stand for a model and a photograph of this repository.
Its picture must have the bytes of edit_image's for the same settings. (run_pages.py compares what the programs print.)
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

TINY, SMALL = "tests/pipeline/fixtures/tiny-ip2p", "models/small-editor"

# Program -> the model used in place of the page's, the program's arguments, further ones for edit_image.
PROGRAMS = {
    "README_1": (SMALL, [], []),
    "README_2": (TINY, [], ["--steps", "20", "--seed", "42", "--sampler", "euler-ancestral", "--image-scale", "1.5",
                            "--text-scale", "7.5"]),
    "docs_tutorials_first_edit_1": (SMALL, ["instruct-pix2pix", "in.jpg", "out.png"], []),
}


# Programs that say themselves that all is well -> what they print.
TALKING = {"fading": "all laws are kept\n"}


def run(command, folder):
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}: status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def main():
    root, programs, edit_image = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
    built = {path.name.removeprefix("docs_") for path in programs.glob("docs_*") if path.is_file() and not path.suffix}
    built.discard("blocks")  # what is no program by itself
    if built != {*PROGRAMS, *TALKING}:
        sys.exit(f"programs of the documentation: expected {sorted({*PROGRAMS, *TALKING})}, found {sorted(built)}: name each here")
    for name, words in TALKING.items():
        if (found := run([programs / f"docs_{name}"], root)) != words:
            sys.exit(f"{name}: expected '{words}', found '{found}'")
    for name, (model, arguments, options) in PROGRAMS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            (folder / "instruct-pix2pix").symlink_to(root / model)
            shutil.copy(root / "docs/images/quickstart.jpg", folder / "in.jpg")
            run([programs / f"docs_{name}", *arguments], folder)
            run([edit_image, "--model", "instruct-pix2pix", "--image", "in.jpg", "--prompt", "make it snowy", "--no-settings",
                 "--out", "expected.png", *options], folder)
            if (folder / "out.png").read_bytes() != (folder / "expected.png").read_bytes():
                sys.exit(f"{name}: its picture differs from the one that edit_image writes")
        print(f"{name}: the picture of edit_image")


if __name__ == "__main__":
    main()
