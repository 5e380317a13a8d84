#!/usr/bin/env python3
"""Makes tests/pipeline/fixtures/{inversion,prompt-to-prompt}-expected.safetensors and prompt-to-prompt-cases.json with
diffusers' models and DDIM scheduler.

    $(tests/parity/venv.sh) tests/parity/make_inversion_fixtures.py

DDIM inversion, null-text optimisation and Prompt-to-Prompt are written here anew from the published descriptions
(Mokady et al. 2023, Hertz et al. 2022 and their released programs), with attention maps computed in full, stored and
edited as maps. The models are those of tests/pipeline/fixtures/tiny-ip2p; the UNet has the first four channels of
conv_in, as in make_generation_fixtures.py.
"""

import json
import math

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionInstructPix2PixPipeline
from make_generation_fixtures import FIXTURES, generator, photograph, with_channels
from safetensors.torch import save_file

NOISE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False,
             clip_sample=False)  # fmt: skip
GUIDANCE = 7.5


def ddim(steps, cls=DDIMScheduler, **changes):
    scheduler = cls(**NOISE | changes)
    scheduler.set_timesteps(steps)
    return scheduler


class Models:
    def __init__(self):
        self.pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            str(FIXTURES / "tiny-ip2p"), torch_dtype=torch.float32, safety_checker=None)  # fmt: skip
        self.unet = with_channels(self.pipe.unet, 4).requires_grad_(False)
        self.vae, self.tokenizer = self.pipe.vae, self.pipe.tokenizer

    @torch.no_grad()
    def text(self, prompts):
        ids = self.tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        return self.pipe.text_encoder(ids.input_ids).last_hidden_state

    def noise(self, x, t, context):
        return self.unet(x, t, encoder_hidden_states=context).sample

    @torch.no_grad()
    def encode(self, photos):
        return self.vae.encode(photos.float() / 127.5 - 1).latent_dist.mean * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents):
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return ((pixels / 2 + 0.5).clamp(0, 1) * 255).round()


# ----------------------------------------------------------------------------------------------------------- inversion


@torch.no_grad()
def inverted(models, clean, text, steps, **changes):
    """Latents from the photograph to noise: those at t - N/S move to t by the noise that is predicted from them for t."""
    forward = ddim(steps, **changes)
    stride = forward.config.num_train_timesteps // steps
    x, visited = clean, [clean]
    for t in reversed(forward.timesteps.tolist()):
        alpha = forward.alphas_cumprod[t - stride] if t >= stride else forward.final_alpha_cumprod
        target = forward.alphas_cumprod[t]
        noise = models.noise(x, t, text)
        x = target.sqrt() * (x - (1 - alpha).sqrt() * noise) / alpha.sqrt() + (1 - target).sqrt() * noise
        visited.append(x)

    # diffusers' own scheduler for this takes the same steps.
    inverse = ddim(steps, DDIMInverseScheduler, **changes)
    x = clean
    for t, expected in zip(inverse.timesteps, visited[1:], strict=True):
        x = inverse.step(models.noise(x, t, text), t, x).prev_sample
        assert torch.allclose(x, expected, atol=1e-4), (t, (x - expected).abs().max())
    return visited


@torch.no_grad()
def run_back(models, start, text, steps, **changes):
    scheduler = ddim(steps, **changes)
    x = start
    for t in scheduler.timesteps:
        x = scheduler.step(models.noise(x, t, text), t, x).prev_sample
    return x


def report(name, found, expected):
    print(f"{name}: std {expected.std():.3f}, mse {(found - expected).square().mean():.2e}")


