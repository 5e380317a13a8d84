#!/usr/bin/env python3
"""Compares the tables of include/ip2p/io/config_keys.hpp with docs/reference/config-keys.md, and, where diffusers and
transformers are installed, with the keys of the configuration classes themselves.

    python3 tests/parity/check_config_keys.py [ROOT]
    $(tests/parity/venv.sh) tests/parity/check_config_keys.py --classes [ROOT]

Fails for a key that a class has and the table lacks, so that a new one cannot be passed over unseen, for a key of the
table that no class has, and for a row of the page that says something else than the table.
"""

import inspect
import re
import sys
from pathlib import Path

TABLES = {
    "unet_keys": "UNet",
    "autoencoder_keys": "Autoencoder",
    "tiny_autoencoder_keys": "Tiny autoencoder",
    "dc_autoencoder_keys": "Deep compression autoencoder",
    "clip_text_keys": "Text encoder",
    "scheduler_keys": "Scheduler",
}


def tables_of(header):
    """table -> key -> (use, supported values as text)"""
    tables = {}
    for name, body in re.findall(r"std::array (\w+_keys)\{(.*?)\n\};", header, re.S):
        rows = {}
        for key, use, _, raw, plain in re.findall(
            r'ConfigKey\{"(\w+)"(?:,\s*KeyUse::(\w+))?(,\s*(?:R"\((.*?)\)"|"(.*?)"))?\}', body, re.S
        ):
            rows[key] = (use or "read", raw or plain)
        tables[name] = rows
    classes = re.search(r"scheduler_classes\{(.*?)\}", header, re.S)
    return tables, re.findall(r'"(\w+)"', classes.group(1))


def page_rows(page):
    """heading -> key -> first word of the second column"""
    rows, heading = {}, None
    for line in page.splitlines():
        if line.startswith("## "):
            heading = line[3:].strip()
        for keys, what in re.findall(r"^\| (`.*?`) \| (.*?) \|", line):
            for key in re.findall(r"`(\w+)`", keys):
                rows.setdefault(heading, {})[key] = what
    return rows


def check_page(tables, page):
    faults = []
    rows = page_rows(page)
    words = {"read": "honoured", "fixed": "only", "unused": "no effect"}
    for table, heading in TABLES.items():
        shown = rows.get(heading, {})
        for key, (use, supported) in tables[table].items():
            what = shown.pop(key, None)
            if what is None or not what.startswith(words[use]):
                faults.append(f"config-keys.md: {heading}: {key}: expected '{words[use]}', found {what!r}")
            elif use == "fixed" and what != "only " + page_text(supported):
                faults.append(f"config-keys.md: {heading}: {key}: expected 'only {page_text(supported)}', found {what!r}")
        faults += [f"config-keys.md: {heading}: {key}: is in no table of config_keys.hpp" for key in shown]
    return faults


def page_text(supported):
    """["silu", "swish"] -> `silu` or `swish`; [] -> none"""
    values = [v.strip().strip('"') for v in supported.strip("[]").split(",") if v.strip()]
    return " or ".join(f"`{v}`" for v in values) or "none"


def parameters(cls):
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = {n for n, p in inspect.signature(cls.__init__).parameters.items() if p.kind not in kinds} - {"self"}
    return found


def check_classes(tables, scheduler_classes):
    import diffusers
    import transformers

    own = set(transformers.CLIPTextConfig().to_dict()) - set(transformers.PretrainedConfig().to_dict())
    ids = {"pad_token_id", "bos_token_id", "eos_token_id"}
    schedulers = set()
    for name in scheduler_classes:
        cls = getattr(diffusers, name)
        if not getattr(cls, "__init__", None) or "dummy" in cls.__module__:
            # torchsde is missing: these are the keys of diffusers 0.42.
            continue
        schedulers |= parameters(cls)
    classes = {
        "unet_keys": parameters(diffusers.UNet2DConditionModel),
        "autoencoder_keys": parameters(diffusers.AutoencoderKL),
        "tiny_autoencoder_keys": parameters(diffusers.AutoencoderTiny),
        "dc_autoencoder_keys": parameters(diffusers.AutoencoderDC),
        "clip_text_keys": (own - {"model_type"}) | ids,
        "scheduler_keys": schedulers,
    }
    optional = {"noise_sampler_seed"}  # of DPMSolverSDEScheduler, which needs torchsde to be imported
    faults = []
    for table, keys in classes.items():
        known = set(tables[table])
        faults += [f"{table}: {key}: a key of the class that the table lacks" for key in sorted(keys - known)]
        faults += [f"{table}: {key}: a key that no class has" for key in sorted(known - keys - optional)]
    return faults


def main():
    arguments = [a for a in sys.argv[1:] if a != "--classes"]
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    tables, scheduler_classes = tables_of((root / "include/ip2p/io/config_keys.hpp").read_text())
    faults = check_page(tables, (root / "docs/reference/config-keys.md").read_text())
    if "--classes" in sys.argv:
        faults += check_classes(tables, scheduler_classes)
    count = sum(len(rows) for rows in tables.values())
    print("\n".join(faults) if faults else f"{count} keys of configurations are accounted for")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
