#!/usr/bin/env python3
"""Makes the committed fixtures of the model parity tests with transformers and diffusers.

    $(tests/parity/venv.sh) tests/parity/make_model_fixtures.py

Every model is a small seeded one in the layout of a published model. Its weights are rounded to 16 bits before use and
stored so; all reference outputs are computed in fp32 from those weights. Norm scales and biases are random too, so that
nothing is neutral by accident, and the query/key projections are large enough for attention to be far from uniform.

    tests/pipeline/fixtures/tiny-ip2p/       a whole InstructPix2Pix folder (SD1.x layout, 8 input channels)
    tests/text/fixtures/sd2-text/            text encoder of SD2 (exact gelu)
    tests/unet/fixtures/sd2-inpaint/         UNet of SD2: linear projections, heads per level, 9 input channels
    tests/unet/fixtures/sd1-4ch/             UNet with 4 input channels and one layer per block
    tests/codec/fixtures/tiny-autoencoder/   AutoencoderTiny
    tests/codec/fixtures/dc-autoencoder/     AutoencoderDC without blocks at the finest resolution
    tests/codec/fixtures/dc-autoencoder-full/  the same with blocks there
    tests/<folder>/fixtures/*.safetensors    inputs and reference outputs
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderTiny,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

ROOT = Path(__file__).resolve().parents[1]
REPO = ROOT.parent
VOCABULARY_MERGES = 1000


def folder(*parts):
    path = ROOT.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def save(path, tensors):
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, str(path))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def randomise(model, seed, gains=()):
    """Seeded weights in which every parameter matters, rounded to values that fp16 can hold.

    gains: (substring of the name, factor) pairs, each applied to the parameters it names.
    """
    g = generator(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=g)
        if "embedding.weight" in name:
            value = noise * 0.03
        elif name.endswith("bias"):
            value = noise * 0.1
        elif p.dim() < 2:
            value = 1 + 0.2 * noise
        else:
            fan_in = p[0].numel()
            value = noise * fan_in**-0.5
            if any(key in name for key in ("to_q", "to_k", "q_proj", "k_proj")):
                value *= 1.4
        for key, factor in gains:
            if key in name:
                value = value * factor
        p.data.copy_(value)
    return model.eval()


def round_to_half(model):
    for p in model.parameters():
        p.data.copy_(p.data.half().float())
    return model


def quiet_first_group(model, conv, residual, channels):
    """Makes the first normalisation group of the first block nearly constant, so that the norm's epsilon matters."""
    for layer in (conv, residual):
        layer.weight.data[:channels] *= 3e-3
        layer.bias.data[:channels] = layer.bias.data[0] * 3e-3
    return model


def save_half(model, path):
    """Stores the weights in 16 bits, which hold them exactly; the model itself stays in fp32."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    model.half().save_pretrained(str(path), safe_serialization=True)
    model.float()
    for config in path.glob("config.json"):  # readers have no use for the writer's own notes
        data = json.loads(config.read_text())
        config.write_text(json.dumps({k: v for k, v in data.items() if not k.startswith("_name")}, indent=2) + "\n")


def with_prefix(path):
    """Names a text encoder's tensors as published models do; newer writers omit the prefix, as sd2-text shows."""
    save_file({f"text_model.{name}": tensor for name, tensor in load_file(str(path)).items()}, str(path), {"format": "pt"})


# ---------------------------------------------------------------------------------------------------------------- text


