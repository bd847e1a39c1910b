"""Images for everyday interiors: walls, floors, pictures, windows, books and screens."""

from __future__ import annotations

import cv2
import numpy as np

from orveil.sim.everyday import sample_colour
from orveil.sim.maths import Array
from orveil.sim.textures import Rng, colour, flat, noise2

SIZE = 256


def _joints(img: Array, step: int, dark: float, brick: bool) -> Array:
    for row, y in enumerate(range(0, SIZE, step)):
        img[y : y + 2] *= dark
        shift = step if brick and row % 2 else 0
        for x in range(shift, SIZE, 2 * step):
            img[y : y + step, x : x + 2] *= dark
    return img


def everyday_wall(rng: Rng) -> Array:
    """Paint, wallpaper, brick, wood panels or plaster, (256, 256, 3)."""
    kind = int(rng.integers(0, 7))
    base = np.clip(sample_colour(rng) * 0.35 + rng.uniform(0.35, 0.65), 0, 1)
    img = flat(base, SIZE)
    if kind == 1:
        step, second = int(rng.integers(8, 40)), np.clip(base * rng.uniform(0.75, 1.15), 0, 1)
        for x in range(0, SIZE, 2 * step):
            img[:, x : x + step] = second
    elif kind == 2:
        img = _joints(img * np.array([0.95, 0.7, 0.6]), int(rng.integers(10, 24)), 0.75, brick=True)
    elif kind == 3:
        grain = noise2(rng, SIZE, SIZE, 3, 60) * 0.2
        img = _joints(img * np.array([0.9, 0.7, 0.5]) * (1 + grain)[..., None], 32, 0.7, brick=False)
    elif kind == 4:
        for _ in range(int(rng.integers(20, 80))):
            at = (int(rng.integers(0, SIZE)), int(rng.integers(0, SIZE)))
            cv2.circle(img, at, int(rng.integers(2, 12)), colour(base * rng.uniform(0.6, 1.3)), -1)
    elif kind == 5:
        img[int(SIZE * rng.uniform(0.4, 0.75)) :] *= np.clip(sample_colour(rng) + 0.3, 0, 1)
    return np.asarray(img * (1 + 0.06 * noise2(rng, SIZE, SIZE, 4, 5))[..., None])


def everyday_floor(rng: Rng) -> Array:
    """Planks, tiles, carpet or stone, (256, 256, 3)."""
    kind = int(rng.integers(0, 4))
    base = np.clip(sample_colour(rng) * 0.4 + rng.uniform(0.1, 0.45), 0, 1)
    img = flat(base, SIZE)
    if kind == 0:
        wood = np.array([0.75, 0.55, 0.38]) * rng.uniform(0.5, 1.2)
        img = flat(wood, SIZE) * (1 + 0.25 * noise2(rng, SIZE, SIZE, 40, 3))[..., None]
        for x in range(0, SIZE, 32):
            img[:, x : x + 1] *= 0.6
            img[:, x : x + 32] *= rng.uniform(0.85, 1.12)
    elif kind == 1:
        half = SIZE // 2
        img[:half, :half] *= rng.uniform(0.5, 1.0)
        img[half:, half:] *= rng.uniform(0.5, 1.0)
        img = _joints(img, half, 0.8, brick=False)
    elif kind == 2:
        img = img * (1 + 0.2 * rng.standard_normal((SIZE, SIZE, 1)))
    return np.asarray(img * (1 + 0.08 * noise2(rng, SIZE, SIZE, 6, 6))[..., None])


