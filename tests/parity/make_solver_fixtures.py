#!/usr/bin/env python3
"""Makes the golden values of the samplers beyond Euler's from k-diffusion and diffusers.

Usage: $(tests/parity/venv.sh) make_solver_fixtures.py

tests/sampling/fixtures/solvers.json
  k_diffusion   whole runs, step by step, over a denoiser in closed form, in double: only the formulas are compared
  diffusers     the same of its schedulers, whose coefficients are fp32
  preserving    its schedulers over variance-preserving latents, with their own timesteps, over a network in closed form
All states are in the scale x = x0 + sigma * noise; a state that the reference does not expose is null.
"""

from unittest import mock

import diffusers
import torch
from references import SD, TESTS, import_k_diffusion, network, values, write

ks, _ = import_k_diffusion()
SHAPE = (2, 1, 2, 2)
SEED = 12


def denoise(x, sigma):
    """The closed form that the tests repeat."""
    sigma = torch.as_tensor(sigma, dtype=torch.float64)
    return 0.8 * torch.tanh(x / (1 + sigma)) + 0.1 * torch.sin(3 * sigma)


def stream():
    generator = torch.Generator("cpu").manual_seed(SEED)
    return generator, lambda *_, **__: torch.randn(SHAPE, generator=generator).double()


# ----------------------------------------------------------------------------------------------------------- k-diffusion

def k_run(sample, sigmas, **parameters):
    _, draw = stream()
    x = draw() * sigmas[0]
    if "noise_sampler" in sample.__wrapped__.__code__.co_varnames:
        parameters["noise_sampler"] = draw
    states = []
    with mock.patch.object(torch, "randn_like", draw):
        result = sample(lambda y, sigma: denoise(y, sigma.view(-1, 1, 1, 1)), x, sigmas, disable=True,
                        callback=lambda info: states.append(info["x"].clone()), **parameters)
    # With churn, the reference exposes the latents after the added noise, which are not the state of a step.
    hidden = parameters.get("s_churn", 0) > 0
    return [None if hidden else values(state, 13) for state in states[1:]] + [values(result, 13)]


def k_runs():
    torch.set_default_dtype(torch.float64)
    grids = [ks.get_sigmas_karras(3, 0.03, 14.6), ks.get_sigmas_exponential(9, 0.03, 14.6)]
    torch.set_default_dtype(torch.float32)
    churn = {"s_churn": 4.0, "s_tmin": 0.1, "s_tmax": 8.0, "s_noise": 1.007}
    runs = []
    for sampler, sample, choices in (
            ("euler", ks.sample_euler, [churn]),
            ("heun", ks.sample_heun, [{}, churn, {"s_churn": 40.0}]),
            ("dpm2", ks.sample_dpm_2, [{}, churn]),
            ("dpm2-ancestral", ks.sample_dpm_2_ancestral, [{}, {"eta": 0.4, "s_noise": 1.1}]),
            ("lms", ks.sample_lms, [{}, {"order": 3}, {"order": 1}]),
            ("dpm++-2m", ks.sample_dpmpp_2m, [{}]),
            ("dpm++-2s-ancestral", ks.sample_dpmpp_2s_ancestral, [{}, {"eta": 0.4, "s_noise": 1.1}, {"eta": 0.0}]),
            ("dpm++-2m-sde", ks.sample_dpmpp_2m_sde,
             [{}, {"eta": 0.4, "s_noise": 1.1}, {"solver_type": "heun"}, {"eta": 0.0, "solver_type": "heun"}]),
            ("dpm++-3m-sde", ks.sample_dpmpp_3m_sde, [{}, {"eta": 0.4, "s_noise": 1.1}, {"eta": 0.0}])):
        for parameters in choices:
            for sigmas in grids:
                runs.append({"sampler": sampler, "parameters": parameters, "sigmas": values(sigmas, 17),
                             "states": k_run(sample, sigmas, **parameters)})
    return runs


# ------------------------------------------------------------------------------------------------------------- diffusers

def variance_exploding(reference, sigma_now, whole_step):
    """A scheduler that works in our scale; `sigma_now` and `whole_step` read its position."""
    _, draw = stream()
    x = draw() * reference.sigmas[0]
    states = []
    for t in reference.timesteps:
        reference.scale_model_input(x, t)
        sigma = sigma_now(reference).double()
        x = reference.step((x - denoise(x, sigma)) / sigma, t, x).prev_sample
        if whole_step(reference):
            states.append(values(x))
    return states


def variance_preserving(reference):
    generator, draw = stream()
    sigmas = reference.sigmas.double()
    scales = (sigmas**2 + 1).sqrt()
    y = draw() * sigmas[0] / scales[0]
    states = []
    for i, t in enumerate(reference.timesteps):
        x = y * scales[i]
        noise = {"generator": generator} if "sde" in reference.config.get("algorithm_type", "") else {}
        y = reference.step((x - denoise(x, sigmas[i])) / sigmas[i], t, y, **noise).prev_sample
        # UniPC's bh1 multiplies 0 by infinity in the step that reaches 0.
        states.append(values(y * scales[i + 1]) if y.isfinite().all() else None)
    return states


