#!/usr/bin/env python3
"""Checks every command and every option that the documentation names, without running any.

    check_commands.py ROOT BUILD

A command's program must exist, and know each option that the page gives it: as `--help` lists them or, for a script, as
its source spells them. So must a command within the text of a page, and those in the comments at the top of the programs. An
option that stands alone in the text must be one of any program. Blocks of JSON, TOML and Python must be valid.
"""
import fnmatch
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from page_tables import FOREIGN_OPTIONS, MADE_BY_READERS
from pages import OPTION, SHELL, Block, Command, blocks_of, commands_of, pages_of, spans_of

BUILTIN = {"cd", "export", "source"}
LAUNCHERS = {"torchrun", "srun"}
# Options of the launchers whose value is a word of its own; those of all other commands do not matter.
LAUNCHER_VALUES = {"--nproc-per-node", "--nnodes"}


class Programs:
    """What the commands of the pages may name: the programs of the build, and the scripts of the repository."""

    def __init__(self, root, build):
        self.root, self.build = root, build
        self.names = sorted(path.stem for path in root.glob("examples/[0-9]*/*.cpp")
                            if re.search(r"^int main\(", path.read_text(), re.M))

    @functools.cache
    def help(self, name, command=None):
        """The text of a program's --help, or of one of its commands."""
        path = self.build / "examples" / name
        if not os.access(path, os.X_OK):
            raise SystemExit(f"expected the program {path}, found none: build it first")
        words = [path, *([command] if command else []), "--help"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    @functools.cache
    def options(self, name, command=None):
        """Each line of the help that describes options begins with their names: `-h,--help`, `--plain-prompts{false}`."""
        found = set()
        for line in self.help(name, command).splitlines():
            names = re.match(r"\s+((?:--?[\w-]+(?:\{\w*\})?,? ?)+)", line)
            if names:
                found.update(OPTION.findall(names.group(1)))
        return found

    @functools.cache
    def commands(self, name):
        """The commands within a program, such as `make_triplets train`."""
        listed = self.help(name).partition("Subcommands:")[2]
        return {line.split()[0] for line in listed.splitlines() if re.match(r"  \S", line)}

    @functools.cache
    def script_options(self, path):
        return set(OPTION.findall((self.root / path).read_text()))

    @functools.cache
    def all_options(self):
        found = set(FOREIGN_OPTIONS)
        for name in self.names:
            found |= self.options(name)
            for command in self.commands(name):
                found |= self.options(name, command)
        for folder in ("scripts", "bench", "tests", "examples"):
            for path in [*(self.root / folder).rglob("*.py"), *(self.root / folder).rglob("*.sh")]:
                found |= self.script_options(path.relative_to(self.root).as_posix())
        return found


def known(option, options):
    """`--drop-*` stands for all options that begin so."""
    return option in options or bool("*" in option and fnmatch.filter(options, option))


def options_of(words):
    return [match.group() for word in words if word.startswith("--")
            for match in [re.match(r"--[a-z][a-z0-9-]*\*?", word)] if match]


def problem_of(programs, words):
    """What is wrong with a simple command, or None."""
    program, rest = words[0], words[1:]
    name = pathlib.PurePosixPath(program).name
    if program in BUILTIN or program in MADE_BY_READERS:
        return None
    if program in LAUNCHERS:
        for i, word in enumerate(rest):
            if not word.startswith("-") and (i == 0 or rest[i - 1] not in LAUNCHER_VALUES):
                unknown = [option for option in options_of(rest[:i]) if option not in FOREIGN_OPTIONS]
                return f"unknown option {unknown[0]} of {program}" if unknown else problem_of(programs, rest[i:])
        return f"expected a program after {program}"
    if program == "python3" and rest:
        program, rest = rest[0], rest[1:]
    if program in programs.names or program.startswith("build/release/examples/"):
        if name not in programs.names:
            return f"expected one of the programs {', '.join(programs.names)}, found {program}"
        command = rest[0] if rest and rest[0] in programs.commands(name) else None
        if programs.commands(name) and not command and rest[:1] not in (["--help"], ["--version"], []):
            return f"expected a command of {name}: {', '.join(sorted(programs.commands(name)))}"
        options, whose = programs.options(name, command), f"{name} {command}" if command else name
    elif program.startswith("build/release/"):  # a test or benchmark: its options are those of its library
        found = (programs.build / program.removeprefix("build/release/")).is_file()
        return None if found else f"no program '{program}'"
    elif (programs.root / program).is_file():
        options, whose = programs.script_options(program), program
        if program == "scripts/build.sh":
            wrong = [target for target in rest if not (programs.build / "examples" / target).is_file()
                     and not (programs.build / "tests" / target).is_file() and not target.startswith("--")]
            return f"no target '{wrong[0]}' to build" if wrong else None
    elif "/" not in program and shutil.which(program):
        options, whose = FOREIGN_OPTIONS, program
        if program in ("cmake", "ctest") and "--preset" in rest:
            preset = rest[rest.index("--preset") + 1]
            presets = json.loads((programs.root / "CMakePresets.json").read_text())
            if preset not in {one["name"] for one in presets["configurePresets"]}:
                return f"no preset '{preset}' in CMakePresets.json"
    else:
        return f"no program '{program}'"
    unknown = [option for option in options_of(rest) if not known(option, options)]
    return f"{whose} has no option {unknown[0]}" if unknown else None


def problems_of_text(programs, path):
    """Problems of the code within the text of a page."""
    for line, code in spans_of(path):
        try:
            words = shlex.split(code)
        except ValueError:  # an apostrophe
            words = code.split()
        if not any(word.startswith("--") for word in words):
            continue
        while words and re.match(r"[A-Z]\w*=", words[0]):
            words.pop(0)
        named = words[0] in programs.names or words[0].startswith(("scripts/", "build/", "tests/", "bench/", "torchrun"))
        if named and words[0] != "torchrun":
            problem = problem_of(programs, words)
        else:
            unknown = [option for option in options_of(words) if not known(option, programs.all_options())]
            problem = f"no program has the option {unknown[0]}" if unknown else None
        if problem:
            yield line, problem


def problems_of_comments(programs, path):
    """Problems of the commands in the comments of a program or a configuration; these are indented."""
    text = re.sub(r"\n(?://|#)     +(?=\S)", " ", path.read_text().replace(" \\\n", "\n"))
    for line in re.findall(r"^(?://|#)   (\S.*)$", text, re.M):
        for words in Command(0, line).parts():
            problem = problem_of(programs, words)
            if problem:
                yield problem


def problems_of_block(programs, block):
    """Problems of a block, each with its line."""
    if block.language in SHELL:
        for command in commands_of(block):
            for words in command.parts():
                problem = problem_of(programs, words)
                if problem:
                    yield command.line, problem
        return
    try:
        if block.language == "json":
            try:
                json.loads(block.text)
            except ValueError:  # one value a line
                for line in block.text.splitlines():
                    json.loads(line)
        elif block.language == "python":
            compile(block.text, "block", "exec")
        elif block.language == "toml":
            import tomllib  # of Python 3.11
            tomllib.loads(block.text)
    except ImportError:
        pass
    except (ValueError, SyntaxError) as error:
        yield block.line, f"expected {block.language}: {error}"


def main():
    root, build = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    programs, count, found = Programs(root, build), 0, []
    # The checks themselves: each of these must be a problem.
    for wrong in ("edit_image --modle m", "edit_picture --model m", "make_triplets --data d", "scripts/none.sh",
                  "make_triplets train --captions c", "torchrun --nproc-per-node 8 edit_image --modle m",
                  "cmake --preset fast", "a_program --steps 2", "scripts/build.sh none", "true && edit_image --imag a"):
        if not list(problems_of_block(programs, Block(1, "bash", "", wrong))):
            sys.exit(f"expected a problem with '{wrong}', found none")
    for page in pages_of(root):
        if page == "docs/reference/programs.md":
            continue  # made from the programs, with the options' old names at its end
        path = root / page
        for block in blocks_of(path):
            count += len(commands_of(block)) if block.language in SHELL else 0
            found += [f"{page}:{line}: {problem}" for line, problem in problems_of_block(programs, block)]
        found += [f"{page}:{line}: {problem}" for line, problem in problems_of_text(programs, path)]
    for path in [*root.glob("examples/[0-9]*/*.cpp"), *root.glob("examples/[0-9]*/*.toml")]:
        found += [f"{path.relative_to(root)}: {problem}" for problem in problems_of_comments(programs, path)]
    if found:
        sys.exit("\n".join(found))
    print(f"{count} commands name programs that exist, and options that they know")


if __name__ == "__main__":
    main()