def byte_alphabet():
    """The 256 printable characters that stand for bytes in byte-level BPE, in the order of the CLIP vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable]
    letters += [chr(256 + n) for n in range(256 - len(printable))]
    return letters


def make_tokenizer(path, merges_file):
    """A CLIP tokenizer with only the first merges: the same rules, with a table small enough to commit."""
    lines = Path(merges_file).read_text(encoding="utf-8").split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")][:VOCABULARY_MERGES]
    letters = byte_alphabet()
    words = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    path.mkdir(parents=True, exist_ok=True)
    (path / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}, ensure_ascii=False))
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    special = {"bos_token": words[-2], "eos_token": words[-1], "unk_token": words[-1], "pad_token": words[-1]}
    (path / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        **special,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return CLIPTokenizer.from_pretrained(str(path)), len(words)


def make_text_encoder(vocabulary, act, hidden, heads, layers, seed):
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=77,
        hidden_act=act,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=1,
    )
    return round_to_half(randomise(CLIPTextModel(config), seed))


PROMPTS = [
    "",
    "make it snowy",
    "turn the photograph into a watercolour painting, with soft light & long shadows",
    "What if it were 1984? Add 12 red balloons; don't change the sky!",
    "very " * 100 + "sunny",
]


@torch.no_grad()
def text_fixtures(tokenizer, encoder):
    out = folder("text", "fixtures")
    ids = tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    hidden = encoder(ids).last_hidden_state
    save(out / "sd1-text-expected.safetensors", {"input_ids": ids, "last_hidden_state": hidden})

    sd2 = make_text_encoder(400, "gelu", 24, 3, 3, seed=11)
    save_half(sd2, out / "sd2-text" / "text_encoder")
    g = generator(12)
    random_ids = torch.randint(0, 400, (3, 77), generator=g)
    random_ids[:, 0] = 398
    random_ids[1, 9:] = 399
    short = torch.randint(0, 400, (2, 7), generator=g)
    save(
        out / "sd2-text-expected.safetensors",
        {
            "input_ids": random_ids,
            "last_hidden_state": sd2(random_ids).last_hidden_state,
            "short_ids": short,
            "short_last_hidden_state": sd2(short).last_hidden_state,
        },
    )


# --------------------------------------------------------------------------------------------------------------- codec


def picture(width, height, seed):
    """uint8 [3,H,W]: a smooth coloured scene with edges and a little grain."""
    g = generator(seed)
    ys = torch.linspace(0, 1, height)[:, None].expand(height, width)
    xs = torch.linspace(0, 1, width)[None, :].expand(height, width)
    planes = []
    for _ in range(3):
        a, b, c, d, e = torch.rand(5, generator=g).tolist()
        planes.append(0.5 + 0.3 * torch.sin(6 * (a * xs + b * ys) + 6 * c) + 0.15 * ((xs - d) ** 2 + (ys - e) ** 2 < 0.08))
    image = torch.stack(planes) + 0.02 * torch.randn(3, height, width, generator=g)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def make_vae(seed):
    vae = AutoencoderKL(
        block_out_channels=[8, 16, 16, 16],
        layers_per_block=2,
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        sample_size=64,
        scaling_factor=0.18215,
    )
    randomise(vae, seed, [("decoder.conv_out", 0.5)])
    first = vae.encoder.down_blocks[0].resnets[0]
    quiet_first_group(vae, vae.encoder.conv_in, first.conv2, 2)
    return round_to_half(vae)


@torch.no_grad()
def codec_fixtures(vae):
    out = folder("codec", "fixtures")
    tensors = {}
    g = generator(21)
    for name, (width, height), batch in (("square", (64, 64), 1), ("odd", (72, 40), 2)):
        images = torch.stack([picture(width, height, 30 + i) for i in range(batch)])
        posterior = vae.encode(images.float() * 2 / 255 - 1).latent_dist
        latents = torch.randn(batch, 4, height // 8, width // 8, generator=g) * 2
        tensors |= {
            f"{name}.images": images,
            f"{name}.mean": posterior.mean,
            f"{name}.logvar": posterior.logvar,
            f"{name}.latents": latents,
            f"{name}.decoded": vae.decode(latents).sample,
        }
    save(out / "autoencoder-kl-expected.safetensors", tensors)

    tiny = AutoencoderTiny(encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8))
    round_to_half(randomise(tiny, 41))
    save_half(tiny, out / "tiny-autoencoder" / "vae")
    images = torch.stack([picture(56, 40, 50 + i) for i in range(2)])
    latents = torch.randn(2, 4, 5, 7, generator=g) * 3
    save(
        out / "tiny-autoencoder-expected.safetensors",
        {
            "images": images,
            "encoded": tiny.encode(images.float() * 2 / 255 - 1).latents,
            "latents": latents,
            "decoded": tiny.decode(latents).sample,
        },
    )


def dc_fixtures():
    out = folder("codec", "fixtures")
    tensors = {}
    shapes = {
        "dc-autoencoder": {"layers": ((0, 1, 2, 1), (0, 1, 1, 2)), "size": (64, 40)},
        "dc-autoencoder-full": {"layers": ((1, 1), (2, 1)), "size": (12, 6)},
    }
    for seed, (name, shape) in enumerate(shapes.items(), 70):
        layers = shape["layers"]
        widths = (8, 8, 16, 32)[-len(layers[0]) :]
        scales = ((),) * len(widths)
        dc = AutoencoderDC(
            latent_channels=4,
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            encoder_layers_per_block=layers[0],
            decoder_layers_per_block=layers[1],
            encoder_qkv_multiscales=scales,
            decoder_qkv_multiscales=scales,
        )
        round_to_half(randomise(dc, seed))
        save_half(dc, out / name / "vae")
        width, height = shape["size"]
        images = torch.stack([picture(width, height, seed + i) for i in range(2)])
        f = dc.spatial_compression_ratio
        latents = torch.randn(2, 4, height // f, width // f, generator=generator(seed)) * 2
        tensors |= {
            f"{name}.images": images,
            f"{name}.encoded": dc.encode(images.float() * 2 / 255 - 1).latent,
            f"{name}.latents": latents,
            f"{name}.decoded": dc.decode(latents).sample,
        }
    save(out / "dc-autoencoder-expected.safetensors", tensors)


# ---------------------------------------------------------------------------------------------------------------- unet


def make_unet(in_channels, widths, layers, heads, context, linear, seed):
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=widths,
        layers_per_block=layers,
        norm_num_groups=4,
        attention_head_dim=heads,
        cross_attention_dim=context,
        use_linear_projection=linear,
    )
    randomise(unet, seed, [("conv_out", 0.3)])
    first = unet.down_blocks[0].resnets[0]
    quiet_first_group(unet, unet.conv_in, first.conv2, widths[0] // 4)
    return round_to_half(unet)


def unet_cases(unet, seed, shapes, tokens=77):
    g = generator(seed)
    tensors = {}
    width = unet.config.cross_attention_dim
    for name, (batch, height, columns), timesteps in shapes:
        x = torch.randn(batch, unet.config.in_channels, height, columns, generator=g)
        t = torch.tensor(timesteps, dtype=torch.float32)
        context = torch.randn(batch, tokens, width, generator=g)
        with torch.no_grad():
            y = unet(x, t, encoder_hidden_states=context).sample
        tensors |= {f"{name}.x": x, f"{name}.t": t, f"{name}.context": context, f"{name}.out": y}
        print(f"  unet {name}: output std {y.std():.3f}")
    return tensors


GRADIENTS = [
    "conv_in.weight",
    "conv_in.bias",
    "time_embedding.linear_1.weight",
    "down_blocks.0.resnets.0.norm1.weight",
    "down_blocks.0.resnets.0.time_emb_proj.bias",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight",
    "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v.weight",
    "down_blocks.2.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight",
    "up_blocks.0.upsamplers.0.conv.bias",
    "up_blocks.3.attentions.2.proj_out.weight",
    "up_blocks.3.attentions.2.transformer_blocks.0.norm3.bias",
    "conv_norm_out.weight",
    "conv_out.bias",
]


def gradient_case(unet, seed):
    """Gradients of the mean squared output: complete for a few parameters, and the 2-norm of each, sorted by name."""
    g = generator(seed)
    x = torch.randn(2, unet.config.in_channels, 8, 8, generator=g)
    t = torch.tensor([37.0, 800.0])
    context = torch.randn(2, 77, unet.config.cross_attention_dim, generator=g)
    unet.zero_grad()
    loss = unet(x, t, encoder_hidden_states=context).sample.pow(2).mean()
    loss.backward()
    named = dict(sorted(unet.named_parameters()))
    tensors = {"gradient.x": x, "gradient.t": t, "gradient.context": context, "gradient.loss": loss.reshape(1)}
    tensors["gradient.norms"] = torch.stack([p.grad.norm() for p in named.values()])
    tensors |= {f"gradient.of.{name}": named[name].grad.clone() for name in GRADIENTS}
    unet.zero_grad(set_to_none=True)
    return tensors


def unet_fixtures(ip2p):
    out = folder("unet", "fixtures")
    shapes = [
        ("square", (3, 8, 8), [999.0, 500.5, 0.25]),
        ("wide", (2, 6, 12), [21.0, 640.75]),
        ("odd", (1, 5, 7), [321.125]),
        ("large", (1, 16, 24), [100.0]),
    ]
    save(out / "sd1-expected.safetensors", unet_cases(ip2p, 61, shapes) | gradient_case(ip2p, 62))

    sd2 = make_unet(9, (8, 16, 24, 24), 1, [1, 2, 3, 4], 16, True, seed=63)
    save_half(sd2, out / "sd2-inpaint" / "unet")
    shapes = [("square", (2, 8, 8), [750.5, 3.0]), ("odd", (1, 9, 5), [501.0])]
    save(out / "sd2-expected.safetensors", unet_cases(sd2, 64, shapes))

    plain = make_unet(4, (8, 8, 16, 16), 1, 4, 12, False, seed=65)
    save_half(plain, out / "sd1-4ch" / "unet")
    shapes = [("square", (1, 8, 8), [981.0]), ("short", (2, 8, 8), [12.0, 13.5])]
    cases = unet_cases(plain, 66, shapes[:1]) | unet_cases(plain, 67, shapes[1:], tokens=9)
    save(out / "sd1-4ch-expected.safetensors", cases)


# ------------------------------------------------------------------------------------------------------------ pipeline

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
}


def scheduler_of(name):
    if name == "euler":
        return EulerDiscreteScheduler(**SCHEDULER)
    if name == "karras":
        return EulerDiscreteScheduler(**SCHEDULER, use_karras_sigmas=True)
    return EulerAncestralDiscreteScheduler(**SCHEDULER)


def start_latents(seed, shape):
    return torch.randn(shape, generator=generator(seed))


CASES = [
    # The start noise of `given` cases is stored; in the others it comes from a generator with the seed, as in use.
    dict(name="euler", scheduler="euler", size=(64, 64), prompts=["make it snowy"], given=True, steps=20,
         each_step=True),
    dict(name="euler-batch", scheduler="euler", size=(72, 40), prompts=["make it snowy", "as a watercolour, 1984"],
         given=True, steps=20, text_scale=5.0, image_scale=1.2),
    dict(name="euler-negative", scheduler="euler", size=(48, 64), prompts=["add a red balloon"], given=True, steps=20,
         negative="blurry, grey sky"),
    dict(name="euler-unguided", scheduler="euler", size=(64, 64), prompts=["add a red balloon"], given=True, steps=10,
         text_scale=1.0, image_scale=1.0),
    dict(name="karras", scheduler="karras", size=(64, 64), prompts=["make it snowy"], given=True, steps=12),
    dict(name="ancestral", scheduler="ancestral", size=(64, 64), prompts=["make it snowy"], seeds=42, steps=20,
         each_step=True),
    dict(name="ancestral-batch", scheduler="ancestral", size=(72, 40), prompts=["make it snowy", "as a watercolour"],
         seeds=7, steps=8),
    dict(name="ancestral-seeds", scheduler="ancestral", size=(72, 40), prompts=["make it snowy", "as a watercolour"],
         seeds=[7, 8], steps=8),
]  # fmt: skip


def run_case(pipe, case):
    pipe.scheduler = scheduler_of(case["scheduler"])
    width, height = case["size"]
    batch = len(case["prompts"])
    images = torch.stack([picture(width, height, 70 + i) for i in range(batch)])
    arguments = dict(
        prompt=case["prompts"],
        image=images.float() / 255,
        num_inference_steps=case["steps"],
        guidance_scale=case.get("text_scale", 7.5),
        image_guidance_scale=case.get("image_scale", 1.5),
    )
    if "negative" in case:
        arguments["negative_prompt"] = [case["negative"]] * batch
    tensors = {"images": images}
    if case.get("given"):
        tensors["start"] = start_latents(80 + batch, (batch, 4, height // 8, width // 8))
        arguments["latents"] = tensors["start"].clone()
    else:
        seeds = case["seeds"]
        arguments["generator"] = generator(seeds) if isinstance(seeds, int) else [generator(s) for s in seeds]
    steps = []

    def keep(_pipe, _index, _timestep, values):
        steps.append(values["latents"].clone())
        return {}

    latents = pipe(**arguments, output_type="latent", callback_on_step_end=keep).images
    with torch.no_grad():
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    tensors |= {
        "latents": latents,
        "edited": ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8),
        "image_latents": pipe.vae.encode(images.float() / 255 * 2 - 1).latent_dist.mode(),
        "sigmas": pipe.scheduler.sigmas,
        "timesteps": pipe.scheduler.timesteps.float(),
    }
    if case.get("each_step"):
        tensors["step_latents"] = torch.stack(steps)
    return tensors, arguments, latents


def pipeline_fixtures(pipe):
    out = folder("pipeline", "fixtures")
    tensors = {}
    for case in CASES:
        result, arguments, latents = run_case(pipe, case)
        sensitivity = ""
        if case.get("given"):  # how much a perturbation the size of rounding grows along the way
            moved = dict(arguments, latents=result["start"] + 1e-6 * start_latents(99, result["start"].shape))
            moved["output_type"] = "latent"
            growth = (pipe(**moved).images - latents).abs().max() / 1e-6
            sensitivity = f", 1e-6 in grows by {growth:.1f}"
        print(f"  {case['name']}: latents std {latents.std():.2f} max {latents.abs().max():.1f}{sensitivity}")
        tensors |= {f"{case['name']}.{key}": value for key, value in result.items()}
    save(out / "edit-expected.safetensors", tensors)
    (out / "edit-cases.json").write_text(json.dumps(CASES, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merges", default=REPO / "models" / "clip-tokenizer" / "merges.txt",
                        help="merges.txt of the CLIP vocabulary")  # fmt: skip
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    model = folder("pipeline", "fixtures", "tiny-ip2p")
    tokenizer, words = make_tokenizer(model / "tokenizer", arguments.merges)
    text_encoder = make_text_encoder(words, "quick_gelu", 32, 4, 2, seed=1)
    vae = make_vae(seed=2)
    unet = make_unet(8, (8, 16, 24, 24), 2, 2, 32, False, seed=3)
    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler_of("ancestral"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)

    text_fixtures(tokenizer, text_encoder)
    codec_fixtures(vae)
    dc_fixtures()
    unet_fixtures(unet)
    pipeline_fixtures(pipe)

    save_half(text_encoder, model / "text_encoder")
    with_prefix(model / "text_encoder" / "model.safetensors")
    save_half(vae, model / "vae")
    save_half(unet, model / "unet")
    pipe.scheduler = scheduler_of("ancestral")
    pipe.scheduler.save_pretrained(str(model / "scheduler"))
    index = {k: v for k, v in json.loads(pipe.to_json_string()).items() if not k.startswith("_name")}
    (model / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")

    # The folder as written must reproduce the reference; otherwise the fixture would test something else.
    again = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        str(model), dtype=torch.float32, safety_checker=None)  # fmt: skip
    again.set_progress_bar_config(disable=True)
    latents = run_case(again, CASES[0])[2]
    if not torch.allclose(latents, run_case(pipe, CASES[0])[2], atol=1e-5):
        raise SystemExit("the stored folder does not reproduce the model it was made from")


if __name__ == "__main__":
    main()
