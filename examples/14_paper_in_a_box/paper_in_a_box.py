#!/usr/bin/env python3
"""The paper's chain at a small scale, with one command: captions, triplets, pictures, pairs, filter, editor, edits.

    python3 examples/14_paper_in_a_box/paper_in_a_box.py box --small

Every stage leaves its results in the work folder and is skipped once it is done; report.html shows everything. A work
folder with other settings is refused, and what differs is named; --change makes that again.
Needs the programs (scripts/build.sh) and Python's standard library.
"""

import argparse
import base64
import hashlib
import html
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]

# What --small means: about twenty minutes on one slow core. --hours multiplies the counts in GROWS.
SMALL = {
    "side": 64, "objects": 8, "places": 5, "looks": 4, "sizes": 1, "positions": 3, "seed": 1,
    "training": 2500, "held_out": 64, "truth_pairs": 300, "held_out_pairs": 48,
    "text_length": 24,
    "clip_steps": 480, "clip_batch": 48, "clip_rate": 1e-3,
    "language_triplets": 2000, "language_epochs": 14, "language_layers": 2, "language_width": 96, "captions": 60,
    "image_steps": 700, "image_batch": 32, "image_rate": 1e-3, "channels": "64 128",
    "draw_count": 40, "draw_steps": 12, "draw_scale": 2.5,
    "samples": 3, "keep": 3, "pair_steps": 12, "pair_scale_from": 2.0, "pair_scale_to": 4.0,
    "filter_image": 0.5, "filter_caption": 0.1, "filter_direction": 0.1,
    "editor_steps": 150, "editor_batch": 16, "editor_rate": 5e-4,
    "edit_count": 48, "edit_steps": 12, "edit_image_scale": 1.2, "edit_text_scale": 2.0,
    "curve_edits": 12, "curve_scales": "1,2,4", "photographs": 3, "threads": 0,
}
KINDS = ["objects", "places", "looks", "sizes", "positions"]
GROWS = ["training", "clip_steps", "image_steps", "editor_steps", "captions", "truth_pairs"]
SMALL_HOURS = 1 / 3


class Stop(Exception):
    """A failure that the user can act on."""


class Terminated(Exception):
    """SIGTERM."""


def on_sigterm(number, frame):
    raise Terminated


def shown(value):
    return "nothing" if value is None else json.dumps(value) if isinstance(value, (dict, list)) else str(value)


