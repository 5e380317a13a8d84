"""Fixtures of tests/io/{safetensors,model_files}_test.cpp, made by the reference implementations.

    python tests/parity/make_weights_fixtures.py        (needs torch, safetensors, diffusers, transformers)

- `all_dtypes.safetensors`: one tensor of every dtype, serialised by the Python package `safetensors`.
- `ldm_<model>.txt`: how diffusers itself converts a single-file checkpoint. The names and shapes of the checkpoint are
  laid out here as CompVis and Stability publish them; every tensor carries its own number and row in its values, the
  conversion of diffusers runs over them, and its result is checked against the state dict of the diffusers and
  transformers models. One line a tensor: checkpoint name, shape, target name, operation, where the operation is `=`,
  `matrix` (1x1 convolution to linear) or `rows:N` (rows from N on, as many as the target has).
- `autoencoder_tiny.txt`: names and shapes of diffusers' AutoencoderTiny.
- `ldm_<model>.json`: the configurations that diffusers derives for the same checkpoints.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.loaders import single_file_utils as reference
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

torch.set_num_threads(1)
HERE = Path(__file__).resolve().parent.parent / "io" / "fixtures"

MODELS = {
    "sd15": dict(channels=320, mult=[1, 2, 4, 4], attention=[4, 2, 1], layers=2, context=768, linear=False,
                 vae_channels=128, vae_mult=[1, 2, 4, 4], vae_layers=2, text="clip",
                 hidden=768, mlp=3072, text_layers=12, vocab=49408, positions=77),
    "sd21": dict(channels=320, mult=[1, 2, 4, 4], attention=[4, 2, 1], layers=2, context=1024, linear=True,
                 vae_channels=128, vae_mult=[1, 2, 4, 4], vae_layers=2, text="open_clip",
                 hidden=1024, mlp=4096, text_layers=24, vocab=49408, positions=77),
    "tiny_clip": dict(channels=32, mult=[1, 2], attention=[1], layers=1, context=16, linear=False,
                      vae_channels=32, vae_mult=[1, 2], vae_layers=1, text="clip",
                      hidden=64, mlp=128, text_layers=2, vocab=40, positions=9),
    "tiny_open_clip": dict(channels=64, mult=[1, 2, 2], attention=[2, 1], layers=1, context=64, linear=True,
                           vae_channels=32, vae_mult=[1, 1], vae_layers=1, text="open_clip",
                           hidden=64, mlp=128, text_layers=3, vocab=40, positions=9),
}


def conv(out, name, o, i, k):
    out[name + ".weight"], out[name + ".bias"] = (o, i, k, k), (o,)


def linear(out, name, o, i, bias=True):
    out[name + ".weight"] = (o, i)
    if bias:
        out[name + ".bias"] = (o,)


def norm(out, name, c):
    out[name + ".weight"], out[name + ".bias"] = (c,), (c,)


def unet_names(m):
    out, temb = {}, 4 * m["channels"]

    def residual(p, i, o):
        norm(out, p + ".in_layers.0", i), conv(out, p + ".in_layers.2", o, i, 3)
        linear(out, p + ".emb_layers.1", o, temb)
        norm(out, p + ".out_layers.0", o), conv(out, p + ".out_layers.3", o, o, 3)
        if i != o:
            conv(out, p + ".skip_connection", o, i, 1)

    def transformer(p, c):
        norm(out, p + ".norm", c)
        for side in ("proj_in", "proj_out"):
            linear(out, f"{p}.{side}", c, c) if m["linear"] else conv(out, f"{p}.{side}", c, c, 1)
        b = p + ".transformer_blocks.0"
        for a, wide in (("attn1", c), ("attn2", m["context"])):
            linear(out, f"{b}.{a}.to_q", c, c, False), linear(out, f"{b}.{a}.to_k", c, wide, False)
            linear(out, f"{b}.{a}.to_v", c, wide, False), linear(out, f"{b}.{a}.to_out.0", c, c)
        linear(out, b + ".ff.net.0.proj", 8 * c, c), linear(out, b + ".ff.net.2", c, 4 * c)
        for i in (1, 2, 3):
            norm(out, f"{b}.norm{i}", c)

    linear(out, "time_embed.0", temb, m["channels"]), linear(out, "time_embed.2", temb, temb)
    conv(out, "input_blocks.0.0", m["channels"], 4, 3)
    skips, width, index, rate = [m["channels"]], m["channels"], 1, 1
    for level, mult in enumerate(m["mult"]):
        for _ in range(m["layers"]):
            residual(f"input_blocks.{index}.0", width, mult * m["channels"])
            width = mult * m["channels"]
            if rate in m["attention"]:
                transformer(f"input_blocks.{index}.1", width)
            skips.append(width)
            index += 1
        if level + 1 < len(m["mult"]):
            conv(out, f"input_blocks.{index}.0.op", width, width, 3)
            skips.append(width)
            index, rate = index + 1, rate * 2
    residual("middle_block.0", width, width), transformer("middle_block.1", width)
    residual("middle_block.2", width, width)
    index = 0
    for level, mult in reversed(list(enumerate(m["mult"]))):
        for i in range(m["layers"] + 1):
            residual(f"output_blocks.{index}.0", width + skips.pop(), mult * m["channels"])
            width, place = mult * m["channels"], 1
            if rate in m["attention"]:
                transformer(f"output_blocks.{index}.1", width)
                place = 2
            if level and i == m["layers"]:
                conv(out, f"output_blocks.{index}.{place}.conv", width, width, 3)
                rate //= 2
            index += 1
    norm(out, "out.0", width), conv(out, "out.2", 4, m["channels"], 3)
    return {"model.diffusion_model." + k: v for k, v in out.items()}


def vae_names(m):
    out, top = {}, m["vae_channels"] * m["vae_mult"][-1]

    def residual(p, i, o):
        norm(out, p + ".norm1", i), conv(out, p + ".conv1", o, i, 3)
        norm(out, p + ".norm2", o), conv(out, p + ".conv2", o, o, 3)
        if i != o:
            conv(out, p + ".nin_shortcut", o, i, 1)

    def middle(p):
        residual(p + ".mid.block_1", top, top), norm(out, p + ".mid.attn_1.norm", top)
        for n in ("q", "k", "v", "proj_out"):
            conv(out, f"{p}.mid.attn_1.{n}", top, top, 1)
        residual(p + ".mid.block_2", top, top)

    conv(out, "encoder.conv_in", m["vae_channels"], 3, 3)
    width, levels = m["vae_channels"], len(m["vae_mult"])
    for level, mult in enumerate(m["vae_mult"]):
        for i in range(m["vae_layers"]):
            residual(f"encoder.down.{level}.block.{i}", width, mult * m["vae_channels"])
            width = mult * m["vae_channels"]
        if level + 1 < levels:
            conv(out, f"encoder.down.{level}.downsample.conv", width, width, 3)
    middle("encoder"), norm(out, "encoder.norm_out", top), conv(out, "encoder.conv_out", 8, top, 3)
    conv(out, "decoder.conv_in", top, 4, 3), middle("decoder")
    for level, mult in reversed(list(enumerate(m["vae_mult"]))):
        for i in range(m["vae_layers"] + 1):
            residual(f"decoder.up.{level}.block.{i}", width, mult * m["vae_channels"])
            width = mult * m["vae_channels"]
        if level:
            conv(out, f"decoder.up.{level}.upsample.conv", width, width, 3)
    norm(out, "decoder.norm_out", width), conv(out, "decoder.conv_out", 3, width, 3)
    conv(out, "quant_conv", 8, 8, 1), conv(out, "post_quant_conv", 4, 4, 1)
    return {"first_stage_model." + k: v for k, v in out.items()}


def text_names(m):
    out, h = {}, m["hidden"]
    if m["text"] == "clip":
        out["embeddings.token_embedding.weight"] = (m["vocab"], h)
        out["embeddings.position_embedding.weight"] = (m["positions"], h)
        for i in range(m["text_layers"]):
            p = f"encoder.layers.{i}"
            for n in ("k_proj", "v_proj", "q_proj", "out_proj"):
                linear(out, f"{p}.self_attn.{n}", h, h)
            norm(out, p + ".layer_norm1", h), norm(out, p + ".layer_norm2", h)
            linear(out, p + ".mlp.fc1", m["mlp"], h), linear(out, p + ".mlp.fc2", h, m["mlp"])
        norm(out, "final_layer_norm", h)
        return {"cond_stage_model.transformer.text_model." + k: v for k, v in out.items()}
    out["positional_embedding"], out["text_projection"], out["logit_scale"] = (m["positions"], h), (h, h), ()
    out["token_embedding.weight"] = (m["vocab"], h)
    for i in range(m["text_layers"]):
        p = f"transformer.resblocks.{i}"
        norm(out, p + ".ln_1", h), norm(out, p + ".ln_2", h)
        out[p + ".attn.in_proj_weight"], out[p + ".attn.in_proj_bias"] = (3 * h, h), (3 * h,)
        linear(out, p + ".attn.out_proj", h, h)
        linear(out, p + ".mlp.c_fc", m["mlp"], h), linear(out, p + ".mlp.c_proj", h, m["mlp"])
    norm(out, "ln_final", h)
    return {"cond_stage_model.model." + k: v for k, v in out.items()}


def numbered(names):
    """Tensors that take no memory: element [r, ...] of tensor n is n + r / 65536."""
    result = {}
    for number, (name, shape) in enumerate(names.items()):
        rows = shape[0] if shape else 1
        column = number + torch.arange(rows, dtype=torch.float64) / 65536
        result[name] = column.reshape([rows] + [1] * (len(shape) - 1)).expand(shape) if shape else column.reshape(())
    return result


def table(checkpoint, converted, expected):
    names = list(checkpoint)
    assert set(converted) == set(expected), set(converted) ^ set(expected)
    lines = []
    for target, tensor in converted.items():
        shape = tuple(tensor.shape)
        assert shape == tuple(expected[target].shape), (target, shape, expected[target].shape)
        first = tensor.reshape(-1)[0].item()
        number, row = int(first), round((first % 1) * 65536)
        source = checkpoint[names[number]]
        stored = tuple(source.shape)
        last = number + (row + (shape[0] if shape else 1) - 1) / 65536
        assert tensor.reshape(-1)[-1].item() == last, target
        operation = "=" if shape == stored else "matrix" if stored == shape + (1, 1) else f"rows:{row}"
        lines.append((names[number], ",".join(map(str, stored)), target, operation))
    return [" ".join(line) for line in sorted(lines)]


def original_config(m):
    unet = dict(in_channels=4, out_channels=4, model_channels=m["channels"], attention_resolutions=m["attention"],
                num_res_blocks=m["layers"], channel_mult=m["mult"], transformer_depth=1, context_dim=m["context"])
    unet.update(dict(num_head_channels=64, use_linear_in_transformer=True) if m["linear"] else dict(num_heads=8))
    vae = dict(z_channels=4, in_channels=3, out_ch=3, ch=m["vae_channels"], ch_mult=m["vae_mult"],
               num_res_blocks=m["vae_layers"])
    return {"model": {"params": {"scale_factor": 0.18215, "unet_config": {"params": unet},
                                 "first_stage_config": {"params": {"ddconfig": vae}}}}}


def convert(name, m):
    checkpoint = numbered({**unet_names(m), **vae_names(m), **text_names(m)})
    config = original_config(m)
    unet_config = reference.create_unet_diffusers_config_from_ldm(config, checkpoint, image_size=512)
    vae_config = reference.create_vae_diffusers_config_from_ldm(config, checkpoint, image_size=512)
    # OpenCLIP's last layer is not part of Stable Diffusion 2, whose embedder takes the output of the layer before it.
    layers = m["text_layers"] - (m["text"] == "open_clip")
    text_config = dict(vocab_size=m["vocab"], hidden_size=m["hidden"], intermediate_size=m["mlp"],
                       num_hidden_layers=layers, num_attention_heads=max(m["hidden"] // 64, 1),
                       max_position_embeddings=m["positions"],
                       hidden_act="gelu" if m["text"] == "open_clip" else "quick_gelu")
    with torch.device("meta"):
        unet = UNet2DConditionModel(**{k: v for k, v in unet_config.items() if v is not None})
        vae = AutoencoderKL(**vae_config)
        text = CLIPTextModel(CLIPTextConfig(**text_config))
    lines = table(checkpoint, reference.convert_ldm_unet_checkpoint(checkpoint, unet_config), unet.state_dict())
    parts = {"unet": lines}
    parts["vae"] = table(checkpoint, reference.convert_ldm_vae_checkpoint(checkpoint, vae_config), vae.state_dict())
    if m["text"] == "clip":
        converted = reference.convert_ldm_clip_checkpoint(checkpoint)
    else:
        ignored = [k for k in checkpoint if f".resblocks.{layers}." in k]
        ignored.append("cond_stage_model.model.text_projection")
        reference.SD_2_TEXT_ENCODER_KEYS_TO_IGNORE = ignored  # diffusers lists the keys of the 24-layer tower
        converted = reference.convert_open_clip_checkpoint(text, checkpoint)
    wanted = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in text.state_dict().items()}
    wanted.pop("text_model.embeddings.position_ids", None)
    parts["text_encoder"] = table(checkpoint, converted, wanted)
    # What is left over: names that a real checkpoint has and that no component takes.
    used = {line.split()[0] for lines in parts.values() for line in lines}
    parts["unused"] = [f"{k} {','.join(map(str, v.shape)) or '-'}" for k, v in checkpoint.items() if k not in used]
    with open(HERE / f"ldm_{name}.txt", "w") as file:
        for part, lines in parts.items():
            file.write(f"[{part}]\n" + "\n".join(lines) + ("\n" if lines else ""))
    drop = ("sample_size", "projection_class_embeddings_input_dim")
    clean = lambda c: {k: v for k, v in c.items() if v is not None and k not in drop}
    configs = dict(unet=clean(unet_config), vae=clean(vae_config), text_encoder=text_config)
    (HERE / f"ldm_{name}.json").write_text(json.dumps(configs, indent=1) + "\n")
    print(name, {k: len(v) for k, v in parts.items()})


def all_dtypes():
    types = dict(bool=torch.bool, u8=torch.uint8, i8=torch.int8, i16=torch.int16, u16=torch.uint16, i32=torch.int32,
                 u32=torch.uint32, i64=torch.int64, u64=torch.uint64, f16=torch.float16, bf16=torch.bfloat16,
                 f32=torch.float32, f64=torch.float64, e4m3=torch.float8_e4m3fn, e5m2=torch.float8_e5m2,
                 e8m0=torch.float8_e8m0fnu, e4m3fnuz=torch.float8_e4m3fnuz, e5m2fnuz=torch.float8_e5m2fnuz,
                 c64=torch.complex64)
    # 0, 1, 2 are exact in every type; bool has two values, e8m0 powers of two only.
    tensors = {k: torch.tensor([[1, 2, 1], [2, 1, 2]]).to(t) for k, t in types.items()}
    tensors["scalar"], tensors["empty"] = torch.tensor(2.5), torch.zeros(0, 3)
    tensors['quote " \\ \u00fc \u4e2d\n'] = torch.tensor([1.0])
    save_file(tensors, HERE / "all_dtypes.safetensors", metadata={"format": "pt"})


def autoencoder_tiny():
    with torch.device("meta"):
        state = AutoencoderTiny().state_dict()
    lines = [f"{name} {','.join(map(str, tensor.shape))}" for name, tensor in sorted(state.items())]
    (HERE / "autoencoder_tiny.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    all_dtypes()
    autoencoder_tiny()
    for name in sys.argv[1:] or MODELS:
        convert(name, MODELS[name])
