#!/usr/bin/env python3
"""Compares whole edits at full size: our edit_image program against diffusers, from the same weights and start noise.

    $(tests/parity/venv.sh) tests/parity/full_size.py [--size 256 --steps 20] [--sampler euler] [--program PATH]

Makes an InstructPix2Pix model of Stable Diffusion 1.5's size with seeded random weights (1.07 billion values, 4.3 GB in
fp32) as a diffusers folder below the build folder, once. Runs StableDiffusionInstructPix2PixPipeline and
`edit_image --numerics diffusers` on one seeded picture from the same unit-variance start noise, and prints a table of the
differences of the final latents and of the pictures. Exit status 1 when a difference exceeds the tolerance.

Random weights are the harder case: nothing in them dampens a difference on its way through the steps.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_model_fixtures as small  # noqa: E402

REPO = Path(__file__).resolve().parents[2]
PROMPT = "turn it into a watercolour painting of a snowy evening"
TOLERANCE = 2e-3  # largest absolute difference of the final latents, fp32


def make_model(folder, seed=1234):
    """Makes a full-size folder in fp32; does nothing if it is already complete."""
    from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    done = folder / "model_index.json"
    if done.exists():
        return
    print(f"making {folder}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)

    unet = UNet2DConditionModel(
        sample_size=64,
        in_channels=8,
        out_channels=4,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        attention_head_dim=8,
        cross_attention_dim=768,
    )
    small.randomise(unet, seed, [("conv_out", 0.3)])
    unet.save_pretrained(str(folder / "unet"), max_shard_size="20GB")
    del unet

    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=512,
        scaling_factor=0.18215,
    )
    small.randomise(vae, seed + 1, [("decoder.conv_out", 0.5)])
    vae.save_pretrained(str(folder / "vae"))
    del vae

    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=1,
        )
    )
    small.randomise(text, seed + 2)
    text.save_pretrained(str(folder / "text_encoder"))
    small.with_prefix(folder / "text_encoder" / "model.safetensors")

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    for source in (REPO / "models" / "clip-tokenizer").iterdir():
        (tokenizer / source.name).write_bytes(source.read_bytes())
    EulerAncestralDiscreteScheduler(**small.SCHEDULER).save_pretrained(str(folder / "scheduler"))
    index = json.loads((REPO / "tests/pipeline/fixtures/tiny-ip2p/model_index.json").read_text())
    done.write_text(json.dumps(index, indent=2) + "\n")


def find_program(given):
    if given:
        return Path(given).resolve()
    found = sorted(REPO.glob("build*/**/edit_image"), key=lambda p: p.stat().st_mtime)
    found = [p for p in found if p.is_file() and os.access(p, os.X_OK)]
    if not found:
        raise SystemExit("edit_image is not built: run scripts/build.sh, or name it with --program")
    return found[-1].resolve()


def reference_edit(folder, arguments, image, start, dtype):
    """Final latents, picture and seconds of diffusers."""
    from diffusers import StableDiffusionInstructPix2PixPipeline

    pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained(str(folder), dtype=dtype, safety_checker=None)
    pipe.scheduler = small.scheduler_of(arguments.sampler)
    pipe.set_progress_bar_config(disable=True)
    begin = time.time()
    kwargs = dict(latents=start.clone()) if start is not None else {}
    latents = pipe(
        prompt=PROMPT,
        image=image,
        num_inference_steps=arguments.steps,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        negative_prompt=arguments.negative_prompt or None,
        generator=torch.Generator("cpu").manual_seed(arguments.seed),
        output_type="latent",
        **kwargs,
    ).images
    with torch.no_grad():
        decoded = pipe.vae.decode(latents.to(pipe.vae.dtype) / pipe.vae.config.scaling_factor).sample
    seconds = time.time() - begin
    picture = ((decoded.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)[0]
    return latents.float(), picture, seconds


def our_edit(program, folder, arguments, image_path, start_path, work, dtype):
    """Final latents, picture and seconds of edit_image (with the time to load the model)."""
    out, saved = work / "ours.png", work / "ours.safetensors"
    for path in (out, saved):
        path.unlink(missing_ok=True)
    command = [
        str(program), "--model", str(folder), "--image", str(image_path), "--prompt", PROMPT, "--out", str(out),
        "--steps", str(arguments.steps), "--image-scale", "1.5", "--text-scale", "7.5", "--seed", str(arguments.seed),
        "--sampler", {"euler": "euler", "ancestral": "euler-ancestral"}[arguments.sampler],
        "--numerics", "diffusers", "--dtype", dtype, "--device", "cpu", "--save-latents", str(saved),
        "--threads", str(arguments.threads),
    ]  # fmt: skip
    if start_path is not None:
        command += ["--latents", str(start_path)]
    if arguments.negative_prompt:
        command += ["--negative-prompt", arguments.negative_prompt]
    begin = time.time()
    subprocess.run(command, check=True, env=dict(os.environ, OMP_NUM_THREADS=str(arguments.threads)))
    seconds = time.time() - begin
    import numpy as np

    picture = torch.from_numpy(np.array(Image.open(out).convert("RGB"))).permute(2, 0, 1)
    return load_file(str(saved))["latents"].float(), picture, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=REPO / "build/parity/sd15-ip2p-random", help="folder of the model")
    parser.add_argument("--program", help="edit_image (default: the newest one below build*/)")
    parser.add_argument("--size", type=int, nargs="+", default=[256], help="WIDTH [HEIGHT] of the picture")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sampler", choices=["euler", "ancestral"], default="euler")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--negative-prompt", default="")
    parser.add_argument("--bf16", action="store_true", help="also compare both in bf16 with the fp32 reference")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--make-only", action="store_true", help="make the model and stop")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    make_model(arguments.model)
    if arguments.make_only:
        return
    program = find_program(arguments.program)
    work = REPO / "build" / "parity"
    work.mkdir(parents=True, exist_ok=True)
    width, height = (arguments.size * 2)[:2]
    pixels = small.picture(width, height, 5)
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    image_path = work / "picture.png"
    image.save(image_path)
    # With Euler, both are given the start noise; with the ancestral sampler, both draw all noise from the seed.
    start, start_path = None, None
    if arguments.sampler == "euler":
        start = small.start_latents(7, (1, 4, height // 8, width // 8))
        start_path = work / "start.safetensors"
        save_file({"latents": start}, str(start_path))

    reference, reference_picture, reference_seconds = reference_edit(
        arguments.model, arguments, image, start, torch.float32
    )
    rows = []

    def add(name, latents, picture, seconds):
        difference = (latents - reference).abs().max().item()
        relative = ((latents - reference).pow(2).mean().sqrt() / reference.std()).item()
        levels = (picture.int() - reference_picture.int()).abs()
        rows.append((name, difference, relative, levels.max().item(), levels.float().mean().item(), seconds))
        return difference

    worst = add("ip2p fp32", *our_edit(program, arguments.model, arguments, image_path, start_path, work, "fp32"))
    if arguments.bf16:
        add("ip2p bf16", *our_edit(program, arguments.model, arguments, image_path, start_path, work, "bf16"))
        bf16_start = start.bfloat16() if start is not None else None
        add("diffusers bf16", *reference_edit(arguments.model, arguments, image, bf16_start, torch.bfloat16))

    print(
        f"{width}x{height}, {arguments.steps} steps, {arguments.sampler}, {arguments.threads} threads; "
        f"reference: diffusers fp32, {reference_seconds:.1f} s, latents of deviation {reference.std():.2f}\n"
    )
    print("| against diffusers fp32 | latents, max abs | latents, rms / deviation | picture, max levels | mean | seconds |")
    print("|---|---|---|---|---|---|")
    for name, difference, relative, levels, mean, seconds in rows:
        print(f"| {name} | {difference:.2e} | {relative:.2e} | {levels} | {mean:.4f} | {seconds:.1f} |")
    if worst > TOLERANCE:
        raise SystemExit(f"fp32 latents differ by {worst:.2e}: expected at most {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