class Chain:
    """Runs stages in a work folder; finished stages are skipped.

    A stage is finished with the settings that it was made with. Where those given differ, it is refused, or with `change`
    made again from its beginning, as is whatever depends on it.
    """

    def __init__(self, work, programs, settings, change=False):
        self.work, self.programs, self.settings, self.change = work, programs, settings, change
        self.seconds = {}
        for folder in ("logs", "done"):
            (work / folder).mkdir(parents=True, exist_ok=True)

    def path(self, *parts):
        return self.work.joinpath(*parts)

    def stage(self, name, after, *, needs=None, makes=()):
        """Calls `after()` unless that was done with the same `needs`, a dictionary. Returns its result, which is kept for
        later runs. `makes` is what the stage leaves in the work folder."""
        needs = json.loads(json.dumps(needs or {}))
        marker = self.path("done", name + ".json")
        known = json.loads(marker.read_text()) if marker.exists() else {"needs": needs}
        had = known.get("needs", {})
        different = {key: had.get(key) for key in {**had, **needs} if had.get(key) != needs.get(key)}
        if different:
            lines = [f"{key}: had {shown(value)}, given {shown(needs.get(key))}" for key, value in different.items()]
            if not self.change:
                raise Stop(f"{self.work}, stage '{name}': belongs to a run with other settings: {'; '.join(lines)}; pass "
                           "--change to make it again, or use another work folder")
            print(f"[{name}] made again: {'; '.join(lines)}", flush=True)
            for path in makes:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            known = {"changes": [*known.get("changes", []), *lines]}
        known["needs"] = needs
        if "seconds" in known:
            print(f"[{name}] done before", flush=True)
        else:
            marker.write_text(json.dumps(known, indent=1))
            print(f"[{name}]", flush=True)
            begin = time.monotonic()
            known["result"] = after()
            known["seconds"] = time.monotonic() - begin
            marker.write_text(json.dumps(known, indent=1))
            print(f"[{name}] {known['seconds']:.0f} s", flush=True)
        self.seconds[name] = known["seconds"]
        return known["result"]

    def run(self, log, program, *arguments, cwd=None):
        """Runs a program of the build, or any other by name; its output goes to logs/LOG.log and is returned."""
        own = self.programs / program
        command = [str(own if own.exists() else program), *map(str, arguments)]
        if not own.exists() and shutil.which(program) is None:
            raise Stop(f"expected the program {own} (scripts/build.sh {program}), found none")
        path = self.path("logs", log + ".log")
        with open(path, "w") as stream:
            stream.write(" ".join(command) + "\n")
            stream.flush()
            child = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stream,
                                     stderr=subprocess.STDOUT)
            try:
                status = child.wait()
            except (KeyboardInterrupt, Terminated) as signalled:
                if isinstance(signalled, Terminated):
                    child.terminate()  # Ctrl-C reaches the child without help
                child.wait()  # a training saves first
                raise
        words = path.read_text(errors="replace")
        if status != 0:
            tail = "\n".join(words.splitlines()[-8:])
            raise Stop(f"{program} ended with status {status}; {path} ends with:\n{tail}")
        return words

    def threads(self):
        return ["--threads", self.settings["threads"]] if self.settings["threads"] else []


def given(settings, *names):
    return {name: settings[name] for name in names}


def digest_of(paths):
    """Of files' names and contents; of a missing one, of its name alone."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(path.name.encode() + b"\0")
        if path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


# Material ------------------------------------------------------------------------------------------------------------


def fetch_stamps(chain):
    """The folder of the cut-outs: installed, or unpacked from Debian's package, which needs no root."""
    installed = Path("/usr/share/tuxpaint/stamps")
    if installed.is_dir():
        return str(installed)
    package, folder = "tuxpaint-stamps-default", chain.path("material")
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Stop(f"no {tool} to download {package}: install the package otherwise and pass its folder with --stamps")
    folder.mkdir(exist_ok=True)
    chain.run("stamps", "apt-get", "download", "-q", package, cwd=folder)
    archive = next(folder.glob(package + "_*.deb"))
    chain.run("stamps", "dpkg-deb", "-x", archive, folder / "stamps")
    archive.unlink()
    return str(folder / "stamps/usr/share/tuxpaint/stamps")


def fetch_photographs(chain):
    folder = chain.path("material/photographs")
    chain.run("photographs", "bash", SOURCE / "scripts/photographs.sh", folder)
    return str(folder)


# Tokenizers ----------------------------------------------------------------------------------------------------------


