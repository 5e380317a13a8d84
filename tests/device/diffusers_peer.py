#!/usr/bin/env python3
"""diffusers on the model that device_check left: agreement, then the time of the same edit.

    diffusers_peer.py --device cuda --mode eager|channels-last|compile|training --weights FOLDER [--out FILE.json] [--small]

FOLDER holds the model in diffusers' layout, with seeded random weights, and expected.safetensors: inputs and results of
one evaluation of the UNet and of a deterministic run of 10 steps. The edits that are timed are those of device_check's
step edit_speed: size, steps, branches and dtype. `training` times the update of diffusers'
examples/instruct_pix2pix/train_instruct_pix2pix.py instead, from pictures, beside the step training_speed. The result
has the form of that program's files.
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

TEXT_SCALE, IMAGE_SCALE = 7.5, 1.5
INSTRUCTION = "make it a snowy evening"
LIMITS = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 3e-3}


class Report:
    """Lines as device_check has them."""

    def __init__(self, step):
        self.step, self.rows = step, []

    def add(self, name, status, **more):
        self.rows.append({"step": self.step, "name": name, "status": status, **more})
        print(f"{status:9} {self.step}: {name}: " + ", ".join(f"{key} {value}" for key, value in more.items()), flush=True)

    def compare(self, name, found, limit):
        status = "ok" if math.isfinite(found) and found <= limit else "failed"
        self.add(name, status, limit=limit, **({"value": found} if math.isfinite(found) else {"text": "not finite"}))

    def measure(self, name, value, unit):
        self.add(name, "measured", value=value, unit=unit)


def relative_error(found, expected):
    a, b = found.detach().double().cpu(), expected.double().cpu()
    return ((a - b).square().mean().sqrt() / b.square().mean().sqrt()).item()


def run_of(unet, given, device, dtype):
    """The run of 10 steps: Euler's method on the guided estimate of x0, with the noise levels that ours had."""
    text, null, image = (given[name].to(device, dtype) for name in ("text", "null_text", "image"))
    context = torch.cat([text, null, null])
    images = torch.cat([image, image, torch.zeros_like(image)])
    x = given["start"].to(device)
    sigmas, timesteps = given["sigmas"].tolist(), given["timesteps"].tolist()
    for i, t in enumerate(timesteps):
        sigma, following = sigmas[i], sigmas[i + 1]
        scaled = (x / math.sqrt(sigma * sigma + 1)).to(dtype)
        inputs = torch.cat([scaled.repeat(3, 1, 1, 1), images], dim=1)
        predicted = unet(inputs, torch.tensor(t, device=device, dtype=torch.float32), encoder_hidden_states=context).sample
        full, with_image, none = predicted.float().chunk(3)
        noise = none + TEXT_SCALE * (full - with_image) + IMAGE_SCALE * (with_image - none)
        x = x + noise * (following - sigma)
    return x


