#!/usr/bin/env python3
"""Makes the reference outputs of models whose config.json differs from Stable Diffusion's in one key.

    $(tests/parity/venv.sh) tests/parity/make_config_fixtures.py

Weights are those of tests/unet/fixtures/sd1-4ch and tests/text/fixtures/sd2-text, inputs are seeded, and the outputs are
computed in fp32 by diffusers and transformers.

    tests/unet/fixtures/config-expected.safetensors   x, t, context, and one output per name of UNET
    tests/schedule/fixtures/model-sigmas.json         noise levels of schedulers that ask for Karras' or exponential ones
    tests/text/fixtures/config-expected.safetensors   ids, and the text encoder's output for layer_norm_eps 0.01
"""

import json
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

ROOT = Path(__file__).resolve().parents[1]
UNET = {
    "sine_first": {"flip_sin_to_cos": False},
    "shifted": {"freq_shift": 1},
    "epsilon": {"norm_eps": 1e-2},
    "centred": {"center_input_sample": True},
    "no_middle": {"mid_block_type": None},
    "lists": {"layers_per_block": [1, 1, 1, 1], "cross_attention_dim": [32, 32, 32, 32]},
}


def unet_outputs():
    source = ROOT / "unet/fixtures/sd1-4ch/unet"
    config = json.loads((source / "config.json").read_text())
    weights = {n: t.float() for n, t in load_file(str(source / "diffusion_pytorch_model.safetensors")).items()}
    g = torch.Generator("cpu").manual_seed(7)
    width = config["cross_attention_dim"]
    tensors = {
        "x": torch.randn(2, config["in_channels"], 8, 8, generator=g),
        "t": torch.tensor([3.25, 871.0]),
        "context": torch.randn(2, 9, width, generator=g),
    }
    for name, change in UNET.items():
        change = {k: [width] * 4 if k == "cross_attention_dim" else v for k, v in change.items()}
        model = UNet2DConditionModel.from_config({**config, **change}).eval()
        kept = {n: t for n, t in weights.items() if name != "no_middle" or not n.startswith("mid_block.")}
        model.load_state_dict(kept)
        with torch.no_grad():
            tensors[name] = model(tensors["x"], tensors["t"], tensors["context"]).sample
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(ROOT / "unet/fixtures/config-expected.safetensors"))


def text_output():
    source = ROOT / "text/fixtures/sd2-text/text_encoder"
    config = CLIPTextConfig.from_pretrained(str(source), layer_norm_eps=1e-2)
    model = CLIPTextModel(config).eval()
    stored = {n: t.float() for n, t in load_file(str(source / "model.safetensors")).items()}
    own = set(model.state_dict())
    model.load_state_dict({n if n in own else n.removeprefix("text_model."): t for n, t in stored.items()})
    ids = torch.randint(0, config.vocab_size, (1, 12), generator=torch.Generator("cpu").manual_seed(8))
    with torch.no_grad():
        out = model(ids).last_hidden_state
    save_file({"ids": ids, "out": out.contiguous()}, str(ROOT / "text/fixtures/config-expected.safetensors"))


def schedules():
    cases = []
    for kind in ("use_karras_sigmas", "use_exponential_sigmas"):
        for spacing in ("linspace", "leading", "trailing"):
            config = {
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "beta_schedule": "scaled_linear",
                "steps_offset": 1,
                "timestep_spacing": spacing,
                kind: True,
            }
            for steps in (1, 7):
                if steps == 1 and kind == "use_exponential_sigmas" and spacing == "linspace":
                    continue  # one level, twice over
                scheduler = EulerDiscreteScheduler(**config)
                scheduler.set_timesteps(steps)
                cases.append(
                    {
                        "config": config,
                        "sigmas": scheduler.sigmas.tolist(),
                        "timesteps": scheduler.timesteps.tolist(),
                        "initial": float(scheduler.init_noise_sigma),
                    }
                )
    lines = ",\n".join(" " + json.dumps(case) for case in cases)
    (ROOT / "schedule/fixtures/model-sigmas.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    schedules()
    unet_outputs()
    text_output()
