#!/usr/bin/env python3
"""Gives every numeric option of every program, and every value of a model's configuration, invalid numbers and numbers
that are not finite, too small or too large, and checks that none crashes or hangs the program or goes unreported.

    numbers.py PROGRAMS LIBRARY SOURCE [options|settings]... [--program NAME]... [--every N] [--jobs N]

The options are read from the programs (--help-json). An option without a range may take or refuse any finite number.
`options` tests options on the command line and in TOML, `settings` tests the config.json files. --every N runs only
every N-th trial. LIBRARY is built from failing_calls.cpp.
"""
import argparse
import collections
import concurrent.futures
import json
import math
import pathlib
import re
import resource
import shutil
import sys
import tempfile
import threading
import time

import cases
import loaded

MEMORY = 8 << 30  # of each process, so that a large number cannot use up the machine's
PATIENCE = 15  # seconds that a run with a valid value may compute
REFUSAL = 120  # seconds within which an invalid value must be refused

NEVER = ["nan", "-nan", "inf", "-inf", "1e999", "-1e999", "", " ", "abc", "0x", "1,5", "1e", "--", "5 6", "\u0663"]
NEVER_WHOLE = ["0.5", "18446744073709551616", "-9223372036854775809", "1e5.5"]
TOML_NEVER = ["nan", "-nan", "inf", "-inf", "1e999", '"abc"', "1979-05-27"]
EXTREME = ["4.9e-324", "1e-320", "-1e-320", "1e300", "-1e300", "1.7976931348623157e308", "-0.0"]
EXTREME_WHOLE = ["-1", "0", "2147483648", "9223372036854775807", "18446744073709551615"]


def limits():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bounds(option):
    """(least, most), or None for an option without a range."""
    found = re.fullmatch(r"(\S+) to (\S+)", option.get("range", ""))
    return (float(found[1]), float(found[2])) if found else None


def values_of(option):
    """(value, whether it must be refused, or None if either is right)"""
    whole = option["value"] == "N"
    for value in NEVER + (NEVER_WHOLE if whole else []):
        yield value, True
    limit = bounds(option)
    for value in EXTREME + (EXTREME_WHOLE if whole else ["-1", "0"]):
        number = float(value)
        if whole and value in EXTREME:
            yield value, True if not number.is_integer() else None
        elif limit is None:
            yield value, None
        else:
            yield value, not limit[0] <= number <= limit[1]
    if limit:
        for edge, beyond in ((limit[0], -1), (limit[1], 1)):
            yield f"{edge:.17g}", False
            yield f"{edge + beyond * max(1, abs(edge) * 1e-3):.17g}", True


def with_option(words, name, value):
    """The command line with an option set, replacing any value it already has."""
    if name in words:
        at = words.index(name)
        end = at + 1
        while end < len(words) and not words[end].startswith("--"):
            end += 1
        words = words[:at] + words[end:]
    return [*words, f"{name}={value}"]


class Trials:
    def __init__(self, loaded, work, material):
        self.loaded, self.work, self.material = loaded, work, material
        self.lock = threading.Lock()
        self.outcomes, self.problems, self.made = collections.Counter(), [], 0

    def run(self, program, words, patience=PATIENCE):
        """(status or signal, standard error, files written); the status of a run that SIGTERM ended is 'slow' or 'slow
        step'."""
        folder = self.work / threading.current_thread().name / "run"
        cases.prepare(cases.Case("", program, []), folder, self.material)
        status, stderr = self.loaded.run(program, words, folder, patience, grace=60)
        return status, stderr, list(cases.contents(folder / "out"))

    def note(self, where, status, problem):
        with self.lock:
            self.made += 1
            self.outcomes[str(status)] += 1
            if problem:
                self.problems.append((where, problem))
                print(f"FAILED: {where}: {problem}", flush=True)

    def judge(self, program, named, refused, status, stderr, files):
        """What is wrong with a run, or an empty string."""
        sentence = "".join(line for line in stderr.replace("\r", "\n").split("\n")
                           if line.startswith(program + ": "))[:400]
        if status in (0, "slow", "slow step", 130):
            return "expected to be refused" if refused else ""
        if status not in (1, 2):
            return f"expected status 1 or 2, found {status}: {stderr[-200:]}"
        if not sentence:
            return f"expected a sentence, found: {stderr[-200:]}"
        if refused is False and re.search("memory|too large|limit", sentence):
            return ""  # the machine's limits, not the option's
        if refused is False and re.match(program + ": --[a-z-]+: expected ", sentence):
            return ""  # another option does not go with it
        if not any(name in sentence for name in named):
            return f"expected words about {named[0]}, found: {sentence}"
        if refused and files:
            return f"expected nothing written, found {files[:3]}"
        return ""

    def option(self, program, command, base, option, value, refused, toml):
        if toml:
            file = self.work / f"{threading.current_thread().name}.toml"
            words = [word for word in with_option(base, option["name"], "")][:-1]
            lines = [f"{option['name'][2:]} = {value}"]
            if "--config" in words:  # the program takes only one file
                at = words.index("--config")
                given = (self.material / pathlib.Path(words[at + 1]).name).read_text().splitlines()
                lines += [line for line in given if not line.startswith(f"{option['name'][2:]} =")]
                del words[at:at + 2]
            file.write_text("\n".join(([f"[{command}]"] if command else []) + lines) + "\n")
            words += ["--config", str(file)]
        else:
            words = with_option(base, option["name"], value)
        status, stderr, files = self.run(program, words, REFUSAL if refused else PATIENCE)
        where = f"{program} {command} {option['name']}{' in TOML' if toml else ''} {value!r}"
        # A number that is allowed may be too large for others: "expected ... for 16 scales".
        plain = option["name"][2:].replace("-", " ") + ("" if refused is False else ":")
        named = [option["name"], plain, *(["line "] if toml else [])]
        self.note(where, status, self.judge(program, named, refused, status, stderr, files))

    def setting(self, file, path, value):
        """Makes an edit with one value of a model's configuration changed."""
        folder = self.work / f"{threading.current_thread().name}.model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.material / "ip2p", folder)
        config = json.loads((folder / file).read_text())
        part = config
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = "VALUE"
        (folder / file).write_text(json.dumps(config).replace('"VALUE"', value))
        words = ["--model", str(folder), *cases.FP32, "--steps", "2", "--resolution", "64", "--prompt", "make it snowy",
                 "--image", "in/disc.png", "--out", "out/a.png"]
        status, stderr, files = self.run("edit_image", words)
        keys = [str(step) for step in path if isinstance(step, str)]
        where = f"{file} {'.'.join(map(str, path))} = {value}"
        problem = self.judge("edit_image", [keys[-1], WORDS.get(keys[-1], keys[-1]), file, pathlib.Path(file).name, file.split("/")[0]], None, status,
                             stderr, files)
        self.note(where, status, problem)


