#!/usr/bin/env python3
"""Makes tests/pipeline/fixtures/generation-{cases.json,expected.safetensors} with diffusers' text-to-image,
image-to-image and inpainting pipelines, and the UNet tiny-sd.

    $(tests/parity/venv.sh) tests/parity/make_generation_fixtures.py

The models are those of tests/pipeline/fixtures/tiny-ip2p. Their UNet has 8 input channels; the one with 4 has the first
four of conv_in, the inpainting one with 9 has the first once more at the end. The tests derive the same.
"""

import json
from pathlib import Path

import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from make_model_fixtures import make_unet, save_half
from safetensors.torch import save_file

FIXTURES = Path(__file__).resolve().parents[1] / "pipeline" / "fixtures"


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def photograph(width, height, seed):
    """uint8 [3,H,W]: smooth shapes and a little noise."""
    g = generator(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    waves = [torch.sin(3 * x * (i + 1) + 2 * y + torch.randn((), generator=g)) for i in range(3)]
    picture = torch.stack(waves) * 80 + 128 + 8 * torch.randn((3, height, width), generator=g)
    return picture.round().clamp(0, 255).to(torch.uint8)


def with_channels(unet, channels):
    config = dict(unet.config, in_channels=channels)
    changed = UNet2DConditionModel.from_config(config).eval()
    weights = dict(unet.state_dict())
    weight = weights["conv_in.weight"]
    weights["conv_in.weight"] = weight[:, :channels] if channels <= 8 else torch.cat([weight, weight[:, :1]], 1)
    changed.load_state_dict(weights)
    return changed


CASES = [
    dict(name="text", kind="text", sampler="euler", steps=12, seed=3, size=(64, 48), prompts=["a red balloon"]),
    dict(name="text-negative", kind="text", sampler="euler-ancestral", steps=6, seed=4, size=(64, 64), prompts=["a boat"],
         negative="blurry, grey"),
    dict(name="image", kind="image", sampler="euler", steps=10, seed=5, size=(64, 64), prompts=["a snowy hill"],
         strength=0.65),
    dict(name="image-all", kind="image", sampler="euler-ancestral", steps=6, seed=6, size=(48, 64), prompts=["a hill"],
         strength=1.0),
    dict(name="hold", kind="inpaint", sampler="euler", steps=8, seed=7, size=(64, 64), prompts=["a cat"], channels=4,
         strength=1.0),
    dict(name="hold-part", kind="inpaint", sampler="euler", steps=8, seed=8, size=(64, 64), prompts=["a cat"], channels=4,
         strength=0.6),
    dict(name="inpaint", kind="inpaint", sampler="euler", steps=8, seed=9, size=(64, 48), prompts=["a cat"], channels=9,
         strength=1.0),
    dict(name="inpaint-part", kind="inpaint", sampler="euler-ancestral", steps=8, seed=10, size=(64, 64),
         prompts=["a cat"], channels=9, strength=0.7),
]  # fmt: skip


def main():
    torch.set_num_threads(1)
    # A text-to-image UNet of the same text width, for the programs' tests.
    save_half(make_unet(4, (8, 8, 16, 16), 1, 2, 32, False, seed=91), FIXTURES / "tiny-sd" / "unet")
    base = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        str(FIXTURES / "tiny-ip2p"), torch_dtype=torch.float32, safety_checker=None
    )
    noise_levels = {k: base.scheduler.config[k] for k in ("beta_start", "beta_end", "beta_schedule", "steps_offset")}
    schedulers = {"euler": EulerDiscreteScheduler, "euler-ancestral": EulerAncestralDiscreteScheduler}
    kinds = {
        "text": StableDiffusionPipeline,
        "image": StableDiffusionImg2ImgPipeline,
        "inpaint": StableDiffusionInpaintPipeline,
    }
    tensors = {}
    for case in CASES:
        pipe = kinds[case["kind"]](
            vae=base.vae, text_encoder=base.text_encoder, tokenizer=base.tokenizer,
            unet=with_channels(base.unet, case.get("channels", 4)), scheduler=schedulers[case["sampler"]](**noise_levels),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        pipe.set_progress_bar_config(disable=True)
        width, height = case["size"]
        arguments = dict(prompt=case["prompts"], num_inference_steps=case["steps"], guidance_scale=7.5,
                         generator=generator(case["seed"]), output_type="latent",
                         negative_prompt=[case["negative"]] if "negative" in case else None)  # fmt: skip
        if case["kind"] == "text":
            arguments |= dict(width=width, height=height)
        else:
            photo = photograph(width, height, case["seed"])
            tensors[f"{case['name']}.photo"] = photo
            arguments |= dict(image=photo[None].float() / 255, strength=case["strength"])
        if case["kind"] == "inpaint":
            mask = torch.zeros(1, 1, height, width)
            mask[:, :, 10 : height // 2 + 5, width // 3 :] = 1
            tensors[f"{case['name']}.mask"] = (mask[0] * 255).to(torch.uint8).repeat(3, 1, 1)
            arguments |= dict(mask_image=mask, width=width, height=height)
        latents = pipe(**arguments).images
        tensors[f"{case['name']}.latents"] = latents
        print(f"{case['name']}: latents std {latents.std():.2f} max {latents.abs().max():.1f}")
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(FIXTURES / "generation-expected.safetensors"))
    (FIXTURES / "generation-cases.json").write_text(json.dumps(CASES, indent=2) + "\n")


if __name__ == "__main__":
    main()
