#!/usr/bin/env python3
"""Makes the golden values of rescaled guidance from diffusers.

Usage: make_guidance_fixtures.py     (needs requirements.txt)

tests/guidance/fixtures/rescale.json   diffusers' rescale_noise_cfg over classifier-free guidance
"""

import json
from pathlib import Path

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

SHAPE = [2, 4, 5, 3]


def values(tensor):
    """fp32 values with nine digits, which give the same bits back."""
    return [float(f"{v:.9g}") for v in tensor.flatten().tolist()]


def main():
    generator = torch.Generator("cpu").manual_seed(20)
    text = torch.randn(SHAPE, generator=generator) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1) + 0.5
    null = torch.randn(SHAPE, generator=generator) * 0.7
    results = []
    for scale, phi in ((7.5, 0.7), (7.5, 1.0), (7.5, 0.0), (3.0, 0.35), (1.0, 0.7)):
        combined = null + scale * (text - null)
        results.append({"scale": scale, "phi": phi,
                        "result": values(rescale_noise_cfg(combined, text, guidance_rescale=phi))})
    path = Path(__file__).parent.parent / "guidance/fixtures/rescale.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"shape": SHAPE, "text": values(text), "null": values(null), "results": results}
    path.write_text(json.dumps(content, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    print(path, path.stat().st_size)


main()