def scheduler_runs():
    runs = []
    karras = {**SD, "use_karras_sigmas": True}

    def add(sampler, reference, states, parameters=None, sigmas=None):
        sigmas = reference.sigmas if sigmas is None else sigmas
        runs.append({"sampler": sampler, "parameters": parameters or {}, "sigmas": values(sigmas.double(), 17),
                     "states": states})

    for n in (3, 8):
        heun = diffusers.HeunDiscreteScheduler(**karras)
        heun.set_timesteps(n)
        add("heun", heun,
            variance_exploding(heun, lambda r: r.sigmas[r.step_index], lambda r: r.state_in_first_order or
                               r.step_index == len(r.timesteps)), sigmas=torch.cat([heun.sigmas[:1], heun.sigmas[1::2]]))
        dpm2 = diffusers.KDPM2DiscreteScheduler(**karras)
        dpm2.set_timesteps(n)
        add("dpm2", dpm2,
            variance_exploding(dpm2, lambda r: (r.sigmas if r.state_in_first_order else r.sigmas_interpol)[r.step_index],
                               lambda r: r.state_in_first_order or r.step_index == len(r.timesteps)),
            sigmas=torch.cat([dpm2.sigmas[:1], dpm2.sigmas[1:-1:2]]))
        lms = diffusers.LMSDiscreteScheduler(**karras)
        lms.set_timesteps(n)
        add("lms", lms, variance_exploding(lms, lambda r: r.sigmas[r.step_index], lambda r: True))

        def multistep(sampler, parameters, **config):
            reference = diffusers.DPMSolverMultistepScheduler(**karras, **config)
            reference.set_timesteps(n)
            add(sampler, reference, variance_preserving(reference), parameters)

        multistep("dpm++-2m", {})
        multistep("dpm++-2m-sde", {"eta": 0.0, "solver_type": "heun"}, solver_type="heun")
        multistep("dpm++-2m-sde", {}, algorithm_type="sde-dpmsolver++")
        multistep("dpm++-2m-sde", {"solver_type": "heun"}, algorithm_type="sde-dpmsolver++", solver_type="heun")
        multistep("dpm++-3m-sde", {"eta": 0.0}, solver_order=3, solver_type="heun", lower_order_final=False)
        for order, solver in ((1, "bh2"), (2, "bh1"), (2, "bh2"), (3, "bh1"), (3, "bh2")):
            reference = diffusers.UniPCMultistepScheduler(**karras, solver_order=order, solver_type=solver)
            reference.set_timesteps(n)
            add("unipc", reference, variance_preserving(reference), {"order": order, "solver": solver})

    # Two evaluations of this scheduler, at levels evenly spaced in their logarithm, are one step of ours.
    single = diffusers.DPMSolverSinglestepScheduler(**SD, use_exponential_sigmas=True, solver_order=2,
                                                     lower_order_final=True)
    single.set_timesteps(9)
    states = variance_preserving(single)
    add("dpm++-2s-ancestral", single, states[1:-1:2] + states[-1:], {"eta": 0.0},
        torch.cat([single.sigmas[:-1:2], single.sigmas[-1:]]))
    return runs


# --------------------------------------------------------------------------------------- with the schedulers' own timesteps

def preserving_runs():
    runs = []
    leading = {**SD, "timestep_spacing": "leading"}
    sd = {**leading, "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False}
    one = {**sd, "set_alpha_to_one": True}
    for sampler, scheduler, config, n, more in (
            ("ddim", diffusers.DDIMScheduler, sd, 8, {}),
            ("ddim", diffusers.DDIMScheduler, sd, 3, {"eta": 1.0}),
            ("ddim", diffusers.DDIMScheduler, one, 8, {"eta": 0.4}),
            ("ddim", diffusers.DDIMScheduler, {**one, "timestep_spacing": "trailing"}, 5, {}),
            ("ddim", diffusers.DDIMScheduler, {**sd, "steps_offset": 0, "prediction_type": "v_prediction"}, 4, {}),
            ("ddpm", diffusers.DDPMScheduler, {**leading, "clip_sample": False}, 8, {}),
            ("ddpm", diffusers.DDPMScheduler, {**leading, "clip_sample": False, "variance_type": "fixed_large"}, 8, {}),
            ("ddpm", diffusers.DDPMScheduler, {**leading, "clip_sample": False, "steps_offset": 1}, 3, {}),
            ("lcm", diffusers.LCMScheduler, {**SD, "clip_sample": False}, 4, {}),
            ("lcm", diffusers.LCMScheduler, {**SD, "clip_sample": False}, 1, {}),
            ("lcm", diffusers.LCMScheduler, {**SD, "clip_sample": False, "prediction_type": "v_prediction"}, 8, {})):
        reference = scheduler(**config)
        reference.set_timesteps(n)
        generator = torch.Generator("cpu").manual_seed(SEED)
        y = torch.randn(SHAPE, generator=generator) * reference.init_noise_sigma
        states = []
        for i, t in enumerate(reference.timesteps):
            y = reference.step(network(y, t), t, y, generator=generator, **more).prev_sample
            last = i + 1 == n
            scale = 1.0 if last else reference.alphas_cumprod[reference.timesteps[i + 1]].double() ** -0.5
            states.append(values(y.double() * scale))
        runs.append({"sampler": sampler, "config": config, "n": n, "seed": SEED, **more, "states": states})
    return runs


write(TESTS / "sampling/fixtures/solvers.json",
      {"shape": list(SHAPE), "seed": SEED, "k_diffusion": k_runs(), "diffusers": scheduler_runs(),
       "preserving": preserving_runs()})
