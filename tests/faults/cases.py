"""The main path of each program on tiny models, as the campaigns in this folder run it.

Each case runs in its own folder, which contains `in`, which it only reads, and `out`, which it writes.
"""
import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import time


@dataclasses.dataclass
class Case:
    """One command. Patterns are regular expressions that match whole paths below `out`."""
    name: str
    program: str
    arguments: list
    resumes: bool = False  # running the same command again continues, and ends with the same bytes
    before: dict = dataclasses.field(default_factory=dict)  # initial contents of `out`
    varying: str = r".*/manifest\.json|.*loss\.(csv|png)"  # differ between any two runs, because they contain times
    final: str = ".*"  # files that appear complete or not at all; others grow
    kept: str = "(?!)"  # temporary files kept in order to resume
    edits: int = 1  # at most this many error messages

    def command(self, programs):
        return [str(programs / self.program), *self.arguments]


FP32 = ["--device", "cpu", "--dtype", "fp32"]
EDIT = ["--model", "in/ip2p", *FP32, "--steps", "2", "--resolution", "64", "--prompt", "make it snowy"]
DRAW = ["--model", "in/sd", *FP32, "--steps", "2"]
OLD = b"what was there before"

CASES = [
    Case("edit", "edit_image", [*EDIT, "--image", "in/disc.png", "--out", "out/a.png", "--compare", "out/b.png",
                                "--save-latents", "out/a.safetensors"], before={"a.png": OLD}),
    Case("edit-jpeg", "edit_image", [*EDIT, "--image", "in/red.jpg", "--out", "out/a.webp"]),
    Case("edit-many", "edit_image", [*EDIT, "--image", "in/photos", "--out", "out", "--count", "2"], resumes=True, edits=4),
    Case("text-to-image", "text_to_image", [*DRAW, "--prompt", "a hill", "--width", "64", "--height", "64", "--out",
                                            "out/a.png"]),
    Case("sdedit", "sdedit", [*DRAW, "--prompt", "a hill", "--image", "in/disc.png", "--resolution", "64", "--out",
                              "out/a.png"], before={"a.png": OLD}),
    Case("inpaint", "inpaint", [*DRAW, "--prompt", "a hill", "--image", "in/disc.png", "--mask", "in/disc.png",
                                "--resolution", "64", "--out", "out/a.png"]),
    Case("prompt-to-prompt", "prompt_to_prompt",
         [*DRAW, "--source", "a red boat", "--prompt", "a blue boat", "--width", "64", "--height", "64", "--out",
          "out/a.png"]),
    Case("invert", "invert_and_edit",
         [*DRAW, "--image", "in/disc.png", "--source", "a red disc", "--prompt", "a blue disc", "--resolution",
          "64", "--out", "out/a.png"]),
    Case("shards", "convert_pairs", ["--pairs", "in/set", "--out", "out/set", "--shard-count", "4",
                                     "--largest-damage", "0"],
         resumes=True, final=r".*\.tar|.*/shards\.json"),
    Case("image-folder", "convert_pairs", ["--pairs", "in/set", "--out", "out/set", "--to", "imagefolder",
                                           "--largest-damage", "0"],
         resumes=True, final=r".*\.(jpg|jsonl)"),
    Case("pairs", "make_pairs",
         ["--model", "in/sd", "--clip", "in/clip", *FP32, "--resolution", "64", "--steps", "1", "--samples", "2",
          "--batch", "2", "--keep-pairs", "2", "--triplets", "in/triplets.jsonl", "--no-filter", "--out", "out/set",
          "--lease", "0.1"],
         resumes=True, varying=r"set/\.ledger/claims/.*",
         final=r"set/(?!\.ledger/unfinished/).*(jpg|json|jsonl)"),
    Case("triplets-train", "make_triplets",
         ["train", "--triplets", "in/human.jsonl", "--tokenizer", "in/gpt2", "--layers", "1", "--hidden-size", "16",
          "--heads", "2", "--context", "64", "--batch", "6", "--epochs", "2", "--out", "out/model"],
         resumes=True, final=r"model/[^/]*"),
    Case("triplets", "make_triplets",
         ["generate", "--captions", "in/captions.txt", "--out", "out/triplets.jsonl", "--model", "in/gpt2-model",
          "--batch", "1", "--tries", "1", "--max-tokens", "12"],
         resumes=True, final=r"triplets\.jsonl"),
    Case("train-editor", "train_editor",
         ["--config", "in/small.toml", "--model", "in/sd", "--pairs", "in/set", "--out", "out/run", "--cache",
          "out/cache"],
         resumes=True, final=r"run/model/.*|run/samples/.*",
         # Pairs are encoded ahead, some for updates that are never made.
         varying=r".*/manifest\.json|.*loss\.(csv|png)|cache/latents/\d+/\d+\.safetensors"),
    Case("train-small", "train_small_editor",
         ["autoencoder", "--photographs", "in/photographs", "--out", "out/work", "--resolution", "16", "--side", "16",
          "--threads", "1", "--batch", "1", "--channels", "28", "28", "56", "56", "--latent-channels", "4",
          "--encoder-blocks", "0", "1", "1", "1", "--decoder-blocks", "0", "1", "1", "1", "--steps", "2"],
         resumes=True, final=r"work/model/.*"),
    Case("text2live", "text2live",
         ["--clip", "in/clip", "--image", "in/disc.png", "--prompt", "a golden box", "--source", "a box",
          "--resolution", "32", "--scales", "2", "--channels", "8", "--views", "2", "--device", "cpu", "--steps", "2",
          "--run", "out/run", "--checkpoint-every", "1", "--out", "out/a.png"],
         resumes=True, final=r"a\.png"),
    Case("evaluate", "evaluate",
         ["--model", "editor=in/ip2p", "--curve", "instruct model=editor image-scale=1,1.5 text-scale=2 steps=1",
          "--curve", "input", "--edits", "in/edits.jsonl", "--resolution", "64", "--clip", "tiny=in/clip",
          "--clip-tokenizer", "in/ip2p/tokenizer", "--resamples", "50", *FP32, "--out", "out/run"],
         resumes=True, final=r"run/.*\.(csv|png|svg)"),  # the page is written without a figure that failed
    Case("scenes", "small_world",
         ["scenes", "--vocabulary", "in/words.json", "--stamps", "in/stamps", "--photographs", "in/places",
          "--picture-count", "3", "--held-out-picture-count", "1", "--pair-count", "2", "--held-out-pair-count", "1",
          "--triplet-count", "3", "--caption-count", "2", "--resolution", "32", "--out", "out/world"],
         resumes=True, final=r"(?!)"),
]

