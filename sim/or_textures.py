"""Images for the operating room: floor, walls, screens, cabinets and doors."""

from __future__ import annotations

import cv2
import numpy as np

from orveil.sim.maths import Array
from orveil.sim.textures import Rng, colour, flat, noise2

FLOORS = np.array([
    [.62, .66, .66], [.55, .60, .55], [.70, .67, .60], [.48, .54, .60], [.66, .62, .64]])  # fmt: skip
WALLS = np.array([
    [.80, .83, .80], [.72, .80, .80], [.84, .80, .72], [.68, .76, .70],
    [.74, .78, .86], [.86, .86, .84]])  # fmt: skip
CABINETS = np.array([[0.75, 0.78, 0.80], [0.62, 0.70, 0.76], [0.80, 0.76, 0.68]])
DOORS = np.array([[0.70, 0.62, 0.48], [0.45, 0.58, 0.66], [0.75, 0.76, 0.76]])


def theatre_floor(rng: Rng) -> Array:
    """Speckled vinyl, welded or chequered, (512, 512, 3)."""
    s, kind = 512, rng.integers(0, 3)
    img = np.ones((s, s, 3)) * FLOORS[rng.integers(0, len(FLOORS))]
    img = img * (1 + 0.05 * noise2(rng, s, s, 6, 6) + 0.05 * noise2(rng, s, s, 60, 60))[..., None]
    speckle = rng.random((s, s))
    img[speckle > 0.985] *= 0.78
    img[speckle < 0.012] *= 1.15
    q = s // 2
    if kind == 0:
        for line, dark in ((0, 0.75), (1, 0.85)):
            img[line::q] *= dark
            img[:, line::q] *= dark
    elif kind == 1:
        img[:q, :q] *= 0.93
        img[q:, q:] *= 0.93
    return np.asarray(img)


def theatre_wall(rng: Rng) -> Array:
    """Ceramic tiles, two-tone paint or steel panels, (512, 512, 3)."""
    s, kind = 512, int(rng.integers(0, 3))
    img = np.ones((s, s, 3)) * WALLS[rng.integers(0, len(WALLS))]
    if kind == 0:
        n = 16
        tone = cv2.resize(rng.standard_normal((n, n)), (s, s), interpolation=cv2.INTER_NEAREST)
        img *= (1 + 0.04 * tone)[..., None]
        img[:: s // n] *= 0.86
        img[:, :: s // n] *= 0.86
    elif kind == 1:
        edge = int(s * 0.6)
        img[edge:] *= np.array([0.72, 0.80, 0.86]) if rng.random() < 0.5 else np.array([0.78, 0.85, 0.74])
        img[edge : edge + 6] *= 0.7
    else:
        for x in range(0, s, s // 6):
            img[:, x : x + 3] *= 0.7
        img *= (1 + 0.03 * noise2(rng, s, s, 2, 40))[..., None]
    return np.asarray(img * (1 + 0.04 * noise2(rng, s, s, 3, 4))[..., None])


def _vital_signs(rng: Rng, img: Array) -> None:
    h, w = img.shape[:2]
    for r, c in enumerate([(0.1, 1, 0.2), (1, 0.9, 0.1), (0.2, 0.8, 1), (1, 0.3, 0.3)]):
        y0 = 25 + r * 42
        x = np.arange(w * 0.72)
        y = y0 - 14 * np.exp(-(((x % 48 - 18) / 4.0) ** 2)) - 5 * np.sin(x / (5.0 + 3 * r))
        cv2.polylines(img, [np.stack([x, y], 1).astype(np.int32)], False, c, 2)
        text = np.zeros((h, w), np.uint8)
        cv2.putText(text, str(int(rng.integers(50, 130))), (int(w * 0.75), y0 + 8), 0, 0.9, 255, 2)
        img[text > 0] = c


def medical_screen(rng: Rng) -> Array:
    """Vital signs, an X-ray or an endoscope's picture, (180, 320, 3)."""
    h, w = 180, 320
    img = np.zeros((h, w, 3), np.float32) + 0.03
    kind = rng.integers(0, 3)
    if kind == 0:
        _vital_signs(rng, img)
    elif kind == 1:
        img += 0.25 + 0.2 * noise2(rng, h, w, 5, 5)[..., None]
        cv2.line(img, (w // 2, 0), (w // 2 + 10, h), (0.85, 0.85, 0.85), 16)
        for i in range(6):
            cv2.ellipse(img, (w // 2, 15 + i * 30), (110, 30), 0, 0, 180, (0.7, 0.7, 0.7), 4)
        img = np.asarray(cv2.GaussianBlur(img, (0, 0), 2))
    else:
        img += np.array([0.5, 0.2, 0.15]) * (1 + 0.5 * noise2(rng, h, w, 6, 8)[..., None])
        disc = np.zeros((h, w), np.float32)
        cv2.circle(disc, (w // 2, h // 2), 85, 1.0, -1)
        img *= disc[..., None]
    return img


def theatre_ceiling(rng: Rng) -> Array:
    """Ceiling panels, some of them lamps, (256, 256, 3)."""
    img = flat(np.full(3, 0.82), 256)
    img[::64] *= 0.8
    img[:, ::64] *= 0.8
    for _ in range(3):
        y, x = rng.integers(0, 4, 2) * 64
        img[y + 3 : y + 62, x + 3 : x + 62] = 1.0
    return img


def cabinet(rng: Rng) -> Array:
    """Cupboard doors, sometimes with glass and stock behind, (256, 256, 3)."""
    c = CABINETS[rng.integers(0, len(CABINETS))]
    img = flat(c, 256)
    for x in range(0, 256, 64):
        img[:, x : x + 3] *= 0.6
        img[120:136, x + 50 : x + 54] = 0.3
    img[126:129] *= 0.6
    if rng.random() < 0.6:
        img[6:120] = 0.25
        for y in (40, 80, 119):
            for x in range(4, 246, 14):
                img[y - int(rng.integers(8, 30)) : y, x : x + 11] = rng.random(3) * 0.8
        for x in range(0, 256, 64):
            img[:, x : x + 3] = c * 0.6
    return img


def notice(rng: Rng) -> Array:
    """A notice on the wall, (256, 256, 3)."""
    img = flat(np.full(3, 0.92), 256)
    img[:40] = rng.random(3) * 0.7
    for y in range(56, 240, 14):
        img[y : y + 4, 16 : int(rng.integers(120, 240))] = 0.35
    return img


def theatre_door(rng: Rng) -> Array:
    """A door leaf with a pane, (256, 256, 3)."""
    img = flat(DOORS[rng.integers(0, len(DOORS))], 256)
    cv2.rectangle(img, (80, 30), (176, 110), colour([0.16, 0.2, 0.22]), -1)
    img[140:150, 200:236] = 0.35
    img[200:] *= 0.8
    return img


def cart(rng: Rng) -> Array:
    """Drawers of a trolley or of a machine, (256, 256, 3)."""
    img = flat(np.array([0.80, 0.81, 0.79]) * rng.uniform(0.8, 1.05), 256)
    for y in range(0, 256, 42):
        img[y : y + 3] *= 0.55
        img[y + 16 : y + 22, 90:166] = 0.35
    return img
