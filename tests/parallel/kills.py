#!/usr/bin/env python3
"""Kills one of several processes that train together and divide the optimiser's state, at random moments; the others end
with words about it, and all are started again. In the end the run has the bits of one that was not disturbed.

    kills.py PROCESSES [--kills N] [--size N] [--seed SEED]

PROCESSES is processes.cpp.
"""
import argparse
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE = 60  # seconds within which the others end


def free_port(rng):
    while True:
        port = rng.randrange(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def newest_step(folder):
    return max((int(path.name[5:]) for path in folder.glob("step_*") if path.name[5:].isdigit()), default=0)


class Group:
    """Processes that train until `steps` updates are made."""

    def __init__(self, program, size, folder, steps, port):
        words = [program, "restarts", "20", folder, steps, -1, 0, "end", "divided"]
        self.children = [subprocess.Popen(
            list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}) for rank in range(size)]

    def begun(self):
        """Waits until all have met and resumed."""
        for child in self.children:
            line = child.stdout.readline()
            if "from step" not in line:
                self.end()
                raise SystemExit(f"expected a process that begins, found: {line}{child.stdout.read()}")

    def end(self):
        for child in self.children:
            child.kill()
            child.wait()

    def wait(self):
        """(statuses, words), or None if one does not end."""
        ends = []
        try:
            for child in self.children:
                words = child.communicate(timeout=PATIENCE)[0]
                ends.append((child.returncode, words))
        except subprocess.TimeoutExpired:
            self.end()
            return None
        return ends


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("processes", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--size", type=int, default=2)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    rng, start, problems = random.Random(seed), time.monotonic(), []
    writing, longest = 0, 0.0
    with tempfile.TemporaryDirectory() as work:
        folder, newest = pathlib.Path(work) / "killed", 0
        for number in range(given.kills):
            group = Group(given.processes, given.size, folder, 1_000_000, free_port(rng))
            group.begun()
            time.sleep(rng.uniform(0, 0.6))
            victim = rng.randrange(given.size)
            group.children[victim].send_signal(signal.SIGKILL)
            group.children[victim].wait()
            killed = time.monotonic()
            writing += any(folder.glob("*.tmp"))
            ends = group.wait()
            if ends is None:
                problems.append(f"kill {number + 1} of rank {victim}: the others did not end within {PATIENCE} s")
                continue
            longest = max(longest, time.monotonic() - killed)
            for rank, (status, words) in enumerate(ends):
                if rank != victim and (status != 1 or f"rank {rank} of {given.size}: " not in words):
                    problems.append(f"kill {number + 1}: rank {rank}: expected status 1 and its words, found {status}: "
                                    f"{words[-300:]}")
            step = newest_step(folder)
            if step < newest:
                problems.append(f"kill {number + 1}: expected checkpoints to stay, found step {step} after {newest}")
            newest = step
        steps = newest + 4
        for where in (folder, pathlib.Path(work) / "whole"):
            group = Group(given.processes, given.size, where, steps, free_port(rng))
            for rank, (status, words) in enumerate(group.wait() or []):
                if status != 0:
                    problems.append(f"{where.name}: rank {rank}: expected status 0, found {status}: {words[-300:]}")
        same = subprocess.run([given.processes, "compare", pathlib.Path(work) / "whole", folder, "0"], text=True,
                              stdout=subprocess.PIPE)
        if same.returncode != 0:
            problems.append(f"expected the bits of a run that was not killed, found: {same.stdout}")
        if newest < given.kills // 10:
            problems.append(f"expected progress between kills, found {newest} updates")
    print("\n".join(f"FAILED: {problem}" for problem in problems))
    print(f"{given.kills} kills of one of {given.size} processes, {writing} of them while a checkpoint was written; the others "
          f"ended after {longest:.1f} s at most; {steps} updates; {len(problems)} problems in "
          f"{time.monotonic() - start:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
