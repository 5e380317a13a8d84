"""Fixtures of tests/io/pickle_test.cpp and seeds of tests/fuzz: files as PyTorch itself writes them.

    python tests/parity/make_pickle_fixtures.py        (needs torch, numpy, safetensors)

Each file in tests/io/fixtures/pickles/ is written by `torch.save`. What `torch.load` returns for it is in
`expected.safetensors`, as tensors `<file>/<name>`; of types that safetensors lack, the bytes are there as U8, with the
type in the metadata under the same name.
"""

import collections
import math
import os
import sys
import types
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)


def no_source(_):
    raise OSError("the old layout holds the source of modules, with its path on this machine")


torch.serialization.get_source_lines_and_file = no_source
HERE = Path(__file__).resolve().parent.parent / "io" / "fixtures" / "pickles"

DTYPES = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64,
          "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool,
          "c64": torch.complex64, "c128": torch.complex128, "u16": torch.uint16, "u32": torch.uint32,
          "u64": torch.uint64, "f8_e4m3": torch.float8_e4m3fn, "f8_e5m2": torch.float8_e5m2,
          "f8_e4m3fnuz": torch.float8_e4m3fnuz, "f8_e5m2fnuz": torch.float8_e5m2fnuz}


class RunsACommand:
    """What a hostile file holds. Python runs the command when it loads the file with weights_only=False."""

    def __reduce__(self):
        return os.system, ("touch ip2p-was-here",)


def foreign(name, **attributes):
    """An object of a class that only another program has."""
    module, _, short = name.rpartition(".")
    for end in [i for i, letter in enumerate(module + ".") if letter == "."]:
        sys.modules.setdefault(module[:end], types.ModuleType(module[:end]))
    if not hasattr(sys.modules[module], short):
        setattr(sys.modules[module], short, type(short, (), {"__module__": module}))
    thing = getattr(sys.modules[module], short)()
    thing.__dict__.update(attributes)
    return thing


def numbers(*shape, scale=1.0):
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape).mul(0.25).sub(1).mul(scale)


def of_dtype(dtype):
    if dtype == torch.bool:
        return torch.tensor([[True, False, True], [False, False, True]])
    values = torch.tensor([[1, 2, 3], [4, 5, 96]], dtype=torch.float64)
    return (values + 0.5j * values).to(dtype) if dtype.is_complex else values.to(dtype)


def everything(old=False):
    """All dtypes, views of every kind, shared storages, parameters and dictionaries in dictionaries.

    PyTorch cannot read the types without a class of storages (8-bit floats, unsigned ones) in its old layout.
    """
    shared = numbers(4, 6)
    tagged = numbers(3)
    tagged.note = "an attribute"  # pickled by _rebuild_from_type_v2
    noted = torch.nn.Parameter(numbers(2, 2))
    noted.note = "an attribute"  # pickled by _rebuild_parameter_with_state
    saved = collections.OrderedDict((f"dtype.{name}", of_dtype(dtype)) for name, dtype in DTYPES.items())
    saved.update({
        "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "one": torch.ones(1), "whole": shared,
        "transposed": shared.t(), "rows": shared[1:3], "columns": shared[:, 2:4], "every_second": shared[::2, ::3],
        "expanded": torch.ones(1, 3).expand(4, 3), "permuted": numbers(2, 3, 4).permute(2, 0, 1),
        "channels_last": numbers(1, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "f16_view": of_dtype(torch.float16).t(), "f8_view": of_dtype(torch.float8_e4m3fn)[:, 1:],
        "parameter": torch.nn.Parameter(numbers(2, 3)), "buffer": torch.nn.Buffer(numbers(3)), "tagged": tagged,
        "noted": noted, "requires_grad": numbers(2).requires_grad_(),
        "large": numbers(130, 130),  # large enough to be mapped
        "inner": {"a": numbers(2), "b": {"c": numbers(3)}, "list": [numbers(1)], 7: numbers(1)},
        "not a tensor": 3, "text": "x", "none": None, "size": torch.Size([2, 3]), "dtype": torch.float16,
        "device": torch.device("cpu"), "long": 1 << 200, "negative": -5, "float": 0.5, "bytes": b"abc", "set": {1, 2},
        "ünïcode": numbers(2), "complex": 1 + 2j,
    })
    for name, value in list(saved.items()) if old else ():
        if isinstance(value, torch.Tensor) and ("float8" in str(value.dtype) or str(value.dtype)[6:] in ("uint16", "uint32", "uint64")):
            del saved[name]
    saved._metadata = {"": {"version": 1}}
    return saved


def lightning(hostile=False):
    """A training checkpoint as Lightning and CompVis' programs leave it."""
    model = torch.nn.Sequential(collections.OrderedDict(first=torch.nn.Linear(3, 4), norm=torch.nn.BatchNorm1d(4)))
    for parameter in model.parameters():
        parameter.data = numbers(*parameter.shape)
    optimiser = torch.optim.AdamW(model.parameters())
    model(numbers(5, 3)).sum().backward()
    optimiser.step()
    callback = foreign("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")
    config = foreign("omegaconf.dictconfig.DictConfig", _content={"target": foreign("omegaconf.nodes.AnyNode", _val="ldm")})
    saved = {
        "epoch": 3, "global_step": 22000, "pytorch-lightning_version": "1.4.2", "state_dict": model.state_dict(),
        "callbacks": {type(callback): {"best_model_score": numpy.float32(0.5), "best_model_path": None,
                                       "current_score": torch.tensor(0.5)}},
        "optimizer_states": [optimiser.state_dict()],
        "lr_schedulers": [{"base_lrs": [1e-4], "counter": collections.Counter("abca")}],
        "loops": collections.defaultdict(dict, {"fit": {"state": collections.deque([1, 2])}}),
        "hyper_parameters": config, "array": numpy.arange(4), "path": Path("somewhere"),
    }
    if hostile:
        saved["callbacks"]["evil"] = RunsACommand()
        saved["state_dict"]["evil"] = RunsACommand()
    return saved


def module():
    inner = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Conv2d(1, 2, 3, bias=False))
    for parameter in inner.parameters():
        parameter.data = numbers(*parameter.shape)
    whole = torch.nn.Sequential(inner, torch.nn.BatchNorm1d(2))
    whole.register_buffer("scale", torch.tensor(3.0))
    return whole


