"""Makes the golden files of tests/upsampling: a small edit, and what bilateral guided upsampling makes of it in float64.

Run with NumPy and Pillow:

    python make_upsampling_fixtures.py

The equations are those of Chen et al. 2016 in their dense form: hat functions as matrices, normal equations of all
nodes as one product, `numpy.linalg.solve`.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "upsampling" / "fixtures"
LUMA = np.array([0.299, 0.587, 0.114])


def hats(places, count):
    """[places, count]: the linear interpolation weights of `count` nodes over [0, 1]."""
    scaled = np.clip(np.asarray(places, dtype=np.float64), 0, 1) * (count - 1)
    return np.maximum(1 - np.abs(scaled[:, None] - np.arange(count)[None]), 0)


def centres(count):
    return (np.arange(count) + 0.5) / count


def shares(low, high, photo):
    """The middles of a photograph's pixels as shares of [low, high]."""
    return np.clip((np.arange(photo) + 0.5 - low) / (high - low), 0, 1)


def nearness(low, high, photo):
    """1 inside of [low, high], falling to 0 within a sixteenth of its extent."""
    place = (np.arange(photo) + 0.5 - low) / (high - low)
    return np.clip(1 - 16 * np.maximum(-place, place - 1), 0, 1)


def smoothing(count, times):
    matrix = (np.diag(np.full(count, 2.0)) + np.diag(np.ones(count - 1), 1) + np.diag(np.ones(count - 1), -1)) / 4
    return np.linalg.matrix_power(matrix, times) if count > 1 else np.eye(1)


def fit(rgb, change, weight, shape, regularisation, times, summand=0.3):
    """Maps [rows, columns, tones, 4, 3]. \\param shape (rows, columns, tones)"""
    height, width = rgb.shape[:2]
    rows, columns, tones = shape
    nodes = np.einsum("yr,xc,yxt->yxrct", hats(centres(height), rows), hats(centres(width), columns),
                      hats((rgb @ LUMA).ravel(), tones).reshape(height, width, tones))
    p = np.concatenate([rgb, np.ones((height, width, 1))], 2)
    left = np.einsum("yx,yxrct,yxi,yxj->rctij", weight, nodes, p, p)
    right = np.einsum("yx,yxrct,yxi,yxk->rctik", weight, nodes, p, change)
    for axis, count in enumerate(shape):
        matrix = smoothing(count, times)
        left = np.moveaxis(np.tensordot(matrix, left, (1, axis)), 0, axis)
        right = np.moveaxis(np.tensordot(matrix, right, (1, axis)), 0, axis)
    pixels = width * height / (max(columns - 1, 1) * max(rows - 1, 1))
    return np.linalg.solve(left + regularisation * pixels * np.diag([1, 1, 1, summand]), right)


def sliced(maps, rgb, y, x):
    """The change of colours `rgb` at places y and x in [0, 1]."""
    rows, columns, tones = maps.shape[:3]
    tone = hats((rgb @ LUMA).ravel(), tones).reshape(*rgb.shape[:2], tones)
    here = np.einsum("yr,xc,yxt,rctik->yxik", hats(y, rows), hats(x, columns), tone, maps, optimize=True)
    return np.einsum("yxi,yxik->yxk", np.concatenate([rgb, np.ones((*rgb.shape[:2], 1))], 2), here)


def windows(values, radius):
    """Means over windows, as far as they lie in the picture."""
    height, width = values.shape
    result = np.empty_like(values)
    for y in range(height):
        for x in range(width):
            result[y, x] = values[max(y - radius, 0):y + radius + 1, max(x - radius, 0):x + radius + 1].mean()
    return result


def cubic(places, count):
    """[places, count]: Catmull and Rom's weights."""
    matrix = np.zeros((len(places), count))
    for i, place in enumerate(np.clip(np.asarray(places) * count - 0.5, 0, count - 1)):
        first = int(place)
        for k in range(first - 1, first + 3):
            d = abs(place - k)
            w = 1.5 * d**3 - 2.5 * d**2 + 1 if d < 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0
            matrix[i, min(max(k, 0), count - 1)] += w
    return matrix


