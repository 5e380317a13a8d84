#!/usr/bin/env python3
"""Runs programs with less and less memory (RLIMIT_AS): each must end with the bytes of an undisturbed run, or with
status 1, an out-of-memory message, and complete files or none.

    memory.py PROGRAMS SOURCE [--limits N] [--case NAME]...

The limits range from just below the least memory with which the run succeeds, which is searched for first, down to half
of it. A limit that leaves no memory for the code that oneDNN generates makes LibTorch 2.11 jump to address 0, because
oneDNN does not check its allocation; these crashes are counted separately.
"""
import argparse
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

import cases
import failing_calls

MEBIBYTE = 1 << 20


class Campaign(failing_calls.Campaign):
    def limited(self, case, megabytes):
        folder = self.folder_of(case)
        cases.prepare(case, folder, self.material)

        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (megabytes * MEBIBYTE, megabytes * MEBIBYTE))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        done = subprocess.run(case.command(self.programs), cwd=folder, env=cases.environment(), capture_output=True,
                              text=True, errors="replace", timeout=failing_calls.PATIENCE, stdin=subprocess.DEVNULL,
                              preexec_fn=limit)
        return done, cases.contents(folder / "out")

    def of_case(self, case, limits):
        """(problems, one-sentence summary)"""
        self.dry_run(case)
        folder = self.folder_of(case)
        cases.prepare(case, folder, self.material)
        before = cases.contents(folder / "out")
        enough, little = 64 * 1024, 0
        while enough - little > max(8, enough // 64):
            middle = (enough + little) // 2
            if self.limited(case, middle)[0].returncode == 0:
                enough = middle
            else:
                little = middle
        problems, outcomes = [], {}
        for number in range(limits):
            megabytes = round(enough * (1 - 0.5 * (number + 0.5) / limits))
            done, found = self.limited(case, megabytes)
            if done.returncode in (127, -6) and "shared librar" in done.stderr:
                outcome = "not begun"
            elif done.returncode == -11:
                outcome = "ended in oneDNN"
                problems += [f"{case.name} with {megabytes} MiB: expected {path} as before or whole"
                             for path, digest in found.items() if re.fullmatch(case.final, path)
                             and digest not in (before.get(path), self.expected[case.name].get(path))]
            else:
                wrong = self.judge(case, "malloc", 0, "", done, before, found)
                outcome = "as ever" if done.returncode == 0 else "reported"
                problems += [f"{case.name} with {megabytes} MiB: {problem}" for problem in wrong]
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return problems, f"{case.name}: {enough} MiB are enough; with less: " + ", ".join(
            f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--limits", type=int, default=12)
    parser.add_argument("--case", action="append", default=[])
    given = parser.parse_args()
    programs = given.programs.resolve()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work).resolve()
        cases.make_material(work / "material", given.source.resolve(), programs)
        campaign = Campaign(programs, None, work, work / "material")
        chosen = {case.name: case for case in cases.CASES if not given.case or case.name in given.case}
        return cases.judge_all(chosen, lambda name: campaign.of_case(chosen[name], given.limits))


if __name__ == "__main__":
    sys.exit(main())
