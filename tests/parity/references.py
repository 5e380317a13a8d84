"""What the scripts that make golden values share: the references, the closed-form network and the format."""

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).parent.parent
torch.set_num_threads(1)

SD = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def import_k_diffusion():
    """Loads only `sampling` and `external`, with stand-ins for what the package's other modules would import."""
    stubs = ("torchdiffeq", "torchsde", "torchvision", "torchvision.transforms")
    stubs = [name for name in stubs if name not in sys.modules and importlib.util.find_spec(name.split(".")[0]) is None]
    root = types.ModuleType("k_diffusion")
    root.__path__ = list(importlib.util.find_spec("k_diffusion").submodule_search_locations)
    sys.modules["k_diffusion"] = root
    for name in stubs:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].odeint = sys.modules[name].transforms = sys.modules[name].functional = None
    modules = importlib.import_module("k_diffusion.sampling"), importlib.import_module("k_diffusion.external")
    for name in stubs:
        del sys.modules[name]
    return modules


def values(tensor, digits=9):
    """Nine digits reproduce fp32 values bit for bit."""
    return [float(f"{v:.{digits}g}") for v in torch.as_tensor(tensor).flatten().tolist()]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    print(path, path.stat().st_size)


def released_alphas():
    """As latent diffusion registers them: betas and products are computed in double and stored in fp32."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
    return torch.tensor(np.cumprod(1 - betas), dtype=torch.float32)


def network(x, t, shift=0.0):
    """The closed form that the tests repeat: some function of x and the timestep."""
    return 0.8 * torch.tanh(1.3 * x) + 0.05 * torch.sin(torch.as_tensor(t, dtype=torch.float32) * 0.01 + shift)