def upsampled(photo, before, after, seen, cells, tones, regularisation, doubt_from, doubt_to):
    unit = [np.asarray(image, np.float64) / 255 for image in (photo, before, after)]
    sharp, low, edited = unit
    height, width = low.shape[:2]
    exact = np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS, seen), np.float64) / 255
    longer = max(height, width)
    radius = max(longer // 85, 1)
    codec = windows(((exact - low) ** 2).mean(2), radius)
    coarse = [max(round(length * cells / (4 * longer)), 1) for length in (height, width)]
    passes = [((1, 1, 1), 1e-4, 0, 1e-3),
              ((coarse[0] + 1, coarse[1] + 1, tones), 0.1 * regularisation, 1, 0.3),
              ((4 * coarse[0] + 1, 4 * coarse[1] + 1, tones), regularisation, 3, 0.3)]

    def learn(weight):
        rest, all_maps = edited - low, []
        for shape, cost, times, summand in passes:
            maps = fit(low, rest, weight, shape, cost, times, summand)
            rest = rest - sliced(maps, low, centres(height), centres(width))
            all_maps.append(maps)
        error = windows((rest**2).mean(2), radius)
        t = np.clip((error / (codec + 4e-4) - doubt_from) / (doubt_to - doubt_from), 0, 1)
        return all_maps, windows(t * t * (3 - 2 * t), radius)

    _, doubt = learn(np.ones((height, width)))
    all_maps, doubt = learn(1 - doubt)
    y, x = shares(seen[1], seen[3], photo.height), shares(seen[0], seen[2], photo.width)
    mapped = np.clip(sharp + sum(sliced(maps, sharp, y, x) for maps in all_maps), 0, 1)
    drawn = np.einsum("Yy,Xx,yxk->YXk", cubic(y, height), cubic(x, width), edited)
    share = np.einsum("Yy,Xx,yx->YX", hats(np.clip((y * height - 0.5) / (height - 1), 0, 1), height),
                      hats(np.clip((x * width - 0.5) / (width - 1), 0, 1), width), doubt)
    share = (share * np.outer(nearness(seen[1], seen[3], photo.height), nearness(seen[0], seen[2], photo.width)))[..., None]
    return np.clip(mapped + share * (drawn - mapped), 0, 1), doubt


def main():
    rng = np.random.default_rng(7)
    height, width, seen, side = 44, 64, (10.0, 0.0, 54.0, 44.0), 22
    y, x = np.mgrid[:height, :width] / 32.0
    photo = np.stack([0.5 + 0.35 * np.sin(3 * x + k) * np.cos(2.5 * y - 2 * k) for k in range(3)], 2)
    photo[8:20, 14:30] = photo[8:20, 14:30] * 0.4 + 0.1
    photo = np.clip(photo + 0.05 * rng.standard_normal(photo.shape), 0, 1)
    photo = Image.fromarray((photo * 255 + 0.5).astype(np.uint8))
    exact = np.asarray(photo.resize((side, side), Image.Resampling.LANCZOS, seen), np.float64) / 255
    before = np.clip(exact * 0.9 + 0.05 + 0.02 * rng.standard_normal(exact.shape), 0, 1)
    grey = before @ LUMA
    after = np.stack([0.9 * grey**1.3 + 0.08, 0.75 * grey + 0.05, 0.55 * grey], 2)
    after[:, 11:] = after[:, 11:] * 0.7 + 0.3 * before[:, 11:]
    after[13:19, 13:20] = (0.9, 0.2, 0.7)  # an object that the photograph does not have
    after = np.clip(after + 0.01 * rng.standard_normal(after.shape), 0, 1)
    pictures = {name: Image.fromarray((values * 255 + 0.5).astype(np.uint8))
                for name, values in (("before", before), ("after", after))}
    result, doubt = upsampled(photo, pictures["before"], pictures["after"], seen, cells=8, tones=5,
                                     regularisation=1e-3, doubt_from=2, doubt_to=6)
    OUT.mkdir(parents=True, exist_ok=True)
    photo.save(OUT / "photo.png")
    for name, image in pictures.items():
        image.save(OUT / f"{name}.png")
    Image.fromarray((result * 255 + 0.5).astype(np.uint8)).save(OUT / "upsampled.png")
    # One pass alone, with weights: for each node and each of r, g, b of the change, the factors of r, g, b and the summand.
    low, edited = (np.asarray(pictures[name], np.float64) / 255 for name in ("before", "after"))
    weight = np.broadcast_to(np.arange(side) / side, (side, side))
    grid = fit(low, edited - low, weight, (3, 4, 5), 1e-3, 2)
    golden = {"seen": seen, "doubt": [float(f"{v:.6g}") for v in doubt.ravel()],
              "grid": [float(f"{v:.6g}") for v in np.swapaxes(grid, 3, 4).ravel()]}
    (OUT / "upsampling.json").write_text(json.dumps(golden) + "\n")
    print(f"doubt {doubt.mean():.3f}, change {np.abs(result - np.asarray(photo) / 255).mean():.3f}")


if __name__ == "__main__":
    main()
