#!/usr/bin/env python3
"""The paper's ablations and comparisons at a small scale, in a box that paper_in_a_box.py has finished.

    python3 examples/14_paper_in_a_box/ablations.py box

Trains editors on fewer pairs and without conditioning dropout, draws every method over the held-out edits with the same
noise, and leaves points.csv, differences.csv, results.md and ablations.svg in box/ablations. What is already done is
skipped. Needs the programs (scripts/build.sh) and Python's standard library.
"""

import argparse
import csv
import html
import json
import random
import shutil
import sys
from pathlib import Path

from paper_in_a_box import SOURCE, Chain, Stop, add_change, change_settings, measure_editor, status_of, train_editor

SETTINGS = {
    "shares": "0.1,0.01", "edits": 48, "image_scales": "1,1.2,2,3", "text_scales": "1,2,4", "strengths": "0.3,0.6,0.9",
    "fractions": "0,0.5,1", "painter_scale": 2.5, "layer_edits": 8, "layer_steps": "30,120", "layer_scales": 5,
    "layer_channels": 32, "layer_views": 4, "resamples": 2000,
}
# What is compared with what: (first, second, where the paper puts the first at equal image similarity).
CLAIMS = [
    ("filtered", "no filter", "above"),
    ("filtered", "no self-attention", "no number"),
    ("truth", "truth, 10 %", "above"),
    ("truth", "truth, 1 %", "above"),
    ("truth, 10 %", "truth, 1 %", "above"),
    ("truth", "truth, no dropout", "no number"),
    ("truth", "text scale alone", "no number"),
    ("truth", "image scale alone", "no number"),
    *((editor, method, paper) for editor in ("filtered", "truth")
      for method, paper in (("sdedit", "above"), ("prompt-to-prompt", "above"), ("text2live", "above, by eye"))),
]
PANELS = {
    "what editors learnt from": ["filtered", "no filter", "no self-attention", "truth", "truth, 10 %", "truth, 1 %",
                                 "truth, no dropout"],
    "methods": ["filtered", "truth", "text scale alone", "image scale alone", "sdedit", "prompt-to-prompt",
                "text2live", "input"],
}
COLOURS = {
    "filtered": "#1f77b4", "no filter": "#d62728", "no self-attention": "#2ca02c", "truth": "#111111",
    "truth, 10 %": "#9467bd", "truth, 1 %": "#ff7f0e", "truth, no dropout": "#8c564b", "text scale alone": "#d62728",
    "image scale alone": "#2ca02c", "sdedit": "#9467bd", "prompt-to-prompt": "#ff7f0e", "text2live": "#8c564b",
    "input": "#7f7f7f",
}


# Editors -------------------------------------------------------------------------------------------------------------


def subset(chain, name, share):
    """Makes a set of the first pairs with known answers, which are in random order. Returns their number."""
    whole, part = chain.path("scenes/pairs"), chain.path("pairs", name)
    seeds = json.loads((whole / "seeds.json").read_text())
    chosen = seeds[: max(1, round(share * len(seeds)))]
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for prompt, _ in chosen:
        shutil.copytree(whole / prompt, part / prompt)
    (part / "seeds.json").write_text(json.dumps(chosen))
    return len(chosen)


def train_editors(chain, s, results):
    """Returns the folder names and the measurements of all editors, each by label."""
    names = {label: name for label, name in {"filtered": "paper", "no filter": "no-filter",
                                             "no self-attention": "no-self-attention", "truth": "truth"}.items()
             if name in results["editors"]}
    measured = {label: results["editors"][name]["scores"]["all"] for label, name in names.items()}
    # All that the box was made with; what only says where and how much of it is shown changes nothing here.
    box = {name: value for name, value in {**results["inputs"], **chain.settings}.items()
           if name not in ("threads", "photographs", "curve_edits", "curve_scales")}

    def add(label, name, data, *options):
        needs = {**box, "options": list(options)}
        chain.stage("editor-" + name, lambda: train_editor(chain, name, data, *options), needs=needs,
                    makes=[chain.path("editors", name), chain.path("cache", name)])
        report = chain.stage("measure-editor-" + name, lambda: measure_editor(chain, name), needs=needs,
                             makes=[chain.path("measured", name)])
        names[label], measured[label] = name, report["scores"]["all"]

    for share in map(float, s["shares"].split(",")):
        name = f"truth-{100 * share:g}"
        chain.stage("pairs-" + name, lambda: subset(chain, name, share), needs={**box, "share": share},
                    makes=[chain.path("pairs", name)])
        add(f"truth, {100 * share:g} %", name, chain.path("pairs", name))
    add("truth, no dropout", "truth-no-dropout", chain.path("scenes/pairs"),
        "--drop-text", 0, "--drop-both", 0, "--drop-image", 0)
    return names, measured


