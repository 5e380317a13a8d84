#!/usr/bin/env python3
"""Makes the fixtures of LoRA and of textual inversion with diffusers, PEFT and transformers.

    $(tests/parity/venv.sh) tests/parity/make_lora_fixtures.py

The models are those of make_model_fixtures.py, read from tests/pipeline/fixtures/tiny-ip2p. Each LoRA has seeded tensors
in 16 bits, large enough to change the output by a good part of its deviation, and is loaded with diffusers'
`load_lora_weights`; where diffusers lacks a name (LDM's spelling of some layers), scale * up @ down added to its weights
stands for it. Both ways are computed for every file, and must agree.

    tests/nn/fixtures/lora-kohya.safetensors   kohya's names, alphas, UNet and text encoder, convolutions
    tests/nn/fixtures/lora-ldm.safetensors     kohya's with LDM's block names
    tests/nn/fixtures/lora-peft.safetensors    PEFT's names, alpha in the metadata as diffusers saves it
    tests/nn/fixtures/lora-processor.safetensors   diffusers' names of 2023
    tests/nn/fixtures/lora-expected.safetensors    outputs for two prompts and the inputs of the UNet's parity test
    tests/text/fixtures/embedding-*.safetensors    embeddings in diffusers' and in the web UI's form
    tests/text/fixtures/embeddings-expected.{json,safetensors}   ids and hidden states of prompts with them
"""

import json

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from make_model_fixtures import PROMPTS, ROOT, folder, generator, save
from safetensors.torch import load_file, save_file

MODEL = ROOT / "pipeline" / "fixtures" / "tiny-ip2p"
OUT = folder("nn", "fixtures")


def pipeline():
    pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained(str(MODEL), dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def modules(pipe):
    """Layers by "unet.<name>" and "text_encoder.text_model.<name>", as published models name them."""
    found = {f"unet.{name}": module for name, module in pipe.unet.named_modules()}
    for name, module in pipe.text_encoder.named_modules():
        found[f"text_encoder.{name if name.startswith('text_model') else 'text_model.' + name}"] = module
    return {name: module for name, module in found.items() if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))}


class Adapter:
    def __init__(self, module, rank, alpha, g):
        shape = module.weight.shape
        fan_in = module.weight[0].numel()
        self.rank, self.alpha = rank, alpha
        self.down = (torch.randn(rank, *shape[1:], generator=g) * fan_in**-0.5).half()
        up = (shape[0], rank, 1, 1) if len(shape) == 4 else (shape[0], rank)
        gain = 0.5 * rank**0.5 / alpha  # the change has about half the deviation of the layer's output
        self.up = (torch.randn(*up, generator=g) * gain).half()

    def change(self):
        down, up = self.down.float(), self.up.float()
        return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:]) * (self.alpha / self.rank)


UNET_LINEAR = [
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_v",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "down_blocks.2.attentions.1.transformer_blocks.0.ff.net.0.proj",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_v",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.2",
    "up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_k",
    "up_blocks.3.attentions.0.transformer_blocks.0.attn2.to_k",
    "up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_q",
]
UNET_CONV = [
    "down_blocks.0.attentions.0.proj_in",
    "up_blocks.2.attentions.1.proj_out",
    "down_blocks.1.resnets.0.conv1",
    "down_blocks.1.resnets.0.conv_shortcut",
    "down_blocks.0.downsamplers.0.conv",
    "mid_block.resnets.1.conv2",
    "up_blocks.0.upsamplers.0.conv",
    "up_blocks.2.upsamplers.0.conv",
]
UNET_TIME = ["down_blocks.2.resnets.1.time_emb_proj"]
UNET_ENDS = ["conv_in", "time_embedding.linear_1"]
TEXT = [
    "text_model.encoder.layers.0.self_attn.q_proj",
    "text_model.encoder.layers.0.self_attn.k_proj",
    "text_model.encoder.layers.0.mlp.fc1",
    "text_model.encoder.layers.1.self_attn.v_proj",
    "text_model.encoder.layers.1.self_attn.out_proj",
    "text_model.encoder.layers.1.mlp.fc2",
]


def adapters(pipe, unet, text, rank, alpha, seed):
    g = generator(seed)
    layers = modules(pipe)
    names = [f"unet.{name}" for name in unet] + [f"text_encoder.{name}" for name in text]
    return {name: Adapter(layers[name], rank(name), alpha(name), g) for name in names}


def kohya_name(name):
    return name.replace("text_encoder.", "lora_te_").replace("unet.", "lora_unet_").replace(".", "_")


