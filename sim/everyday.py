"""Everyday clothes and hair of the source domain: nothing that belongs to an operating room."""

from __future__ import annotations

import cv2
import numpy as np

from orveil.sim.body import (
    Build,
    arms,
    ellipse_ring,
    hands,
    limb,
    sample_build,
    shoes,
    sleeves,
    torso_rings,
    trousers,
)
from orveil.sim.head import hair, long_hair
from orveil.sim.maths import Array, smooth
from orveil.sim.mesh import Mesh, Ring, Skinned, loft, skinned
from orveil.sim.person import HAIR_COLOURS, SKIN_TONES, Person, add_head, new_person
from orveil.sim.skeleton import SIDES, limb_weights, share, skirt_weights
from orveil.sim.textures import Rng, colour, flat, fold_shading, mottled, noise2, under_arm_shading

CLOTH = 128
TOPS = ("tshirt", "shirt", "jumper", "jacket", "blouse", "polo", "coat", "vest")
BOTTOMS = ("trousers", "jeans", "skirt", "shorts", "dress", "long_skirt")


def sample_colour(rng: Rng) -> Array:
    """A cloth colour (3,): often dark, grey or blue as in life, sometimes strong."""
    kind = rng.random()
    if kind < 0.35:
        grey = rng.uniform(0.05, 0.95)
        return np.asarray(np.clip(grey + rng.normal(0, 0.02, 3), 0.02, 1.0))
    if kind < 0.5:
        return np.asarray(np.array([0.16, 0.22, 0.36]) * rng.uniform(0.5, 2.0))
    hue, sat, val = rng.uniform(0, 180), rng.uniform(0.15, 0.95), rng.uniform(0.15, 1.0)
    pixel = np.array([[[hue, sat * 255, val * 255]]], np.uint8)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(float) / 255)


def _stripes(rng: Rng, img: Array) -> None:
    s = img.shape[0]
    second = sample_colour(rng)
    step = int(rng.integers(6, 26))
    wide = max(2, int(step * rng.uniform(0.2, 0.6)))
    axis, both = rng.random() < 0.65, rng.random() < 0.35
    for k in range(0, s, step):
        if axis or both:
            img[k : k + wide] = img[k : k + wide] * 0.35 + second * 0.65
        if not axis or both:
            img[:, k : k + wide] = img[:, k : k + wide] * 0.35 + second * 0.65


def _print(rng: Rng, img: Array) -> None:
    s = img.shape[0]
    for _ in range(int(rng.integers(10, 60))):
        centre = (int(rng.integers(0, s)), int(rng.integers(0, s)))
        radii = (int(rng.integers(2, 12)), int(rng.integers(2, 8)))
        cv2.ellipse(img, centre, radii, float(rng.uniform(0, 180)), 0, 360, colour(sample_colour(rng)), -1)


