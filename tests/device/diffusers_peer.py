#!/usr/bin/env python3
"""diffusers on the model that device_check left: agreement, then the time of the same edit.

    diffusers_peer.py --device cuda --mode eager|channels-last|compile --weights FOLDER [--out FILE.json] [--small]

FOLDER holds the model in diffusers' layout, with seeded random weights, and expected.safetensors: inputs and results of
one evaluation of the UNet and of a deterministic run of 10 steps. The edits that are timed are those of device_check's
step edit_speed: size, steps, branches and dtype. The result has the form of that program's files.
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--mode", choices=["eager", "channels-last", "compile"], default="eager")
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
    pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        arguments.weights, torch_dtype=dtype, safety_checker=None, local_files_only=True
    ).to(device)
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    if arguments.mode != "eager":
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    report.measure("loading", time.perf_counter() - begin, "s")

    def synchronise():
        if on_gpu:
            torch.cuda.synchronize()

    def seconds_of(work):
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        return time.perf_counter() - start

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

    if arguments.out:
        arguments.out.write_text(json.dumps({"seconds": time.perf_counter() - begin, "rows": report.rows}, indent=1) + "\n")
    return 1 if any(row["status"] == "failed" for row in report.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