def inversion_cases(models):
    tensors = {}
    cases = [
        ("published", 50, (64, 64), ["a red balloon"], {}),
        ("batch", 8, (72, 40), ["a snowy hill", "a cat on the grass"], {}),
        ("alpha-one", 8, (64, 64), ["a red balloon"], dict(set_alpha_to_one=True)),
    ]
    for name, steps, (width, height), prompts, changes in cases:
        photos = torch.stack([photograph(width, height, 20 + i) for i in range(len(prompts))])
        clean, text = models.encode(photos), models.text(prompts)
        visited = inverted(models, clean, text, steps, **changes)
        back = run_back(models, visited[-1], text, steps, **changes)
        report(f"inversion {name}", back, clean)
        push = 1e-6 * torch.randn(clean.shape, generator=generator(1))
        moved = inverted(models, clean + push, text, steps, **changes)
        growth = (moved[-1] - visited[-1]).abs().max() / 1e-6
        print(f"  1e-6 in grows by {growth:.1f}")
        error = (models.decode(back) - photos).square().mean((1, 2, 3))
        own = (models.decode(clean) - photos).square().mean((1, 2, 3))
        tensors |= {
            f"{name}.photos": photos,
            f"{name}.trajectory": torch.stack(visited[::-1][:: steps // 8 + 1]),
            f"{name}.reconstruction": back,
            f"{name}.psnr": 10 * torch.log10(255**2 / error),
            f"{name}.codec_psnr": 10 * torch.log10(255**2 / own),
        }
    return tensors


# ----------------------------------------------------------------------------------------------------------- null text


def null_texts(models, visited, text, null, steps, inner, tolerance, growth):
    scheduler = ddim(steps)
    x = visited[-1]
    texts, losses = [], torch.full((steps, inner), math.nan, dtype=torch.float64)
    for i, t in enumerate(scheduler.timesteps):
        wanted = visited[steps - i - 1]
        null = null.detach().clone().requires_grad_(True)
        optimiser = torch.optim.Adam([null], lr=1e-2 * (1 - i / 100))
        with torch.no_grad():
            with_text = models.noise(x, t, text)
        for j in range(inner):
            without = models.noise(x, t, null)
            arrived = scheduler.step(without + GUIDANCE * (with_text - without), t, x).prev_sample
            loss = torch.nn.functional.mse_loss(arrived, wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[i, j] = loss.item()
            if loss.item() < tolerance + i * growth:
                break
        null = null.detach()
        texts.append(null)
        with torch.no_grad():
            without = models.noise(x, t, null)
            x = scheduler.step(without + GUIDANCE * (with_text - without), t, x).prev_sample
    return torch.stack(texts), losses, x


def null_text_cases(models):
    tensors = {}
    prompt = ["a cat on the grass"]
    photo = photograph(64, 64, 30)[None]
    text, null = models.text(prompt), models.text([""])
    tensors["null.photos"] = photo
    clean = models.encode(photo)
    for name, steps, inner, tolerance, growth in (("null", 4, 10, 1e-5, 2e-5), ("null-early", 4, 6, 0.29, 0.52)):
        visited = inverted(models, clean, text, steps)
        texts, losses, x = null_texts(models, visited, text, null, steps, inner, tolerance, growth)
        report(f"null text {name}", x, clean)
        unguided = prompt_to_prompt(models, visited[-1], text, null, steps, None)
        report("  without", unguided, clean)
        print(f"  losses {losses.numpy().round(4).tolist()}, moved by {(texts[-1] - null).std():.4f}")
        tensors |= {f"{name}.texts": texts[:: steps - 1], f"{name}.losses": losses, f"{name}.reconstruction": x}
    return tensors


# ---------------------------------------------------------------------------------------------------- prompt to prompt


class Words:
    """The token positions of each word of a prompt; BOS is position 0."""

    def __init__(self, tokenizer, prompt):
        self.words = prompt.split(" ")
        self.places, at = [], 1
        for word in self.words:
            count = len(tokenizer(word).input_ids) - 2
            self.places.append(list(range(at, at + count)))
            at += count
        self.ids = tokenizer(prompt).input_ids
        assert len(self.ids) == at + 1, prompt

    def of(self, word):
        return [p for w, places in zip(self.words, self.places) if w == word for p in places]


def swap_map(source, edited):
    """M: the map of edited token t is the source's map times column t. As published, each position after the last word
    that changed maps to itself."""
    matrix = torch.zeros(77, 77)
    changed = [i for i, (a, b) in enumerate(zip(source.words, edited.words, strict=True)) if a != b]
    matrix[0, 0] = 1
    for a, b in list(zip(source.places, edited.places))[: changed[-1] + 1]:
        if len(a) == len(b):
            matrix[a, b] = 1
        else:
            for p in b:
                matrix[a, p] = 1 / len(b)
    after_a, after_b = source.places[changed[-1]][-1] + 1, edited.places[changed[-1]][-1] + 1
    for k in range(77 - max(after_a, after_b)):
        matrix[after_b + k, after_b + k] = 1
    return matrix


def refine_map(source, edited):
    """For an edited prompt that has the source's tokens with others in between: the source's position of each old token,
    and 1 for old and 0 for new ones. Positions after its end map to themselves."""
    mapper, old = torch.arange(77), torch.ones(77)
    at = 0
    for t, token in enumerate(edited.ids):
        if at < len(source.ids) and source.ids[at] == token:
            mapper[t] = at
            at += 1
        else:
            old[t] = 0
    assert at == len(source.ids)
    return mapper, old


class Control:
    """Edits and stores the maps of one run over a group whose first image is the source."""

    def __init__(self, tokenizer, case, latents):
        self.case, self.steps = case, case["steps"]
        self.step = 0
        prompts = [Words(tokenizer, p) for p in case["prompts"]]
        source, self.edited = prompts[0], prompts[1:]
        self.swap = [swap_map(source, e) for e in self.edited] if "swap" in case["edit"] else None
        self.refine = [refine_map(source, e) for e in self.edited] if "refine" in case["edit"] else None
        self.scale = torch.ones(len(self.edited), 77)
        for word, factor in case.get("scales", {}).items():
            for i, e in enumerate(self.edited):
                self.scale[i, e.of(word)] = factor
        self.blend = None
        if "blend" in case:
            self.blend = torch.zeros(len(prompts), 77)
            for i, (p, word) in enumerate(zip(prompts, case["blend"])):
                self.blend[i, p.of(word)] = 1
            self.quarter = (math.ceil(latents[0] / 4), math.ceil(latents[1] / 4))
            self.stored, self.margin = 0, math.inf

    def open(self, i, position):
        """Whether edited token `position` of image i takes the source's map on this step."""
        begin, end = self.case.get("cross", [0.0, 0.8])
        for word, window in self.case.get("word_windows", {}).items():
            if position in self.edited[i].of(word):
                begin, end = window
        return int(begin * (self.steps + 1)) <= self.step < int(end * (self.steps + 1))

    def edit_cross(self, maps):
        source = maps[0]
        for i in range(len(self.edited)):
            own = maps[i + 1]
            if self.swap:
                new = source @ self.swap[i]
            elif self.refine:
                mapper, old = self.refine[i]
                new = source[..., mapper] * old + own * (1 - old)
            else:
                new = source
            new = new * self.scale[i]
            open_tokens = torch.tensor([float(self.open(i, t)) for t in range(77)])
            maps[i + 1] = new * open_tokens + own * (1 - open_tokens)

    def __call__(self, maps, cross):
        """maps [2 * images, heads, pixels, tokens]: those without the text come first and stay unchanged."""
        maps = maps.clone()
        with_text = maps[maps.shape[0] // 2 :]
        begin, end = self.case.get("self", [0.0, 0.4])
        if cross:
            self.edit_cross(with_text)
            if self.blend is not None and maps.shape[2] == self.quarter[0] * self.quarter[1]:
                words = (with_text * self.blend[:, None, None, :]).sum(-1).mean(1)
                self.stored = self.stored + words.unflatten(1, self.quarter)[:, None]
        elif int(begin * self.steps) <= self.step < int(end * self.steps):
            if maps.shape[2] <= self.case.get("max_tokens", 32 * 32):
                with_text[1:] = with_text[:1]
        return maps

    def after_step(self, x):
        self.step += 1
        if self.blend is None or self.step <= int(self.case.get("start_blend", 0.2) * self.steps):
            return x
        mask = torch.nn.functional.max_pool2d(self.stored, 3, 1, 1)
        mask = torch.nn.functional.interpolate(mask, size=x.shape[2:])
        mask = mask / mask.amax((2, 3), keepdim=True)
        threshold = self.case.get("threshold", 0.3)
        self.margin = min(self.margin, (mask - threshold).abs().min().item())
        mask = mask > threshold
        mask = (mask | mask[:1]).float()
        self.share = mask[1:].mean().item()
        return x[:1] + mask * (x - x[:1])


class ExplicitMaps:
    """An attention processor that forms each map and passes it through a control."""

    def __init__(self, control):
        self.control = control

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        cross = encoder_hidden_states is not None
        context = encoder_hidden_states if cross else hidden_states
        q, k, v = (
            p.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for p in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        maps = self.control((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1), cross)
        return attn.to_out[0]((maps @ v).transpose(1, 2).flatten(2))


@torch.no_grad()
def prompt_to_prompt(models, start, text, null, steps, control):
    """null [1 or images,77,D], or [steps,1,77,D]."""
    plain = models.unet.attn_processors
    if control is not None:
        models.unet.set_attn_processor(ExplicitMaps(control))
    scheduler = ddim(steps)
    images = text.shape[0]
    x = start.expand(images, -1, -1, -1)
    for i, t in enumerate(scheduler.timesteps):
        without = (null[i] if null.dim() == 4 else null).expand(images, -1, -1)
        noise = models.noise(torch.cat([x, x]), t, torch.cat([without, text]))
        low, high = noise.chunk(2)
        x = scheduler.step(low + GUIDANCE * (high - low), t, x).prev_sample
        if control is not None:
            x = control.after_step(x)
    models.unet.set_attn_processor(plain)
    return x


CASES = [
    dict(name="swap", seed=50, edit="swap", steps=5, prompts=["a cat on the grass", "a squirrel on the grass"]),
    dict(name="swap-two", seed=51, edit="swap", steps=5, prompts=["a red cat on the hill", "a red dog on the sea",
         "a squirrel cat on the hill"], cross=[0.2, 0.7], self=[0.2, 0.8], max_tokens=96,
         word_windows={"dog": [0.0, 0.4]}),
    dict(name="refine", seed=52, edit="refine", steps=5, prompts=["a cat on the grass",
         "a fluffy cat on the snowy green grass"]),
    dict(name="reweight", seed=53, edit="reweight", steps=5, prompts=["a cat on the grass", "a cat on the grass"],
         scales={"grass": -2.0, "cat": 3.0}, cross=[0.0, 1.0]),
    dict(name="refine-reweight", seed=54, edit="refine,reweight", steps=5, prompts=["a cat on the grass",
         "a cat on the snowy grass"], scales={"snowy": 4.0}, cross=[0.0, 1.0]),
    dict(name="blend", seed=55, edit="swap", steps=5, prompts=["a cat on the grass", "a dog on the grass"],
         blend=["cat", "dog"], threshold=0.7),
    dict(name="photo", edit="swap", steps=3, prompts=["a cat on the grass", "a dog on the grass"], inner=4),
]  # fmt: skip


def prompt_to_prompt_cases(models):
    tensors = {}
    for case in CASES:
        shape = (1, 4, 8, 12) if "inner" in case else (1, 4, 16, 24)
        prompts, steps = case["prompts"], case["steps"]
        text, null = models.text(prompts), models.text([""])
        control = Control(models.tokenizer, case, shape[2:])
        if "inner" in case:
            photo = photograph(shape[3] * 8, shape[2] * 8, 40)[None]
            visited = inverted(models, models.encode(photo), text[:1], steps)
            null = null_texts(models, visited, text[:1], null, steps, case["inner"], 1e-5, 2e-5)[0]
            start = visited[-1]
            tensors |= {f"{case['name']}.photos": photo, f"{case['name']}.texts": null}
        else:
            start = torch.randn(shape, generator=generator(case["seed"]))
        x = prompt_to_prompt(models, start, text, null, steps, control)
        free = prompt_to_prompt(models, start, text, null, steps, None)
        again = Control(models.tokenizer, case, shape[2:])
        push = 1e-6 * torch.randn(shape, generator=generator(2))
        moved = prompt_to_prompt(models, start + push, text, null, steps, again)
        print(f"{case['name']}: std {x.std():.2f}, edited from source {(x[1:] - x[:1]).std():.3f}, from unedited "
              f"attention {(x - free)[1:].std():.3f}, source {(x - free)[:1].abs().max():.1e}, "
              f"1e-6 in grows by {(moved - x).abs().max() / 1e-6:.1f}")  # fmt: skip
        if control.blend is not None:
            print(f"  mask {control.share:.2f} of the picture, nearest to the threshold {control.margin:.1e}")
        tensors[f"{case['name']}.latents"] = x
    (FIXTURES / "prompt-to-prompt-cases.json").write_text(json.dumps(CASES, indent=2) + "\n")
    return tensors


def save(name, tensors):
    path = FIXTURES / name
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, str(path))
    print(f"{name}: {path.stat().st_size / 1024:.0f} KiB")


def main():
    torch.set_num_threads(1)
    models = Models()
    save("inversion-expected.safetensors", inversion_cases(models) | null_text_cases(models))
    save("prompt-to-prompt-expected.safetensors", prompt_to_prompt_cases(models))


if __name__ == "__main__":
    main()
