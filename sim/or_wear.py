"""What people wear in an operating room: scrubs, gowns, aprons, coats, caps and masks."""

from __future__ import annotations

import numpy as np

from orveil.sim.body import (
    Build,
    arms,
    ellipse_ring,
    hands,
    sample_build,
    shoes,
    sleeves,
    torso_rings,
    trousers,
)
from orveil.sim.head import hair, head_centre, head_surface
from orveil.sim.maths import Array, smooth
from orveil.sim.mesh import Mesh, Ring, Skinned, ellipsoid, loft, skinned
from orveil.sim.person import Person, add_head, new_person
from orveil.sim.skeleton import rigid, skirt_weights, torso_weights
from orveil.sim.textures import Rng, flat, mottled, noise2, tex_cloth

SCRUBS = np.array([[.14, .32, .55], [.10, .15, .32], [.10, .42, .44], [.20, .46, .34], [.42, .58, .74],
                   [.30, .50, .68], [.38, .13, .22]])  # fmt: skip
GOWNS = np.array([[0.40, 0.58, 0.72], [0.22, 0.48, 0.40], [0.20, 0.40, 0.64], [0.35, 0.60, 0.58]])
APRONS = np.array([[.12, .15, .36], [.36, .10, .16], [.14, .30, .22], [.30, .30, .33],
                   [.45, .28, .42]])  # fmt: skip
CAPS = np.array([[.42, .62, .75], [.25, .52, .42], [.2, .4, .65], [.85, .85, .85], [.65, .25, .35],
                 [.15, .2, .35], [.35, .6, .55]])  # fmt: skip
MASKS = np.array([[0.62, 0.78, 0.88], [0.90, 0.91, 0.91], [0.55, 0.78, 0.72], [0.45, 0.65, 0.85]])
SHOES = np.array([[.92, .92, .9], [.15, .2, .35], [.1, .1, .11], [.2, .45, .4], [.5, .5, .52],
                  [.55, .65, .8]])  # fmt: skip
GLOVES = np.array([[0.92, 0.90, 0.82], [0.55, 0.62, 0.85], [0.80, 0.84, 0.90], [0.45, 0.65, 0.60]])
SHEETS = np.array([[0.22, 0.48, 0.42], [0.25, 0.45, 0.66], [0.40, 0.60, 0.70], [0.18, 0.36, 0.52]])
_LOOSE = {"scrubs": 0.016, "gown": 0.021, "coat": 0.023, "apron": 0.016, "patient": 0.012}
_SLEEVE = {"scrubs": 0.009, "gown": 0.012, "coat": 0.012, "apron": 0.009, "patient": 0.010}


def _dyed(rng: Rng, rgb: Array) -> Array:
    return np.asarray(np.clip(rgb * rng.uniform(0.9, 1.1), 0, 1))


def _top(b: Build, loose: float) -> list[Skinned]:
    hem = [
        ellipse_ring(b.H, z, d * b.H * b.depth + loose, w * b.H * b.width + loose, -0.006 * b.H, 0.86)
        for z, w, d in ((0.425, 0.106, 0.082), (0.445, 0.104, 0.080), (0.465, 0.102, 0.078))
    ]
    m = loft(hem + torso_rings(b, loose, 0.49, 0.848), 28)
    return [skinned(m, skirt_weights(m.V, b.H, 0.5))]


def _overgarment(b: Build, outfit: str, low: float, loose: float) -> list[Skinned]:
    """Gown, coat or lead apron, hanging down to `low` (units of H)."""
    flare = 1.02 if outfit == "apron" else 1.12
    rings = []
    for z in np.linspace(low, 0.47, 9):
        k = (0.47 - z) / 0.34 * flare
        depth = (0.077 + 0.014 * k) * b.H * b.depth + loose
        width = (0.101 + 0.013 * k) * b.H * b.width + loose
        rings.append(ellipse_ring(b.H, float(z), depth, width, 0.002 * b.H, 0.84))
    m = loft(rings + torso_rings(b, loose, 0.50, 0.832 if outfit == "apron" else 0.848), 28)
    return [skinned(m, skirt_weights(m.V, b.H, 0.72))]


