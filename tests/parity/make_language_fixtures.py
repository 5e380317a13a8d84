#!/usr/bin/env python3
"""Makes tests/language/fixtures from transformers' GPT2Tokenizer and GPT2LMHeadModel (see requirements.txt).

Usage: make_language_fixtures.py [HUMAN_PROMPTS.jsonl] [--gpt2 FOLDER]

tiny-gpt2/          a seeded model with a tokenizer of 600 tokens trained on the human-written prompts
plain-gpt2/         another one, written by GPT2Model: no prefix, no head, another activation and inner width
texts.json          texts with their ids and what decodes from them
pieces.txt          per 1,024 code points, and per 100 random texts, a hash over the lengths of the pieces
gpt2_ids.txt        hashes of ids under GPT-2's own vocabulary; only with --gpt2, a folder with vocab.json and merges.txt
expected.safetensors, expected.json    logits, greedy texts, probabilities, losses and gradients
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from make_tokenizer_fixtures import EMPTY, HARD, ILL_FORMED, fold, random_texts
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model, GPT2Tokenizer, LogitsProcessorList
from transformers.generation import TemperatureLogitsWarper, TopPLogitsWarper

ROOT = Path(__file__).parent.parent.parent
OUT = ROOT / "tests" / "language" / "fixtures"
END = "<|endoftext|>"
PROMPTS = [
    "A photo of a cat on a sofa\n##\n",
    "Girl with a Pearl Earring by Johannes Vermeer, oil on canvas, 1665\n##\n",
    "x",
    "Caf\u00e9 by the sea, 25in x 20in\n##\n",
]
PAIRS = [
    ("A photo of a cat\n##\n", "make it a dog\n%%\nA photo of a dog\nEND"),
    ("Sunset over the harbour, watercolour\n##\n", "have it snow\n%%\nSnowy harbour, watercolour\nEND"),
    ("x\n##\n", "y\n%%\nz\nEND"),
]


def train_tokenizer(texts: list[str], folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))


def pieces_hash(tokenizer: GPT2Tokenizer, texts: list[str]) -> str:
    hash_ = EMPTY
    for text in texts:
        pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
        hash_ = fold(hash_, [end - begin for _, (begin, end) in pieces])
    return f"{hash_:016x}"


def code_point_texts():
    for begin in range(0, 0x110000, 1024):
        points = [chr(c) for c in range(begin, begin + 1024) if not 0xD800 <= c < 0xE000]
        yield [f"a{c}B {c}{c}1  {c}'s\n{c}" for c in points]


def ids_hashes(tokenizer: GPT2Tokenizer, groups: list[list[str]]) -> list[str]:
    hashes = []
    for texts in groups:
        hash_ = EMPTY
        for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False):
            hash_ = fold(hash_, encoding.ids)
        hashes.append(f"{hash_:016x}")
    return hashes


def seeded_model(config: GPT2Config, seed: int, kind=GPT2LMHeadModel):
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():  # biases and norms that matter, which a fresh model does not have
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif "ln_" in name:
                parameter.normal_(1, 0.1)
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("prompts", nargs="?", type=Path,
                        default=ROOT.parent / "shared" / "data" / "human-written-prompts.jsonl")
    parser.add_argument("--gpt2", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [json.loads(line) for line in arguments.prompts.read_text(encoding="utf-8").splitlines()]
    made_by = f"transformers {transformers.__version__}"

    tiny = OUT / "tiny-gpt2"
    train_tokenizer([line[key] for line in lines for key in ("input", "edit", "output")], tiny)
    tokenizer = GPT2Tokenizer.from_pretrained(tiny)

    def case(text: str) -> dict:
        ids = tokenizer(text).input_ids
        return {"text": text, "ids": ids, "decoded": tokenizer.decode(ids)}

    cases = [case(text) for text in dict.fromkeys(HARD)]
    ill = [{"bytes": h, "ids": tokenizer(bytes.fromhex(h).decode("utf-8", "replace")).input_ids} for h in ILL_FORMED]
    generator = torch.Generator().manual_seed(1)
    mixed = [torch.randint(0, len(tokenizer), (12,), generator=generator).tolist() for _ in range(60)]
    decoded = [{"ids": ids, "decoded": tokenizer.decode(ids)} for ids in mixed]
    rows = {name: ",\n".join(json.dumps(row, separators=(",", ":")) for row in values)
            for name, values in (("texts", cases), ("ill_formed", ill), ("ids", decoded))}
    body = ",\n".join(f'"{name}":[\n{text}\n]' for name, text in rows.items())
    (OUT / "texts.json").write_text(f'{{"made_by":"{made_by}",\n{body}}}\n')
    texts = random_texts(4000)
    random_groups = [texts[i : i + 100] for i in range(0, len(texts), 100)]
    hashes = [pieces_hash(tokenizer, group) for group in [*code_point_texts(), *random_groups]]
    (OUT / "pieces.txt").write_text(f"# {made_by}\n" + "\n".join(hashes) + "\n")
    if arguments.gpt2:
        real = GPT2Tokenizer.from_pretrained(arguments.gpt2)
        assert len(real) == 50257
        triplets = [line[key] for line in lines for key in ("input", "edit", "output")]
        hashes = ids_hashes(real, [list(dict.fromkeys(HARD)), triplets, *random_groups])
        (OUT / "gpt2_ids.txt").write_text(f"# {made_by}\n" + "\n".join(hashes) + "\n")

    config = GPT2Config(vocab_size=600, n_positions=96, n_embd=24, n_layer=2, n_head=3, initializer_range=0.3,
                        bos_token_id=0, eos_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    model = seeded_model(config, 11)
    model.save_pretrained(tiny)
    (tiny / "generation_config.json").unlink(missing_ok=True)
    plain_config = GPT2Config(vocab_size=40, n_positions=32, n_embd=16, n_layer=1, n_head=2, n_inner=24,
                              initializer_range=0.3, activation_function="gelu", bos_token_id=0, eos_token_id=0)
    plain = seeded_model(plain_config, 12, GPT2Model)
    plain.save_pretrained(OUT / "plain-gpt2")

    tensors, numbers = {}, {"made_by": made_by}
    with torch.no_grad():
        ids = torch.randint(0, 600, (2, 40), generator=generator)
        tensors["tiny_ids"], tensors["tiny_logits"] = ids, model(ids).logits[:, ::8]
        ids = torch.randint(0, 40, (2, 20), generator=generator)
        tensors["plain_ids"], tensors["plain_hidden"] = ids, plain(ids).last_hidden_state
        tokenizer.padding_side = "left"
        tokenizer.pad_token = END
        batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
        made = model.generate(**batch, do_sample=False, max_new_tokens=48, eos_token_id=None, pad_token_id=0)
        made = made[:, batch.input_ids.shape[1] :]
        numbers["greedy"] = [{"prompt": prompt, "ids": ids.tolist(), "text": tokenizer.decode(ids)}
                             for prompt, ids in zip(PROMPTS, made)]
        scores = model(batch.input_ids, attention_mask=batch.attention_mask).logits[:1, -1]
        tensors["scores"] = scores[0].contiguous()
        numbers["sampling"] = []
        for temperature, top_p in ((1.0, 1.0), (0.7, 1.0), (1.0, 0.9), (1.4, 0.5), (0.5, 0.99), (1.0, 1e-6)):
            warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
            if top_p < 1:
                warpers.append(TopPLogitsWarper(top_p))
            p = warpers(None, scores.double())[0].softmax(-1)
            name = f"probabilities_{temperature}_{top_p}"
            tensors[name] = p.float()
            numbers["sampling"].append({"temperature": temperature, "top_p": top_p, "tensor": name,
                                        "kept": int((p > 0).sum())})

    rows = [(tokenizer(p).input_ids, tokenizer(c).input_ids) for p, c in PAIRS]
    longest = max(len(p) + len(c) for p, c in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for i, (p, c) in enumerate(rows):
        ids[i, : len(p) + len(c)] = torch.tensor(p + c)
        labels[i, len(p) : len(p) + len(c)] = torch.tensor(c)
    loss = model(ids, labels=labels).loss
    loss.backward()
    numbers["pairs"] = [{"prompt": p, "completion": c, "tokens": len(r[1])} for (p, c), r in zip(PAIRS, rows)]
    numbers["loss"] = loss.item()
    numbers["gradient_norms"] = {name.removeprefix("transformer."): parameter.grad.norm().item()
                                 for name, parameter in model.named_parameters()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, OUT / "expected.safetensors")
    (OUT / "expected.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(len(cases), "texts,", len(tokenizer), "tokens, loss", numbers["loss"])


if __name__ == "__main__":
    main()
