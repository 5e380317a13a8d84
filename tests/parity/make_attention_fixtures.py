#!/usr/bin/env python3
"""Makes the golden values of attention edits.

Usage: make_attention_fixtures.py PROMPT_TO_PROMPT     (needs requirements.txt)

PROMPT_TO_PROMPT is a checkout of google/prompt-to-prompt at commit 9c472e4; its modules seq_aligner and ptp_utils give
the alignments. The attention itself is written here with explicit maps, in fp64, from Hertz et al. 2022 and Brooks et
al. 2023.

tests/attention/fixtures/alignment.json       tokens of words, mappers and time windows of prompt pairs
tests/attention/fixtures/edits.safetensors    queries, keys, values and what the edits make of them
tests/attention/fixtures/blend.safetensors    a run with a local blend: maps' inputs, masks and latents
"""

import json
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPTokenizer

ROOT = Path(__file__).parent.parent.parent
OUT = ROOT / "tests/attention/fixtures"
TOKENS = 77


def import_prompt_to_prompt(folder):
    """Loads ptp_utils with stand-ins for what it imports for notebooks."""
    stubs = {"cv2": {}, "IPython": {}, "IPython.display": {"display": None}, "tqdm.notebook": {"tqdm": None}}
    stubs = {name: names for name, names in stubs.items() if name not in sys.modules}
    for name, names in stubs.items():
        sys.modules[name] = types.ModuleType(name)
        for key, value in names.items():
            setattr(sys.modules[name], key, value)
    sys.path.insert(0, folder)
    import ptp_utils
    import seq_aligner
    for name in stubs:
        del sys.modules[name]
    return seq_aligner, ptp_utils


aligner, ptp = import_prompt_to_prompt(sys.argv[1])


class Tokenizer:
    """CLIP's tokenizer as that code of 2022 knew it: decoded pieces have no blanks."""

    def __init__(self):
        self.clip = CLIPTokenizer.from_pretrained(ROOT / "models/clip-tokenizer")

    def encode(self, text):
        return self.clip.encode(text)

    def decode(self, ids):
        return self.clip.decode(ids).strip()


tokenizer = Tokenizer()

CAT = "a photo of a cat riding a bicycle"
SWAPS = [(CAT, "a photo of a chinchilla riding a motorcycle"), (CAT, "a photo of a dog riding a scooter"),
         ("a chinchilla riding a motorcycle, snowy", "a cat eating a ratatouille, snowy"),
         ("a lion and a lion", "a Labradoodle and a tiger"), ("a squirrel and a burger", "a squirrel and a burger"),
         ("schnitzelwurst", "cat"), ("crème brûlée on a plate", "ice cream on a plate")]
REFINEMENTS = [(CAT, "a photo of a fluffy orange cat riding a bicycle, oil painting"), (CAT, "a cat on a bicycle"),
               ("soup", "pea soup with croutons"), ("a a b", "a b b a"), (CAT, CAT), ("x y z", "p q"),
               ("the chinchilla's motorcycle!", "the old chinchilla's shiny motorcycle!")]
WINDOWS = [(50, 0.8), (50, {"default_": 0.8, "dog": (0.0, 0.4)}), (7, {"riding": (0.0, 0.6)}),
           (10, {"default_": (0.2, 1.0), "photo": 0.3, "scooter": (0.5, 0.9), "a": (0.1, 0.7)})]


def beside_identity(matrix):
    """Entries [row, column, value] where the matrix is not the identity."""
    return [[s, t, float(matrix[s, t])] for s, t in (matrix != torch.eye(len(matrix))).nonzero().tolist()]


def prompt(text):
    ids = tokenizer.encode(text)[1:-1]
    count = len(text.split(" "))
    return {"text": text, "ids": ids, "pieces": [tokenizer.decode([i]) for i in ids],
            "words": [aligner.get_word_inds(text, i, tokenizer).tolist() for i in range(count)]}


