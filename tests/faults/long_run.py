#!/usr/bin/env python3
"""Makes many edits in one process, with changing sizes, seeds, steps, instructions and LoRAs: every picture must have
the same bytes as one made by a separate edit_image process, and the memory of the process must not grow.

    long_run.py PROGRAMS MANY_EDITS SOURCE [--edits N] [--seed SEED] [--threads N]

Settings recur, far apart, so fewer processes are needed than edits. --threads sets the threads of the separate
processes; the process that makes all edits has one. MANY_EDITS is the program of many_edits.cpp.
"""
import argparse
import array
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time

import cases

PROMPTS = ["", "make it winter", "make it night", "turn it into a pencil sketch", "make it sepia",
           "a view under water", "make it red, with fog", "autumn " * 60]
GROWTH = 1.05  # maximum ratio of the memory held at the end to that after a fifth of the edits


def median(values):
    """Replaces Python's statistics module, which would import numbers.py of this folder instead of Python's."""
    return sorted(values)[len(values) // 2]


def header_of(path):
    data = path.read_bytes()
    return json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])


def write_lora(path, unet, rank, layers, rng):
    """Writes a LoRA with small random weights for the UNet layers whose names end in `layers`."""
    tensors, content = {}, b""
    for name, entry in sorted(header_of(unet).items()):
        if not name.endswith(layers) or ".attn" not in name:
            continue
        outputs, inputs = entry["shape"]
        for side, shape in (("A", [rank, inputs]), ("B", [outputs, rank])):
            values = array.array("f", (rng.gauss(0, 0.1) for _ in range(shape[0] * shape[1]))).tobytes()
            tensors[f"unet.{name.removesuffix('.weight')}.lora_{side}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [len(content), len(content) + len(values)]}
            content += values
    header = json.dumps(tensors).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)


def jobs_of(count, photographs, loras, work, rng):
    """The settings of `count` edits, about a third of which are distinct."""
    different = [{"image": str(rng.choice(photographs)), "prompt": rng.choice(PROMPTS), "seed": rng.randrange(1 << 32),
                  "steps": rng.randint(1, 3), "resolution": rng.choice([64, 96, 128, 160, 192]),
                  "loras": [[str(path), rng.choice([0.5, 1, -0.75])]
                            for path in rng.sample(loras, rng.choice([0, 0, 1, 2]))]}
                 for _ in range(max(1, count // 3))]
    order = different + [rng.choice(different) for _ in range(count - len(different))]
    rng.shuffle(order)
    return [{**job, "out": str(work / f"many_{number}.png")} for number, job in enumerate(order)]


def alone(programs, model, job, out, threads):
    """The bytes of the picture that a separate process makes."""
    command = [programs / "edit_image", "--model", model, *cases.FP32, "--image", job["image"], "--prompt", job["prompt"],
               "--seed", str(job["seed"]), "--steps", str(job["steps"]), "--resolution", str(job["resolution"]), "--out", out,
               "--threads", str(threads), "--no-settings", "--quiet"]
    if job["loras"]:
        command += ["--lora", *(f"{path}:{scale}" for path, scale in job["loras"])]
    subprocess.run(list(map(str, command)), check=True, env=cases.environment(), stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return out.read_bytes()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("many_edits", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--edits", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    start = time.monotonic()
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    source, programs = given.source.resolve(), given.programs.resolve()
    model = source / "models/small-editor"
    problems = []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        unet = model / "unet/diffusion_pytorch_model.safetensors"
        loras = [work / f"{name}.safetensors" for name in ("queries", "values", "outputs")]
        for path, rank, layers in zip(loras, (2, 4, 8), ("to_q.weight", "to_v.weight", "to_out.0.weight")):
            write_lora(path, unet, rank, layers, rng)
        photographs = [source / "docs/images/quickstart.jpg", work / "small.png", work / "wide.png"]
        cases.png(photographs[1], 70, 2, lambda x, y: (3 * x, 3 * y, 90))
        cases.png(photographs[2], 200, 2, lambda x, y: (x, 255 - y, (x * y) % 256))
        jobs = jobs_of(given.edits, photographs, loras, work, rng)
        done = subprocess.run([given.many_edits, model], input="".join(json.dumps(job) + "\n" for job in jobs), text=True,
                              stdout=subprocess.PIPE, env=cases.environment(), check=True)
        held = [int(line) / 1024 for line in done.stdout.split()]
        made, changes = {}, sum(a["loras"] != b["loras"] for a, b in zip(jobs, jobs[1:]))
        for number, job in enumerate(jobs):
            key = json.dumps({name: value for name, value in job.items() if name != "out"})
            if key not in made:
                made[key] = alone(programs, model, job, work / "alone.png", given.threads)
            if pathlib.Path(job["out"]).read_bytes() != made[key]:
                problems.append(f"edit {number + 1}: expected the picture of a process of its own: {key}")
    fifth = max(1, len(held) // 5)
    early, late = median(held[fifth:2 * fifth]), median(held[-fifth:])
    if len(jobs) >= 100 and late > early * GROWTH:
        problems.append(f"expected memory to stay, found {early:.0f} MiB early and {late:.0f} MiB late")
    print("\n".join(f"FAILED: {problem}" for problem in problems))
    print(f"{len(jobs)} edits, {changes} changes of LoRAs, against {len(made)} processes: "
          f"{len(set(made.values()))} pictures, memory {early:.0f} MiB early, {late:.0f} MiB late, {max(held):.0f} MiB at "
          f"most; {len(problems)} problems in {time.monotonic() - start:.0f} s")
    return 1 if problems or len(held) != len(jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