def byte_alphabet():
    """GPT-2's printable character for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {byte: chr(byte) for byte in plain}
    for n, byte in enumerate(sorted(set(range(256)) - set(plain))):
        alphabet[byte] = chr(256 + n)
    return [alphabet[byte] for byte in range(256)]


def byte_pair_merges(texts, most):
    """The merges of a byte-pair tokenizer: always the most frequent pair, or the first in order of these."""
    alphabet = byte_alphabet()
    counts = {}
    for text in texts:
        for piece in re.findall(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+", text):
            symbols = tuple(alphabet[byte] for byte in piece.encode())
            counts[symbols] = counts.get(symbols, 0) + 1
    merges = []
    while len(merges) < most:
        pairs = {}
        for symbols, count in counts.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] = pairs.get(pair, 0) + count
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = {}
        for symbols, count in counts.items():
            out = []
            for symbol in symbols:
                if out and (out[-1], symbol) == best:
                    out[-1] += symbol
                else:
                    out.append(symbol)
            merged[tuple(out)] = merged.get(tuple(out), 0) + count
        counts = merged
    return merges


def write_tokenizers(chain, original):
    """Writes a GPT-2 tokenizer learnt from the triplets, and CLIP's with room for as many tokens as captions need."""
    texts = []
    for line in chain.path("scenes/triplets.jsonl").read_text().splitlines():
        triplet = json.loads(line)
        texts.append(f"{triplet['input']}\n##\n{triplet['edit']}\n%%\n{triplet['output']}\nEND")
    merges = byte_pair_merges(texts, 1000)
    words = [*byte_alphabet(), *("".join(pair) for pair in merges), "<|endoftext|>"]
    gpt2 = chain.path("tokenizers/gpt2")
    gpt2.mkdir(parents=True, exist_ok=True)
    gpt2.joinpath("vocab.json").write_text(json.dumps({word: n for n, word in enumerate(dict.fromkeys(words))}))
    gpt2.joinpath("merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))

    clip = chain.path("tokenizers/clip")
    shutil.copytree(original, clip, dirs_exist_ok=True)
    config = clip / "tokenizer_config.json"
    content = json.loads(config.read_text()) if config.exists() else {}
    content["model_max_length"] = chain.settings["text_length"]
    config.write_text(json.dumps(content, indent=2))
    return {"merges": len(merges)}


# Stages --------------------------------------------------------------------------------------------------------------


def make_triplets(chain):
    """A language model learns from the grammar's triplets and writes others; the grammar fills up what is missing."""
    s = chain.settings
    chain.run("language_train", "make_triplets", "train", "--triplets", chain.path("scenes/triplets.jsonl"), "--tokenizer",
              chain.path("tokenizers/gpt2"), "--out", chain.path("language"), "--layers", s["language_layers"],
              "--hidden-size", s["language_width"], "--heads", max(1, s["language_width"] // 32), "--context", 96, "--epochs",
              s["language_epochs"], "--batch", 16, "--rate", 2e-3, *chain.threads())
    measured = chain.run("language_measure", "make_triplets", "measure", "--triplets", chain.path("scenes/triplets.jsonl"),
                         "--model", chain.path("language"), "--max-tokens", 64)
    made = chain.path("triplets.jsonl")
    words = chain.run("language_generate", "make_triplets", "generate", "--captions",
                      chain.path("scenes/captions.txt"), "--model", chain.path("language"), "--out", made,
                      "--max-tokens", 64)
    counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", words, re.M)}
    known = {json.loads(line)["input"] for line in chain.path("scenes/triplets.jsonl").read_text().splitlines()}
    lines = [json.loads(line) for line in made.read_text().splitlines()]
    sound = [line for line in lines if line["output"] in known]
    used = list(sound)
    grammar = [json.loads(line) for line in chain.path("scenes/triplets.jsonl").read_text().splitlines()]
    for triplet in grammar:
        if len(used) >= s["captions"]:
            break
        used.append({"caption": triplet["input"], "edit": triplet["edit"], "output": triplet["output"]})
    chain.path("used_triplets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in used))
    shares = re.findall(r"^([a-z][a-z ()]+): +([0-9.]+) % \((\d+)\)$", measured, re.M)
    return {"counts": counts, "made": len(lines), "in_grammar": len(sound), "used": len(used),
            "from_grammar": len(used) - len(sound), "measured": [[a, float(b)] for a, b, _ in shares],
            "examples": lines[:8]}


def make_pairs(chain, name, *options):
    s = chain.settings
    chain.path("pairs").mkdir(exist_ok=True)
    chain.run("pairs_" + name, "make_pairs", "--model", chain.path("text-to-image/model"), "--clip",
              chain.path("clip/clip"), "--triplets", chain.path("used_triplets.jsonl"), "--out",
              chain.path("pairs", name), "--samples", s["samples"], "--keep-pairs", s["keep"], "--steps", s["pair_steps"],
              "--resolution", s["side"], "--text-scale-from", s["pair_scale_from"], "--text-scale-to", s["pair_scale_to"],
              "--seed", s["seed"], *chain.threads(), *options)
    return count_pairs(chain.path("pairs", name))


def count_pairs(folder):
    seeds = json.loads((folder / "seeds.json").read_text())
    return {"prompts": len(seeds), "pairs": sum(len(entry[1]) for entry in seeds)}


def train_editor(chain, name, data, *options):
    s = chain.settings
    words = chain.run("editor_" + name, "train_editor", "--model", chain.path("text-to-image/model"), "--pairs", data,
                      "--out", chain.path("editors", name), "--resolution", s["side"], "--resize-smallest", s["side"],
                      "--resize-largest", s["side"], "--mirror", 0, "--steps", s["editor_steps"], "--batch",
                      s["editor_batch"], "--micro-batch", s["editor_batch"], "--rate", s["editor_rate"], "--lr-schedule",
                      "cosine", "--warmup", min(50, s["editor_steps"] // 5), "--max-grad-norm", 1, "--ema", 0.995,
                      "--sample-every", 0, "--workers", 0, "--seed", s["seed"], "--cache",
                      chain.path("cache", name), *chain.threads(), *options)
    if "complete at step" not in words:
        raise Stop(f"train_editor stopped early; run the same command again to continue ({chain.path('logs')})")


def measure_editor(chain, name):
    s = chain.settings
    chain.run("measure_" + name, "small_world", "measure-editor", "--scenes", chain.path("scenes"), "--clip",
              chain.path("clip/clip"), "--model", chain.path("editors", name, "model"), "--pairs",
              chain.path("scenes/held_out_pairs"), "--out", chain.path("measured", name), "--limit", s["edit_count"],
              "--steps", s["edit_steps"], "--image-scale", s["edit_image_scale"], "--text-scale", s["edit_text_scale"],
              *chain.threads())
    return json.loads(chain.path("measured", name, "report.json").read_text())


def edit_photographs(chain, photographs, names):
    """Edits photographs that no scene was made from, with instructions of the small world."""
    s = chain.settings
    world = json.loads(chain.path("scenes/world.json").read_text())
    places = {word["file"] for word in world["words"]["places"]}
    photos = sorted(p for p in Path(photographs).iterdir()
                    if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") and p.name not in places)
    chosen = photos[:: max(1, len(photos) // max(1, s["photographs"]))][: s["photographs"]]
    instructions = [word["instruction"] for word in world["words"]["looks"][1:3]]
    instructions += [word["instruction"] for word in world["words"]["places"][:1]]
    chain.path("edits").mkdir(exist_ok=True)
    edits = []
    for photo in chosen:
        for n, instruction in enumerate(instructions):
            for name in names:
                out = chain.path("edits", f"{photo.stem}_{n}_{name}.png")
                chain.run("edit", "edit_image", "--model", chain.path("editors", name, "model"), "--image", photo,
                          "--prompt", instruction, "--out", out, "--resolution", max(64, s["side"]), "--numerics",
                          "diffusers", "--steps", s["edit_steps"], "--sampler", "euler", "--image-scale",
                          s["edit_image_scale"], "--text-scale", s["edit_text_scale"], "--compare",
                          out.with_suffix(".compare.png"))
                edits.append({"photograph": photo.name, "instruction": instruction, "editor": name,
                              "picture": out.with_suffix(".compare.png").name})
    return edits


def draw_curves(chain, names):
    """Draws the paper's figure: each editor along its text scale."""
    s, options = chain.settings, []
    if shutil.which("gnuplot") is None:
        return None
    for name in names:
        options += ["--model", f"{name}={chain.path('editors', name, 'model')}", "--curve",
                    f"instruct name={name} model={name} text-scale={s['curve_scales']} steps={s['edit_steps']} "
                    f"sampler=euler image-scale={s['edit_image_scale']}"]
    chain.run("curves", "evaluate", "--pairs", chain.path("scenes/held_out_pairs"), "--split", "all", "--limit",
              s["curve_edits"], "--resolution", max(64, s["side"]), "--numerics", "diffusers", "--clip",
              f"small={chain.path('clip/clip')}", "--out", chain.path("curves"), "--keep-pictures", 0, *options,
              *chain.threads())
    return "curves/curves-small.png"


# Report --------------------------------------------------------------------------------------------------------------


def picture(path, width=None):
    if not Path(path).exists():
        return "<p><em>no picture</em></p>"
    data = base64.b64encode(Path(path).read_bytes()).decode()
    size = f' width="{width}"' if width else ""
    return f'<img alt="{html.escape(Path(path).name)}"{size} src="data:image/png;base64,{data}">'


def number(value):
    if value is None:
        return "none"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def table(head, rows):
    def row(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(number(cell))}</{tag}>" for cell in cells) + "</tr>"
    return "<table>" + row(head, "th") + "".join(row(cells, "td") for cells in rows) + "</table>"


def retrieval_rows(reports):
    rows = []
    for label, r in reports:
        for direction in ("picture_of_caption", "caption_of_picture"):
            rows.append([label, direction.replace("_", " "), r["pictures"], r[direction]["recall_at_1"],
                         r[direction]["recall_at_5"], r["chance"]["recall_at_1"], r["chance"]["recall_at_5"]])
    return table(["pictures", "looked for", "of", "recall@1", "recall@5", "chance@1", "chance@5"], rows)


def write_report(chain, results):
    s, path = chain.settings, chain.path
    parts = ["<h1>The paper in a box</h1>",
             "<p>Every number below was measured by this run; nothing is chosen for looks.</p>",
             table(["stage", "seconds"], [[name, round(seconds)] for name, seconds in chain.seconds.items()])]

    def section(title, *content):
        parts.append(f"<h2>{html.escape(title)}</h2>" + "".join(content))

    read = lambda *names: json.loads(path(*names).read_text())
    section("Scenes", "<p>Cut-outs on photographs, under computed looks.</p>", picture(path("scenes/sheet.png")))
    section("CLIP", "<p>Scenes whose captions it was never trained on.</p>",
            retrieval_rows([("scenes", read("clip/report.json")["held_out"])]), picture(path("clip/loss.png"), 480))
    t = results["triplets"]
    section("Triplets",
            table(["made", "about this world", "used", "of these from the grammar"],
                  [[t["made"], t["in_grammar"], t["used"], t["from_grammar"]]]),
            table(["generation", "count"], list(t["counts"].items())),
            table(["one sample for each held-out caption", "%"], t["measured"]),
            table(["caption", "instruction", "edited caption"],
                  [[e["caption"], e["edit"], e["output"]] for e in t["examples"]]))
    drawn = read("measured/drawings/report.json")
    section("Text to image", "<p>Captions: " + html.escape("; ".join(drawn["shown"])) + ".</p>",
            picture(path("measured/drawings/sheet.png")),
            retrieval_rows([("drawn", drawn["drawn"]), ("scenes", drawn["scenes"])]),
            picture(path("text-to-image/loss.png"), 480))
    rows = []
    for name, counts in results["pairs"].items():
        r = read("measured/pairs_" + name, "report.json")
        made = results["candidates"]
        rows.append([name, counts["pairs"], counts["pairs"] / made, r["told_apart"], r["direction"],
                     r["agreement_with_truth"], r["psnr_before_after"], r["psnr_before_after_truth"]])
    section("Pairs", f"<p>{results['candidates']} candidates each. Told apart: the CLIP finds both pictures closer to "
            "their own caption than to the other. Agreement: the direction between the pictures' features, compared with "
            "that of true scenes with the same captions (1 is the same direction). The last columns say how similar the "
            "pictures of a pair are, in dB, generated and true.</p>",
            table(["set", "kept", "share", "told apart", "direction", "agreement", "dB", "dB, true"], rows))
    for name in results["pairs"]:
        section(f"Pairs: {name}", picture(path("measured", "pairs_" + name, "sheet.png")))
    rows = []
    for name, r in results["editors"].items():
        a = r["scores"]["all"]
        rows.append([name, r["pairs"], a["psnr_to_truth"], a["psnr_of_unedited"], a["psnr_of_round_trip"],
                     a["nearer_to_truth_than_to_original"], a["direction"], a["direction_of_truth"],
                     a["image_similarity"]])
    section("Editors", "<p>Held-out scenes with known answers.</p>",
            table(["trained on", "edits", "dB to the truth", "dB unedited", "dB autoencoder alone",
                   "nearer to the truth", "direction", "direction of the truth", "image similarity"], rows))
    for name, r in results["editors"].items():
        kinds = [[kind, a["psnr_to_truth"], a["psnr_of_unedited"], a["nearer_to_truth_than_to_original"],
                  a["direction"]] for kind, a in r["scores"].items() if kind != "all"]
        section(f"Editor: {name}", table(["changed", "dB to the truth", "dB unedited", "nearer to the truth",
                                          "direction"], kinds),
                "<p>Before, truth, ours: " + html.escape("; ".join(r["shown"])) + ".</p>",
                picture(path("measured", name, "sheet.png")))
    section("Curves", "<p>Direction over image similarity, each editor along its text scale.</p>",
            picture(path(results["curves"])) if results["curves"] else "<p>gnuplot is not installed.</p>")
    section("Edits of photographs", *(
        f"<figure>{picture(path('edits', e['picture']), 280)}<figcaption>{html.escape(e['editor'])}: "
        f"{html.escape(e['instruction'])}</figcaption></figure>" for e in results["edits"]))
    section("Settings", table(["setting", "value"], [[k, v] for k, v in s.items()]))
    style = ("body{font:16px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}table{border-collapse:collapse;"
             "margin:1em 0}td,th{border:1px solid #bbb;padding:.2em .6em;text-align:left}img{max-width:100%;"
             "image-rendering:pixelated}figure{display:inline-block;margin:.5em}")
    page = f"<!doctype html><meta charset=utf-8><title>The paper in a box</title><style>{style}</style>"
    path("report.html").write_text(page + "\n".join(parts))
    path("results.json").write_text(json.dumps({"settings": s, **results}, indent=1))


# The chain -----------------------------------------------------------------------------------------------------------


def run_chain(chain, arguments):
    s, path, results = chain.settings, chain.path, {}
    stamps = arguments.stamps or chain.stage("stamps", lambda: fetch_stamps(chain))
    photographs = arguments.photographs or chain.stage("photographs", lambda: fetch_photographs(chain))
    vocabulary = arguments.vocabulary.read_text()

    def scenes():
        shutil.rmtree(path("scenes"), ignore_errors=True)  # what an interrupted run left
        chain.run("scenes", "small_world", "scenes", "--vocabulary", arguments.vocabulary, "--stamps", stamps,
                  "--photographs", photographs, "--out", path("scenes"), "--resolution", s["side"], "--seed", s["seed"],
                  *(part for kind in KINDS for part in ("--" + kind, s[kind])),
                  "--picture-count", s["training"], "--held-out-picture-count", s["held_out"], "--pair-count", s["truth_pairs"],
                  "--held-out-pair-count", s["held_out_pairs"], "--triplet-count", s["language_triplets"], "--caption-count",
                  s["captions"])

    words = json.loads(vocabulary)
    files = lambda folder, kind: [Path(folder) / word["file"] for word in words.get(kind, []) if "file" in word]
    inputs = results["inputs"] = {
        "--vocabulary": digest_of([arguments.vocabulary]), "--stamps": digest_of(files(stamps, "objects")),
        "--photographs": digest_of(files(photographs, "places")),
        "--tokenizer": digest_of([arguments.tokenizer / "vocab.json", arguments.tokenizer / "merges.txt"]),
        "--codec": digest_of(sorted(arguments.codec.glob("vae/*")) if arguments.codec.is_dir() else [arguments.codec])}
    made_of = {**given(inputs, "--vocabulary", "--stamps", "--photographs"), **given(
        s, "side", "seed", *KINDS, "training", "held_out", "truth_pairs", "held_out_pairs", "language_triplets",
        "captions")}
    chain.stage("scenes", scenes, needs=made_of, makes=[path("scenes")])
    made_of = {**made_of, **given(s, "text_length"), **given(inputs, "--tokenizer")}
    chain.stage("tokenizers", lambda: write_tokenizers(chain, arguments.tokenizer), needs=made_of,
                makes=[path("tokenizers")])

    clip_needs = {**made_of, **given(s, "clip_steps", "clip_batch", "clip_rate")}
    chain.stage("clip", lambda: chain.run(
        "clip", "small_world", "clip", "--scenes", path("scenes"), "--tokenizer", path("tokenizers/clip"), "--out",
        path("clip"), "--steps", s["clip_steps"], "--batch", s["clip_batch"], "--rate", s["clip_rate"], "--seed",
        s["seed"], *chain.threads()) and None, needs=clip_needs, makes=[path("clip")])
    text_needs = {**made_of, **given(s, "language_epochs", "language_layers", "language_width")}
    results["triplets"] = chain.stage(
        "triplets", lambda: make_triplets(chain), needs=text_needs,
        makes=[path("language"), *path().glob("triplets.jsonl*"), path("used_triplets.jsonl")])

    image_needs = {**clip_needs, **given(s, "image_steps", "image_batch", "image_rate", "channels"),
                   **given(inputs, "--codec")}
    chain.stage("text-to-image", lambda: chain.run(
        "text_to_image", "small_world", "text-to-image", "--scenes", path("scenes"), "--clip", path("clip/clip"),
        "--vae", arguments.codec, "--out", path("text-to-image"), "--steps", s["image_steps"], "--batch",
        s["image_batch"], "--rate", s["image_rate"], "--channels", *s["channels"].split(), "--seed", s["seed"],
        *chain.threads()) and None, needs=image_needs, makes=[path("text-to-image")])
    draw_needs = {**image_needs, **given(s, "draw_count", "draw_steps", "draw_scale")}
    chain.stage("drawings", lambda: chain.run(
        "drawings", "small_world", "measure-drawings", "--scenes", path("scenes"), "--clip", path("clip/clip"),
        "--model", path("text-to-image/model"), "--out", path("measured/drawings"), "--limit", s["draw_count"],
        "--steps", s["draw_steps"], "--text-scale", s["draw_scale"], *chain.threads()) and None, needs=draw_needs,
        makes=[path("measured/drawings")])

    pair_needs = {**image_needs, **text_needs, **given(
        s, "samples", "keep", "pair_steps", "pair_scale_from", "pair_scale_to", "filter_image", "filter_caption",
        "filter_direction")}
    results["pairs"], results["editors"] = {}, {}
    results["candidates"] = results["triplets"]["used"] * s["samples"]
    least = [part for name in ("image", "caption", "direction") for part in ("--least-" + name, s["filter_" + name])]
    sets = {"paper": least, "no-filter": ["--no-filter"], "no-self-attention": ["--no-self-replacement", *least]}
    for name, options in sets.items():
        results["pairs"][name] = chain.stage(
            "pairs-" + name, lambda: make_pairs(chain, name, *options), needs=pair_needs, makes=[path("pairs", name)])
        if results["pairs"][name]["pairs"] == 0:
            continue
        chain.stage("measure-pairs-" + name, lambda: chain.run(
            "measure_pairs_" + name, "small_world", "measure-pairs", "--scenes", path("scenes"), "--clip",
            path("clip/clip"), "--pairs", path("pairs", name), "--out", path("measured", "pairs_" + name), "--limit",
            1000, *chain.threads()) and None, needs=pair_needs, makes=[path("measured", "pairs_" + name)])

    data = {name: path("pairs", name) for name, counts in results["pairs"].items() if counts["pairs"] >= 10}
    data["truth"] = path("scenes/pairs")
    edit_needs = {**pair_needs, **given(s, "editor_steps", "editor_batch", "editor_rate")}
    measure_needs = {**edit_needs, **given(s, "edit_count", "edit_steps", "edit_image_scale", "edit_text_scale")}
    for name, folder in data.items():
        chain.stage("editor-" + name, lambda: train_editor(chain, name, folder), needs=edit_needs,
                    makes=[path("editors", name), path("cache", name)])
        results["editors"][name] = chain.stage(
            "measure-editor-" + name, lambda: measure_editor(chain, name), needs=measure_needs,
            makes=[path("measured", name)])
    results["curves"] = chain.stage(
        "curves", lambda: draw_curves(chain, data),
        needs={**edit_needs, **given(s, "curve_edits", "curve_scales", "edit_steps", "edit_image_scale")},
        makes=[path("curves")])
    results["edits"] = chain.stage(
        "photograph-edits", lambda: edit_photographs(chain, photographs, [n for n in ("paper", "truth") if n in data]),
        needs={**edit_needs, **given(s, "photographs", "edit_steps", "edit_image_scale", "edit_text_scale")},
        makes=[path("edits")])
    write_report(chain, results)
    print(path("report.html"))


def add_change(parser):
    parser.add_argument("--change", action="store_true",
                        help="make again what was made with other settings, and what depends on it; done/ records it")


def change_settings(parser, settings, texts):
    """Applies each NAME=VALUE of --set."""
    for text in texts:
        name, _, value = text.partition("=")
        if name not in settings:
            parser.error(f"--set: expected one of {', '.join(settings)}, found '{name}'")
        try:
            settings[name] = type(settings[name])(value)
        except ValueError:
            parser.error(f"--set {name}: expected a value like {settings[name]}, found '{value}'")


def status_of(program, run):
    """Calls `run()` and returns the exit status for how it ended."""
    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        run()
    except Stop as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Terminated):
        print(f"{program}: stopped; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for all results; run the same command again to continue")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="about twenty minutes on one slow core (default)")
    size.add_argument("--hours", type=float, help="train and draw so much more that it takes about this many hours")
    parser.add_argument("--programs", type=Path, default=SOURCE / "build/release/examples",
                        help="folder of the compiled programs")
    parser.add_argument("--stamps", type=Path, help="folder with the objects' pictures (default: downloaded)")
    parser.add_argument("--photographs", type=Path, help="folder with the places' photographs (default: downloaded)")
    parser.add_argument("--vocabulary", type=Path, default=Path(__file__).with_name("vocabulary.json"))
    parser.add_argument("--tokenizer", type=Path, default=SOURCE / "models/clip-tokenizer")
    parser.add_argument("--codec", type=Path, default=SOURCE / "models/small-editor", help="model with an autoencoder")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="change one of the settings: " + ", ".join(SMALL))
    add_change(parser)
    arguments = parser.parse_args()
    settings = dict(SMALL)
    if arguments.hours is not None:
        for name in GROWS:
            settings[name] = max(1, round(settings[name] * arguments.hours / SMALL_HOURS))
    change_settings(parser, settings, arguments.set)

    def run():
        arguments.work.mkdir(parents=True, exist_ok=True)
        run_chain(Chain(arguments.work.resolve(), arguments.programs.resolve(), settings, arguments.change),
                  arguments)

    return status_of("paper_in_a_box", run)


if __name__ == "__main__":
    sys.exit(main())