SMALL_TOML = """resolution = 32
resize-smallest = 32
resize-largest = 36
batch = 2
micro-batch = 2
steps = 4
checkpoint-every = 2
log-every = 2
sample-every = 2
samples = 1
sample-steps = 1
threads = 1
"""

MATERIAL = r"""
. "$1/tests/examples/support.sh" "$2" "$1"
red_to_blue 6 5 9
red_disc disc.png
cp -r set red.jpg blue.jpg disc.png "$3"
"""

WORDS = """{"objects": [{"phrase": "a ball", "file": "ball.png"}, {"phrase": "a pea", "file": "pea.png"},
             {"phrase": "a plum", "file": "plum.png"}],
 "places": [{"phrase": "on sand", "instruction": "put it on sand", "file": "sand.png"},
            {"phrase": "at sea", "instruction": "put it at sea", "file": "sea.png"}],
 "looks": [{"phrase": "", "instruction": "make it an ordinary day"},
           {"phrase": "at night", "instruction": "make it night", "edit": "night"}],
 "sizes": [{"phrase": "", "instruction": "make it middling", "number": 0.6}],
 "positions": [{"phrase": "", "instruction": "move it to the middle", "number": 0.5}]}
"""


def png(path, side, kind, pixel):
    """Writes a square picture; `kind` is 2 (RGB) or 6 (RGBA)."""
    import struct
    import zlib
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(side)) for y in range(side))
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", side, side, 8, kind, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))


