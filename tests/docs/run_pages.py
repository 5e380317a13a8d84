#!/usr/bin/env python3
"""Runs the commands of a page of the documentation in their order, as a reader types them, in a scratch folder that looks
like the repository; and compares what they print with what the page shows.

    run_pages.py ROOT BUILD PAGE...   runs these pages (default: all); status 77 where a page takes a program that is absent
    run_pages.py --list ROOT          prints the pages with commands that run

page_tables.py says what stands for the reader's files, which commands get smaller sizes, and which do not run and why.

A block of ```text after a block of commands is what these print, on both streams. A line `...` in it stands for any lines.
Numbers of time, memory and speed may differ, and so may the spaces between words. The reader's home is /home/you, and the
sources are in ip2p there.
"""
import contextlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import stand_ins
from page_tables import HUB, NAMES, PAGES, SCRIPTS
from pages import OUTPUT, SHELL, blocks_of, commands_of, pages_of

LIMIT = 840  # seconds for a page, less than CTest's, so that nothing goes on running
HERE = pathlib.Path(__file__).resolve().parent
MEASURED = re.compile(r"\b\d[\d.,:]*(?=\s*(?:s|ms|min|h|[kMG]i?B|[\w ]+ per second|\w+/s)\b)|\b\d+:\d\d\b")


def comparable(text):
    """The lines of an output, without what differs from run to run."""
    lines = [" ".join(MEASURED.sub("#", line).split()) for line in text.replace("\r", "\n").splitlines()]
    return [line for line in lines if line]


def matches(shown, printed):
    """Whether lines are as a page shows them, where `...` stands for any lines."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(matches(shown[1:], printed[i:]) for i in range(len(printed) + 1))
    return bool(printed) and shown[0] == printed[0] and matches(shown[1:], printed[1:])


class Run:
    """One page: its commands that run, and what is to be compared with their output."""

    def __init__(self, root, page):
        self.page, self.table, self.used = page, PAGES.get(page), set()
        self.steps = []  # ("run", command), ("save", name, text) or ("shown", block, numbers of the commands before it)
        blocks = blocks_of(root / page)
        self.commands = [command for block in blocks if block.language in SHELL for command in commands_of(block)]
        if not self.commands:
            if self.table is not None:
                sys.exit(f"{page}: PAGES has a row for this page, which has no commands")
            return
        if self.table is None:
            sys.exit(f"{page}:{self.commands[0].line}: expected a row for this page in PAGES of page_tables.py")
        before, count = None, 0
        for block in blocks:
            if block.language in SHELL:
                before = []
                for command in commands_of(block):
                    if self.looked_up(self.table.not_run, "not_run", str(command)):
                        before = None
                    else:
                        self.steps.append(("run", command))
                        before = None if before is None else [*before, count]
                        count += 1
            elif block.language in OUTPUT:
                if self.looked_up(self.table.no_output, "no_output", block.text):
                    continue
                if before is None:
                    sys.exit(f"{page}:{block.line}: expected output of commands that run, or an entry in no_output")
                self.steps.append(("shown", block, before))
            elif block.language in self.table.saved:
                self.used.add(("saved", block.language))
                self.steps.append(("save", self.table.saved[block.language], block.text))
        typed = " ".join(str(command) for command in self.commands)
        self.used |= {("sizes", key) for key in self.table.sizes
                      if key in typed or key == "edit_image" and "scripts/quickstart.sh" in typed}
        for kind in ("not_run", "no_output", "saved", "sizes"):
            for key in getattr(self.table, kind):
                if (kind, key) not in self.used:
                    sys.exit(f"{page}: {kind} of page_tables.py has an entry that nothing on the page needs: {key}")

    def looked_up(self, table, kind, text):
        for key in table:
            if text.startswith(key):
                self.used.add((kind, key))
                return True
        return False

    def runs(self):
        return [step[1] for step in self.steps if step[0] == "run"]


def named_by(root, run):
    """What the commands name, and the configurations that they read or that the reader saves."""
    text = "\n".join(str(command) for command in run.runs())
    text += "".join((root / path).read_text() for path in re.findall(r"examples/\S+\.toml", text))
    return text + "".join(step[2] for step in run.steps if step[0] == "save")


def mentions(text, name):
    """Whether a text has the name as a whole path."""
    return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)", text)


def furnish(root, build, run, scratch):
    """Makes the folder that the commands run in, the programs on their PATH, and the reader's files."""
    work, bin = scratch / "ip2p", scratch / "bin"
    for folder in (work / "build/release/examples", work / "docs", work / "scripts", bin):
        folder.mkdir(parents=True)
    stand_in = f"#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'stand_ins.py'))} "

    def play(path, name):
        path.write_text(f'{stand_in}{name} "$@"\n')
        path.chmod(0o755)

    for program in root.glob("examples/[0-9]*/*.cpp"):
        if re.search(r"^int main\(", program.read_text(), re.M):
            play(bin / program.stem, program.stem)
            (work / "build/release/examples" / program.stem).symlink_to(bin / program.stem)
    for name in ("torchrun", "srun", "cmake"):
        play(bin / name, name)
    for script in (root / "scripts").iterdir():
        name = f"scripts/{script.name}"
        if name in SCRIPTS:
            play(work / name, name)
        elif script.is_file():
            shutil.copy(script, work / name)
    for entry in root.iterdir():
        if entry.name.startswith((".", "build")):
            continue
        if entry.is_file():
            shutil.copy(entry, work / entry.name)  # a page may write a file of the same name
        else:
            stand_ins.link(entry, work / entry.name)
    for entry in build.iterdir():
        stand_ins.link(entry, work / "build/release" / entry.name)
    shutil.copytree(root / "docs/images", work / "docs/images")

    named = named_by(root, run)
    for name, source in NAMES.items():
        if mentions(named, name) and name not in run.table.made:
            stand_ins.place(root, work / name, source)
    for name, source in HUB.items():
        if mentions(named, name):
            stand_ins.place(root, scratch / "hub" / name, source)