def ldm_name(name):
    """LDM's block names for two layers per block, and its layer names inside residual blocks."""
    parts = name.removeprefix("unet.").split(".")
    rest = parts[4:]
    inner = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1",
             "conv_shortcut": "skip_connection"}  # fmt: skip
    rest = [inner.get(part, part) for part in rest]
    if parts[0] == "conv_in":
        blocks = "input_blocks.0.0"
    elif parts[0] == "time_embedding":
        blocks = {"linear_1": "time_embed.0", "linear_2": "time_embed.2"}[parts[1]]
    elif parts[0] == "mid_block":
        rest = [inner.get(part, part) for part in parts[3:]]
        blocks = f"middle_block.{1 if parts[1] == 'attentions' else 2 * int(parts[2])}"
    else:
        block, kind, layer = int(parts[1]), parts[2], int(parts[3])
        down = parts[0] == "down_blocks"
        index = (1 if down else 0) + 3 * block + layer
        place = {"resnets": 0, "attentions": 1}.get(kind)
        if kind == "downsamplers":
            index, place, rest = 3 * (block + 1), 0, ["op"]
        if kind == "upsamplers":
            index, place = 3 * block + 2, 2 if block > 0 else 1
        blocks = f"{'input' if down else 'output'}_blocks.{index}.{place}"
    return "lora_unet_" + ".".join([blocks, *rest]).replace(".", "_")


def kohya_file(path, layers, name_of=kohya_name):
    tensors = {}
    for name, adapter in layers.items():
        base = name_of(name)
        tensors[f"{base}.lora_down.weight"] = adapter.down
        tensors[f"{base}.lora_up.weight"] = adapter.up
        tensors[f"{base}.alpha"] = torch.tensor(float(adapter.alpha))
    save(path, tensors)


def peft_file(path, layers):
    tensors, settings = {}, {}
    for name, adapter in layers.items():
        tensors[f"{name}.lora_A.weight"] = adapter.down
        tensors[f"{name}.lora_B.weight"] = adapter.up
        component, layer = name.split(".", 1)
        pattern = settings.setdefault(f"{component}.alpha_pattern", {})
        ranks = settings.setdefault(f"{component}.rank_pattern", {})
        targets = settings.setdefault(f"{component}.target_modules", [])
        if component == "text_encoder":
            layer = layer.removeprefix("text_model.")
        settings.setdefault(f"{component}.r", adapter.rank)
        settings.setdefault(f"{component}.lora_alpha", adapter.alpha)
        if adapter.rank != settings[f"{component}.r"]:
            ranks[layer] = adapter.rank
        if adapter.alpha != settings[f"{component}.lora_alpha"]:
            pattern[layer] = adapter.alpha
        targets.append(layer)
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(path),
              {"format": "pt", "lora_adapter_metadata": json.dumps(settings)})  # fmt: skip
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")


def processor_file(path, layers):
    tensors = {}
    for name, adapter in layers.items():
        if name.startswith("unet."):
            layer = name.replace(".to_out.0", ".to_out").rsplit(".", 1)
            base = f"{layer[0]}.processor.{layer[1]}_lora"
        else:
            base = name + ".lora_linear_layer"
        tensors[f"{base}.down.weight"] = adapter.down
        tensors[f"{base}.up.weight"] = adapter.up
    save(path, tensors)


