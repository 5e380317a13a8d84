#!/usr/bin/env python3
"""Runs the main path of every program with one failing call of the C library and checks how it ends: with the bytes of
an undisturbed run, or with status 1, a one-sentence error message and complete or no files; a second run must succeed.

    failing_calls.py PROGRAMS LIBRARY SOURCE [--calls N] [--case NAME]... [--kind NAME]... [--limit SECONDS]
                     [--under PATH]

LIBRARY is built from failing_calls.cpp, which says what each kind counts. With --limit, cases and calls are drawn at
random until the time is up; the seed is printed. With --under, only calls on files below PATH of a run count, as in
--under out/run.
"""
import argparse
import collections
import concurrent.futures
import errno
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

import cases
import loaded

LEAST = 20  # calls that fail however long it takes, where there is a limit
KINDS = ["open", "read", "write", "fsync", "rename", "mkdir", "mmap", "fork", "malloc", "thread", "share"]
CODES = {"open": [errno.EMFILE, errno.EIO], "read": [errno.EIO, errno.EINTR],
         "write": [errno.ENOSPC, errno.EIO, errno.EINTR], "fsync": [errno.EIO], "rename": [errno.ENOSPC],
         "mkdir": [errno.ENOSPC], "mmap": [errno.ENOMEM], "fork": [errno.EAGAIN], "malloc": [errno.ENOMEM],
         "thread": [errno.EAGAIN], "share": [errno.ESTALE, errno.EIO]}
PATIENCE = 120


def read_report(path):
    """(counts by kind, number of failed calls, path of the first)"""
    data = path.read_bytes()
    *counts, failed = struct.unpack(f"={len(KINDS) + 1}Q", data[:8 * (len(KINDS) + 1)])
    where = data[8 * (len(KINDS) + 1):].split(b"\0")[0].decode(errors="replace")
    return dict(zip(KINDS, counts)), failed, where


