"""Programs that are loaded once and run many times.

Loading LibTorch takes a program 0.3 s of processor time, most of a run on a tiny model. `Loaded` starts a program under
the library built from failing_calls.cpp, which stops it before `main`, and forks it for every run: each begins as a
process of its own that has loaded its libraries and has done nothing else.
"""
import os
import select
import signal
import struct
import subprocess
import tempfile
import threading

import cases


class Loaded:
    """One program, waiting for runs. Not for use by several threads at once."""

    def __init__(self, library, program, preexec=None):
        self.stderr = tempfile.TemporaryFile(buffering=0)  # every run shares its position
        environment = cases.environment(LD_PRELOAD=str(library), IP2P_FAULT_FORKS="1")
        self.process = subprocess.Popen([program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.stderr, preexec_fn=preexec, bufsize=0)

    def run(self, arguments, folder, patience, grace=0, **variables):
        """(status or minus the signal, standard error) of a run in `folder` with more variables in its environment.

        After `patience` seconds it is sent SIGTERM and gets `grace` seconds more; the status is then 'slow'. After these it
        is sent SIGTERM again, which ends a step that takes long: 'slow step'; 'hangs' if it had to be killed."""
        self.stderr.seek(0)
        self.stderr.truncate()
        words = [str(folder), *(f"{name}={value}" for name, value in variables.items()), "", *map(str, arguments)]
        request = b"".join(os.fsencode(word) + b"\0" for word in words)
        try:
            self.process.stdin.write(struct.pack("=I", len(request)) + request)
            child = self.answer()
            late = None
            if not self.ready(patience):
                late = self.end(child, grace)
            status = os.waitstatus_to_exitcode(self.answer())
        except (OSError, struct.error) as wrong:
            self.stderr.seek(0)
            raise SystemExit(f"{self.process.args[0]}: expected a program that waits before `main`, found: "
                             f"{self.stderr.read().decode(errors='replace')} ({wrong})")
        self.stderr.seek(0)
        return late or status, self.stderr.read().decode(errors="replace")

    def end(self, child, grace):
        if grace:
            for seconds, late in ((grace, "slow"), (10, "slow step")):
                os.kill(child, signal.SIGTERM)
                if self.ready(seconds):
                    return late
        os.kill(child, signal.SIGKILL)
        return "hangs"

    def ready(self, seconds):
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def answer(self):
        return struct.unpack("=i", self.process.stdout.read(4))[0]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.stderr.close()


class LoadedPrograms:
    """Each program, loaded once for each thread that runs it. A context manager."""

    def __init__(self, library, programs, preexec=None):
        self.library, self.programs, self.preexec = library, programs, preexec
        self.loaded = {}

    def run(self, program, arguments, folder, patience, grace=0, **variables):
        key = program, threading.get_ident()
        if key not in self.loaded:
            self.loaded[key] = Loaded(self.library, self.programs / program, self.preexec)
        return self.loaded[key].run(arguments, folder, patience, grace, **variables)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for loaded in self.loaded.values():
            loaded.close()