def train(weights, device, dtype, report, small, seconds_of):
    """One update: both pictures through the autoencoder, texts, noise, the UNet's passes, AdamW and the moving average."""
    import torch.nn.functional as functional
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from diffusers.training_utils import EMAModel
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel.from_pretrained(weights / "unet", torch_dtype=torch.float32).to(device).train()
    vae = AutoencoderKL.from_pretrained(weights / "vae", torch_dtype=dtype).to(device).requires_grad_(False)
    text = CLIPTextModel.from_pretrained(weights / "text_encoder", torch_dtype=dtype).to(device).requires_grad_(False)
    scheduler = DDPMScheduler.from_config(json.loads((weights / "scheduler/scheduler_config.json").read_text()))
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    ema = EMAModel(unet.parameters(), model_cls=UNet2DConditionModel, model_config=unet.config)
    side = 64 if small else 256
    for batch in (2,) if small else (8, 32):
        edited, original = (torch.randn(batch, 3, side, side, device=device, dtype=dtype) for _ in range(2))
        ids = torch.randint(0, 1000, (batch, text.config.max_position_embeddings), device=device)

        def update():
            with torch.no_grad():
                latents = vae.encode(edited).latent_dist.sample() * vae.config.scaling_factor
                condition = vae.encode(original).latent_dist.mode()
                context = text(ids)[0]
            noise = torch.randn_like(latents)
            timesteps = torch.randint(0, 1000, (batch,), device=device)
            inputs = torch.cat([scheduler.add_noise(latents, noise, timesteps), condition], dim=1)
            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                predicted = unet(inputs.float(), timesteps, context.float()).sample
            functional.mse_loss(predicted.float(), noise.float()).backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(unet.parameters())

        update()
        seconds = statistics.median(seconds_of(update) for _ in range(1 if small else 5))
        report.measure(f"batch {batch}: an update", 1e3 * seconds, "ms")
        report.measure(f"batch {batch}: rate", batch / seconds, "pictures/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--mode", choices=["eager", "channels-last", "compile", "training"], default="eager")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--small", action="store_true", help="the small model's size and steps")
    arguments = parser.parse_args()

    begin = time.perf_counter()
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline
    from PIL import Image

    device, on_gpu = arguments.device, arguments.device.startswith("cuda")
    dtype = torch.bfloat16 if on_gpu else torch.float32
    report = Report(f"diffusers_{arguments.mode}")

    def synchronise():
        if on_gpu:
            torch.cuda.synchronize()

    def seconds_of(work):
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        return time.perf_counter() - start

    def finish():
        if arguments.out:
            result = {"seconds": time.perf_counter() - begin, "rows": report.rows}
            arguments.out.write_text(json.dumps(result, indent=1) + "\n")
        return 1 if any(row["status"] == "failed" for row in report.rows) else 0

    if arguments.mode == "training":
        train(arguments.weights, device, dtype, report, arguments.small, seconds_of)
        return finish()
    pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        arguments.weights, torch_dtype=dtype, safety_checker=None, local_files_only=True
    ).to(device)
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    if arguments.mode != "eager":
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    report.measure("loading", time.perf_counter() - begin, "s")

    given = load_file(arguments.weights / "expected.safetensors")
    with torch.no_grad():
        found = pipe.unet(
            given["x"].to(device, dtype),
            torch.tensor([437.0], device=device),
            encoder_hidden_states=given["context"].to(device, dtype),
        ).sample
        # Both round in 16 bits, each in its own order: twice the error of one, over a network's depth.
        deep = 1.0 if dtype == torch.float32 else 4.0
        report.compare("UNet beside ours", relative_error(found, given["unet"]), deep * LIMITS[dtype])
        latents = run_of(pipe.unet, given, device, dtype)
        report.compare("run of 10 steps beside ours", relative_error(latents, given["latents"]), deep * LIMITS[dtype])

    side, steps = (64, 3) if arguments.small else (512, 100)
    image = Image.effect_noise((side, side), 40).convert("RGB")

    def edit(batch, count):
        generator = torch.Generator(device).manual_seed(1)
        return pipe([INSTRUCTION] * batch, image=[image] * batch, num_inference_steps=count, guidance_scale=TEXT_SCALE,
                    image_guidance_scale=IMAGE_SCALE, generator=generator)  # fmt: skip

    if arguments.mode == "compile":
        pipe.unet = torch.compile(pipe.unet)
    for batch in (1,) if arguments.mode == "compile" else (1, 2 if arguments.small else 8):
        name = f"batch {batch}"
        first = seconds_of(lambda: edit(batch, 3))
        if arguments.mode == "compile":
            report.measure(f"{name}: first call, compiling", first, "s")
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        repetitions = 3 if batch == 1 and not arguments.small else 1
        seconds = statistics.median(seconds_of(lambda: edit(batch, steps)) for _ in range(repetitions))
        report.measure(f"{name}: whole edit", seconds, "s")
        report.measure(f"{name}: rate", batch / seconds, "edits/s")
        if on_gpu:
            report.measure(f"{name}: peak", torch.cuda.max_memory_allocated() / 2**30, "GiB")
        few = (steps + 3) // 4
        report.measure(f"{name}: a step", 1e3 * (seconds - seconds_of(lambda: edit(batch, few))) / (steps - few), "ms")

    return finish()


if __name__ == "__main__":
    sys.exit(main())
