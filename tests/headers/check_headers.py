#!/usr/bin/env python3
"""Checks the order of includes among the library's headers, and that the umbrella names every one of them.

    check_headers.py ROOT          prints what is wrong, one line each; exit status 1 if anything is
    check_headers.py ROOT --fix    writes include/ip2p/ip2p.hpp anew
"""
import pathlib
import re
import sys

# A folder may include itself and those before it. Everything up to `filter` is the tensor tier.
FOLDERS = ["core", "io", "schedule", "sampling", "guidance", "attention", "filter", "nn", "text", "codec", "unet",
           "vision", "language", "data", "parallel", "train", "pipeline", "evaluate", "testing", "kernels"]
TENSOR_TIER = FOLDERS[:FOLDERS.index("filter") + 1]

# Headers that applications ask for by name: the conformance kit, forward declarations, and those that bring c10d, which
# every other application would compile for nothing.
OUTSIDE_UMBRELLA = ("ip2p/testing/", "ip2p/ip2p.hpp", "ip2p/fwd.hpp", "ip2p/parallel/process_group.hpp",
                    "ip2p/parallel/launch.hpp")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def public_headers(root):
    include = root / "include"
    return sorted(path.relative_to(include).as_posix() for path in include.glob("ip2p/**/*.hpp"))


def problems_of(header, text):
    """What is wrong with one header's own include lines."""
    parts = header.split("/")
    folder = parts[1] if len(parts) > 2 else None
    found = []
    if not re.search(r"^#pragma once$", text, re.MULTILINE):
        found.append(f"{header}: expected #pragma once, found none")
    if folder is None:
        return found
    if folder not in FOLDERS:
        return found + [f"{header}: folder {folder} has no place in the order of includes"]
    for bracket, name in INCLUDE.findall(text):
        if name == "ip2p/ip2p.hpp":
            found.append(f"{header}: includes the umbrella, which is for applications")
        elif name.startswith("ip2p/"):
            below = name.split("/")
            if len(below) > 2 and FOLDERS.index(below[1]) > FOLDERS.index(folder):
                found.append(f"{header}: includes {name}, of a folder that comes after its own")
        elif bracket == '"':
            found.append(f'{header}: includes "{name}"; library headers are named from ip2p/, others in <>')
        if name == "torch/torch.h" or name == "torch/all.h":
            found.append(f"{header}: includes {name}; name the narrow header instead")
        if folder in TENSOR_TIER and (name.startswith("torch/") or name in ("ATen/ATen.h", "ATen/Functions.h")):
            found.append(f"{header}: includes {name}; the tensor tier may include ATen/core/Tensor.h and ATen/ops/*.h")
    return found


def umbrella_text(headers):
    lines = ["#pragma once", "", "/// \\file", "/// Everything, for applications. Library headers never include this one.", ""]
    wanted = [h for h in headers if not h.startswith(OUTSIDE_UMBRELLA)]
    wanted.sort(key=lambda h: (FOLDERS.index(h.split("/")[1]) if h.count("/") > 1 else len(FOLDERS), h))
    folder = None
    for header in wanted:
        if folder is not None and header.rsplit("/", 1)[0] != folder:
            lines.append("")
        folder = header.rsplit("/", 1)[0]
        lines.append(f'#include "{header}"')
    return "\n".join(lines) + "\n"


def main():
    root = pathlib.Path(sys.argv[1])
    headers = public_headers(root)
    umbrella = root / "include/ip2p/ip2p.hpp"
    if sys.argv[2:] == ["--fix"]:
        umbrella.write_text(umbrella_text(headers))
    found = [problem for header in headers for problem in problems_of(header, (root / "include" / header).read_text())]
    present = umbrella.read_text() if umbrella.exists() else ""
    if present != umbrella_text(headers):
        named = {name for _, name in INCLUDE.findall(present)}
        for header in headers:
            if not header.startswith(OUTSIDE_UMBRELLA) and header not in named:
                found.append(f"ip2p/ip2p.hpp: does not include {header}")
        found.append("ip2p/ip2p.hpp: expected the list that tests/headers/check_headers.py . --fix writes")
    print("\n".join(found) if found else f"{len(headers)} headers in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
