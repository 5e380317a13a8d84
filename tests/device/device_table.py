#!/usr/bin/env python3
"""Joins what the steps of device_check wrote into one file, and prints the table of all.

    device_table.py FOLDER RESULTS.json SECONDS

FOLDER holds a file a step, {"seconds": ..., "rows": [{"step", "name", "status", "value", "limit", "unit", "text"}, ...]}.
The exit status is 1 where a line failed.
"""

import json
import sys
from pathlib import Path


def number(row):
    if "value" not in row:
        return ""
    if row["status"] == "measured":
        return f"{row['value']:.4g} {row.get('unit', '')}".strip()
    return f"{row['value']:.1e}" + (f" <= {row['limit']:.1e}" if "limit" in row else "")


def ratios(rows):
    """How many times faster than diffusers' best mode: exact edits, and updates of a training."""
    measured = {(row["step"], row["name"]): row["value"] for row in rows if row["status"] == "measured"}

    def largest(steps, names):
        found = [(value, name) for (step, name), value in measured.items() if step in steps and name in names]
        return max(found, default=None)

    modes = {"diffusers_eager", "diffusers_channels-last", "diffusers_compile"}
    exact = ("eager", "our kernels", "our kernels, one graph a step")
    for batch in (1, 2, 8):
        yield (f"edits, batch {batch}", largest({"edit_speed"}, {f"{name}, batch {batch}: rate" for name in exact}),
               largest(modes, {f"batch {batch}: rate"}))  # fmt: skip
    for batch in (2, 8, 32):
        for kind in ("cached latents", "from pictures"):
            yield (f"training, {kind}, batch {batch}", largest({"training_speed"}, {f"{kind}, batch {batch}: rate"}),
                   largest({"diffusers_training"}, {f"batch {batch}: rate"}))  # fmt: skip


def main(folder, results, seconds):
    steps = {}
    for path in sorted(Path(folder).glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        steps[path.stem] = json.loads(path.read_text())
    Path(results).write_text(json.dumps({"seconds": float(seconds), "steps": steps}, indent=1) + "\n")

    print("\n| step | ok | failed | skipped | seconds | worst share of its limit |\n|---|---|---|---|---|---|")
    for name, step in steps.items():
        counts = [sum(row["status"] == status for row in step["rows"]) for status in ("ok", "failed", "skipped")]
        shares = [(row["value"] / row["limit"], row["name"]) for row in step["rows"] if "limit" in row and "value" in row]
        worst = f"{max(shares)[0]:.2f} ({max(shares)[1]})" if shares else ""
        print(f"| {name} | {counts[0]} | {counts[1]} | {counts[2]} | {step['seconds']:.1f} | {worst} |")

    rows = [row for step in steps.values() for row in step["rows"]]
    for title, status in (("Failed", "failed"), ("Skipped", "skipped")):
        chosen = [row for row in rows if row["status"] == status]
        if chosen:
            print(f"\n{title}:")
        for row in chosen:
            print(f"- {row['step']}: {row['name']}: {' '.join(filter(None, [number(row), row.get('text', '')]))}")
    print("\n| measured | |\n|---|---|")
    for row in rows:
        if row["status"] == "measured":
            print(f"| {row['step']}: {row['name']} | {number(row)} |")
    print("\n| beside diffusers | ours | diffusers | ratio |\n|---|---|---|---|")
    for name, ours, theirs in ratios(rows):
        if ours and theirs:
            print(f"| {name} | {ours[0]:.3g}/s ({ours[1].split(', batch')[0]}) | {theirs[0]:.3g}/s | {ours[0] / theirs[0]:.2f} |")
    print("\nNotes:")
    for row in rows:
        if row["status"] == "note":
            print(f"- {row['step']}: {row['name']}: {row.get('text', '')}")
    failed = sum(row["status"] == "failed" for row in rows)
    compared = sum(row["status"] in ("ok", "failed") for row in rows)
    print(f"\n{compared - failed} of {compared} comparisons passed, {len(steps)} steps in {float(seconds):.0f} s")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
