#!/usr/bin/env python3
"""Writes tests/text2live/fixtures/step.{json,safetensors}: the network and the losses of one update of Text2LIVE, with the
network written in PyTorch, the views made by torchvision, and the CLIP of tests/vision/fixtures/tiny-clip in transformers.

    $(tests/parity/venv.sh) tests/parity/make_text2live_fixtures.py

All draws are fixed and stand in step.json. The views, the losses and the gradient follow the released code; position
embeddings are interpolated with its scales, rows as rows and columns as columns.
"""

import json
import random

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as T
from make_clip_fixtures import MEAN, STD, TOKENIZER, VISION, picture, text_features, text_ids
from make_model_fixtures import folder, generator, save
from torch import nn
from transformers import CLIPModel, CLIPTokenizer

SCALES, CHANNELS, SKIP = 3, 8, 4
STEP, BOOTSTRAP_STEPS = 2, 8
TEXTS = {"edited": "a golden horse", "source": "a horse", "layer": "gold", "region": "horse"}
PICTURE_TEMPLATES = ["photo of {}.", "high quality photo of {}.", "a photo of {}.", "the photo of {}.", "image of {}.",
                     "an image of {}.", "high quality image of {}.", "a high quality image of {}.", "the {}.", "a {}.",
                     "{}.", "{}", "{}!", "{}..."]
SCREEN_TEMPLATES = ["{} over a green screen.", "{} in front of a green screen."]
WEIGHTS = {"structure": 2, "edited": 1, "direction": 1, "screen": 1, "sparsity": 6}

# ------------------------------------------------------------------------------------------------------------- network


def block(inside, outside, kernel, stride=1, norm=True):
    layers = [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inside, outside, kernel, stride)]
    return nn.Sequential(*layers, *([nn.BatchNorm2d(outside)] if norm else []), nn.LeakyReLU(0.2))


class Hourglass(nn.Module):
    """One scale and what is below it."""

    def __init__(self, inside, depth):
        super().__init__()
        self.around = block(inside, SKIP, 1)
        below = [Hourglass(CHANNELS, depth + 1)] if depth + 1 < SCALES else []
        self.through = nn.Sequential(block(inside, CHANNELS, 3, 2), block(CHANNELS, CHANNELS, 3), *below,
                                     nn.Upsample(scale_factor=2, mode="bilinear"))
        self.after = nn.Sequential(nn.BatchNorm2d(SKIP + CHANNELS), block(SKIP + CHANNELS, CHANNELS, 3),
                                   block(CHANNELS, CHANNELS, 1, norm=depth > 0))

    def forward(self, x):
        parts = [self.around(x), self.through(x)]
        size = [min(part.shape[axis] for part in parts) for axis in (2, 3)]
        return self.after(torch.cat([middle(part, size) for part in parts], 1))

    def names(self, depth=0):
        """Module by its name in the library."""
        at = f"scales.{depth}."
        named = {at + "skip": self.around, at + "down": self.through[0], at + "deep": self.through[1],
                 at + "joined": self.after[0], at + "up": self.after[1], at + "mix": self.after[2]}
        return named | (self.through[2].names(depth + 1) if depth + 1 < SCALES else {})


def middle(x, size):
    top, left = (x.shape[2] - size[0]) // 2, (x.shape[3] - size[1]) // 2
    return x[:, :, top : top + size[0], left : left + size[1]]


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.hourglass = Hourglass(3, 0)
        self.out = nn.Conv2d(CHANNELS, 4, 1)
        colours = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
        colours = colours / torch.tensor([1.6, 1.0, 1.0])
        self.colours = colours / colours.norm(dim=0).max()

    def forward(self, x):
        y = self.out(self.hourglass(x))
        rgb = torch.einsum("nchw,dc->ndhw", y[:, :3], self.colours)
        return torch.cat([rgb, y[:, 3:]], 1).sigmoid()

    def tensors(self):
        """Parameters by their names in the library."""
        found = {"out.weight": self.out.weight, "out.bias": self.out.bias}
        for name, module in self.hourglass.names().items():
            for part in module if isinstance(module, nn.Sequential) else [module]:
                kind = {nn.Conv2d: ".conv", nn.BatchNorm2d: ".norm"}.get(type(part))
                if kind:
                    where = name if name.endswith("joined") else name + kind
                    found |= {f"{where}.{key}": value for key, value in part.named_parameters()}
        return found


# ---------------------------------------------------------------------------------------------------------------- CLIP


