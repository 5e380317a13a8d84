#!/usr/bin/env python3
"""Runs the programs on failing storage and checks how they end and what they leave behind.

    storage.py PROGRAMS LIBRARY SOURCE [KIND]... [--case NAME]... [--trials N] [--seed SEED]

Kinds of failure (default: all):

    disk      the file system of the results is too small, in N sizes
    inodes    it cannot hold enough files, with N different limits
    readonly  it is read-only
    power     the machine loses power N times at random moments, and once after the end; needs root and mkfs.ext4
    twice     a second process runs the same command in the same folder: one is refused with a message, or both succeed
    clock     the wall clock jumps by years while the program runs and between a kill and the next run, so that files
              date from the future and from before 1970
    hangs     a process that draws pairs hangs without dying: another takes over its work

Inputs are on a read-only file system in every run. Runs that can be resumed are repeated once the failure is over and
must end with the bytes of an undisturbed run. The script mounts file systems in a namespace of its own; if the system
does not allow that, the exit status is 77. LIBRARY is built from failing_calls.cpp.
"""
import argparse
import collections
import errno
import fcntl
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import cases
import failing_calls

KINDS = ["disk", "inodes", "readonly", "power", "twice", "clock", "hangs"]
YEARS = 40 * 365 * 86400
PAGE = 4096
SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125  # FS_IOC_SHUTDOWN
WITHOUT_JOURNAL = struct.pack("I", 2)  # unflushed data is lost


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def unmount(folder):
    subprocess.run(["umount", str(folder)], check=True)


def sizes_below(enough, count):
    """Up to `count` evenly spaced integers from 1 to just below `enough`."""
    return sorted({max(1, round(enough * (i + 0.5) / count)) for i in range(count)})


