#!/usr/bin/env python3
"""Loads into diffusers what the program export_models wrote, and compares the models' outputs for fixed inputs.

    $(tests/parity/venv.sh) tests/parity/export_in_diffusers.py PROGRAM TOKENIZER

The folder is opened as a pipeline, the single file as a pipeline too, with the folder's configuration. Both UNets, codecs
and text encoders must agree with ours within 1e-4 of the deviation of the output.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline as Pipeline
from safetensors.torch import load_file

LIMIT = 1e-4
torch.set_num_threads(1)


def outputs(pipe, given):
    return {
        "unet": pipe.unet(given["x"], given["timestep"], encoder_hidden_states=given["context"]).sample,
        "vae": pipe.vae.decode(given["latents"]).sample,
        "text": pipe.text_encoder(given["ids"]).last_hidden_state,
    }


def main(program, tokenizer):
    with tempfile.TemporaryDirectory() as out, torch.no_grad():
        subprocess.run([program, tokenizer, out], check=True)
        given = load_file(Path(out) / "expected.safetensors")
        folder = str(Path(out) / "folder")
        pipes = {
            "folder": Pipeline.from_pretrained(folder, local_files_only=True),
            "single file": Pipeline.from_single_file(str(Path(out) / "single.safetensors"), config=folder,
                                                     local_files_only=True),
        }
        worst = 0.0
        for source, pipe in pipes.items():
            for name, found in outputs(pipe, given).items():
                expected = given[name]
                apart = ((found.float() - expected).abs().max() / expected.std()).item()
                worst = max(worst, apart)
                print(f"{source}: {name} {tuple(found.shape)}: apart by {apart:.1e} of the deviation")
        schedulers = {source: type(pipe.scheduler).__name__ for source, pipe in pipes.items()}
        print(schedulers)
        return 0 if worst <= LIMIT and schedulers["folder"] == "EulerAncestralDiscreteScheduler" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
