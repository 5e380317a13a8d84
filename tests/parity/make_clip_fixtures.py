#!/usr/bin/env python3
"""Makes the committed fixtures of CLIP with transformers and open_clip.

    $(tests/parity/venv.sh) tests/parity/make_clip_fixtures.py
    $(tests/parity/venv.sh) tests/parity/make_clip_fixtures.py --full-size build/parity

    tests/vision/fixtures/tiny-clip/                 a seeded CLIPModel with the vocabulary of tiny-ip2p
    tests/vision/fixtures/clip-expected.safetensors  its inputs and outputs, the views of pictures, scores, the loss
    tests/vision/fixtures/open-clip/                 a seeded open_clip checkpoint, its description, inputs and outputs

With --full-size it makes seeded models of the sizes of ViT-B/32 and ViT-L/14 instead, below the folder that is named, for

    IP2P_FULL_SIZE_CLIP=build/parity/clip-vit-b-32 PROGRAM "[full_size]"

where PROGRAM is the test program that tests/vision/clip_parity_test.cpp is part of.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from make_model_fixtures import ROOT, folder, generator, randomise, round_to_half, save, save_half
from open_clip.model import CLIP as OpenClip
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

TOKENIZER = ROOT / "pipeline/fixtures/tiny-ip2p/tokenizer"
VISION = ROOT / "vision/fixtures"
CAPTIONS = [
    "a photograph of a mountain lake",
    "a watercolour of a mountain lake in winter",
    "two dogs",
    "What if it were 1984? Add 12 red balloons; don't change the sky!",
]
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


def picture(width, height, seed):
    """Smooth colours with some grain, 8 bits, [3, H, W]."""
    g = generator(seed)
    coarse = torch.rand(1, 3, 4, 5, generator=g)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)[0]
    grain = torch.randn(3, height, width, generator=g) * 0.06
    return ((smooth + grain).clamp(0, 1) * 255).round().to(torch.uint8)


def released_pixels(images, side):
    """The view of clip_similarity.py."""
    resized = F.interpolate(images.float(), size=(side, side), mode="bicubic", align_corners=False)
    return (resized - MEAN) / STD


def unit(features):
    return features / features.norm(dim=1, keepdim=True)


def image_features(model, pixels):
    return model.get_image_features(pixel_values=pixels).pooler_output


def text_features(model, ids):
    return model.get_text_features(input_ids=ids).pooler_output


def text_ids(tokenizer, texts):
    return tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids



def make_tiny():
    tokenizer = CLIPTokenizer.from_pretrained(str(TOKENIZER))
    vocabulary = len(tokenizer)
    config = CLIPConfig(
        text_config=dict(
            vocab_size=vocabulary, hidden_size=16, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=77, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
        ),
        vision_config=dict(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32,
            patch_size=8,
        ),
        projection_dim=24,
    )  # fmt: skip
    model = CLIPModel(config)
    randomise(model, 90, [("embedding.weight", 12.0)])
    model.logit_scale.data.fill_(2.75)
    round_to_half(model)
    save_half(model, VISION / "tiny-clip")
    model = CLIPModel.from_pretrained(str(VISION / "tiny-clip")).float().eval()

    side = 32
    pictures = [picture(52, 37, 1), picture(39, 61, 2), picture(33, 34, 3)]
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    shown = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pictures]
    squares = processor(shown, do_rescale=False, do_normalize=False, return_tensors="pt").pixel_values
    processed = processor(shown, return_tensors="pt").pixel_values
    released = torch.cat([released_pixels(p[None].float() / 255, side) for p in pictures])
    ids = text_ids(tokenizer, CAPTIONS)
    with torch.no_grad():
        texts, images = text_features(model, ids), image_features(model, processed)
        out = {"input_ids": ids, "text_features": texts, "processor_squares": squares.to(torch.uint8),
               "processor_pixels": processed, "released_pixels": released, "processor_features": images,
               "released_features": image_features(model, released)}  # fmt: skip
        for i, p in enumerate(pictures):
            out[f"picture_{i}"] = p
        out["probabilities"] = model(input_ids=ids, pixel_values=processed).logits_per_image.softmax(1)
        templates = ["a photo of a {}.", "the {} in winter"]
        rows = []
        for name in ("dog", "mountain lake", "red balloon"):
            mean = unit(text_features(model, text_ids(tokenizer, [t.format(name) for t in templates]))).mean(0)
            rows.append(mean / mean.norm())
        out["class_features"] = torch.stack(rows)

        # Scores as in compute_metrics.py and clip_similarity.py, for images around [-1, 1], with values beyond it.
        before = torch.randn(2, 3, 24, 21, generator=generator(7)) * 0.6
        after = before + torch.randn(2, 3, 24, 21, generator=generator(8)) * 0.4
        out["before"], out["after"] = before, after
        t0, t1 = unit(texts[:2]), unit(texts[2:])
        for name, seen in (("compat", lambda x: x), ("correct", lambda x: ((x + 1) / 2).clamp(0, 1))):
            i0, i1 = (unit(image_features(model, released_pixels(seen(x), side))) for x in (before, after))
            out[f"{name}_direction"] = F.cosine_similarity(i1 - i0, t1 - t0)
            out[f"{name}_image"] = F.cosine_similarity(i0, i1)
            out[f"{name}_text_before"] = F.cosine_similarity(i0, t0)
            out[f"{name}_text_after"] = F.cosine_similarity(i1, t1)

    batch = torch.cat([processed, released[:1]])
    loss = model(input_ids=ids, pixel_values=batch, return_loss=True).loss
    loss.backward()
    out["loss"] = loss.detach()
    named = dict(model.named_parameters())
    for name in ("logit_scale", "visual_projection.weight", "text_projection.weight",
                 "vision_model.embeddings.class_embedding", "text_model.final_layer_norm.bias"):  # fmt: skip
        out["gradient." + name] = named[name].grad
    save(VISION / "clip-expected.safetensors", out)
    print("loss", loss.item(), "directions", out["compat_direction"].tolist(), out["correct_direction"].tolist())
    print(sorted(f.name for f in (VISION / "tiny-clip").iterdir()))


def make_open_clip():
    description = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 24, "layers": 2, "width": 24, "head_width": 8, "patch_size": 8},
            "text_cfg": {"context_length": 12, "vocab_size": 40, "width": 16, "heads": 4, "layers": 2},
        }
    }
    path = VISION / "open-clip"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    (path / "open_clip_config.json").write_text(json.dumps(description, indent=2) + "\n")
    cfg = description["model_cfg"]
    pixels = torch.randn(2, 3, 24, 24, generator=generator(95))
    ids = torch.zeros(3, 12, dtype=torch.long)
    g = generator(96)
    for row, length in enumerate((3, 7, 10)):
        ids[row, 0] = 38
        ids[row, 1 : length + 1] = torch.randint(1, 38, (length,), generator=g)
        ids[row, length + 1] = 39
    out = {"pixels": pixels, "input_ids": ids}
    for quick in (False, True):
        model = OpenClip(cfg["embed_dim"], cfg["vision_cfg"], cfg["text_cfg"], quick_gelu=quick).eval()
        randomise(model, 97)
        model.logit_scale.data.fill_(3.0)
        round_to_half(model)
        if not quick:
            save(path / "open_clip_model.safetensors", {k: v.half() for k, v in model.state_dict().items()})
        with torch.no_grad():
            suffix = "_quick" if quick else ""
            out["image_features" + suffix] = model.encode_image(pixels)
            out["text_features" + suffix] = model.encode_text(ids)
    save(VISION / "open-clip-expected.safetensors", out)


SIZES = {
    "clip-vit-b-32": (dict(hidden_size=512, intermediate_size=2048, num_attention_heads=8),
                      dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                           patch_size=32), 512),
    "clip-vit-l-14": (dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12),
                      dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
                           patch_size=14), 768),
}  # fmt: skip


def make_full_size(into, name):
    text, vision, width = SIZES[name]
    # The end token as in the published configurations: 2, which means the largest id.
    text = dict(text, vocab_size=49408, num_hidden_layers=12, max_position_embeddings=77, eos_token_id=2)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=dict(vision, image_size=224), projection_dim=width))
    randomise(model, 91)
    path = into / name
    shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(str(path))
    for source in (ROOT.parent / "models" / "clip-tokenizer").iterdir():
        (path / source.name).write_bytes(source.read_bytes())
    ids = text_ids(CLIPTokenizer.from_pretrained(str(ROOT.parent / "models" / "clip-tokenizer")), CAPTIONS)
    pixels = torch.randn(2, 3, 224, 224, generator=generator(92))
    with torch.no_grad():
        out = {"input_ids": ids, "pixels": pixels, "text_features": text_features(model, ids),
               "image_features": image_features(model, pixels)}  # fmt: skip
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in out.items()}, str(path / "expected.safetensors"))
    print(path, f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M values")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-size", type=Path, help="folder for the full-size models")
    arguments = parser.parse_args()
    if arguments.full_size:
        for name in SIZES:
            make_full_size(arguments.full_size, name)
        return
    folder("vision", "fixtures")
    make_tiny()
    make_open_clip()


if __name__ == "__main__":
    main()