class Campaign(failing_calls.Campaign):
    def __init__(self, programs, library, work, material, trials, rng):
        super().__init__(programs, library, work, material)
        self.trials, self.rng = trials, rng
        self.seconds = {}  # by case: of an undisturbed run

    def undisturbed(self, case):
        if case.name in self.expected:
            return
        library, self.library = self.library, None
        start = time.monotonic()
        self.dry_run(case)
        self.seconds[case.name] = time.monotonic() - start
        self.library = library

    def start(self, case, folder, **more):
        return subprocess.Popen(case.command(self.programs), cwd=folder, env=cases.environment(**more),
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                                errors="replace")

    def finished(self, child):
        """The result of a process that was started."""
        try:
            stderr = child.communicate(timeout=failing_calls.PATIENCE)[1]
            return subprocess.CompletedProcess(child.args, child.returncode, "", stderr)
        except subprocess.TimeoutExpired:
            child.kill()
            return subprocess.CompletedProcess(child.args, "none: it hangs", "", child.communicate()[1])

    def judged(self, case, done, before, found, words, kind="write"):
        problems = self.judge(case, kind, 0, "", done, before, found)
        if done.returncode == 1 and not problems and not re.search(words, done.stderr):
            problems.append(f"expected words about '{words}', found: {done.stderr[-300:]}")
        return problems

    def on_small(self, case, option, enough, room):
        """Problems and outcomes when the file system for the results is too small."""
        problems, outcomes = [], collections.Counter()
        folder = self.folder_of(case)
        for size in sizes_below(enough, self.trials):
            cases.prepare(case, folder, self.material)
            out = folder / "out"
            mount("-t", "tmpfs", "-o", f"{option}={room(size)}", "tmpfs", out)
            try:
                try:
                    for name, content in case.before.items():
                        (out / name).write_bytes(content)
                except OSError:
                    outcomes["without room for what was there"] += 1
                    continue
                before = cases.contents(out)
                done = self.run(case, folder)
                wrong = self.judged(case, done, before, cases.contents(out), "No space left on device")
                if case.resumes and done.returncode == 1:
                    mount("-o", "remount,size=1g,nr_inodes=100000", out)
                    wrong += self.again(case, folder)
                outcomes["went well" if done.returncode == 0 else "reported"] += 1
                problems += [f"{option} {room(size)}: {problem}" for problem in wrong]
            finally:
                unmount(out)
        return problems, outcomes

    def disk(self, case):
        files = [path for path in (self.folder_of(case) / "out").rglob("*") if path.is_file()]
        enough = sum((path.stat().st_size + PAGE - 1) // PAGE for path in files)
        return self.on_small(case, "size", enough, lambda pages: pages * PAGE)

    def inodes(self, case):
        enough = sum(1 for _ in (self.folder_of(case) / "out").rglob("*"))
        return self.on_small(case, "nr_inodes", enough, lambda number: number + 1)  # one is for the folder itself

    def readonly(self, case):
        folder = self.folder_of(case)
        cases.prepare(case, folder, self.material)
        out = folder / "out"
        before = cases.contents(out)
        mount("--bind", out, out)
        mount("-o", "remount,bind,ro", out)
        try:
            done = self.run(case, folder)
        finally:
            unmount(out)
        found = cases.contents(out)
        problems = self.judged(case, done, before, found, "Read-only|no permission")
        if done.returncode == 0:
            problems = ["expected status 1 on a read-only file system, found 0"]
        if found != before:
            problems.append("expected a read-only folder as it was")
        return problems, {"reported": 1}

    def power(self, case):
        problems, outcomes = [], collections.Counter()
        folder, image = self.folder_of(case), self.work / "disk.img"
        for number in range(self.trials + 1):
            cases.prepare(case, folder, self.material)
            out = folder / "out"
            with open(image, "wb") as file:
                file.truncate(96 << 20)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
            mount("-o", "loop", image, out)
            (out / "lost+found").rmdir()
            for name, content in case.before.items():
                (out / name).write_bytes(content)
            os.sync()
            before = cases.contents(out)
            switch = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
            child = self.start(case, folder)
            last = number == self.trials
            try:
                child.wait(600 if last else self.rng.uniform(0.2, 1.0) * self.seconds[case.name])
            except subprocess.TimeoutExpired:
                pass
            fcntl.ioctl(switch, SHUTDOWN, WITHOUT_JOURNAL)
            os.close(switch)
            done = self.finished(child)
            unmount(out)
            mount("-o", "loop", image, out)
            try:
                wrong = []
                found = cases.contents(out)
                if done.returncode not in (0, 1):
                    wrong.append(f"expected status 1, found {done.returncode}: {done.stderr[-300:]}")
                elif done.returncode == 1 and (words := cases.sentence_of(case, done.stderr)):
                    wrong.append(words)
                if done.returncode == 0:
                    # What was reported as written must survive the power loss. Files removed at the end may be back.
                    wrong += [f"after the end: expected the undisturbed {path}"
                              for path, digest in self.expected[case.name].items() if found.get(path) != digest]
                else:
                    wrong += [f"expected {path} as before or whole" for path, digest in found.items()
                              if re.fullmatch(case.final, path) and not re.fullmatch(case.varying, path)
                              and path not in cases.temporaries(case, found)
                              and digest not in (before.get(path), self.expected[case.name].get(path))]
                    if case.resumes:
                        wrong += self.again(case, folder)
                outcomes["after the end" if last else "had ended" if done.returncode == 0 else "at work"] += 1
                problems += [f"loss of power {number + 1}: {problem}" for problem in wrong]
            finally:
                unmount(out)
        return problems, outcomes

    def twice(self, case):
        problems, outcomes = [], collections.Counter()
        folder = self.folder_of(case)
        for number in range(self.trials):
            cases.prepare(case, folder, self.material)
            first = self.start(case, folder)
            # Start both together first, then the second while the first is working.
            time.sleep(self.rng.uniform(0.0, 0.9) * self.seconds[case.name] if number else 0)
            second = self.start(case, folder)
            ends = [self.finished(child) for child in (first, second)]
            good = [done for done in ends if done.returncode == 0]
            wrong = []
            for done in ends:
                if done.returncode == 0:
                    continue
                if done.returncode != 1:
                    wrong.append(f"expected status 0 or 1, found {done.returncode}: {done.stderr[-300:]}")
                elif words := cases.sentence_of(case, done.stderr):
                    wrong.append(words)
                elif not re.search(r"other process|new folder, found files", done.stderr):
                    wrong.append(f"expected words about another process, found: {done.stderr[-300:]}")
            if not good:
                wrong.append("expected one of two processes to end well, found none")
            wrong += self.compare(case, cases.contents(folder / "out"))
            outcomes["both right" if len(good) == 2 else "one refused"] += 1
            problems += [f"two processes, trial {number + 1}: {problem}" for problem in wrong]
        return problems, outcomes

    def clock(self, case):
        problems, outcomes = [], collections.Counter()
        folder = self.folder_of(case)
        report = folder.with_suffix(".report")
        jumping = {"LD_PRELOAD": str(self.library), "IP2P_FAULT_REPORT": str(report), "IP2P_FAULT_CLOCK": str(YEARS)}
        cases.prepare(case, folder, self.material)
        done = self.run(case, folder, **jumping)
        if done.returncode != 0:
            problems.append(f"with a clock that jumps: expected status 0, found {done.returncode}: {done.stderr[-300:]}")
        problems += self.compare(case, cases.contents(folder / "out"), "with a clock that jumps: ")
        outcomes["jumped"] += 1
        for number in range(self.trials if case.resumes else 0):
            cases.prepare(case, folder, self.material)
            child = self.start(case, folder)
            try:
                child.wait(self.rng.uniform(0.4, 1.0) * self.seconds[case.name])
            except subprocess.TimeoutExpired:
                child.kill()
            child.communicate()
            for path in (folder / "out").rglob("*"):
                moment = time.time() + YEARS if number % 2 == 0 else self.rng.choice([-YEARS, 0, time.time() + YEARS])
                os.utime(path, (moment, moment))
            problems += [f"after a kill and a clock that was set: {problem}" for problem in self.again(case, folder)]
            outcomes["set after a kill"] += 1
        return problems, outcomes

    def hangs(self, case):
        folder = self.folder_of(case)
        cases.prepare(case, folder, self.material)
        report = folder.with_suffix(".report")
        report.unlink(missing_ok=True)
        patient = cases.Case(case.name, case.program, [*case.arguments, "--patience", "2"])
        hanging = self.start(patient, folder, LD_PRELOAD=str(self.library), IP2P_FAULT_REPORT=str(report),
                             IP2P_FAULT_UNDER=str(folder / "out/set/.ledger/unfinished"), IP2P_FAULT_KIND="open",
                             IP2P_FAULT_AT="2", IP2P_FAULT_HANGS="1")
        deadline = time.monotonic() + failing_calls.PATIENCE
        while time.monotonic() < deadline and hanging.poll() is None:
            if report.exists() and report.stat().st_size > 0 and failing_calls.read_report(report)[1]:
                break
            time.sleep(0.05)
        problems = []
        if hanging.poll() is not None:
            problems.append(f"expected a process that hangs, found one that ended with status {hanging.returncode}")
        claims = [path.name for path in (folder / "out/set/.ledger/claims").glob("[!.]*")]
        if len(claims) != 1:
            problems.append(f"expected one prompt at which it hangs, found {claims}")
        done = self.run(patient, folder)
        if done.returncode != 0:
            problems.append(f"expected the other process to make all, found status {done.returncode}: {done.stderr[-300:]}")
        if hanging.poll() is not None:
            problems.append("expected the first process still to hang")
        hanging.kill()
        hanging.communicate()
        found = cases.lasting(case, cases.contents(folder / "out"))
        left = [path for path in found if path.startswith("set/.ledger/unfinished/")]
        expected = self.expected[case.name]
        problems += [f"expected {path} as of an undisturbed run" for path in sorted(set(found) | set(expected))
                     if path not in left and found.get(path) != expected.get(path)]
        return problems, {"taken over": 1}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("library", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("kinds", nargs="*", default=KINDS)
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    if wrong := [kind for kind in given.kinds if kind not in KINDS]:
        raise SystemExit(f"storage: expected kinds of {', '.join(KINDS)}, found {wrong[0]}")
    if "IP2P_STORAGE_INSIDE" not in os.environ:
        inside = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
        with tempfile.TemporaryDirectory() as folder:
            if subprocess.run([*inside, "mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode != 0:
                print("skipped storage: this system does not let us mount a file system")
                return 77
        os.environ["IP2P_STORAGE_INSIDE"] = "root" if os.geteuid() == 0 else "user"
        os.execvp(inside[0], [*inside, sys.executable, *sys.argv])
    kinds = list(given.kinds)
    if "power" in kinds and (os.environ["IP2P_STORAGE_INSIDE"] != "root" or not shutil.which("mkfs.ext4")):
        print("skipped power: it needs root and mkfs.ext4")
        kinds.remove("power")
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}")
    programs, library = given.programs.resolve(), given.library.resolve()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work).resolve()
        material = work / "material"
        cases.make_material(material, given.source.resolve(), programs)
        mount("--bind", material, material)
        mount("-o", "remount,bind,ro", material)
        campaign = Campaign(programs, library, work, material, given.trials, random.Random(seed))
        chosen = {f"{case.name} {kind}": (case, kind) for case in cases.CASES for kind in kinds
                  if (not given.case or case.name in given.case) and (kind != "hangs" or case.name == "pairs")}

        def judge(name):
            case, kind = chosen[name]
            if kind in ("disk", "inodes"):
                campaign.expected.pop(case.name, None)  # the folder of its undisturbed run is measured
            campaign.undisturbed(case)
            problems, outcomes = getattr(campaign, kind)(case)
            return ([f"{name}: {problem}" for problem in problems],
                    f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))

        try:
            return cases.judge_all(chosen, judge)
        finally:
            unmount(material)


if __name__ == "__main__":
    sys.exit(main())