def script_of(run, folder):
    """A bash script that runs all steps; the outputs go into files of the folder, and a failure ends it."""
    lines, count, begun = ["set -o pipefail"], 0, set()
    for step in run.steps:
        if step[0] == "save":  # several blocks of one file are joined
            lines.append(f"cat {'>>' if step[1] in begun else '>'} {step[1]} <<'THE_END_OF_THE_BLOCK'\n{step[2]}THE_END_OF_THE_BLOCK")
            begun.add(step[1])
        elif step[0] == "run":
            place = shlex.quote(str(folder / str(count)))
            lines.append(f"{{\n{step[1].text}\n}} > {place} 2>&1 < /dev/null || exit 1\ntouch {place}.done")
            count += 1
    return "\n".join(lines) + "\n"


def run_page(root, build, page):
    """Runs a page. Returns whether all of it is as the page says."""
    run = Run(root, page)
    if not run.commands:
        sys.exit(f"{page}: expected commands, found none")
    for program in run.table.takes:
        if not shutil.which(program):
            print(f"{page}: skipped, because there is no {program}")
            sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        outputs = scratch / "outputs"
        outputs.mkdir()
        servers = []
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        environment.update(
            PATH=f"{scratch / 'bin'}:{environment['PATH']}", HOME=str(scratch), HF_HOME=str(scratch / "huggingface"),
            XDG_CACHE_HOME=environment.get("XDG_CACHE_HOME", environment["HOME"] + "/.cache"), no_proxy="127.0.0.1",
            OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PYTHONDONTWRITEBYTECODE="1",
            ASAN_OPTIONS="verify_asan_link_order=0:" + environment.get("ASAN_OPTIONS", ""),  # stdbuf preloads a library
            IP2P_ROOT=str(root), IP2P_BUILD=str(build), IP2P_PAGE=page, IP2P_CMAKE=shutil.which("cmake"),
            IP2P_NOTES=str(outputs / "notes"))
        furnish(root, build, run, scratch)

        def serve(*command):
            """Starts a server that ends when its input closes. Returns its address."""
            servers.append(subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            text=True))
            return f"http://127.0.0.1:{servers[-1].stdout.readline().split()[0]}"

        if (scratch / "hub").exists():
            environment["HF_ENDPOINT"] = serve(root / "tests/io/fake_hub.py", scratch / "hub") + "/fine/1"
        if any("$SERVICE" in sizes for sizes in run.table.sizes.values()):
            environment["SERVICE"] = serve(root / "tests/language/misbehaving_server.py") + "/fine/1/v1"
        begin = time.monotonic()
        shell = subprocess.Popen(["bash", "-c", script_of(run, outputs)], env=environment, cwd=scratch / "ip2p",
                                 start_new_session=True)
        try:
            shell.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            print(f"{page}: expected an end within {LIMIT} s")
        finally:
            with contextlib.suppress(ProcessLookupError):  # what the page left in the background ends too
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
            for server in servers:
                server.communicate()
        return judge(run, outputs, time.monotonic() - begin)


def judge(run, outputs, seconds):
    printed, good = [], True
    for i, command in enumerate(run.runs()):
        path = outputs / str(i)
        printed.append(path.read_text(errors="replace") if path.exists() else "")
        if not (outputs / f"{i}.done").exists():
            notes = outputs / "notes"
            resized = f"run with other sizes:\n{notes.read_text()}" if notes.exists() else ""
            print(f"{run.page}:{command.line}: fails: {command.text}\n{resized}{printed[-1]}")
            return False
    for step in run.steps:
        if step[0] == "shown":
            text = "".join(printed[i] for i in step[2]).replace(str(outputs.parent), "/home/you")
            if not matches(comparable(step[1].text), comparable(text)):
                print(f"{run.page}:{step[1].line}: the page shows\n{step[1].text}and the commands print\n{text}")
                good = False
    shown = sum(step[0] == "shown" for step in run.steps)
    print(f"{run.page}: {len(printed)} of {len(run.commands)} commands run, {shown} outputs compared, {seconds:.1f} s")
    return good


def main():
    if sys.argv[1] == "--list":
        root = pathlib.Path(sys.argv[2]).resolve()
        unknown = set(PAGES) - set(pages_of(root))
        if unknown:
            sys.exit(f"page_tables.py: no such page: {', '.join(sorted(unknown))}")
        runs = [run for page in pages_of(root) for run in [Run(root, page)] if run.runs()]
        for name in [*NAMES, *HUB]:
            if not any(mentions(named_by(root, run), name) for run in runs):
                sys.exit(f"page_tables.py: no command of a page names {name}")
        for run in runs:
            print(run.page)
        return
    root, build = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    assert matches(["a", "...", "d"], ["a", "b", "c", "d"]) and not matches(["a", "..."], ["b"]) and not matches(["a"], [])
    assert comparable("1.5 s to load, 0.82 GiB\n 6 steps") == comparable("0.1 s  to load, 1.20 GiB\n6 steps")
    assert comparable("6 steps") != comparable("7 steps")
    pages = sys.argv[3:] or [page for page in pages_of(root) if Run(root, page).runs()]
    if not all([run_page(root, build, page) for page in pages]):
        sys.exit(1)


if __name__ == "__main__":
    main()