def staff_person(pid: int, role: str, outfit: str, rng: Rng) -> Person:
    """A member of staff; outfit is `scrubs`, `gown`, `coat` or `apron`."""
    b = sample_build(rng)
    p = new_person(pid, role, outfit, b, rng)
    scrubs = SCRUBS[rng.choice(7, p=[0.2, 0.15, 0.17, 0.2, 0.12, 0.12, 0.04])]
    long_sleeve = outfit in ("gown", "coat") or (outfit == "scrubs" and rng.random() < 0.15)
    low = 0.812 - (0.312 if long_sleeve else rng.uniform(0.10, 0.135))
    sleeve = sleeves(b, low, _SLEEVE[outfit], 1.0 if long_sleeve else 1.7)
    cloth = scrubs if rng.random() < 0.85 else scrubs * 0.8
    p.add("legs", "body", trousers(b), tex_cloth(rng, _dyed(rng, cloth), shade=0.22))
    shoe = tex_cloth(rng, _dyed(rng, SHOES[rng.integers(0, len(SHOES))]), 64, 0.05)
    p.add("shoes", "body", shoes(b), shoe, (0.25, 0.4))
    _clothe(p, rng, sleeve, scrubs)
    skin = mottled(rng, p.skin)
    p.add("arms", "body", arms(b), skin, (0.15, 0.3))
    gloved = outfit == "gown" or rng.random() < 0.25
    hand = GLOVES[rng.integers(0, len(GLOVES))] if gloved else p.skin
    p.add("hands", "body", hands(b, p.curl), flat(hand), (0.2, 0.3))
    add_head(p, rng, rng.random() < 0.3)
    _headwear(p, rng, 0.62)
    if outfit == "gown" or rng.random() < 0.68:
        _mask(p, rng)
    return p


def _clothe(p: Person, rng: Rng, sleeve: list[Skinned], scrubs: Array) -> None:
    b, outfit = p.build, p.outfit
    loose = _LOOSE[outfit]
    badge = bool(rng.random() < 0.6)
    if outfit == "gown":
        low = float(rng.uniform(0.23, 0.33))
        cloth = _dyed(rng, GOWNS[rng.integers(0, len(GOWNS))])
        texture = tex_cloth(rng, cloth, fold=0.2, shade=0.30, belt=(0.60 - low) / (0.86 - low), seam=True)
        p.add("gown", "body", _overgarment(b, outfit, low, loose) + sleeve, texture)
        return
    if outfit == "coat":
        low, white = float(rng.uniform(0.32, 0.42)), _dyed(rng, np.array([0.90, 0.90, 0.89]))
        texture = tex_cloth(rng, white, fold=0.14, shade=0.25, badge=True, front=(0.455, 0.545, scrubs))
        p.add("coat", "body", _overgarment(b, outfit, low, loose) + sleeve, texture)
        return
    texture = tex_cloth(rng, _dyed(rng, scrubs), shade=0.28, neckline=p.skin * 0.92, badge=badge)
    p.add("top", "body", _top(b, loose) + sleeve, texture)
    if outfit == "apron":
        _apron(p, rng)


def _apron(p: Person, rng: Rng) -> None:
    """Lead apron and thyroid collar over the scrubs."""
    b, H = p.build, p.H
    collar = loft(
        [
            ellipse_ring(H, z, r * H * 1.15, r * H * 1.2, -0.006 * H)
            for z, r in ((0.838, 0.046), (0.846, 0.048), (0.858, 0.043), (0.866, 0.040))
        ],
        18,
    )
    pieces = _overgarment(b, "apron", float(rng.uniform(0.29, 0.37)), 0.028)
    pieces.append(
        skinned(Mesh(collar.V, collar.UV * [1, 0.05] + [0, 0.5], collar.F), torso_weights(collar.V, H))
    )
    lead = _dyed(rng, APRONS[rng.integers(0, len(APRONS))])
    p.add("apron", "body", pieces, tex_cloth(rng, lead, fold=0.10, shade=0.22, belt=0.55), (0.12, 0.3))


def _headwear(p: Person, rng: Rng, capped: float) -> None:
    """A surgical cap with that chance (always with a gown), else hair."""
    b, scale = p.build, p.head_scale
    if not (p.outfit == "gown" or rng.random() < capped):
        length = float(rng.uniform(-0.062, -0.036)) if b.female else -0.030
        pieces = hair(b, scale, rng, length, bun=b.female and bool(rng.random() < 0.5))
        strands = 1 + 0.5 * noise2(rng, 128, 128, 6, 60)
        p.add("hair", "head", pieces, flat(p.hair, 128) * strands[..., None], (0.2, 0.3))
        return
    puff, back, line = rng.uniform(0.006, 0.020), rng.uniform(-0.030, -0.008), rng.uniform(0.022, 0.034)

    def displace(a: Array, z: Array) -> Array:
        low = np.interp(np.abs(a), [0, 1.2, 1.7, 2.4, 3.2], [line, line - 0.002, 0.008, back, back])
        t = smooth(low - 0.004, low + 0.004, z)
        dome = 0.008 + puff * np.sin(np.clip((z - low) / (0.066 - low), 0, 1) * 3.0)
        return np.asarray(t * dome * (b.H / 1.75) - (1 - t) * 0.007)

    m = head_surface(b, scale, displace)
    cloth = tex_cloth(rng, _dyed(rng, CAPS[rng.integers(0, len(CAPS))]), 128, 0.18)
    p.add("cap", "head", [skinned(m, rigid(m.V, "head"))], cloth)