def _logo(rng: Rng, img: Array) -> None:
    s = img.shape[0]
    y, h, w = (
        int(s * rng.uniform(0.15, 0.35)),
        int(s * rng.uniform(0.06, 0.25)),
        int(s * rng.uniform(0.03, 0.10)),
    )
    img[y : y + h, s // 2 - w : s // 2 + w] = sample_colour(rng)


def _block(rng: Rng, img: Array) -> None:
    y = int(img.shape[0] * rng.uniform(0.25, 0.7))
    img[:y] = sample_colour(rng)


def pattern(rng: Rng, plain: float = 0.5, size: int = CLOTH) -> Array:
    """Cloth (size, size, 3), light so that a tint can give it any colour; plain with that chance."""
    img = flat(np.full(3, rng.uniform(0.85, 1.0)), size)
    if rng.random() > plain:
        paint = (_stripes, _stripes, _print, _logo, _block)[rng.integers(0, 5)]
        paint(rng, img)
    elif rng.random() < 0.3:
        img = img * (1 + 0.25 * noise2(rng, size, size, 8, 8))[..., None]
    shade = under_arm_shading(img, rng.uniform(0.05, 0.3))
    return np.asarray(shade * fold_shading(rng, size, rng.uniform(0.06, 0.24))[..., None])


def denim(rng: Rng) -> Array:
    """Jeans cloth (128, 128, 3): blue, worn at the thigh."""
    base = np.array([0.30, 0.40, 0.58]) * rng.uniform(0.4, 1.5)
    img = flat(np.clip(base, 0, 1), CLOTH) * (1 + 0.3 * noise2(rng, CLOTH, CLOTH, 4, 4))[..., None]
    return np.asarray(img * fold_shading(rng, CLOTH, 0.18)[..., None])


def _placket(rng: Rng, img: Array) -> Array:
    """Button strip and collar of a shirt."""
    s = img.shape[0]
    img[:, s // 2 - 1 : s // 2 + 1] *= 0.7
    for y in range(s // 10, s, s // 8):
        cv2.circle(img, (s // 2, y), 1, colour(np.full(3, rng.uniform(0.2, 1.0))), -1)
    img[: s // 24] *= rng.uniform(0.75, 1.15)
    return img


def _open_front(rng: Rng, img: Array) -> Array:
    """An open jacket: the garment below shows in the middle."""
    s, w = img.shape[0], float(rng.uniform(0.02, 0.07))
    inner = sample_colour(rng)
    for y in range(s):
        half = int(s * w * (1.2 - 0.6 * y / s))
        img[y, s // 2 - half : s // 2 + half] = inner
    img[:, s // 2] *= 0.75
    return img


def _hem(b: Build, low: float, loose: float, flare: float) -> list[Ring]:
    """Rings of a garment that hangs from the hips (0.47 H) down to `low`."""
    rings = []
    for z in np.linspace(low, 0.465, 6 if low > 0.38 else 9):
        k = (0.47 - z) / 0.34
        depth = (0.078 + 0.016 * k * flare) * b.H * b.depth + loose
        width = (0.102 + 0.018 * k * flare) * b.H * b.width + loose
        rings.append(ellipse_ring(b.H, float(z), depth, width, -0.004 * b.H, 0.86))
    return rings


def _upper(b: Build, rng: Rng, low: float, loose: float) -> list[Skinned]:
    m = loft(_hem(b, low, loose, rng.uniform(0.2, 1.0)) + torso_rings(b, loose, 0.49, 0.848), 28)
    return [skinned(m, skirt_weights(m.V, b.H, 0.5 if low > 0.4 else 0.68))]


def add_top(p: Person, rng: Rng, kind: str, bare_legs: bool) -> None:
    """The upper garment with its sleeves; a dress reaches down to the knee."""
    b = p.build
    loose = {"tshirt": 0.013, "vest": 0.012, "blouse": 0.014, "polo": 0.014, "shirt": 0.016, "dress": 0.013,
             "jumper": 0.022, "jacket": 0.028, "coat": 0.032}[kind] * rng.uniform(0.7, 1.3)  # fmt: skip
    low = {"coat": rng.uniform(0.24, 0.40), "dress": rng.uniform(0.22, 0.36)}.get(
        kind, rng.uniform(0.41, 0.46)
    )
    long = kind in ("shirt", "jumper", "jacket", "coat") or (
        kind in ("blouse", "dress") and rng.random() < 0.5
    )
    ends = {True: rng.uniform(0.49, 0.53), False: rng.uniform(0.66, 0.72)}[long]
    if long and rng.random() < 0.25:
        ends = float(rng.uniform(0.56, 0.63))
    pieces = _upper(b, rng, float(low), float(loose))
    if kind != "vest":
        pieces += sleeves(
            b, float(ends), float(loose) * rng.uniform(0.5, 0.8), 1.0 if long else rng.uniform(1.1, 1.8)
        )
    texture = pattern(rng, 0.45 if kind != "coat" else 0.8)
    if kind in ("shirt", "polo", "blouse"):
        texture = _placket(rng, texture)
    elif kind in ("jacket", "coat") and rng.random() < 0.7:
        texture = _open_front(rng, texture)
    p.add(kind, "body", pieces, texture, tint="top")
    if bare_legs and kind == "coat":
        p.outfit += "+coat"


def add_bottom(p: Person, rng: Rng, kind: str) -> None:
    """Trousers, jeans, shorts or a skirt, with bare or stockinged legs where they show."""
    b, skin = p.build, mottled(rng, p.skin)
    if kind in ("trousers", "jeans"):
        texture = denim(rng) if kind == "jeans" else pattern(rng, 0.85)
        p.add("legs", "body", trousers(b, float(rng.uniform(0.85, 1.15))), texture, tint="bottom")
        return
    stockings = kind != "shorts" and rng.random() < 0.4
    p.add("legs", "body", trousers(b, 0.8), skin if not stockings else flat([0.9, 0.9, 0.9]),
          tint="stockings" if stockings else "skin")  # fmt: skip
    if kind == "shorts":
        p.add("shorts", "body", _shorts(b, float(rng.uniform(0.30, 0.40))), pattern(rng, 0.7), tint="bottom")
    elif kind in ("skirt", "long_skirt"):
        low = float(rng.uniform(0.26, 0.36) if kind == "skirt" else rng.uniform(0.10, 0.22))
        m = loft(_hem(b, low, 0.016, float(rng.uniform(0.3, 2.4))) + torso_rings(b, 0.014, 0.49, 0.61), 26)
        p.add("skirt", "body", [skinned(m, skirt_weights(m.V, b.H, 0.75))], pattern(rng, 0.6), tint="bottom")


def _shorts(b: Build, low: float) -> list[Skinned]:
    out, H = [], b.H
    for _, n in SIDES:
        radii = [(0.30, 0.060), (0.40, 0.061), (0.50, 0.062), (0.53, 0.055)]
        radii = [(z, r * (0.6 + 0.4 * b.width)) for z, r in radii]
        m = limb(b, "th_" + n, "sh_" + n, radii, 0.525 * H, low * H, 18)
        w = limb_weights(m.V, H, b.joints, "th_" + n, "sh_" + n, None, 0.03)
        out.append(skinned(m, share(w, "root", smooth(0.47 * H, 0.53 * H, m.V[:, 2]) * 0.6)))
    seat = loft(torso_rings(b, 0.014, 0.455, 0.61), 24)
    return [*out, skinned(Mesh(*seat), skirt_weights(seat.V, H, 0.35))]


def add_hair(p: Person, rng: Rng) -> None:
    """Short, chin-long, tied or long hair, thinning or none."""
    b, u = p.build, rng.random()
    texture = flat(p.hair, 64) * (1 + 0.5 * noise2(rng, 64, 64, 6, 40))[..., None]
    if u < (0.12 if not b.female else 0.02):
        return
    if not b.female and u < 0.85:
        pieces = hair(
            b, p.head_scale, rng, float(rng.uniform(-0.036, -0.020)), volume=float(rng.uniform(0.6, 1.5))
        )
    else:
        pieces = hair(b, p.head_scale, rng, float(rng.uniform(-0.062, -0.03)), bun=rng.random() < 0.3,
                      volume=float(rng.uniform(0.8, 1.8)))  # fmt: skip
        if rng.random() < 0.5:
            pieces += long_hair(b, p.head_scale, rng, float(rng.uniform(0.06, 0.20)))
    p.add("hair", "head", pieces, texture, (0.2, 0.3), "hair")


def everyday_person(pid: int, rng: Rng) -> Person:
    """A person in everyday clothes drawn from rng."""
    b = sample_build(rng)
    weights = np.array(
        [0.40, 0.27, 0.10 if b.female else 0, 0.09, 0.08 if b.female else 0, 0.06 if b.female else 0]
    )
    bottom = BOTTOMS[rng.choice(len(BOTTOMS), p=weights / weights.sum())]
    top = (
        "dress"
        if bottom == "dress"
        else TOPS[rng.choice(8, p=[0.24, 0.17, 0.18, 0.15, 0.08, 0.08, 0.05, 0.05])]
    )
    p = new_person(pid, "person", f"{top}+{bottom}", b, rng)
    # Light skin and hair: the tint of each picture darkens them.
    p.skin, p.hair = SKIN_TONES[0], HAIR_COLOURS[3]
    add_bottom(p, rng, bottom)
    p.add("shoes", "body", shoes(b), pattern(rng, 0.8, 32), (0.25, 0.4), "shoes")
    add_top(p, rng, top, bottom not in ("trousers", "jeans"))
    skin = mottled(rng, p.skin)
    p.add("arms", "body", arms(b), skin, (0.15, 0.3), "skin")
    p.add("hands", "body", hands(b, p.curl), skin, (0.2, 0.3), "skin")
    add_head(p, rng, rng.random() < 0.3)
    add_hair(p, rng)
    return p


def sample_tints(rng: Rng) -> dict[str, Array]:
    """Tint (3,) for each group of parts of one person in one picture."""
    tone = SKIN_TONES[rng.integers(0, len(SKIN_TONES))] / SKIN_TONES[0]
    hair_rgb = HAIR_COLOURS[rng.integers(0, len(HAIR_COLOURS))] / HAIR_COLOURS[3]
    return {
        "skin": np.clip(tone * rng.uniform(0.9, 1.08), 0, 1),
        "hair": np.clip(hair_rgb * rng.uniform(0.8, 1.2), 0, 1),
        "top": sample_colour(rng),
        "bottom": sample_colour(rng) if rng.random() < 0.6 else np.full(3, rng.uniform(0.1, 0.9)),
        "shoes": sample_colour(rng),
        "stockings": np.full(3, rng.uniform(0.05, 0.6)),
    }