# Points --------------------------------------------------------------------------------------------------------------


def evaluate(chain, s, names, curves, edits, out):
    """Runs `evaluate` over held-out edits. Returns the rows of the points and the scores of individual pictures."""
    folder, options = chain.path("ablations", out), []
    if chain.change:  # samples of other pictures or of another CLIP are not to be mixed
        shutil.rmtree(folder, ignore_errors=True)
    if shutil.which("gnuplot") is None:
        raise Stop("evaluate draws its figure with gnuplot: expected that program, found none (Debian: gnuplot-nox)")
    for name in names.values():
        options += ["--model", f"{name}={chain.path('editors', name, 'model')}"]
    for label, curve in curves.items():
        options += ["--curve", f"{curve} name={label.replace(' ', '_')}"]
    chain.run("ablations_" + out, "evaluate", "--pairs", chain.path("scenes/held_out_pairs"), "--split", "all",
              "--limit", edits, "--resolution", max(64, chain.settings["side"]), "--numerics", "diffusers", "--clip",
              f"small={chain.path('clip/clip')}", "--out", folder, "--keep-pictures", 0, "--model",
              f"painter={chain.path('text-to-image/model')}", *options, *chain.threads())
    rows, single = {}, {}
    with open(folder / "curves.csv", newline="") as stream:
        for line in csv.DictReader(stream):
            row = rows.setdefault((line["curve"], line["label"]), {
                "curve": line["curve"].replace("_", " "), "value": line["label"], "point": line["point"],
                "edits": int(line["samples"])})
            row[line["score"].removeprefix("small/")] = [float(line[part]) for part in ("mean", "low", "high")]
    for journal in sorted(folder.glob("samples-*.jsonl")):
        for line in journal.read_text().splitlines():
            sample = json.loads(line)
            if "point" in sample:
                single.setdefault(sample["point"], {})[sample["edit"]] = sample["scores"]
    return list(rows.values()), single


def draw_points(chain, s, names):
    steps = chain.settings["edit_steps"]
    instruct = f"instruct steps={steps} sampler=euler"
    text_scale = chain.settings["edit_text_scale"]
    curves = {label: f"{instruct} model={name} text-scale={text_scale} image-scale={s['image_scales']}"
              for label, name in names.items()}
    curves |= {
        "text scale alone": f"{instruct} model=truth image-scale=1 text-scale={s['text_scales']}",
        "image scale alone": f"{instruct} model=truth text-scale=1 image-scale={s['image_scales']}",
        "sdedit": f"sdedit model=painter steps={steps} text-scale={s['painter_scale']} strength={s['strengths']}",
        "prompt-to-prompt": f"prompt-to-prompt model=painter steps={steps} text-scale={s['painter_scale']} "
                            f"fraction={s['fractions']}",
        "input": "input",
    }
    layer = {"text2live": f"text2live scales={s['layer_scales']} channels={s['layer_channels']} "
                          f"views={s['layer_views']} steps={s['layer_steps']}"}
    rows, single = evaluate(chain, s, names, curves, s["edits"], "diffusion")
    more, others = evaluate(chain, s, {}, layer, s["layer_edits"], "layers")
    return rows + more, single | others


# Differences ---------------------------------------------------------------------------------------------------------


def at_similarity(curve, similarity):
    """The direction at an image similarity, interpolated between a curve's points [(similarity, direction)], sorted."""
    for (x0, y0), (x1, y1) in zip(curve, curve[1:]):
        if x0 <= similarity <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (similarity - x0) / (x1 - x0)
    return curve[0][1]


def difference(first, second):
    """Mean difference of the directions over the image similarities that both curves reach; None if there are none."""
    low, high = max(first[0][0], second[0][0]), min(first[-1][0], second[-1][0])
    if low > high:
        return None
    grid = [low + (high - low) * i / 8 for i in range(9)]
    return sum(at_similarity(first, x) - at_similarity(second, x) for x in grid) / len(grid)


def interval(draws):
    """The middle 95 % of the draws."""
    draws = sorted(draws)
    return draws[int(0.025 * len(draws))], draws[min(len(draws) - 1, int(0.975 * len(draws)))]