def _mask(p: Person, rng: Rng) -> None:
    """Surgical mask, sometimes worn below the nose; it counts as part of the face."""
    lowered = 0.018 if rng.random() < 0.12 else 0.0

    def displace(a: Array, z: Array) -> Array:
        aa = np.abs(a)
        top = np.interp(aa, [0, 0.35, 1.0, 1.5], [-0.004, -0.009, -0.016, -0.022]) - lowered
        low = np.interp(aa, [0, 0.8, 1.5], [-0.070, -0.062, -0.045])
        t = (1 - smooth(top - 0.003, top + 0.003, z)) * smooth(low - 0.004, low + 0.003, z)
        t = t * (1 - smooth(1.35, 1.5, aa))
        bulge = 0.011 * np.exp(-((aa / 0.38) ** 2) - ((z + 0.020) / 0.022) ** 2) + 0.0085
        return np.asarray(t * bulge - (1 - t) * 0.007)

    m = head_surface(p.build, p.head_scale, displace)
    cloth = tex_cloth(rng, _dyed(rng, MASKS[rng.integers(0, len(MASKS))]), 128, 0.05)
    for row in range(58, 98, 9):
        cloth[row] *= 0.86
    p.add("mask", "face", [skinned(m, rigid(m.V, "head"))], cloth)


def patient_person(pid: int, rng: Rng) -> Person:
    """The patient in a thin gown under a drape; the drape over the body counts as the patient."""
    sampled = sample_build(rng)
    b = Build(sampled.H, sampled.width, 0.006, sampled.shoulder, sampled.female)
    p = new_person(pid, "patient", "patient", b, rng)
    low = 0.812 - float(rng.uniform(0.10, 0.135))
    gown = _top(b, _LOOSE["patient"]) + sleeves(b, low, _SLEEVE["patient"], 1.7)
    p.add("gown", "body", gown, tex_cloth(rng, _dyed(rng, np.array([0.75, 0.80, 0.85]))))
    skin = mottled(rng, p.skin)
    p.add("arms", "body", arms(b) + hands(b, p.curl), skin, (0.15, 0.3))
    m = _drape(b, float(rng.uniform(0.56, 0.76)))
    sheet = tex_cloth(rng, SHEETS[rng.integers(0, len(SHEETS))], 512, 0.22)
    p.add("drape", "body", [skinned(m, rigid(m.V, "root"))], sheet)
    add_head(p, rng, False)
    _headwear(p, rng, 0.7)
    k, c = b.H * p.head_scale, head_centre(b)
    m = ellipsoid(c + np.array([0.058, 0, -0.032]) * k, np.array([0.024, 0.026, 0.030]) * k)
    p.add(
        "breathing_mask", "face", [skinned(m, rigid(m.V, "head"))], flat([0.72, 0.82, 0.80], 16), (0.5, 0.8)
    )
    return p


def _drape(b: Build, top: float) -> Mesh:
    """Sheet from the feet up to `top` (units of H), sagging between the legs."""
    H = b.H
    shape = ((.00, .06, .050), (.012, .085, .075), (.05, .088, .080), (.12, .085, .052), (.28, .092, .060),
             (.42, .105, .064), (.52, .112, .076), (.60, .112, .080), (.70, .118, .076),
             (.76, .118, .070))  # fmt: skip
    rings = [
        Ring((0.006 * H, 0, z * H), (-d * H * 1.1 - 0.012, 0, 0), (0, w * H * 1.05 + 0.015, 0), 0.85)
        for z, w, d in shape
        if z < top
    ]
    rings.append(Ring((0.006 * H, 0, top * H), (-0.072 * H - 0.012, 0, 0), (0, 0.112 * H + 0.015, 0), 0.85))
    V, UV, F = loft(rings, 36)
    valley = np.exp(-((V[:, 1] / (0.026 * H)) ** 2)) * (V[:, 0] > 0) * (1 - smooth(0.40, 0.50, V[:, 2] / H))
    V[:, 0] -= valley * 0.038 * H
    V[:, 0] += 0.010 * np.sin(V[:, 2] * 23 + V[:, 1] * 11) * (V[:, 0] > 0)
    return Mesh(V, UV, F)