def alignment_fixture():
    swaps = []
    for x, y in SWAPS:
        matrix = aligner.get_replacement_mapper_(x, y, tokenizer)
        swaps.append({"source": prompt(x), "edited": prompt(y), "matrix": beside_identity(matrix)})
    refinements = []
    for x, y in REFINEMENTS:
        mapper, alphas = aligner.get_mapper(x, y, tokenizer)
        refinements.append({"source": prompt(x), "edited": prompt(y), "mapper": mapper.tolist(),
                            "alphas": alphas.int().tolist()})
    windows = []
    prompts = [CAT, SWAPS[0][1], SWAPS[1][1]]
    for steps, by_word in WINDOWS:
        ranges = by_word if isinstance(by_word, dict) else {"default_": by_word}
        ranges = {k: list(r) if isinstance(r, tuple) else [0.0, r] for k, r in ranges.items()}
        alpha = ptp.get_time_words_attention_alpha(prompts, steps, by_word, tokenizer)  # adds to a dictionary
        alpha = alpha.reshape(steps + 1, len(prompts) - 1, TOKENS)[:steps]
        closed = [[(words == 0).nonzero().flatten().tolist() for words in step] for step in alpha]
        windows.append({"steps": steps, "windows": ranges, "closed": closed})
    path = OUT / "alignment.json"
    content = {"swaps": swaps, "refinements": refinements,
               "prompts": [prompt(p) for p in prompts], "windows": windows}
    path.write_text(json.dumps(content, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    print(path, path.stat().st_size)


# ---------------------------------------------------------------------------------------------------------------- edits

def maps_of(q, k):
    return torch.softmax(q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)


def edited_maps(maps, replaced, alpha):
    """maps [images, heads, N, T] of one group; replaced(source, own, destination); alpha [destinations, T]."""
    result = maps.clone()
    for d in range(maps.shape[0] - 1):
        result[d + 1] = replaced(maps[0], maps[d + 1], d) * alpha[d] + maps[d + 1] * (1 - alpha[d])
    return result


def swap(matrices):
    return lambda source, own, d: source @ matrices[d]


def refine(mappers, alphas):
    return lambda source, own, d: source[:, :, mappers[d]] * alphas[d] + own * (1 - alphas[d])


def reweight(scales, base):
    return lambda source, own, d: base(source, own, d) * scales[d]


def keep(source, own, d):
    return source


def random(generator, *shape, scale=1.0):
    return torch.randn(shape, generator=generator) * scale


COUNT = 10
CROSS = {"default_": 0.8, "photo": (0.0, 0.4)}


def edit_functions():
    """The three edits, each of two prompts, with their windows over COUNT steps."""
    found = {}
    for name, pairs in (("swap", SWAPS[:2]), ("refine", REFINEMENTS[:2]), ("reweight", REFINEMENTS[:2])):
        prompts = [pairs[0][0]] + [y for _, y in pairs]
        if name == "swap":
            replaced = swap([m.double() for m in aligner.get_replacement_mapper(prompts, tokenizer)])
        else:
            mappers, alphas = aligner.get_refinement_mapper(prompts, tokenizer)
            replaced = refine(mappers, alphas.double())
        if name == "reweight":
            scales = torch.ones(2, TOKENS, dtype=torch.float64)
            for d, (word, scale) in enumerate((("fluffy", 3.0), ("bicycle", -0.5))):
                scales[d, aligner.get_word_inds(prompts[d + 1], word, tokenizer)] = scale
            replaced = reweight(scales, replaced)
        alpha = ptp.get_time_words_attention_alpha(prompts, COUNT, dict(CROSS), tokenizer).double()
        found[name] = replaced, alpha.reshape(COUNT + 1, 2, TOKENS)
    scales = torch.ones(2, TOKENS, dtype=torch.float64)
    scales[0, 5], scales[1, 2] = 2.0, 0.25
    found["keep"] = reweight(scales, keep), found["swap"][1]
    return found


def edits_fixture():
    """Six rows: the text and the null branch of a source and two edited images."""
    generator = torch.Generator("cpu").manual_seed(21)
    tensors = {"cross.q": random(generator, 6, 2, 12, 8), "cross.k": random(generator, 6, 2, TOKENS, 8),
               "cross.v": random(generator, 6, 2, TOKENS, 8)}
    maps = maps_of(tensors["cross.q"], tensors["cross.k"])
    for name, (replaced, alpha) in edit_functions().items():
        for step in (0, 4, 7, 8):
            used = torch.cat([edited_maps(maps[:3], replaced, alpha[step]), maps[3:]])
            tensors[f"{name}.{step}"] = (used @ tensors["cross.v"].double()).float()

    for letter in "qkv":
        tensors[f"self.{letter}"] = random(generator, 6, 2, 12, 8)
    maps = maps_of(tensors["self.q"], tensors["self.k"])
    # All branches, groups of two and of three images; the text branch alone, as in Prompt-to-Prompt.
    for name, source in (("pairs", [0, 0, 2, 2, 4, 4]), ("triples", [0, 0, 0, 3, 3, 3]), ("text", [0, 0, 0, 3, 4, 5])):
        tensors[f"self.{name}"] = (maps[source] @ tensors["self.v"].double()).float()
    save(OUT / "edits.safetensors", tensors)


def blend_fixture():
    """Four steps of a group of three with word swap, two layers of 8x8 maps and one of 4x4, latents of 32x32."""
    generator = torch.Generator("cpu").manual_seed(22)
    steps, side = 4, 32
    words, subtract = [[5], [5, 6], [5]], [[8], [9, 10], [8]]
    replaced, _ = edit_functions()["swap"]
    prompts = [SWAPS[0][0], SWAPS[0][1], SWAPS[1][1]]
    alpha = ptp.get_time_words_attention_alpha(prompts, steps, 0.4, tokenizer).double().reshape(steps + 1, 2, TOKENS)
    columns = torch.zeros(2, 3, TOKENS, dtype=torch.float64)
    for kind, lists in enumerate((words, subtract)):
        for i, positions in enumerate(lists):
            columns[kind, i, positions] = 1
    tensors = {}
    total = torch.zeros(2, 3, 8, 8, dtype=torch.float64)

    def mask_of(map_, pool):
        if pool:
            map_ = torch.nn.functional.max_pool2d(map_[:, None], 3, 1, 1)[:, 0]
        big = map_.repeat_interleave(side // 8, 1).repeat_interleave(side // 8, 2)
        share = big / big.amax((1, 2), keepdim=True)
        assert (share - 0.3).abs().min() > 1e-5  # so that fp32 decides in the same way
        above = share > 0.3
        return above | above[:1]

    sizes = (8, 4, 8)
    keys = [random(generator, 3, 2, TOKENS, 4, scale=2.0) for _ in sizes]
    # What a picture shows stays in place from step to step.
    scene = [random(generator, 3, 2, size * size, 4, scale=2.0) for size in sizes]
    for layer, key in enumerate(keys):
        tensors[f"k.{layer}"] = key
    latents = tensors["latents"] = random(generator, 3, 1, side, side)
    for step in range(steps):
        for layer, size in enumerate(sizes):
            q = scene[layer] + random(generator, 3, 2, size * size, 4, scale=0.3)
            tensors[f"q.{step}.{layer}"] = q
            if size == 8:
                used = edited_maps(maps_of(q, keys[layer]), replaced, alpha[step])
                total += torch.einsum("ihnt,cit->cihn", used, columns).mean(2).unflatten(-1, (8, 8))
        inside = mask_of(total[0], True)
        without = inside & ~mask_of(total[1], False)
        for name, mask in (("mask", inside), ("without", without)):
            assert 0.1 < mask.double().mean() < 0.9
            tensors[f"{name}.{step}"] = mask.to(torch.uint8)
    tensors["blended"] = latents[:1] + inside[:, None].float() * (latents - latents[:1])  # after the last step
    save(OUT / "blend.safetensors", tensors)


def save(path, tensors):
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    print(path, path.stat().st_size)


OUT.mkdir(parents=True, exist_ok=True)
alignment_fixture()
edits_fixture()
blend_fixture()