def bases(program, command):
    """A valid command line without the program: that of a case, or only the subcommand."""
    for case in cases.CASES:
        if case.program == program and (not command or case.arguments[0] == command):
            return list(case.arguments), True
    return ([command] if command else []), False


def option_trials(trials, tables):
    for table in tables:
        for part in [table, *table["subcommands"]]:
            command = part["name"] if part is not table else ""
            base, runs = bases(table["name"], command)
            if table["subcommands"] and not command:
                continue
            for option in part["options"]:
                if option["value"] not in ("N", "X"):
                    continue
                for value, refused in values_of(option):
                    if refused or runs:
                        yield trials.option, table["name"], command, base, option, value, refused, False
                for value in TOML_NEVER:
                    yield trials.option, table["name"], command, base, option, value, True, True


WORDS = {"num_train_timesteps": "training timesteps", "beta_start": "training betas", "beta_end": "training betas",
         "trained_betas": "training betas"}  # keys that have another name in messages
SETTING_VALUES = ["NaN", "Infinity", "1e999", "-1e999", "1e308", "4.9e-324", "-1", "0", "0.5", "2147483648",
                  "9223372036854775807", "18446744073709551616", "1e-30", "1000000000", '"x"', "null", "[]", "{}", "true",
                  '""', "[1, 2, 3, 4, 5, 6, 7, 8, 9]"]


def setting_trials(trials, material):
    for file in sorted((material / "ip2p").rglob("*.json")):
        name = str(file.relative_to(material / "ip2p"))
        if not name.endswith("config.json") or name.startswith("tokenizer"):
            continue
        for key, value in json.loads(file.read_text()).items():
            if key.startswith("_"):
                continue
            paths = [[key]] + ([[key, 0]] if isinstance(value, list) and value else [])
            for path in paths:
                for wrong in SETTING_VALUES:
                    yield trials.setting, name, path, wrong


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("library", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("what", nargs="*", default=["options", "settings"])
    parser.add_argument("--program", action="append", default=[])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_intermixed_args()  # `what` may stand after options
    started = time.monotonic()
    programs, source = given.programs.resolve(), given.source.resolve()
    sys.path.insert(0, str(source / "scripts"))
    import program_pages
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work).resolve()
        cases.make_material(work / "material", source, programs)
        programs_loaded = loaded.LoadedPrograms(given.library.resolve(), programs, limits)
        trials = Trials(programs_loaded, work, work / "material")
        wanted = []
        if "options" in given.what:
            tables = [table for table in program_pages.tables(programs)
                      if not given.program or table["name"] in given.program]
            wanted += option_trials(trials, tables)
        if "settings" in given.what:
            wanted += setting_trials(trials, work / "material")
        wanted = wanted[given.first::given.every]
        with programs_loaded, concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(lambda trial: trial[0](*trial[1:]), wanted))
    print(f"{trials.made} values in {time.monotonic() - started:.0f} s; by status: "
          + ", ".join(f"{number} {status}" for status, number in sorted(trials.outcomes.items()))
          + f"; {len(trials.problems)} problems")
    return 1 if trials.problems or not trials.made else 0


if __name__ == "__main__":
    sys.exit(main())
