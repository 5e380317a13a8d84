#!/usr/bin/env python3
"""Configures a project with each CMake block of the documentation that is not a whole project of its own.

    check_snippets.py ROOT BUILD CMAKE GENERATOR

The library is taken from its build tree. A block that asks for a component, which is there only once it is installed or
with CUDA, may fail, but only with the sentence that says so of this component. Whole projects are configured by their
pages (run_pages.py).
"""
import pathlib
import re
import subprocess
import sys
import tempfile

from pages import blocks_of, pages_of

PROJECT = """cmake_minimum_required(VERSION 3.22)
project(snippet LANGUAGES CXX)
"""


def main():
    root, build = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    cmake, generator = sys.argv[3:5]
    count = 0
    for page in pages_of(root):
        for block in blocks_of(root / page):
            if block.language != "cmake" or "cmake_minimum_required" in block.text:
                continue
            count += 1
            with tempfile.TemporaryDirectory() as folder:
                source = pathlib.Path(folder)
                program = "" if "add_executable(" in block.text else "add_executable(my_program my_program.cpp)\n"
                (source / "CMakeLists.txt").write_text(PROJECT + program + block.text)
                (source / "my_program.cpp").write_text("int main() {}\n")
                run = subprocess.run([cmake, "-S", source, "-B", source / "build", "-G", generator, f"-Dip2p_DIR={build}"],
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            component = re.search(r"COMPONENTS (\w+)", block.text)
            expected = component and f"component {component.group(1)} "
            if run.returncode and not (expected and expected in " ".join(run.stdout.split())):
                sys.exit(f"{page}:{block.line}: the block does not configure:\n{block.text}{run.stdout}")
    print(f"{count} blocks configure")


if __name__ == "__main__":
    main()