def flat(value, prefix=""):
    """name -> tensor, for dictionaries within dictionaries and for modules."""
    if isinstance(value, (torch.nn.Module, torch.nn.ParameterDict)):
        named = {**dict(value.named_parameters()), **dict(value.named_buffers())}
        return {prefix + name: tensor for name, tensor in named.items()}
    result = {}
    for key, item in value.items():
        if not isinstance(key, str):
            continue
        if isinstance(item, torch.Tensor):
            result[prefix + key] = item
        elif isinstance(item, (dict, torch.nn.Module)):
            result.update(flat(item, f"{prefix}{key}."))
    return result


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    old = {"_use_new_zipfile_serialization": False}
    embedding = torch.nn.ParameterDict({"*": torch.nn.Parameter(numbers(2, 32, scale=0.01))})
    web_ui = {"string_to_token": {"*": 265}, "string_to_param": {"*": numbers(3, 32, scale=0.01)}, "name": "moody",
              "step": 500, "sd_checkpoint": "abc", "sd_checkpoint_name": None}
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    lora = {f"{layer}.lora_down.weight": numbers(2, 6).half(), f"{layer}.lora_up.weight": numbers(8, 2).half(),
            f"{layer}.alpha": torch.tensor(1.0)}
    files = {
        "everything.pt": (everything(), {}), "everything_old.pt": (everything(old=True), old),
        "protocol_1.pt": ({"x": numbers(2, 3), "y": [1, 2.5, None, True, 1 << 40]}, {"pickle_protocol": 1}),
        "protocol_3.pt": ({"x": numbers(2, 3), "y": b"abc"}, {"pickle_protocol": 3}),
        "protocol_4.pt": ({"x": numbers(2, 3), "y": {1, 2}}, {"pickle_protocol": 4}),
        "protocol_5.pth": ({"x": numbers(2, 3), "y": bytearray(b"abc")}, {"pickle_protocol": 5}),
        "protocol_4_old.pth": ({"x": numbers(2, 3)}, {"pickle_protocol": 4, **old}),
        "lightning.ckpt": (lightning(), {}), "lightning_old.ckpt": (lightning(), old),
        "hostile.ckpt": (lightning(hostile=True), {}),
        "module.pt": (module(), {}), "module_old.pt": (module(), old),
        "embedding_ldm.pt": ({"string_to_token": {"*": 265}, "string_to_param": embedding}, {}),
        "embedding_web_ui.pt": (web_ui, {}), "embedding_diffusers.bin": ({"<cat-toy>": numbers(32, scale=0.01)}, {}),
        "lora.pt": (lora, {}),
    }
    expected, metadata = {}, {}

    def expect(name, tensors):
        for key, tensor in tensors.items():
            tensor = tensor.detach().resolve_conj().contiguous().clone()
            if tensor.dtype in (torch.complex128, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz):
                metadata[f"{name}/{key}"] = str(tensor.dtype)
                tensor = tensor.view(torch.uint8)
            expected[f"{name}/{key}"] = tensor

    for name, (value, options) in files.items():
        torch.save(value, HERE / name, **options)
        if name == "hostile.ckpt":
            expect(name, flat(value["state_dict"]))  # loading it would run the command
            continue
        loaded = torch.load(HERE / name, map_location="cpu", weights_only=False)
        expect(name, flat(loaded["state_dict"] if isinstance(loaded, dict) and "state_dict" in loaded else loaded))
    torch.serialization.set_crc32_options(False)
    torch.save({"x": numbers(2, 3)}, HERE / "no_sums.pt")
    expect("no_sums.pt", torch.load(HERE / "no_sums.pt"))
    save_file(expected, HERE / "expected.safetensors", metadata=metadata)
    (HERE / "expected.safetensors").chmod(0o644)


main()
