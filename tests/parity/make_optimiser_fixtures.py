#!/usr/bin/env python3
"""Writes tests/train/fixtures/{adafactor,madgrad,loss_scaler,learning_rates}.json: torch.optim.Adafactor, the package
madgrad, torch.amp.GradScaler and the schedules of diffusers.optimization.

    make_optimiser_fixtures.py [FOLDER]
"""
import json
import pathlib
import sys

import torch
from diffusers import optimization
from madgrad import MADGRAD


def numbers(tensor):
    return [float(f"{x:.9g}") for x in tensor.detach().flatten().tolist()]


def update(optimiser, rate, parameters, draw):
    """One update at this rate with the gradients that `draw(name, value)` returns, None for a parameter without one."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    for name, value in parameters.items():
        value.grad = draw(name, value)
    gradients = {name: numbers(value.grad) for name, value in parameters.items() if value.grad is not None}
    optimiser.step()
    return {"rate": rate, "gradients": gradients, "weights": {name: numbers(value) for name, value in parameters.items()}}


def adafactor():
    """A linear layer, a bias, a convolution, a number, and a matrix that has no gradient in the third update. Gradients
    grow, so that updates are clipped, and those of the second convolution filter are too small for the least moment."""
    cases = {
        "defaults": dict(),
        "all_options": dict(beta2_decay=-0.5, eps=(1e-4, 1e-2), d=1.5, weight_decay=0.1),
    }
    shapes = {"matrix": [5, 7], "bias": [6], "conv": [4, 3, 3, 3], "number": [], "sometimes": [2, 3]}
    found = {}
    for case, options in cases.items():
        generator = torch.Generator().manual_seed(20)
        parameters = {name: torch.randn(shape, generator=generator).mul_(0.3).requires_grad_() for name, shape in shapes.items()}
        start = {name: numbers(value) for name, value in parameters.items()}
        optimiser = torch.optim.Adafactor(parameters.values(), lr=0.01, **options)
        updates = []
        for step in range(5):

            def draw(name, value):
                gradient = torch.randn(value.shape, generator=generator) * 0.1 * 3.0**step
                if name == "conv":
                    gradient[1] *= 1e-9
                return None if name == "sometimes" and step == 2 else gradient

            updates.append(update(optimiser, 0.02 * (step + 1), parameters, draw))
        state = {name: {key: numbers(tensor) for key, tensor in optimiser.state[value].items()}
                 for name, value in parameters.items()}
        found[case] = {"start": start, "updates": updates, "state": state}
    return {"shapes": shapes, "cases": found}


def madgrad():
    """With Text2LIVE's constants and falling rates; without momentum; with large constants and a rate of 0."""
    cases = {
        "text2live": (dict(momentum=0.9, weight_decay=0.01), [2.5e-3 * 0.99**step for step in range(6)]),
        "no_momentum": (dict(momentum=0.0), [0.01] * 4),
        "large_constants": (dict(momentum=0.5, weight_decay=0.3, eps=1e-2), [0.02, 0.0, 0.05]),
    }
    shapes = {"matrix": [5, 7], "bias": [6], "conv": [4, 3, 3, 3], "number": []}
    found = {}
    for case, (options, rates) in cases.items():
        generator = torch.Generator().manual_seed(30)
        parameters = {name: torch.randn(shape, generator=generator).mul_(0.3).requires_grad_() for name, shape in shapes.items()}
        start = {name: numbers(value) for name, value in parameters.items()}
        optimiser = MADGRAD(parameters.values(), **options)

        def draw(name, value):
            return torch.randn(value.shape, generator=generator) * 0.1

        updates = [update(optimiser, rate, parameters, draw) for rate in rates]
        state = {name: {key: numbers(tensor) for key, tensor in optimiser.state[value].items()}
                 for name, value in parameters.items()}
        for name, kept in state.items():
            kept["k"] = numbers(optimiser.state["k"])
            kept.setdefault("x0", start[name])  # the package keeps it only with momentum
        found[case] = {"start": start, "updates": updates, "state": state}
    return {"shapes": shapes, "cases": found}


def loss_scaler():
    """Scale, good updates and weight along a run whose gradient overflows now and then, and PyTorch's defaults."""
    defaults = torch.amp.GradScaler("cpu")
    defaults.scale(torch.ones(()))  # made at first use
    state = defaults.state_dict()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=3)
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    optimiser = torch.optim.AdamW([weight], lr=0.125)
    # The size of the gradient: 1e36 times any of these scales is beyond fp32.
    factors = [1e36, 1e36, 1.0, 2.0, -1.0, 0.5, 1e36, 3.0, 1e36, 1.0, 1.0, 1.0, -2.0, 1.0, 1.0, 4.0]
    updates = []
    for factor in factors:
        optimiser.zero_grad()
        used = scaler.get_scale()
        scaler.scale((weight * torch.tensor([1.0, 0.5])).sum() * factor).backward()
        before = weight.detach().clone()
        scaler.step(optimiser)
        scaler.update()
        after = scaler.state_dict()
        updates.append({"factor": factor, "scale": used, "skipped": bool(torch.equal(before, weight.detach())),
                        "next_scale": after["scale"], "good_updates": after["_growth_tracker"],
                        "weight": numbers(weight)})
    return {"defaults": {key: state[key] for key in ("scale", "growth_factor", "backoff_factor", "growth_interval")},
            "growth_interval": 3, "rate": 0.125, "updates": updates}


def learning_rates():
    peak = 3e-4

    def values(make, count):
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
        schedule = make(optimiser)
        found = []
        for _ in range(count):
            found.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        return found

    warmup, steps, count = 5, 30, 36
    return {
        "peak": peak, "warmup": warmup, "steps": steps,
        "constant": values(lambda o: optimization.get_constant_schedule(o), count),
        "constant-with-warmup": values(lambda o: optimization.get_constant_schedule_with_warmup(o, warmup), count),
        "linear": values(lambda o: optimization.get_linear_schedule_with_warmup(o, warmup, steps), count),
        "linear without warmup": values(lambda o: optimization.get_linear_schedule_with_warmup(o, 0, steps), count),
        "cosine": values(lambda o: optimization.get_cosine_schedule_with_warmup(o, warmup, steps), count),
        "cosine of 1.5 cycles": values(
            lambda o: optimization.get_cosine_schedule_with_warmup(o, warmup, steps, 1.5), count),
        "cosine-with-restarts": values(
            lambda o: optimization.get_cosine_with_hard_restarts_schedule_with_warmup(o, warmup, steps), count),
        "three restarts": values(
            lambda o: optimization.get_cosine_with_hard_restarts_schedule_with_warmup(o, warmup, steps, 3), count),
        "polynomial": values(
            lambda o: optimization.get_polynomial_decay_schedule_with_warmup(o, warmup, steps), count),
        "cubic": values(
            lambda o: optimization.get_polynomial_decay_schedule_with_warmup(o, warmup, steps, 1e-5, 3.0), count),
    }


def main():
    tests = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else tests / "train" / "fixtures"
    folder.mkdir(parents=True, exist_ok=True)
    for make in (adafactor, madgrad, loss_scaler, learning_rates):
        (folder / f"{make.__name__}.json").write_text(json.dumps(make(), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