def sign(low, high):
    """0 if the interval contains 0."""
    return (low > 0) - (high < 0)


def differences(rows, single, resamples):
    """Each claim with a paired bootstrap over edits: all points of a resample use the same edits.

    It compares the directions at equal image similarity, if at least nine of ten resamples have any, and the direction
    and image similarity of the curves' middle points.
    """
    points = {}
    for row in rows:
        points.setdefault(row["curve"], []).append(single[row["point"]])
    found = []
    for first, second, paper in CLAIMS:
        if first not in points or second not in points:
            continue
        common = sorted(set.intersection(*(set(p) for p in points[first] + points[second])))

        def compare(edits):
            mean = lambda point, score: sum(point[e]["small/" + score] for e in edits) / len(edits)
            curves = [[(mean(point, "image"), mean(point, "direction")) for point in points[name]]
                      for name in (first, second)]
            a, b = (curve[(len(curve) - 1) // 2] for curve in curves)
            return {"equal": difference(*map(sorted, curves)), "direction": a[1] - b[1], "image": a[0] - b[0]}

        chance = random.Random(0)
        draws = [compare(chance.choices(common, k=len(common))) for _ in range(resamples)]
        row = {"first": first, "second": second, "paper": paper, "edits": len(common)}
        signs = {}
        for score, mean in compare(common).items():
            known = [draw[score] for draw in draws if draw[score] is not None]
            row[score] = row[score + "_low"] = row[score + "_high"] = None
            if mean is not None and len(known) >= 0.9 * resamples:
                low, high = interval(known)
                row |= {score: mean, score + "_low": low, score + "_high": high}
                signs[score] = sign(low, high)
        equal = signs.pop("equal", None)
        total = set(signs.values() if equal is None else [equal]) - {0}
        row["found"] = ("within the intervals" if not total else "one for the other" if len(total) > 1 else
                        "above" if 1 in total else "below")
        found.append(row)
    return found


# Tables and figure ---------------------------------------------------------------------------------------------------


def write_tables(folder, rows, claims, measured, image_scale):
    decibels = lambda row: (measured[row["curve"]]["psnr_to_truth"]
                            if row["curve"] in measured and float(row["value"]) == image_scale else None)
    with open(folder / "points.csv", "w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["curve", "value", "edits", "direction", "direction_low", "direction_high", "image", "image_low",
                      "image_high", "ssim", "ssim_low", "ssim_high", "db_to_truth", "point"])
        for row in rows:
            out.writerow([row["curve"], row["value"], row["edits"],
                          *(f"{x:.6g}" for score in ("direction", "image", "ssim") for x in row[score]),
                          "" if decibels(row) is None else f"{decibels(row):.4g}", row["point"]])
    with open(folder / "differences.csv", "w", newline="") as stream:
        out = csv.DictWriter(stream, claims[0].keys())
        out.writeheader()
        out.writerows(claims)

    spread = lambda x: f"{x[0]:.3f} [{x[1]:.3f}, {x[2]:.3f}]"
    lines = ["| method or editor | setting | edits | direction | image similarity | dB to the truth |",
             "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['curve']} | {row['value'] if row['curve'] != 'input' else ''} | {row['edits']} | "
                     f"{spread(row['direction'])} | {spread(row['image'])} | "
                     f"{'' if decibels(row) is None else format(decibels(row), '.1f')} |")
    lines += ["", "| first | second | paper: first is | here: first is | direction at equal image similarity | "
              "middle points: direction | image similarity | edits |", "|---|---|---|---|---|---|---|---|"]
    for c in claims:
        cells = ["none is equal" if c[score] is None else
                 f"{c[score]:+.3f} [{c[score + '_low']:+.3f}, {c[score + '_high']:+.3f}]"
                 for score in ("equal", "direction", "image")]
        cells = [c["first"], c["second"], c["paper"], c["found"], *cells, str(c["edits"])]
        lines.append("| " + " | ".join(cells) + " |")
    (folder / "results.md").write_text("\n".join(lines) + "\n")


def figure(rows):
    """Image similarity over direction, one panel for training data and one for methods; intervals are thin crosses."""
    width, height, left, top, gap = 470, 400, 60, 30, 70
    total = (left + 2 * width + gap + 20, top + height + 70 + 20 * ((max(map(len, PANELS.values())) - 1) // 2))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total[0]} {total[1]}" font-family="sans-serif" '
           'font-size="12"><rect width="100%" height="100%" fill="white"/>']
    text = lambda x, y, words, more="": out.append(f'<text x="{x:.1f}" y="{y:.1f}" {more}>{html.escape(words)}</text>')
    line = lambda x0, y0, x1, y1, more: out.append(
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" {more}/>')
    for n, (title, curves) in enumerate(PANELS.items()):
        origin = left + n * (width + gap)
        shown = [row for row in rows if row["curve"] in curves]

        def span(score):
            low, high = (f(x for row in shown for x in row[score]) for f in (min, max))
            return low - 0.03 * (high - low), high + 0.03 * (high - low)

        (low_x, high_x), (low_y, high_y) = span("direction"), span("image")
        x_of = lambda x: origin + width * (x - low_x) / (high_x - low_x)
        y_of = lambda y: top + height * (high_y - y) / (high_y - low_y)
        text(origin + width / 2, top - 10, title, 'text-anchor="middle" font-size="14"')
        out.append(f'<rect x="{origin}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#444"/>')
        for i in range(-10, 11):
            tick = i / 10
            if low_x <= tick <= high_x:
                line(x_of(tick), top, x_of(tick), top + height, 'stroke="#e4e4e4"')
                text(x_of(tick), top + height + 16, f"{tick:g}", 'text-anchor="middle"')
            if low_y <= tick <= high_y:
                line(origin, y_of(tick), origin + width, y_of(tick), 'stroke="#e4e4e4"')
                text(origin - 6, y_of(tick) + 4, f"{tick:g}", 'text-anchor="end"')
        text(origin + width / 2, top + height + 36, "CLIP directional similarity", 'text-anchor="middle"')
        text(origin - 38, top + height / 2, "CLIP image similarity",
             f'text-anchor="middle" transform="rotate(-90 {origin - 38} {top + height / 2})"')
        for k, name in enumerate(curves):
            colour, points = COLOURS[name], [row for row in shown if row["curve"] == name]
            if not points:
                continue
            for row in points:
                (x, x0, x1), (y, y0, y1) = row["direction"], row["image"]
                thin = f'stroke="{colour}" stroke-width="1" opacity="0.4"'
                line(x_of(x0), y_of(y), x_of(x1), y_of(y), thin)
                line(x_of(x), y_of(y0), x_of(x), y_of(y1), thin)
                out.append(f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="4" fill="{colour}"/>')
                text(x_of(x) + 6, y_of(y) - 5, row["value"] if name != "input" else "",
                     f'fill="{colour}" font-size="10"')
            path = " ".join(f"{x_of(row['direction'][0]):.1f},{y_of(row['image'][0]):.1f}" for row in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            at = (origin + (k % 2) * width / 2, top + height + 62 + 20 * (k // 2))
            out.append(f'<circle cx="{at[0] + 6:.1f}" cy="{at[1] - 4:.1f}" r="4" fill="{colour}"/>')
            text(at[0] + 16, at[1], name)
    return "\n".join(out) + "\n</svg>\n"


def run_ablations(chain, s, results):
    names, measured = train_editors(chain, s, results)
    rows, single = draw_points(chain, s, names)  # evaluate skips pictures that exist
    claims = differences(rows, single, s["resamples"])
    folder = chain.path("ablations")
    write_tables(folder, rows, claims, measured, chain.settings["edit_image_scale"])
    (folder / "ablations.svg").write_text(figure(rows))
    print((folder / "results.md").read_text())
    print(folder / "ablations.svg")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("box", type=Path, help="work folder of a finished paper_in_a_box.py; its settings are used")
    parser.add_argument("--programs", type=Path, default=SOURCE / "build/release/examples",
                        help="folder of the programs")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="one of " + ", ".join(f"{name} ({value})" for name, value in SETTINGS.items()).replace(
                            "%", "%%"))
    add_change(parser)
    arguments = parser.parse_args()
    settings = dict(SETTINGS)
    change_settings(parser, settings, arguments.set)

    def run():
        path = arguments.box / "results.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        if "inputs" not in results:
            raise Stop(f"expected {path}, with which a run of paper_in_a_box.py ends, found none")
        run_ablations(Chain(arguments.box.resolve(), arguments.programs.resolve(), results["settings"],
                            arguments.change), settings, results)

    return status_of("ablations", run)


if __name__ == "__main__":
    sys.exit(main())
