#!/usr/bin/env python3
"""What stands for a reader's files, and for programs and scripts that a test cannot run as they are.

    stand_ins.py NAME ARGUMENTS...    plays the program or script NAME (run_pages.py puts it in its place)

The environment names the repository (IP2P_ROOT), its build (IP2P_BUILD), the real CMake (IP2P_CMAKE), the page whose sizes
count (IP2P_PAGE), and a file for what was run with other sizes (IP2P_NOTES).
"""
import os
import pathlib
import re
import shlex
import shutil
import socket
import struct
import sys
import zlib

from page_tables import COMPILED, PAGES, PHOTOGRAPH, SCRIPTS, TINY_EDITOR, TRIPLETS

# Files.


def png(path, width, height, pixel):
    """Writes a grey picture; pixel(x, y) is from 0 to 255."""
    rows = b"".join(b"\0" + bytes(pixel(x, y) for x in range(width)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def mask(root, path):
    """Bright on the right half, in the shape of the photograph."""
    data = (root / PHOTOGRAPH).read_bytes()
    frame = re.search(rb"\xff[\xc0-\xc2]..\x08(....)", data, re.S)  # the JPEG's frame header
    height, width = struct.unpack(">HH", frame.group(1))
    png(path, width, height, lambda x, y: 255 if x >= width // 2 else 0)


def text_to_image_model(root, path):
    """The parts of the tiny editor, with a network of 4 input channels."""
    shutil.copytree(root / TINY_EDITOR, path, ignore=shutil.ignore_patterns("unet"))
    shutil.copytree(root / "tests/pipeline/fixtures/tiny-sd/unet", path / "unet")


def clip_model(root, path):
    """A CLIP with the tokenizer's files beside it."""
    shutil.copytree(root / "tests/vision/fixtures/tiny-clip", path)
    for file in (root / TINY_EDITOR / "tokenizer").iterdir():
        shutil.copy(file, path)


def triplets(root, path):
    """As many as make a split for testing of one prompt."""
    path.write_text("".join((root / TRIPLETS).read_text().splitlines(keepends=True)[:20]))


def captions(root, path):
    path.write_text("a photo of a cat\na boat on a lake\n")


def photographs(root, path):
    """A photograph under the names that the list of edits has."""
    path.mkdir()
    for name in re.findall(r'"file": "([^"]+)"', (root / TRIPLETS).read_text()):
        link(root / PHOTOGRAPH, path / name)


def photos(root, path):
    """Photographs of any names."""
    path.mkdir()
    for name in ("beach.jpg", "forest.jpg"):
        link(root / PHOTOGRAPH, path / name)


def pairs(root, path):
    """A set of 20 pairs in the published layout."""
    path.mkdir()
    for prompt in range(20):
        folder = path / f"{prompt:07}"
        folder.mkdir()
        (folder / "prompt.json").write_text('{"edit": "make it dark", "input": "a hill", "output": "a dark hill"}')
        png(folder / "1_0.png", 96, 64, lambda x, y: 2 * x)
        png(folder / "1_1.png", 96, 64, lambda x, y: x)
    names = ", ".join(f'["{prompt:07}", ["1"]]' for prompt in range(20))
    (path / "seeds.json").write_text(f"[{names}]")


def link(target, path):
    if not path.exists():
        path.symlink_to(target)


def place(root, path, source):
    """Makes `path`: a copy of a file or folder of the repository, or what a function above makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if source in globals():
        globals()[source](root, path)
    elif (root / source).is_dir():
        shutil.copytree(root / source, path)
    else:
        shutil.copy(root / source, path)


# Programs and scripts.


def resized(arguments, sizes):
    """The arguments, with those of `sizes` in the place of the same options or after all."""
    new = shlex.split(sizes)
    named = {word for word in new if word.startswith("--")}
    kept, skipping = [], False
    for word in arguments:
        if word.startswith("--"):
            skipping = word.partition("=")[0] in named
        if not skipping:
            kept.append(word)
    return kept + new


def sizes_of(name, arguments):
    """Those of the longest beginning of the command that the page's table has."""
    sizes = PAGES[os.environ["IP2P_PAGE"]].sizes
    found = [beginning for beginning in sizes if " ".join([name, *arguments, ""]).startswith(beginning + " ")]
    return sizes[max(found, key=len)] if found else ""


def build(arguments):
    """scripts/build.sh: the targets are those of the tests' build."""
    folder = pathlib.Path(os.environ["IP2P_BUILD"])
    missing = [name for name in arguments if not any((folder / place / name).is_file() for place in ("examples", "tests"))]
    if missing:
        sys.exit(f"no target '{missing[0]}'")


def fetch_photographs(arguments):
    """scripts/photographs.sh: one photograph, under a few of the names that the real script gives."""
    root, into = pathlib.Path(os.environ["IP2P_ROOT"]), pathlib.Path(arguments[0])
    listed = re.findall(r"^  ([\w.-]+):[^:\s]+:([^:\s]+)$", (root / "scripts/photographs.sh").read_text(), re.M)
    into.mkdir(exist_ok=True)
    for package, file in listed[-8:]:
        link(root / PHOTOGRAPH, into / f"{package}_{file}")


def launch(arguments):
    """torchrun and srun: one process of one."""
    i = 0
    while arguments[i].startswith("-") or arguments[i - 1] == "--nproc-per-node":
        i += 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=port)
    os.execvp(arguments[i], arguments[i:])


def cmake(arguments):
    """CMake configures; what it would build, the tests have built from the same blocks of C++."""
    if "--build" not in arguments:
        os.execv(os.environ["IP2P_CMAKE"], [os.environ["IP2P_CMAKE"], *arguments])
    for name in re.findall(r"add_executable\((\w+)", pathlib.Path("CMakeLists.txt").read_text()):
        shutil.copy(pathlib.Path(os.environ["IP2P_BUILD"]) / "tests/docs" / COMPILED[name],
                    pathlib.Path(arguments[arguments.index("--build") + 1]) / name)


def main():
    name, arguments = sys.argv[1], sys.argv[2:]
    if name in SCRIPTS:
        globals()[SCRIPTS[name]](arguments)
    elif name in ("torchrun", "srun"):
        launch(arguments)
    elif name == "cmake":
        cmake(arguments)
    else:
        program = os.path.join(os.environ["IP2P_BUILD"], "examples", name)
        new = resized(arguments, os.path.expandvars(sizes_of(name, arguments)))
        if new != arguments:
            with open(os.environ["IP2P_NOTES"], "a") as notes:
                print(name, *new, file=notes)
        # Lines come as on a terminal, in the order in which they were written.
        os.execvp("stdbuf", ["stdbuf", "-oL", program, *new])


if __name__ == "__main__":
    main()