class Guide:
    def __init__(self):
        self.model = CLIPModel.from_pretrained(VISION / "tiny-clip", attn_implementation="eager").float().eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(str(TOKENIZER))
        self.side = self.model.config.vision_config.image_size
        self.patch = self.model.config.vision_config.patch_size

    def texts(self, texts):
        with torch.no_grad():
            return text_features(self.model, text_ids(self.tokenizer, texts))

    def fitted(self, image, longest):
        height, width = image.shape[-2:]
        short, long = sorted((height, width))
        short, long = self.side, int(self.side * long / short)
        if long > longest:
            short, long = int(longest * short / long), longest
        return [long, short] if height > width else [short, long]

    def view_size(self, image):
        return self.fitted(image, 320 * self.side // 224)

    def before_last(self, images):
        """The tokens that enter the last layer, for pictures of any size."""
        vision = self.model.vision_model
        patches = vision.embeddings.patch_embedding((images - MEAN) / STD)
        rows, columns = patches.shape[-2:]
        table, side = vision.embeddings.position_embedding.weight, self.side // self.patch
        square = table[1:].T.reshape(1, -1, side, side)
        if (rows, columns) != (side, side):
            square = F.interpolate(square, scale_factor=((rows + 0.1) / side, (columns + 0.1) / side), mode="bicubic")
        positions = torch.cat([table[:1], square.flatten(2)[0].T])
        token = vision.embeddings.class_embedding.expand(len(images), 1, -1)
        x = vision.pre_layrnorm(torch.cat([token, patches.flatten(2).transpose(1, 2)], 1) + positions)
        for layer in vision.encoder.layers[:-1]:
            x = first(layer(x, attention_mask=None))
        return x

    def after_last(self, x):
        return self.model.visual_projection(self.model.vision_model.post_layernorm(x[:, 0]))

    def features(self, images):
        return self.after_last(first(self.model.vision_model.encoder.layers[-1](self.before_last(images), attention_mask=None)))

    def self_similarity(self, image):
        size = self.fitted(image, 380 * self.side // 224)
        tokens = self.before_last(T.resize(image, size, antialias=False))[0]
        return F.cosine_similarity(tokens[:, None], tokens[None], dim=-1)[None]

    def relevance(self, image, text):
        """As in Transformer-MM-Explainability, with only the last layer: the class token's row of I + cam."""
        layer = self.model.vision_model.encoder.layers[-1]
        x = self.before_last(image)
        mixed, attention = layer.self_attn(layer.layer_norm1(x), attention_mask=None)
        y = x + mixed
        projected = self.after_last(y + layer.mlp(layer.layer_norm2(y)))
        logit = self.model.logit_scale.exp() * F.cosine_similarity(projected, text).sum()
        (gradient,) = torch.autograd.grad(logit, attention)
        cam = (gradient * attention).clamp(min=0).mean(1).detach()
        relevance = (torch.eye(cam.shape[-1]) + cam[0])[0, 1:]
        grid = self.side // self.patch
        relevance = F.interpolate(relevance.view(1, 1, grid, grid), size=(self.side, self.side), mode="bilinear")
        return (relevance - relevance.min()) / (relevance.max() - relevance.min())


def first(output):
    return output[0] if isinstance(output, tuple) else output


# --------------------------------------------------------------------------------------------------------------- views


def view(image, size, draws):
    if draws["crop"]:
        image = T.crop(image, *draws["crop"])
    x = T.resize(image, size, antialias=False)
    if draws["mirrored"]:
        x = T.hflip(x)
    bilinear = T.InterpolationMode.BILINEAR
    if draws["affine"]:
        degrees, right, down = draws["affine"]
        x = T.affine(x, degrees, [right, down], 1.0, [0.0, 0.0], bilinear, fill=[1.0] * 3)
    if draws["corners"]:
        height, width = size
        own = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
        x = T.perspective(x, own, draws["corners"], bilinear, fill=[1.0] * 3)
    if draws["colours"]:
        changes = [T.adjust_brightness, T.adjust_contrast, T.adjust_saturation, T.adjust_hue]
        for change in draws["colours"]["order"]:
            x = changes[change](x, draws["colours"]["amount"][change])
    return T.rgb_to_grayscale(x, 3) if draws["grey"] else x


def draw_views(image, size, source):
    """Four views: the whole picture rotated, a mirrored crop in perspective, a crop in other colours, the whole in grey."""
    height, width = image.shape[-2:]

    def crop():
        share = source.uniform(0.6, 1)
        box = [int(height * share), int(width * share)]
        return [source.randint(0, height - box[0]), source.randint(0, width - box[1]), *box]

    def affine():
        return [source.uniform(-15, 15), source.randint(-3, 3), source.randint(-3, 3)]

    def corners():
        moves = [[source.randint(0, int(0.4 * (side // 2))) for side in (size[1], size[0])] for _ in range(4)]
        (a, b, c, d), (right, bottom) = moves, (size[1] - 1, size[0] - 1)
        return [a, [right - b[0], b[1]], [right - c[0], bottom - c[1]], [d[0], bottom - d[1]]]

    def colours():
        order = list(range(4))
        source.shuffle(order)
        return {"order": order, "amount": [source.uniform(0.9, 1.1) for _ in range(3)] + [source.uniform(-0.1, 0.1)]}

    plain = {"crop": None, "mirrored": False, "affine": None, "corners": None, "colours": None, "grey": False}
    return [plain | {"affine": affine()},
            plain | {"crop": crop(), "mirrored": True, "corners": corners()},
            plain | {"crop": crop(), "colours": colours()},
            {"crop": crop(), "mirrored": False, "affine": affine(), "corners": corners(), "colours": colours(), "grey": True}]


# -------------------------------------------------------------------------------------------------------------- losses


def spherical(images, texts):
    found = []
    for text in texts:
        apart = F.normalize(images, dim=-1) - F.normalize(text[None], dim=-1)
        found.append(apart.norm(dim=-1).div(2).arcsin().pow(2).mul(2).mean())
    return torch.stack(found).mean()


def main():
    source = random.Random(5)
    guide, network = Guide(), Network()
    g = generator(17)
    for value in network.parameters():
        value.data = torch.randn(value.shape, generator=g) * (0.3 if value.dim() > 1 else 0.2)
        value.data += 1.0 if value.dim() == 1 and value.numel() > 4 else 0.0
    pictures = [picture(50, 41, 70), picture(64, 40, 71)]
    inputs = [p[None] / 255 for p in pictures]
    # Twice, because the same sentence may be drawn more than once.
    draws = {"edited": [2, 11, 2], "direction": [0, 13, 7, 5], "screen": [1, 0], "pictures": []}
    for image in inputs:
        size = guide.view_size(image)
        draws["pictures"].append({kind: draw_views(image, size, source) for kind in ("edited", "before", "after", "screen")})

    edited, original = (guide.texts([t.format(TEXTS[which]) for t in PICTURE_TEMPLATES]) for which in ("edited", "source"))
    screen = guide.texts([t.format(TEXTS["layer"]) for t in SCREEN_TEMPLATES])
    region = guide.texts([TEXTS["region"]])
    green = torch.tensor([0, 177, 64]).view(1, 3, 1, 1) / 255
    layers, terms, kept = [], {name: [] for name in [*WEIGHTS, "bootstrap"]}, {}
    for i, (image, drawn) in enumerate(zip(inputs, draws["pictures"])):
        layer = network(image)
        layers.append(layer)
        colours, alpha = layer[:, :3], layer[:, 3:]
        result = alpha * colours + (1 - alpha) * image
        over_green = alpha * colours + (1 - alpha) * green

        def seen(of, views):
            return guide.features(torch.cat([view(of, guide.view_size(of), one) for one in views]))

        terms["structure"].append(F.mse_loss(guide.self_similarity(result), guide.self_similarity(image).detach()))
        terms["edited"].append(spherical(seen(result, drawn["edited"]), edited[draws["edited"]]))
        moved = seen(result, drawn["after"]) - seen(image, drawn["before"]).detach()
        directions = (edited - original)[draws["direction"]]
        terms["direction"].append(torch.stack([1 - F.cosine_similarity(moved, d[None]).mean() for d in directions]).mean())
        terms["screen"].append(spherical(seen(over_green, drawn["screen"]), screen[draws["screen"]]))
        terms["sparsity"].append(0.01 * alpha.mean() + 0.01 * ((torch.sigmoid(alpha * 5.0) - 0.5) * 2.0).mean())
        square = [guide.side, guide.side]
        relevance = guide.relevance(T.resize(image, square, antialias=False), region)
        terms["bootstrap"].append(F.mse_loss(T.resize(alpha, square, antialias=False), relevance))
        kept |= {f"relevance_{i}": relevance, f"self_similarity_{i}": guide.self_similarity(image)}
    views = torch.cat([view(inputs[0], guide.view_size(inputs[0]), one) for one in draws["pictures"][0]["edited"]])
    losses = {name: sum(values) / len(values) for name, values in terms.items()}
    weights = WEIGHTS | {"bootstrap": 10 * (1 - (STEP + 1) / BOOTSTRAP_STEPS)}
    losses["total"] = sum(weights[name] * losses[name] for name in weights)
    named = network.tensors()
    gradients = torch.autograd.grad(losses["total"], list(named.values()))

    at = folder("text2live", "fixtures")
    save(at / "step.safetensors",
         {f"weights/{name}": value for name, value in named.items()}
         | {f"gradient/{name}": value for name, value in zip(named, gradients)}
         | {f"picture_{i}": p for i, p in enumerate(pictures)}
         | {f"layer_{i}": layer for i, layer in enumerate(layers)} | kept | {"views": views})
    content = {"step": STEP, "bootstrap_steps": BOOTSTRAP_STEPS, "texts": TEXTS, "draws": draws,
               "network": [SCALES, CHANNELS, SKIP], "losses": {name: value.item() for name, value in losses.items()}}
    (at / "step.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(content["losses"], "largest gradient", max(g.abs().max().item() for g in gradients))


if __name__ == "__main__":
    main()
