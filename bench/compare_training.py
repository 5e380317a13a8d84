#!/usr/bin/env python3
"""Times one training update against that of diffusers' train_instruct_pix2pix: one run, one machine, the same weights.

    scripts/build.sh ip2p_bench
    $(tests/parity/venv.sh) bench/compare_training.py [--model models/small-editor] [--batch 8] [--dtypes fp32 bf16]

An update of either: both pictures through the autoencoder, the instructions, noise, the UNet's passes, AdamW and the
averaged weights. Ours also resizes and crops its pictures and remembers the texts that it has seen, as train_editor
does; diffusers' script does the former in its data loader, which is left out here, and the latter not at all. "cached"
starts from latents on disk, for which the script has no option. Every measurement is a process of its own, which gives
its peak memory; programs take turns.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from pathlib import Path

from compare_peers import processor, run_measured

REPO = Path(__file__).resolve().parents[1]
DTYPES = ["fp32", "bf16"]


def worker(job):
    """The update of diffusers' examples/instruct_pix2pix/train_instruct_pix2pix.py, with its default optimiser."""
    import diffusers
    import torch
    import torch.nn.functional as functional
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from diffusers.training_utils import EMAModel
    from transformers import CLIPTextModel

    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job["dtype"]]
    folder, pixels, batch = job["model"], job["pixels"], job["batch"]
    unet = UNet2DConditionModel.from_pretrained(f"{folder}/unet", dtype=torch.float32).train()
    if job["checkpointing"]:
        unet.enable_gradient_checkpointing()
    kind = json.loads((Path(folder) / "vae/config.json").read_text())["_class_name"]
    vae = getattr(diffusers, kind).from_pretrained(f"{folder}/vae", dtype=dtype).requires_grad_(False)
    text = CLIPTextModel.from_pretrained(f"{folder}/text_encoder", dtype=dtype).requires_grad_(False)
    scheduler = DDPMScheduler.from_config(f"{folder}/scheduler")
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    ema = EMAModel(unet.parameters(), model_cls=UNet2DConditionModel, model_config=unet.config)
    edited = torch.randn(batch, 3, pixels, pixels)
    original = torch.randn(batch, 3, pixels, pixels)
    ids = torch.randint(0, 1000, (batch, text.config.max_position_embeddings))
    null = text(torch.zeros_like(ids[:1]))[0].float()

    def encode(pictures, kind):
        encoded = vae.encode(pictures.to(dtype))
        return encoded.latent if "latent" in encoded else getattr(encoded.latent_dist, kind)()

    def update():
        latents = encode(edited, "sample") * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (batch,))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        context = text(ids)[0]
        condition = encode(original, "mode")
        p = torch.rand(batch)
        context = torch.where((p < 0.1).reshape(batch, 1, 1), null.to(context.dtype), context)
        keep = 1 - ((p >= 0.05) & (p < 0.15)).to(condition.dtype)
        inputs = torch.cat([noisy, keep.reshape(batch, 1, 1, 1) * condition], dim=1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            predicted = unet(inputs, timesteps, context, return_dict=False)[0]
        functional.mse_loss(predicted.float(), noise.float()).backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.step(unet.parameters())

    update()
    times = []
    while len(times) < 3 or (sum(times) < 5 and len(times) < 50):
        begin = time.perf_counter()
        update()
        times.append(time.perf_counter() - begin)
    print(json.dumps({"images_s": batch / statistics.median(times)}))


def measure_ours(arguments, kind, dtype, environment):
    name = (f"train/{kind}/pixels:{arguments.pixels}/batch:{arguments.batch}/dtype:{DTYPES.index(dtype)}"
            f"/checkpointing:{int(arguments.checkpointing)}/winograd:{int(not arguments.direct)}")  # fmt: skip
    command = [str(arguments.bench), f"--benchmark_filter=^{name}(/|$)", "--benchmark_format=json",
               "--benchmark_min_time=5"]  # fmt: skip
    status, text, _, peak = run_measured(command, environment, arguments.timeout)
    if status != 0:
        return {"error": text}
    runs = json.loads(text)["benchmarks"] if text.strip() else []
    if not runs or runs[0].get("error_occurred"):
        return {"error": runs[0]["error_message"] if runs else "the benchmark program does not have this batch"}
    return {"images_s": runs[0]["items_per_second"], "peak": peak}


def measure_diffusers(arguments, dtype, environment):
    job = {"model": str(arguments.model), "pixels": arguments.pixels, "batch": arguments.batch, "dtype": dtype,
           "threads": arguments.threads, "checkpointing": arguments.checkpointing}  # fmt: skip
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", json.dumps(job)]
    status, text, _, peak = run_measured(command, environment, arguments.timeout)
    return {"error": text} if status != 0 else {**json.loads(text.strip().splitlines()[-1]), "peak": peak}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=REPO / "models/small-editor")
    parser.add_argument("--bench", type=Path, default=REPO / "build/release/bench/ip2p_bench")
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--checkpointing", action="store_true", help="recompute blocks in the backward pass (both)")
    parser.add_argument("--direct", action="store_true", help="ours with LibTorch's convolutions only")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=1, help="processes per measurement; the fastest counts")
    parser.add_argument("--timeout", type=float, default=1800, help="maximum seconds per process")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(json.loads(arguments.worker))
        return
    if not arguments.bench.exists():
        raise SystemExit(f"{arguments.bench} is not built: run scripts/build.sh ip2p_bench")

    import diffusers
    import torch

    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "MKL_NUM_THREADS": str(arguments.threads),
                   "IP2P_BENCH_MODEL": str(arguments.model)}  # fmt: skip
    print(f"{datetime.date.today()}, {processor()}, {arguments.threads} threads. diffusers {diffusers.__version__}, PyTorch "
          f"{torch.__version__}. {arguments.model.name}, {arguments.pixels} pixels, batch {arguments.batch}"
          f"{', gradient checkpointing' if arguments.checkpointing else ''}.\n")  # fmt: skip
    print("| dtype | diffusers, images/s | ours, images/s | ratio | ours cached, images/s | ratio | peak GiB: diffusers "
          "| ours | ours cached |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for dtype in arguments.dtypes:
        best = {}
        for _ in range(arguments.repeat):
            for name, run in [
                ("diffusers", lambda: measure_diffusers(arguments, dtype, environment)),
                ("online", lambda: measure_ours(arguments, "online", dtype, environment)),
                ("cached", lambda: measure_ours(arguments, "cached", dtype, environment)),
            ]:
                found = run()
                if "error" in found:
                    print(f"{name} {dtype}: {found['error']}", file=sys.stderr)
                if name not in best or found.get("images_s", 0) > best[name].get("images_s", 0):
                    best[name] = found
        rate = {name: found.get("images_s") for name, found in best.items()}
        peak = [f"{found['peak']:.2f}" if "peak" in found else "" for found in best.values()]

        def number(name):
            return "failed" if rate[name] is None else f"{rate[name]:.3g}"

        def ratio(name):
            return "" if None in (rate[name], rate["diffusers"]) else f"{rate[name] / rate['diffusers']:.2f}"

        print(f"| {dtype} | {number('diffusers')} | {number('online')} | {ratio('online')} | {number('cached')} | "
              f"{ratio('cached')} | {' | '.join(peak)} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
