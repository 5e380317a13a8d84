#!/usr/bin/env python3
"""Kills programs (SIGKILL) at random moments and runs the same command again until they end: the result must have the
bytes of an undisturbed run. Also kills the service, whose folder of kept results must then hold complete pictures.

    kills.py PROGRAMS SOURCE [--kills N] [--seed SEED] [--case NAME]...

Every case, and the service as `studio`, is killed N times.
"""
import argparse
import binascii
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import cases


def kill_within(command, folder, seconds):
    """Whether the command was still running after that time and was killed."""
    with subprocess.Popen(command, cwd=folder, env=cases.environment(), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as child:
        try:
            stderr = child.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return True
        if child.returncode != 0:
            raise SystemExit(f"{command}: expected to go on after kills, found status {child.returncode}: "
                             f"{stderr.decode(errors='replace')[-500:]}")
        return False


def of_case(case, programs, material, work, kills, rng):
    """Problems, and a one-sentence summary of the kills."""
    folder = work / "run"
    command = case.command(programs)
    cases.prepare(case, folder, material)
    start = time.monotonic()
    subprocess.run(command, cwd=folder, env=cases.environment(), check=True, capture_output=True)
    whole = time.monotonic() - start
    expected = cases.lasting(case, cases.contents(folder / "out"))
    problems, killed, runs, writing = [], 0, 0, 0

    def compare():
        found = cases.contents(folder / "out")
        problems.extend(f"{case.name}: expected no temporary file, found {path}"
                        for path in cases.temporaries(case, found))
        found = cases.lasting(case, found)
        problems.extend(f"{case.name}: expected {path} as of an undisturbed run" for path in sorted(set(found) | set(expected))
                        if found.get(path) != expected.get(path))

    def leave():
        """Leaves what a kill in the midst of writing any of the results would."""
        (folder / "out").mkdir(exist_ok=True)
        for path in expected:
            if "/" not in path:
                (folder / "out" / f".{path}.0123456789abcdef.tmp").write_bytes(b"half")

    cases.prepare(case, folder, material)
    begun = False
    while killed < kills or begun:
        # The last run is left undisturbed.
        limit = rng.uniform(0.2, 1.05) * whole if killed < kills else 600
        if kill_within(command, folder, limit):
            killed += 1
            begun = True
            writing += bool(cases.contents(folder / "out"))
            leave()
            continue
        compare()
        runs += 1
        begun = False
        cases.prepare(case, folder, material)
    return problems, f"{case.name}: {killed} kills, {writing} of them with results in the folder, {runs} runs ended alike"


def whole_png(data):
    """Whether every chunk of a PNG is there with the right checksum."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return False
    at = 8
    while at + 12 <= len(data):
        size, name = int.from_bytes(data[at:at + 4], "big"), data[at + 4:at + 8]
        if at + 12 + size > len(data):
            return False
        if binascii.crc32(data[at + 4:at + 8 + size]) != int.from_bytes(data[at + 8 + size:at + 12 + size], "big"):
            return False
        at += 12 + size
        if name == b"IEND":
            return at == len(data)
    return False


def of_studio(programs, source, material, work, kills, rng):
    """Kills the service while it makes and keeps results."""
    sys.path.insert(0, str(source / "tests/studio"))
    import client
    kept = work / "kept"
    kept.mkdir()
    photograph = (material / "disc.png").read_bytes()
    problems, whole, done = [], 0, 0
    for number in range(kills):
        with client.Service(programs / "studio", "--model", material / "ip2p", "--device", "cpu", "--dtype", "fp32",
                            "--resolution", 64, "--keep", kept) as service:
            for _ in range(4):
                status, answer = service.submit(photograph, {"instruction": "make it snowy", "steps": 1, "count": 4})
                if status != 202:
                    return [f"studio: expected a job, found status {status}: {answer}"], "studio: not tried"
            before = len(list(kept.glob("[!.]*")))
            deadline = time.monotonic() + 60
            while len(list(kept.glob("[!.]*"))) == before and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.3))
            done += service.process.poll() is None
            service.end(signal.SIGKILL)
        for file in kept.glob("[!.]*"):
            if not whole_png(file.read_bytes()):
                problems.append(f"studio: kill {number + 1}: expected whole pictures, found half of {file.name}")
    whole = len(list(kept.glob("[!.]*")))
    if not whole or done != kills:
        problems.append(f"studio: expected {kills} kills at work and kept results, found {done} and {whole}")
    return problems, f"studio: {done} kills, {whole} kept results, all whole"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--case", action="append", default=[])
    given = parser.parse_args()
    programs, source = given.programs.resolve(), given.source.resolve()
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    names = given.case or [case.name for case in cases.CASES if case.resumes] + ["studio"]
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work).resolve()
        cases.make_material(work / "material", source, programs)

        def judge(name):
            if name == "studio":
                return of_studio(programs, source, work / "material", work, given.kills, rng)
            case = next(case for case in cases.CASES if case.name == name)
            return of_case(case, programs, work / "material", work, given.kills, rng)

        return cases.judge_all(names, judge)


if __name__ == "__main__":
    sys.exit(main())
