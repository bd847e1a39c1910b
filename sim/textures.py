"""Procedural images for cloth, skin and plain surfaces, painted from a random generator."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from orveil.sim.maths import Array

Rng = np.random.Generator


def noise2(rng: Rng, h: int, w: int, cy: int, cx: int) -> Array:
    """Smooth, roughly tileable noise in [-1, 1], shape (h, w), with about cy x cx cells."""
    g = rng.standard_normal((max(2, cy), max(2, cx))).astype(np.float32)
    g = np.pad(g, ((1, 1), (1, 1)), mode="wrap")
    fx, fy = w / (g.shape[1] - 2), h / (g.shape[0] - 2)
    n = np.asarray(cv2.resize(g, None, fx=fx, fy=fy, interpolation=cv2.INTER_CUBIC))
    oy, ox = (n.shape[0] - h) // 2, (n.shape[1] - w) // 2
    return np.asarray(np.clip(n[oy : oy + h, ox : ox + w] * 0.5, -1, 1))


def png(image: Array) -> bytes:
    """PNG bytes of an RGB image (h, w, 3) with values 0 to 1."""
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)[..., ::-1]
    # Level 1: these bytes only travel from here to the renderer in the same process.
    return bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


def colour(value: npt.ArrayLike) -> tuple[float, ...]:
    """An array as the plain tuple that OpenCV's drawing functions want."""
    return tuple(float(x) for x in np.asarray(value, float))


def flat(rgb: npt.ArrayLike, size: int = 32) -> Array:
    """A plain image (size, size, 3) of one colour."""
    return np.ones((size, size, 3), np.float32) * np.asarray(rgb, np.float32)


def mottled(rng: Rng, rgb: npt.ArrayLike, size: int = 64, amount: float = 0.04) -> Array:
    """One colour with soft, uneven shading (skin, plaster), (size, size, 3)."""
    return flat(rgb, size) * (1 + amount * noise2(rng, size, size, 8, 8))[..., None]


def fold_shading(rng: Rng, size: int, fold: float) -> Array:
    """Brightness factor (size, size) of wrinkled cloth."""
    f = noise2(rng, size, size, 4, 14) * 0.6 + noise2(rng, size, size, 10, 8) * 0.3
    f = f + noise2(rng, size, size, 24, 30) * 0.25
    weave = rng.standard_normal((size, size)).astype(np.float32) * 0.03
    return np.asarray(1 + 1.35 * fold * f + weave)


def under_arm_shading(image: Array, amount: float) -> Array:
    """Darken the flanks and the lower edge of a garment, where little light arrives."""
    s = image.shape[0]
    u = np.arange(s) / s
    sides = np.exp(-(((u - 0.25) / 0.075) ** 2)) + np.exp(-(((u - 0.75) / 0.075) ** 2))
    hem = np.exp(-((np.arange(s)[::-1] / s / 0.06) ** 2))
    return np.asarray(image * (1 - amount * sides)[None, :, None] * (1 - 0.5 * amount * hem)[:, None, None])


def tex_cloth(
    rng: Rng,
    rgb: npt.ArrayLike,
    size: int = 256,
    fold: float = 0.16,
    shade: float = 0.0,
    *,
    front: tuple[float, float, npt.ArrayLike] | None = None,
    belt: float | None = None,
    neckline: npt.ArrayLike | None = None,
    badge: bool = False,
    seam: bool = False,
) -> Array:
    """Garment texture (size, size, 3); u = 0.5 is the front of the body, row 0 the top edge.

    `front` = (from u, to u, colour) is a strip down the front, `belt` the height of a tied belt,
    `neckline` the colour seen in a V neck, `seam` a dark line down the back.
    """
    folds = fold_shading(rng, size, fold)
    s = size
    rgb = np.asarray(rgb, np.float32)
    img = np.ones((s, s, 3), np.float32) * rgb
    if front is not None:
        img[: int(s * 0.80), int(front[0] * s) : int(front[1] * s)] = np.asarray(front[2], np.float32)
    if belt is not None:
        r = int((1 - belt) * s)
        img[r - 2 : r + 3] *= 0.72
        cv2.line(img, (int(0.60 * s), r), (int(0.63 * s), r + s // 9), colour(rgb * 0.7), 2)
    if seam:
        img[:, :2] *= 0.6
        img[:, -2:] *= 0.6
    if neckline is not None:
        p = np.array([[0.435 * s, 0], [0.565 * s, 0], [0.5 * s, 0.115 * s]], np.int32)
        cv2.fillPoly(img, [p], colour(neckline))
        cv2.polylines(img, [p], True, colour(rgb * 0.7), 2)
        a, b = (int(0.555 * s), int(0.24 * s)), (int(0.605 * s), int(0.33 * s))
        cv2.rectangle(img, a, b, colour(rgb * 0.8), 1)
    if badge:
        a, b = (int(0.40 * s), int(0.30 * s)), (int(0.435 * s), int(0.36 * s))
        cv2.rectangle(img, a, b, (0.92, 0.92, 0.92), -1)
    if shade:
        img = under_arm_shading(img, shade)
    return np.asarray(img * folds[..., None])