@torch.no_grad()
def outputs(pipe):
    inputs = load_file(str(ROOT / "unet" / "fixtures" / "sd1-expected.safetensors"))
    result = {}
    for case in ("square", "odd"):
        x, t, context = (inputs[f"{case}.{key}"] for key in ("x", "t", "context"))
        result[f"unet.{case}"] = pipe.unet(x, t, encoder_hidden_states=context).sample
    ids = pipe.tokenizer(PROMPTS[:2], padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    result["text"] = pipe.text_encoder(ids.input_ids).last_hidden_state
    return result


def added(layers, scale=1.0):
    """The outputs with scale * up @ down added to the weights."""
    pipe = pipeline()
    named = modules(pipe)
    for name, adapter in layers.items():
        named[name].weight.data += scale * adapter.change()
    return outputs(pipe)


def loaded(path, **options):
    pipe = pipeline()
    pipe.load_lora_weights(str(OUT), weight_name=path.name, **options)
    return outputs(pipe)


def agree(name, a, b, base):
    for key in a:
        if torch.equal(a[key], base[key]):
            continue
        error = ((a[key] - b[key]).abs().max() / a[key].std()).item()
        effect = ((a[key] - base[key]).pow(2).mean().sqrt() / base[key].std()).item()
        print(f"  {name} {key}: load_lora_weights and added weights differ by {error:.1e}, the LoRA changes {effect:.2f}")
        if error > 1e-4:
            raise SystemExit(f"{name} {key}: diffusers and its definition differ")


def lora_fixtures():
    pipe = pipeline()
    base = outputs(pipe)
    expected = {}

    # Ranks and alphas vary, but alphas only outside attention, where diffusers assigns them to the right layers.
    vary = adapters(pipe, UNET_LINEAR + UNET_CONV + UNET_TIME + UNET_ENDS, TEXT, lambda name: 3 if "attn1" in name else 4,
                    lambda name: 2.0 if "resnets" in name or "conv_in" in name else 4.0, seed=201)  # fmt: skip
    path = OUT / "lora-kohya.safetensors"
    kohya_file(path, vary)
    result = loaded(path)
    agree("kohya", result, added(vary), base)
    expected |= {f"kohya.{key}": value for key, value in result.items()}

    ldm = adapters(pipe, UNET_LINEAR[3:7] + UNET_LINEAR[9:14] + UNET_CONV + UNET_TIME + UNET_ENDS[:1], [], lambda name: 4,
                   lambda name: 4.0, seed=202)  # fmt: skip
    # diffusers mistakes the first upsampler of LDM's UNet, output_blocks.2.1.conv, for a transformer: it is left out there.
    path = OUT / "lora-ldm.safetensors"
    known = {name: adapter for name, adapter in ldm.items() if name != "unet.up_blocks.0.upsamplers.0.conv"}
    kohya_file(path, known, ldm_name)
    agree("ldm", loaded(path, unet_config=pipe.unet.config), added(known), base)
    kohya_file(path, ldm, ldm_name)
    result = added(ldm)
    expected |= {f"ldm.{key}": result[key] for key in result if key != "text"}

    peft = adapters(pipe, UNET_LINEAR[:12] + UNET_CONV[2:4] + UNET_TIME, TEXT, lambda name: 2 if "to_q" in name else 3,
                    lambda name: 6.0 if "to_q" in name else 3.0, seed=203)  # fmt: skip
    path = OUT / "lora-peft.safetensors"
    peft_file(path, peft)
    result = loaded(path)
    agree("peft", result, added(peft), base)
    expected |= {f"peft.{key}": value for key, value in result.items()}

    attention = [name for name in UNET_LINEAR if "attn" in name]
    processor = adapters(pipe, attention, TEXT[:2] + TEXT[3:5], lambda name: 4, lambda name: 4.0, seed=204)
    path = OUT / "lora-processor.safetensors"
    processor_file(path, processor)
    result = loaded(path)
    agree("processor", result, added(processor), base)
    expected |= {f"processor.{key}": value for key, value in result.items()}

    # Two at once, each with a scale.
    both = pipeline()
    both.load_lora_weights(str(OUT), weight_name="lora-kohya.safetensors", adapter_name="a")
    both.load_lora_weights(str(OUT), weight_name="lora-peft.safetensors", adapter_name="b")
    both.set_adapters(["a", "b"], [0.75, -0.5])
    expected |= {f"both.{key}": value for key, value in outputs(both).items()}
    save(OUT / "lora-expected.safetensors", expected)


EMBEDDED = [
    "a photograph of <cat-toy> in the snow",
    "<cat-toy>, <CAT-TOY>",
    "style of moody-light and a <dog>",
    "Moody-Light<dog>s",
    "make it snowy",
    "the cat-toy, a <cat toy> and <do g>",
    "only <cat-toy>_1 here",
    "<cat-toy> " * 30,
]


@torch.no_grad()
def embedding_fixtures():
    out = folder("text", "fixtures")
    g = generator(211)
    cat, dog, moody = (torch.randn(n, 32, generator=g) * 0.05 for n in (3, 1, 2))
    save(out / "embedding-cat-toy.safetensors", {"<cat-toy>": cat.half()})
    save(out / "embedding-dog.safetensors", {"<dog>": dog[0]})
    save(out / "moody-light.safetensors", {"emb_params": moody})

    pipe = pipeline()
    for name, word in (("embedding-cat-toy", None), ("embedding-dog", None), ("moody-light", "moody-light")):
        pipe.load_textual_inversion(str(out), weight_name=f"{name}.safetensors", token=word)
    # diffusers expands a word of several vectors only as written in the tokenizer, so the prompts are in lower case.
    prompts = [pipe.maybe_convert_prompt(prompt.lower(), pipe.tokenizer) for prompt in EMBEDDED]
    ids = pipe.tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    hidden = pipe.text_encoder(ids[:4]).last_hidden_state
    save(out / "embeddings-expected.safetensors", {"ids": ids, "hidden": hidden})
    decoded = [pipe.tokenizer.decode(pipe.tokenizer(p).input_ids[1:-1]) for p in prompts]
    (out / "embeddings-expected.json").write_text(
        json.dumps([{"prompt": p, "decoded": d} for p, d in zip(EMBEDDED, decoded)], indent=2) + "\n")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    lora_fixtures()
    embedding_fixtures()
