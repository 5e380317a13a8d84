#!/usr/bin/env python3
"""Makes the golden values of the metrics with scikit-image, scipy, torchmetrics and lpips.

    $(tests/parity/venv.sh) tests/parity/make_metric_fixtures.py

    tests/evaluate/fixtures/metrics.safetensors   pictures, a mask, features
    tests/evaluate/fixtures/metrics.json          what the references make of them

The networks of lpips have weights that the tests compute too (`hashed`), so that none need be stored.
"""

import json

import lpips
import numpy as np
import scipy.linalg
import scipy.stats
import torch
from make_clip_fixtures import picture
from make_model_fixtures import ROOT, folder, generator, save
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

FIXTURES = ROOT / "evaluate/fixtures"


def hashed(shape, number, bound):
    """Numbers in [-bound, bound): element i of tensor `number` is a hash of both, in 32-bit arithmetic."""
    i = np.arange(int(np.prod(shape)), dtype=np.uint32)
    with np.errstate(over="ignore"):
        x = i * np.uint32(2654435761) + np.uint32(number) * np.uint32(40503)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(2246822519)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(3266489917)
        x ^= x >> np.uint32(16)
    values = (x.astype(np.float64) / 2.0**31 - 1.0) * bound
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def lpips_value(net, a, b):
    model = lpips.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)
    number = 0
    for name, p in sorted(model.named_parameters()):
        if name.startswith("lins."):
            continue  # the same tensors as lin0, lin1, ...
        fan_in = p[0].numel() if p.dim() > 1 else 1
        if name.startswith("lin"):
            p.data.copy_(hashed(p.shape, number, 1.0).abs() / p.shape[1])
        elif p.dim() > 1:
            p.data.copy_(hashed(p.shape, number, (6.0 / fan_in) ** 0.5))
        else:
            p.data.copy_(hashed(p.shape, number, 0.1))
        number += 1
    with torch.no_grad():
        values = model(a, b).flatten().tolist()
    print(net, number, values)
    return {"values": values, "names": sorted(k for k in model.state_dict() if not k.startswith("lins."))}


def main():
    folder("evaluate", "fixtures")
    first, other = picture(47, 40, 11), picture(47, 40, 12)
    second = (first.int() * 3 + other.int()).div(4, rounding_mode="floor").to(torch.uint8)
    mask = torch.zeros(3, 40, 47, dtype=torch.uint8)
    mask[:, 8:25, 20:47] = 255
    a, b = (x.permute(1, 2, 0).numpy() for x in (first, second))
    settings = dict(
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1, full=True
    )
    mean, full = structural_similarity(a, b, **settings)
    outside = mask[0].numpy() == 0
    inner = np.zeros_like(outside)
    inner[5:-5, 5:-5] = True
    difference = (a.astype(np.float64) - b.astype(np.float64))[outside]
    values = {
        "ssim": mean,
        "psnr": peak_signal_noise_ratio(a, b, data_range=255),
        "outside": {
            "difference": np.abs(difference).mean(),
            "psnr": 10 * np.log10(255.0**2 / np.square(difference).mean()),
            "ssim": full.mean(-1)[outside & inner].mean(),
        },
    }

    g = generator(21)
    mixing = torch.randn(6, 6, generator=g, dtype=torch.float64)
    real = torch.randn(40, 6, generator=g, dtype=torch.float64) @ mixing + 0.3
    fake = torch.randn(30, 6, generator=g, dtype=torch.float64) @ (mixing * 0.8 + 0.2) - 0.1
    m1, m2 = real.numpy().mean(0), fake.numpy().mean(0)
    s1, s2 = np.cov(real.numpy(), rowvar=False), np.cov(fake.numpy(), rowvar=False)
    values["fid"] = {
        "scipy": float(np.square(m1 - m2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)),
        "torchmetrics": _compute_fid(*(torch.from_numpy(x) for x in (m1, s1, m2, s2))).item(),
    }
    # torchmetrics needs two sets of the same size; for different sizes, the estimate is written out.
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    r, f = real.numpy(), fake.numpy()
    within = [(kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1)) for x in (r, f)]
    values["kid"] = {"equal": poly_mmd(real[:30], fake).item(), "unequal": sum(within) - 2 * kernel(r, f).mean()}

    scores = torch.rand(60, generator=g, dtype=torch.float64).pow(2)
    interval = scipy.stats.bootstrap(
        (scores.numpy(),), np.mean, confidence_level=0.9, n_resamples=40000, method="percentile",
        random_state=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    values["bootstrap"] = {"mean": scores.mean().item(), "low": interval.low, "high": interval.high,
                           "quantile": float(np.quantile(np.sort(scores.numpy()), 0.37))}  # fmt: skip

    x = torch.stack([picture(41, 37, 31), picture(41, 37, 32)]).float() / 127.5 - 1
    y = torch.stack([picture(41, 37, 33), picture(41, 37, 32)]).float() / 127.5 - 1
    y[1] = (y[1] + 0.05 * torch.randn(y[1].shape, generator=g)).clamp(-1, 1)
    y = y.half().float()  # as stored
    values["lpips"] = {"alexnet": lpips_value("alex", x, y), "vgg16": lpips_value("vgg", x, y)}
    save(FIXTURES / "metrics.safetensors",
         {"first": first, "second": second, "mask": mask, "real": real, "fake": fake, "scores": scores,
          "lpips_x": ((x + 1) * 127.5).round().to(torch.uint8), "lpips_y": y.half()})  # fmt: skip
    (FIXTURES / "metrics.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
