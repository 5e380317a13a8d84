#!/usr/bin/env python3
"""Makes the golden values of noise, schedules, samplers and guidance from torch, k-diffusion and diffusers.

Usage: $(tests/parity/venv.sh) make_sampling_fixtures.py

tests/core/fixtures/noise.json          torch.randn streams, diffusers' randn_tensor with a list of generators, and
                                        Philox4x32-10 with Box and Muller's transform, written here from the paper
tests/schedule/fixtures/schedules.json  k-diffusion's and diffusers' noise levels, timesteps and the maps between them
tests/sampling/fixtures/runs.json       whole runs, step by step, over a network in closed form
"""

import math

import numpy as np
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler
from diffusers.schedulers.scheduling_utils import AysSchedules
from diffusers.utils.torch_utils import randn_tensor
from references import SD, TESTS, import_k_diffusion, network, released_alphas, values, write

ks, ke = import_k_diffusion()


# ---------------------------------------------------------------------------------------------------------------- noise

def philox4x32(counter, key):
    counter, key = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(b >> 32) ^ counter[1] ^ key[0], b & 0xFFFFFFFF, (a >> 32) ^ counter[3] ^ key[1], a & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


# Known answers of the authors' Random123 distribution.
assert philox4x32([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
assert philox4x32([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
assert philox4x32([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]) == \
    [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def counter_noise(seed, draw, sample, count):
    out = []
    for block in range((count + 1) // 2):
        words = philox4x32([block & 0xFFFFFFFF, block >> 32, sample, draw], [seed & 0xFFFFFFFF, seed >> 32])
        u = (((words[0] << 32) | words[1]) >> 11) + 1
        v = ((words[2] << 32) | words[3]) >> 11
        radius, angle = math.sqrt(-2 * math.log(u * 2.0**-53)), 2 * math.pi * (v * 2.0**-53)
        out += [radius * math.cos(angle), radius * math.sin(angle)]
    return values(np.float32(out[:count]))


def noise_fixture():
    streams = []
    for seed in (0, 7, 42, 2**32 + 5, 2**63 + 1, 2**64 - 1):
        generator = torch.Generator("cpu").manual_seed(seed if seed < 2**63 else seed - 2**64)
        shapes = [[1], [5], [15], [16], [17], [2, 3], [1, 4, 8, 8], [3, 7], [1, 1, 3, 5], [2, 4, 4, 4]]
        draws = [{"shape": shape, "values": values(torch.randn(shape, generator=generator))} for shape in shapes]
        streams.append({"seed": str(seed), "draws": draws})
    lists = []
    for shape in ([3, 4, 4, 4], [2, 4, 2, 1]):
        seeds = [11, 12, 13][: shape[0]]
        generators = [torch.Generator("cpu").manual_seed(s) for s in seeds]
        draws = [values(randn_tensor(tuple(shape), generator=generators, dtype=torch.float32)) for _ in range(2)]
        lists.append({"seeds": seeds, "shape": shape, "draws": draws})
    counters = [
        {"seed": str(seed), "draw": draw, "sample": sample, "values": counter_noise(seed, draw, sample, count)}
        for seed, draw, sample, count in ((0, 0, 0, 9), (42, 0, 0, 16), (42, 1, 0, 16), (42, 0, 3, 16),
                                          (2**64 - 1, 100, 70000, 5), (2**40 + 17, 4000000000, 1, 4))
    ]
    write(TESTS / "core/fixtures/noise.json", {"torch": streams, "randn_tensor": lists, "counter": counters})


# ------------------------------------------------------------------------------------------------------------- schedules

STEPS = (1, 2, 3, 7, 20, 50, 100)


def schedule_fixture():
    discrete = ke.DiscreteEpsDDPMDenoiser(None, released_alphas(), quantize=False)
    log_linear = [{"n": n, "sigmas": values(discrete.get_sigmas(n))} for n in (*STEPS, 1000)]
    # In double, because the power rho multiplies the rounding of fp32 by rho, to 1.2e-6 here.
    torch.set_default_dtype(torch.float64)
    ends = discrete.sigma_min.double(), discrete.sigma_max.double()
    karras = [{"n": n, "rho": rho, "sigmas": values(ks.get_sigmas_karras(n, *ends, rho))}
              for n in STEPS for rho in (7.0, 3.0)]
    between = [{"n": n, "min": low, "max": high, "rho": rho, "name": name, "sigmas": values(levels(low, high, rho, n))}
               for n in (1, 2, 12) for low, high, rho in ((0.05, 11.0, 7.0), (ends[0].item(), ends[1].item(), 2.0))
               for name, levels in (("karras", lambda low, high, rho, n: ks.get_sigmas_karras(n, low, high, rho)),
                                    ("exponential", lambda low, high, rho, n: ks.get_sigmas_exponential(n, low, high)),
                                    ("polyexponential",
                                     lambda low, high, rho, n: ks.get_sigmas_polyexponential(n, low, high, rho)))]
    torch.set_default_dtype(torch.float32)
    table = [*AysSchedules["StableDiffusionSigmas"][:-1], 0.029]  # the authors' last level, where diffusers has 0
    tables = [{"n": 10, "sigmas": AysSchedules["StableDiffusionSigmas"]}]
    for n in (1, 2, 7, 15, 40):
        places = np.interp(np.linspace(0, 1, n + 1), np.linspace(0, 1, len(table)), np.log(table))
        tables.append({"n": n, "sigmas": [*values(torch.tensor(np.exp(places))[:-1]), 0.0]})
    probes = torch.tensor([0.01, 0.0291675, 0.03, 0.1, 0.5, 1.0, 2.5, 7.0, 14.0, 14.6146, 20.0])
    times = torch.tensor([0.0, 0.25, 1.0, 10.5, 500.0, 777.77, 998.5, 999.0])
    maps = {"sigmas": values(probes), "t": values(discrete.sigma_to_t(probes)),
            "times": values(times), "sigma": values(discrete.t_to_sigma(times))}

    diffusers = []
    for scheduler, name in ((EulerAncestralDiscreteScheduler, "ancestral"), (EulerDiscreteScheduler, "euler")):
        for more in ({}, {"timestep_spacing": "leading", "steps_offset": 1}, {"timestep_spacing": "leading"},
                     {"timestep_spacing": "trailing"}, {"beta_schedule": "linear"},
                     {"beta_schedule": "squaredcos_cap_v2"}, {"rescale_betas_zero_snr": True},
                     {"trained_betas": np.linspace(0.001, 0.02, 60).tolist(), "num_train_timesteps": 60},
                     {"num_train_timesteps": 400, "timestep_spacing": "trailing"}):
            config = {**SD, **more}
            if name == "euler" and "beta_schedule" in more:
                continue  # the two classes do not differ for these configurations
            for n in (1, 2, 3, 7, 20, 50) if not more or name == "ancestral" else (20,):
                reference = scheduler(**config)
                reference.set_timesteps(n)
                diffusers.append({"config": config, "n": n, "sigmas": values(reference.sigmas),
                                  "timesteps": values(reference.timesteps),
                                  "initial": float(reference.init_noise_sigma)})
    for more in ({"timestep_spacing": "leading"}, {"timestep_spacing": "trailing"}):
        config = {**SD, **more, "rescale_betas_zero_snr": True}
        reference = EulerDiscreteScheduler(**config)
        reference.set_timesteps(20)
        diffusers.append({"config": config, "n": 20, "sigmas": values(reference.sigmas),
                          "timesteps": values(reference.timesteps), "initial": float(reference.init_noise_sigma)})

    # Schedulers over variance-preserving latents: their levels are those of the timesteps they visit.
    preserving = []
    for scheduler, name, more, counts in (
            (DDIMScheduler, "ddim", {"timestep_spacing": "leading", "steps_offset": 1}, (1, 2, 7, 50)),
            (DDIMScheduler, "ddim", {"timestep_spacing": "leading"}, (20,)),
            (DDIMScheduler, "ddim", {"timestep_spacing": "trailing"}, (1, 7, 50)),
            (DDIMScheduler, "ddim", {"timestep_spacing": "linspace"}, (2, 10, 28)),  # 999 / (n - 1) is whole
            (DDIMScheduler, "ddim", {"timestep_spacing": "leading", "rescale_betas_zero_snr": True}, (20,)),
            (DDIMScheduler, "ddim", {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}, (20,)),
            (LCMScheduler, "lcm", {}, (1, 2, 3, 4, 6, 7, 8, 50)),
            (LCMScheduler, "lcm", {"original_inference_steps": 30}, (4,))):
        config = {**SD, **more}
        for n in counts:
            reference = scheduler(**config)
            reference.set_timesteps(n)
            alphas = reference.alphas_cumprod.double()[reference.timesteps]
            levels = ((1 - alphas) / alphas).sqrt()
            # With zero terminal SNR the first level is infinite: null, here and for the start.
            sigmas = [None if math.isinf(level) else level for level in (*values(levels), 0.0)]
            preserving.append({"scheduler": name, "config": config, "n": n, "sigmas": sigmas,
                               "timesteps": values(reference.timesteps),
                               "initial": sigmas[0] and (reference.init_noise_sigma / alphas[0].sqrt()).item()})
    write(TESTS / "schedule/fixtures/schedules.json",
          {"log_linear": log_linear, "karras": karras, "between": between, "tables": tables, "maps": maps,
           "diffusers": diffusers, "preserving": preserving})


# ------------------------------------------------------------------------------------------------------------------ runs

SHAPE = (2, 4, 3, 2)


def k_network(x, t, shift=0.0):
    return network(x, t.view(-1, 1, 1, 1), shift)


def k_run(sample, model, sigmas, seed, **parameters):
    torch.manual_seed(seed)
    x = torch.randn(SHAPE) * sigmas[0]
    states = []
    result = sample(model, x, sigmas, callback=lambda info: states.append(info["x"].clone()), disable=True, **parameters)
    return [values(state) for state in [*states[1:], result]]


class DualGuidance(torch.nn.Module):
    """Equation (3) over the denoised estimates, inside the wrapper, as the released edit_cli does."""

    def __init__(self, model, text_scale, image_scale):
        super().__init__()
        self.model, self.text_scale, self.image_scale = model, text_scale, image_scale

    def forward(self, x, sigma):
        full, image, null = (self.model(x, sigma, shift=shift) for shift in (0.3, 0.2, 0.1))
        return null + self.text_scale * (full - image) + self.image_scale * (image - null)


def run_fixture():
    eps = ke.DiscreteEpsDDPMDenoiser(k_network, released_alphas(), quantize=False)
    v = ke.DiscreteVDDPMDenoiser(k_network, released_alphas(), quantize=False)
    runs = []

    def add(name, prediction, sigmas, seed, states, **more):
        runs.append({"reference": name, "prediction": prediction, "seed": seed, "sigmas": values(sigmas),
                     "states": states, **more})

    for prediction, model in (("epsilon", eps), ("v_prediction", v)):
        for n in (1, 2, 12):
            sigmas = eps.get_sigmas(n)
            add("k_diffusion", prediction, sigmas, 3, k_run(ks.sample_euler, model, sigmas, 3), sampler="euler")
            add("k_diffusion", prediction, sigmas, 4, k_run(ks.sample_euler_ancestral, model, sigmas, 4),
                sampler="euler-ancestral", eta=1.0, s_noise=1.0)
    karras = ks.get_sigmas_karras(9, eps.sigma_min, eps.sigma_max)
    for eta, s_noise in ((0.5, 1.0), (1.0, 1.1), (0.0, 1.0), (1.7, 0.9)):
        add("k_diffusion", "epsilon", karras, 5,
            k_run(ks.sample_euler_ancestral, eps, karras, 5, eta=eta, s_noise=s_noise),
            sampler="euler-ancestral", eta=eta, s_noise=s_noise)

    guided = []
    for text_scale, image_scale in ((7.5, 1.5), (7.5, 1.0), (1.2, 1.2), (0.0, 1.3), (1.0, 1.0)):
        sigmas = eps.get_sigmas(8)
        guided.append({"text_scale": text_scale, "image_scale": image_scale, "seed": 6, "sigmas": values(sigmas),
                       "states": k_run(ks.sample_euler_ancestral, DualGuidance(eps, text_scale, image_scale), sigmas, 6)})

    diffusers = []
    for scheduler, sampler in ((EulerAncestralDiscreteScheduler, "euler-ancestral"), (EulerDiscreteScheduler, "euler")):
        for more in ({}, {"prediction_type": "v_prediction"}, {"timestep_spacing": "leading", "steps_offset": 1},
                     {"timestep_spacing": "trailing"}):
            config = {**SD, **more}
            reference = scheduler(**config)
            reference.set_timesteps(10)
            generator = torch.Generator("cpu").manual_seed(8)
            x = torch.randn(SHAPE, generator=generator) * reference.init_noise_sigma
            states = []
            for t in reference.timesteps:
                output = network(reference.scale_model_input(x, t), t)
                x = reference.step(output, t, x, generator=generator).prev_sample
                states.append(values(x))
            diffusers.append({"config": config, "sampler": sampler, "seed": 8, "n": 10, "states": states})
    write(TESTS / "sampling/fixtures/runs.json",
          {"shape": list(SHAPE), "runs": runs, "guided": guided, "diffusers": diffusers})


noise_fixture()
schedule_fixture()
run_fixture()
