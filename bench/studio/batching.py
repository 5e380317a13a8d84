#!/usr/bin/env python3
"""What ip2p studio gains by computing results of several clients together.

    batching.py PROGRAMS_DIR SOURCE_DIR [--model DIR] [--resolution 256] [--jobs 32] [--steps 10]

The same jobs, all waiting at once, go to services that differ in --batch alone; the first job of each warms it up. Prints
pictures per second and their ratio to those of --batch 1, the median of the rounds.
"""
import argparse
import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests/studio"))
import pictures  # noqa: E402
from client import Service  # noqa: E402


def rate(options, batch):
    """Pictures per second, and the bytes that the service has held at most."""
    photo = pictures.encode(options.resolution, options.resolution, lambda x, y: (x % 256, y % 256, (x * y) % 256))
    with Service(options.programs / "studio", "--model", options.model, "--resolution", options.resolution, "--dtype",
                 options.dtype, "--batch", batch, "--queue", options.jobs, "--queue-each", options.jobs,
                 environment={"OMP_NUM_THREADS": str(options.threads)}) as service:
        settings = {"instruction": "make it winter", "steps": options.steps, "preview_every": 0}
        service.edit(photo, settings)
        began = time.monotonic()
        jobs = [service.submit(photo, {**settings, "seed": seed})[1]["id"] for seed in range(options.jobs)]
        for job in jobs:
            if service.wait(job)["state"] != "done":
                sys.exit(f"job {job} failed")
        taken = time.monotonic() - began
        status = pathlib.Path(f"/proc/{service.process.pid}/status").read_text()
        service.end()
    return options.jobs / taken, 1024 * int(status.split("VmHWM:")[1].split()[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--model", help="default: models/small-editor")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--jobs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    options.model = options.model or options.source / "models/small-editor"
    seen = [[rate(options, batch) for batch in options.batches] for _ in range(options.rounds)]
    print("| --batch | pictures/s | ratio | peak, MB |\n|---|---|---|---|")
    for i, batch in enumerate(options.batches):
        print(f"| {batch} | {statistics.median(one[i][0] for one in seen):.2f} "
              f"| {statistics.median(one[i][0] / one[0][0] for one in seen):.2f} "
              f"| {max(one[i][1] for one in seen) / 1e6:.0f} |")


if __name__ == "__main__":
    main()
