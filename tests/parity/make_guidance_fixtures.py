#!/usr/bin/env python3
"""Makes the golden values of guidance from diffusers and, for CFG++, from its paper.

Usage: make_guidance_fixtures.py     (needs requirements.txt)

tests/guidance/fixtures/rescale.json         diffusers' rescale_noise_cfg over classifier-free guidance
tests/guidance/fixtures/projected.json       Euler runs, step by step, under diffusers' AdaptiveProjectedGuidance, which is
                                             given estimates of x0 as the paper has it
tests/guidance/fixtures/cfg_plus_plus.json   runs of CFG++ in the paper's variance-preserving form (algorithm 2 over DDIM)

The network is a closed form whose branches differ by a `shift`; states are in the scale x = x0 + sigma * noise.
"""

import diffusers
import torch
from diffusers.guiders.adaptive_projected_guidance import AdaptiveProjectedGuidance, MomentumBuffer
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from references import SD, TESTS, network, values, write

SHAPE = [2, 4, 5, 3]
SHIFTS = {"full": 0.3, "image": 0.2, "null": 0.1}
LEADING = {**SD, "timestep_spacing": "leading", "steps_offset": 1}


def predict(x, t, branch):
    """What the branch predicts for latents of unit variance."""
    shift = SHIFTS[branch]
    return network(x * (1 + shift), t, shift)


def start_noise(seed):
    return torch.randn(SHAPE, generator=torch.Generator("cpu").manual_seed(seed))


def rescaled():
    generator = torch.Generator("cpu").manual_seed(20)
    text = torch.randn(SHAPE, generator=generator) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1) + 0.5
    null = torch.randn(SHAPE, generator=generator) * 0.7
    results = []
    for scale, phi in ((7.5, 0.7), (7.5, 1.0), (7.5, 0.0), (3.0, 0.35), (1.0, 0.7)):
        combined = null + scale * (text - null)
        results.append({"scale": scale, "phi": phi,
                        "result": values(rescale_noise_cfg(combined, text, guidance_rescale=phi))})
    write(TESTS / "guidance/fixtures/rescale.json",
          {"shape": SHAPE, "text": values(text), "null": values(null), "results": results})


# -------------------------------------------------------------------------------------------- adaptive projected guidance

def guider(scale, parallel, momentum, threshold):
    """In the paper's formulation, the update is scaled by w - 1 and added to the conditional prediction."""
    result = AdaptiveProjectedGuidance(guidance_scale=scale - 1, adaptive_projected_guidance_momentum=momentum,
                                       adaptive_projected_guidance_rescale=threshold, eta=parallel,
                                       use_original_formulation=True)
    result.momentum_buffer = MomentumBuffer(momentum)
    return result


def projected_run(branches, scales, n, seed, **parameters):
    """`scales[k]` belongs to the difference of branches k and k + 1."""
    reference = diffusers.EulerDiscreteScheduler(**LEADING)
    reference.set_timesteps(n)
    sigmas = reference.sigmas.double()
    x = start_noise(seed).double() * (sigmas[0] ** 2 + 1).sqrt()
    guiders = [guider(scale, **parameters) for scale in scales]
    states, lengths = [], []
    for i, t in enumerate(reference.timesteps):
        sigma = sigmas[i]
        scaled = x / (sigma**2 + 1).sqrt()
        estimates = [x - sigma * predict(scaled, t, branch) for branch in branches]
        x0 = estimates[0]
        for k, guide in enumerate(guiders):
            x0 = x0 + guide.forward(estimates[k], estimates[k + 1]).pred - estimates[k]
            if scales[k] != 1:
                lengths.append(guide.momentum_buffer.running_average.flatten(1).norm(dim=1))
        x = x + (x - x0) / sigma * (sigmas[i + 1] - sigma)
        states.append(values(x, 12))
    threshold, lengths = parameters["threshold"], torch.cat(lengths)
    assert threshold == 0 or ((lengths > threshold).any() and (lengths < threshold).any()), lengths
    return {"scales": scales, "n": n, "seed": seed, **parameters, "states": states}


def projected():
    text = [projected_run(["full", "image"], [scale], n, 31, parallel=parallel, momentum=momentum, threshold=threshold)
            for scale, n, parallel, momentum, threshold in ((10.0, 8, 0.0, -0.5, 0.2), (7.5, 8, 0.3, -0.75, 0.0),
                                                            (3.0, 3, 1.0, 0.0, 0.2), (15.0, 5, -0.5, 0.25, 0.5))]
    dual = [projected_run(["full", "image", "null"], list(scales), 8, 32, parallel=parallel, momentum=momentum,
                          threshold=threshold)
            for scales, parallel, momentum, threshold in (((7.5, 1.5), 0.0, -0.5, 0.3), ((10.0, 1.0), 0.2, -0.5, 0.3),
                                                          ((1.0, 2.0), 0.0, -0.75, 0.3))]
    write(TESTS / "guidance/fixtures/projected.json",
          {"shape": SHAPE, "config": LEADING, "text": text, "dual": dual})


# ------------------------------------------------------------------------------------------------------------------ CFG++

def plus_plus_run(scale, n, seed, config):
    reference = diffusers.DDIMScheduler(**config)
    reference.set_timesteps(n)
    alphas = reference.alphas_cumprod.double()
    z = start_noise(seed).double()
    states = []
    for i, t in enumerate(reference.timesteps):
        last = i + 1 == n
        alpha = alphas[t]
        before = reference.final_alpha_cumprod.double() if last else alphas[reference.timesteps[i + 1]]
        text, null = predict(z, t, "full"), predict(z, t, "image")
        guided = null + scale * (text - null)
        x0 = (z - (1 - alpha).sqrt() * guided) / alpha.sqrt()
        z = before.sqrt() * x0 + (1 - before).sqrt() * null
        states.append(values(z if last else z / before.sqrt(), 12))
    return {"scale": scale, "n": n, "seed": seed, "config": config, "states": states}


def plus_plus():
    sd = {**LEADING, "clip_sample": False, "set_alpha_to_one": False}
    trailing = {**sd, "timestep_spacing": "trailing", "set_alpha_to_one": True}
    write(TESTS / "guidance/fixtures/cfg_plus_plus.json",
          {"shape": SHAPE, "runs": [plus_plus_run(0.6, 8, 33, sd), plus_plus_run(1.0, 8, 34, trailing),
                                    plus_plus_run(0.2, 3, 35, trailing), plus_plus_run(0.0, 5, 36, sd)]})


rescaled()
projected()
plus_plus()
