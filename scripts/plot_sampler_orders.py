#!/usr/bin/env python3
"""Draws docs/images/sampler-orders.svg and prints the table of docs/explanation/sampler-orders.md. Needs matplotlib.

Usage: build/release/tests/tests_tensor "[orders]" | scripts/plot_sampler_orders.py docs/images/sampler-orders.svg
"""

import math
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: small, and searchable
matplotlib.rcParams["svg.hashsalt"] = "sampler-orders"
import matplotlib.pyplot as plt  # noqa: E402

errors = {}
for line in sys.stdin:
    if line.startswith("error;"):
        _, label, grading, steps, error = line.strip().split(";")
        errors.setdefault(label, {}).setdefault(grading, {})[int(steps)] = float(error)

print("| sampler | order, even grid | order, graded grid | error in 32 steps, even | error in 32 steps, graded |")
print("|---|---|---|---|---|")
for label, grids in errors.items():
    slopes = [f"{math.log2(grids[g][256] / grids[g][512]):.2f}" for g in ("1", "2")]
    print(f"| {label} | {' | '.join(slopes)} | {grids['1'][32]:.1e} | {grids['2'][32]:.1e} |")

figure, axes = plt.subplots(1, 2, figsize=(11, 5), sharey=True)
for axis, grading, title in zip(axes, ("1", "2"), ("even in log sigma", "graded: small first steps")):
    for i, (label, grids) in enumerate(errors.items()):
        axis.loglog(*zip(*sorted(grids[grading].items())), marker="o", ms=3, lw=1, ls=("-", "--")[i // 10],
                    label=label)
    axis.set(title=title, xlabel="steps from sigma 2 to 0.2")
    axis.grid(True, which="major", alpha=0.3)
axes[0].set_ylabel("largest error at sigma 0.2")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
figure.subplots_adjust(left=0.07, right=0.73, wspace=0.05)
figure.savefig(sys.argv[1], metadata={"Date": None, "Creator": None})