class Campaign:
    def __init__(self, programs, library, work, material, under=None):
        self.programs, self.library, self.work, self.material = programs, library, work, material
        self.under = under  # of a run's folder, what calls count on; None for all of it
        self.loaded = None  # or LoadedPrograms, by which to run
        self.material_before = cases.contents(material)
        self.expected = {}  # by case: the files of an undisturbed run
        self.lock = threading.Lock()
        self.outcomes = collections.Counter()  # by (kind, outcome)
        self.problems = []

    def run(self, case, folder, **more):
        if self.loaded:
            status, stderr = self.loaded.run(case.program, case.arguments, folder, PATIENCE, **more)
            return subprocess.CompletedProcess(case.program, "none: it hangs" if status == "hangs" else status, "", stderr)
        try:
            return subprocess.run(case.command(self.programs), cwd=folder, env=cases.environment(**more),
                                  capture_output=True, text=True, errors="replace", timeout=PATIENCE,
                                  stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as ended:
            return subprocess.CompletedProcess(ended.cmd, "none: it hangs", "", str(ended.stderr or ""))

    def with_library(self, case, folder, under=None, **more):
        """Runs a case under the library, which counts calls on `under` (default: what the case reads and writes)."""
        report = folder.with_suffix(".report")
        report.unlink(missing_ok=True)
        done = self.run(case, folder, LD_PRELOAD=str(self.library), IP2P_FAULT_REPORT=str(report),
                        IP2P_FAULT_UNDER=str(under or self.work), **more)
        return done, *read_report(report)

    def dry_run(self, case):
        """Counts the calls of a case and keeps its result."""
        folder = self.folder_of(case)
        cases.prepare(case, folder, self.material)
        if self.library:
            done, counts = self.with_library(case, folder, self.counted(folder))[:2]
        else:
            done, counts = self.run(case, folder), {}
        if done.returncode != 0:
            raise SystemExit(f"{case.name}: expected an undisturbed run, found status {done.returncode}: {done.stderr}")
        self.expected[case.name] = cases.lasting(case, cases.contents(folder / "out"))
        return counts

    def folder_of(self, case):
        return self.work / threading.current_thread().name / "run"

    def counted(self, folder):
        return folder / self.under if self.under else self.work

    def trial(self, case, kind, at, code):
        folder = self.folder_of(case)
        cases.prepare(case, folder, self.material)
        before = cases.contents(folder / "out")
        # A share that goes away takes the results with it, and possibly the inputs.
        under = folder / "out" if (kind, code) == ("share", errno.EIO) else self.counted(folder)
        done, _, failed, where = self.with_library(case, folder, under, IP2P_FAULT_KIND=kind, IP2P_FAULT_AT=str(at),
                                                   IP2P_FAULT_ERRNO=str(code))
        problems = []
        outcome = "not met"
        if failed:
            found = cases.contents(folder / "out")
            problems = self.judge(case, kind, code, where, done, before, found)
            outcome = "bridged" if done.returncode == 0 else "reported"
            if case.resumes and done.returncode != 0:
                problems += self.again(case, folder, gone=kind == "share")
        with self.lock:
            self.outcomes[kind, outcome] += 1
            for problem in problems:
                where = where.replace(str(folder) + "/", "")
                self.problems.append((case.name, kind, os.strerror(code), where, at, problem))
                print(f"FAILED: {case.name}: {kind} {at} ({os.strerror(code)}) {where}: {problem}", flush=True)

    def again(self, case, folder, gone=False):
        """Problems when the same command is run again after the failure. A share that was gone still holds temporary
        files, which could not be removed."""
        done = self.run(case, folder)
        if done.returncode == 0:
            found = cases.contents(folder / "out")
            if gone:
                found = {path: digest for path, digest in found.items() if not path.endswith(".tmp")}
            return self.compare(case, found, "again: ")
        return [f"again: expected to go on, found status {done.returncode}: {done.stderr[-300:]}"]

    def compare(self, case, found, when=""):
        problems = [f"{when}expected no temporary file, found {path}" for path in cases.temporaries(case, found)]
        found, expected = cases.lasting(case, found), self.expected[case.name]
        for path in sorted(set(found) | set(expected)):
            if path not in found:
                problems.append(f"{when}expected {path}, found no such file")
            elif path not in expected:
                problems.append(f"{when}expected no file {path}")
            elif found[path] != expected[path]:
                problems.append(f"{when}expected the undisturbed {path}")
        return problems[:3]

    def judge(self, case, kind, code, where, done, before, found):
        gone = kind == "share"
        if done.returncode == 0:
            left = cases.temporaries(case, found) if gone else []
            return self.compare(case, {path: digest for path, digest in found.items() if path not in left})
        if done.returncode != 1:
            return [f"expected status 1, found {done.returncode}: {done.stderr[-300:]}"]
        problems = [f"expected no temporary file, found {path}" for path in cases.temporaries(case, found) if not gone]
        if words := cases.sentence_of(case, done.stderr):
            problems.append(words)
        sentence = "".join(line for line in done.stderr.split("\n") if line.startswith(case.program + ": "))
        if code == errno.EINTR:
            problems.append(f"expected an interrupted call to be made again, found: {sentence}")
        # More is gone with a share than the first file that was accessed: the message may name any of it.
        named = self.names(where, sentence) or gone and re.search(r"\b(in|out)/", sentence)
        if where and not problems and not named:
            problems.append(f"expected words that name the file, found: {sentence}")
        if kind == "malloc" and not re.search("memory|[Cc]annot allocate", sentence):
            problems.append(f"expected words about memory, found: {sentence}")
        expected = self.expected[case.name]
        for path, digest in found.items():
            if re.fullmatch(case.varying, path) or not re.fullmatch(case.final, path):
                continue
            if gone and cases.temporaries(case, [path]):
                continue
            if digest not in (before.get(path), expected.get(path)):
                problems.append(f"expected {path} as before or whole")
        problems += [f"expected {path} still to be there" for path in before if path not in found]
        return problems

    @staticmethod
    def names(where, sentence):
        """Whether the message names a file, or what it is part of: a model's folder, a checkpoint, a set."""
        parts = [re.sub(r"^\.(.*)\.[0-9a-f]{16}\.tmp$", r"\1", part) for part in pathlib.Path(where).parts[-3:]]
        if not parts:
            return False
        if parts[-1] in ("in", "out"):
            return f"{parts[-1]}:" in sentence or f"'{parts[-1]}'" in sentence
        return any(part.removesuffix(".tmp") in sentence for part in parts if part not in ("in", "out"))


def places(count, calls):
    """Which of `count` calls fail: the first `calls` / 2 of them, and as many spread evenly up to the last."""
    if count <= calls:
        return list(range(1, count + 1))
    first = calls // 2
    rest = calls - first
    return list(range(1, first + 1)) + [first + round((count - first) * (i + 1) / rest) for i in range(rest)]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("library", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--kind", action="append", default=[])
    parser.add_argument("--limit", type=float, default=0)
    parser.add_argument("--under", default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    started = time.monotonic()
    chosen = [case for case in cases.CASES if not given.case or case.name in given.case]
    programs, library = given.programs.resolve(), given.library.resolve()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work).resolve()
        material = work / "material"
        cases.make_material(material, given.source.resolve(), programs)
        campaign = Campaign(programs, library, work, material, given.under)
        trials = []
        for case in chosen:
            counts = campaign.dry_run(case)
            print(f"{case.name}: " + ", ".join(f"{kind} {count}" for kind, count in counts.items() if count), flush=True)
            for kind in given.kind or KINDS:
                for at in places(counts[kind], given.calls):
                    trials += [(case, kind, at, code) for code in CODES[kind]]
        if given.limit:
            seed = given.seed if given.seed is not None else random.randrange(1 << 32)
            print(f"seed {seed}")
            random.Random(seed).shuffle(trials)
        campaign.loaded = loaded.LoadedPrograms(library, programs)
        made = 0

        def one(trial):
            nonlocal made
            if given.limit and made >= LEAST and time.monotonic() - started > given.limit:
                return
            campaign.trial(*trial)
            made += 1

        with campaign.loaded, concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(one, trials))
        if cases.contents(material) != campaign.material_before:
            campaign.problems.append(("", "", "", "", 0, "expected the inputs as they were"))
            print("FAILED: expected the inputs as they were")
    for kind in KINDS:
        sums = {name: campaign.outcomes[kind, name] for name in ("reported", "bridged", "not met")}
        if any(sums.values()):
            print(f"{kind}: " + ", ".join(f"{number} {name}" for name, number in sums.items()))
    print(f"{made} of {len(trials)} failing calls in {time.monotonic() - started:.0f} s, {len(campaign.problems)} problems")
    return 1 if campaign.problems or not made else 0


if __name__ == "__main__":
    sys.exit(main())
