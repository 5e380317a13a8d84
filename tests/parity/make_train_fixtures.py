#!/usr/bin/env python3
"""Prints the golden values of tests/train/optimiser_test.cpp (torch.optim.AdamW, torch.nn.utils.clip_grad_norm_) and
loss_weight_test.cpp (diffusers' compute_snr)."""
import torch


def loss_weights() -> None:
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    timesteps = torch.tensor([0, 100, 400, 700, 999])
    snr = compute_snr(scheduler, timesteps)
    smaller = torch.stack([snr, 5.0 * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
    for t, epsilon, velocity in zip(timesteps.tolist(), (smaller / snr).tolist(), (smaller / (snr + 1)).tolist()):
        print(f"    {{{t}, {epsilon:.9g}, {velocity:.9g}}},")


def main() -> None:
    weights = torch.tensor([[0.5, -1.0, 2.0], [0.25, 0.0, -3.0]], requires_grad=True)
    bias = torch.tensor([1.0, -1.0], requires_grad=True)
    optimiser = torch.optim.AdamW([weights, bias], lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    for step in range(3):
        rate = 0.01 * (step + 1)
        for group in optimiser.param_groups:
            group["lr"] = rate
        weights.grad = torch.tensor([[0.1, -0.2, 0.3], [1.0, 0.5, -0.25]]) * (step + 1)
        bias.grad = torch.tensor([2.0, -0.01]) / (step + 1)
        optimiser.step()
    print("weights", [f"{x:.9g}" for x in weights.detach().flatten().tolist()])
    print("bias", [f"{x:.9g}" for x in bias.detach().tolist()])

    weights.grad = torch.tensor([[0.1, -0.2, 0.3], [1.0, 0.5, -0.25]])
    bias.grad = torch.tensor([2.0, -0.01])
    norm = torch.nn.utils.clip_grad_norm_([weights, bias], 1.0)
    print("norm", f"{norm.item():.9g}")
    print("clipped", [f"{x:.9g}" for x in torch.cat([weights.grad.flatten(), bias.grad]).tolist()])
    loss_weights()


if __name__ == "__main__":
    main()