def picture(rng: Rng) -> Array:
    """A poster or painting: colour fields, shapes or a landscape, (128, 128, 3)."""
    s = 128
    field = np.stack([noise2(rng, s, s, 4, 4) for _ in range(3)], -1)
    img = np.asarray(flat(sample_colour(rng), s) * (1 + 0.8 * field))
    for _ in range(int(rng.integers(0, 12))):
        a = (int(rng.integers(0, s)), int(rng.integers(0, s)))
        b = (int(rng.integers(2, 40)), int(rng.integers(2, 40)))
        cv2.ellipse(img, a, b, float(rng.uniform(0, 180)), 0, 360, colour(sample_colour(rng)), -1)
    if rng.random() < 0.3:
        for y in range(20, 110, 8):
            img[y : y + 3, 12 : int(rng.integers(60, 118))] = 0.15
    frame = sample_colour(rng)
    img[:5] = img[-5:] = frame
    img[:, :5] = img[:, -5:] = frame
    return img


def window(rng: Rng) -> Array:
    """A window onto sky, houses or trees, with its bars, (128, 128, 3)."""
    s = 128
    sky = np.array([0.75, 0.85, 1.0]) * rng.uniform(0.5, 1.2)
    img = np.asarray(flat(np.clip(sky, 0, 1), s) * np.linspace(1, 0.85, s)[:, None, None])
    for _ in range(int(rng.integers(2, 8))):
        x, w, h = int(rng.integers(0, s)), int(rng.integers(8, 40)), int(rng.integers(20, 90))
        img[s - h :, x : x + w] = sample_colour(rng) * 0.7
    green = (noise2(rng, s, s, 8, 8) > 0.1) & (np.arange(s)[:, None] > s * rng.uniform(0.5, 1.1))
    img[green] = np.array([0.25, 0.4, 0.2]) * rng.uniform(0.5, 1.4)
    bar = np.full(3, rng.uniform(0.3, 1.0))
    for k in (0, s // 2 - 3, s - 6):
        img[:, k : k + 6] = bar
    for k in (0, s - 6, int(s * 0.3)):
        img[k : k + 6] = bar
    return img


def books(rng: Rng) -> Array:
    """Shelves full of books and boxes, (256, 256, 3)."""
    img = flat(np.full(3, 0.15), SIZE)
    rows = int(rng.integers(3, 6))
    height = SIZE // rows
    for r in range(rows):
        x = 4
        while x < SIZE - 8:
            w, h = int(rng.integers(4, 18)), int(height * rng.uniform(0.4, 0.88))
            if rng.random() < 0.85:
                img[(r + 1) * height - h : (r + 1) * height - 4, x : x + w] = sample_colour(rng)
            x += w + int(rng.integers(0, 4))
        img[(r + 1) * height - 5 : (r + 1) * height] = 0.6
    return img


def desktop(rng: Rng) -> Array:
    """A computer or television picture, (96, 160, 3)."""
    h, w = 96, 160
    img = np.ones((h, w, 3), np.float32) * np.asarray(sample_colour(rng), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        x, y = int(rng.integers(0, w - 30)), int(rng.integers(0, h - 20))
        cv2.rectangle(
            img, (x, y), (x + int(rng.integers(30, 90)), y + int(rng.integers(20, 60))), (0.93,) * 3, -1
        )
        for k in range(y + 6, min(h, y + 50), 7):
            cv2.line(img, (x + 4, k), (x + int(rng.integers(10, 60)), k), (0.3, 0.3, 0.35), 2)
    return img


def door(rng: Rng) -> Array:
    """A door leaf with panels or a pane, (128, 64, 3)."""
    img = np.ones((128, 64, 3), np.float32) * np.asarray(sample_colour(rng) * 0.6 + 0.3, np.float32)
    if rng.random() < 0.5:
        cv2.rectangle(img, (14, 12), (50, 60), (0.2, 0.24, 0.27), -1)
    for y in (12, 70):
        cv2.rectangle(img, (10, y), (54, y + 46), (0.25, 0.22, 0.2), 1)
    img[66:70, 52:60] = 0.2
    return img


def foliage(rng: Rng) -> Array:
    """Leaves, (64, 64, 3)."""
    tone = np.array([0.2, 0.42, 0.15]) * rng.uniform(0.6, 1.5)
    return np.asarray(flat(tone, 64) * (1 + 0.7 * noise2(rng, 64, 64, 20, 20))[..., None])