def make_material(into, source, programs):
    """Makes everything that the cases read."""
    into.mkdir(parents=True)
    fixtures = source / "tests"
    shutil.copytree(fixtures / "pipeline/fixtures/tiny-ip2p", into / "ip2p")
    shutil.copytree(into / "ip2p", into / "sd")
    shutil.rmtree(into / "sd/unet")
    shutil.copytree(fixtures / "pipeline/fixtures/tiny-sd/unet", into / "sd/unet")
    shutil.copytree(fixtures / "vision/fixtures/tiny-clip", into / "clip")
    for file in (into / "sd/tokenizer").iterdir():
        shutil.copy(file, into / "clip")
    shutil.copytree(fixtures / "language/fixtures/tiny-gpt2", into / "gpt2")
    subprocess.run(["bash", "-c", MATERIAL, "material", source, programs, into], check=True)
    (into / "photos").mkdir()
    shutil.copy(into / "red.jpg", into / "photos")
    shutil.copy(into / "disc.png", into / "photos")
    (into / "photographs").mkdir()
    for name in ("harbour", "meadow", "street"):  # more than 64 KiB of pixels each
        png(into / f"photographs/{name}.png", 160, 2,
            lambda x, y: [(x * len(name) + y) % 256, x * y // 100, (x // 8 * 37 + y // 8 * 101) % 256])
    (into / "triplets.jsonl").write_text("".join(
        f'{{"caption": "a red boat in year {i}", "edit": "make it blue", "output": "a blue boat in year {i}"}}\n'
        for i in range(4)))
    colours = "red blue green black white grey pink brown gold teal".split()
    (into / "human.jsonl").write_text("".join(
        f'{{"input": "a {colour} cat{i}", "edit": "make it a dog", "output": "a {colour} dog{i}"}}\n'
        for i in range(2) for colour in colours))
    (into / "captions.txt").write_text("a silver cat\na bronze cat\n")
    (into / "edits.jsonl").write_text(
        '{"file": "disc.png", "input": "a red disc", "edit": "make it snowy", "output": "a red disc in snow"}\n'
        '{"file": "red.jpg", "input": "a red square", "edit": "make it blue", "output": "a blue square"}\n')
    (into / "small.toml").write_text(SMALL_TOML)
    (into / "words.json").write_text(WORDS)
    (into / "stamps").mkdir()
    (into / "places").mkdir()
    inside = lambda x, y: 255 if (x - 15.5) ** 2 + (y - 15.5) ** 2 < 220 else 0
    for name, colour in {"ball": (230, 40, 30), "pea": (40, 200, 40), "plum": (90, 40, 160)}.items():
        png(into / f"stamps/{name}.png", 32, 6, lambda x, y: (*colour, inside(x, y)))
    for name, colour in {"sand": (220, 200, 140), "sea": (30, 90, 180)}.items():
        png(into / f"places/{name}.png", 80, 2, lambda x, y: [min(255, c + (x + 2 * y) // 8) for c in colour])
    subprocess.run([programs / "make_triplets", "train", "--triplets", into / "human.jsonl", "--tokenizer", into / "gpt2",
                    "--layers", "1", "--hidden-size", "16", "--heads", "2", "--context", "64", "--batch", "6",
                    "--epochs", "20", "--rate", "5e-3", "--out", into / "gpt2-model", "--quiet"], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.rmtree(into / "gpt2-model/training", ignore_errors=True)


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", **more}


def prepare(case, folder, material):
    """Makes an empty folder for a run, with a link to the material."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "in").symlink_to(material)
    (folder / "out").mkdir()
    for name, content in case.before.items():
        (folder / "out" / name).write_bytes(content)


def contents(folder):
    """The contents of a folder: the digest of each file, by path. Files may name the folder of the run, which is another
    for each thread of a campaign."""
    here = os.fsencode(folder.parent)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes().replace(here, b"")).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def lasting(case, found):
    """The files that are the same in any two undisturbed runs."""
    return {path: digest for path, digest in found.items() if not re.fullmatch(case.varying, path)}


def temporaries(case, found):
    """Temporary files, which a program must remove."""
    return [path for path in found
            if re.search(r"\.tmp(/|$)|\.partial|\.old(/|$)", path) and not re.fullmatch(case.varying, path)
            and not re.fullmatch(case.kept, path)]


def sentence_of(case, stderr):
    """What is wrong with the error messages of a failed run, or None."""
    lines = [line for line in stderr.replace("\r", "\n").split("\n") if line.strip()]
    ours = [line for line in lines if line.startswith(case.program + ": ")]
    if not 1 <= len(ours) <= case.edits:
        return f"expected a sentence of {case.program} for each edit that failed, found {len(ours)}: {lines[-3:]}"
    if "terminate called" in stderr or "what():" in stderr:
        return "ended without handling an exception"
    for sentence in ours:
        if len(sentence) > 600:
            return f"expected a sentence, found {len(sentence)} bytes: {sentence[:200]}"
    return None


def judge_all(names, judge):
    """The exit status of a campaign. Prints what `judge` returns for each case: problems and a summary."""
    start, problems = time.monotonic(), []
    for name in names:
        found, sentence = judge(name)
        problems += found
        print("\n".join(["FAILED: " + problem for problem in found] + [sentence]), flush=True)
    print(f"{len(names)} cases in {time.monotonic() - start:.0f} s, {len(problems)} problems")
    return 1 if problems else 0
