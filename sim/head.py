"""The head: skull surface, painted face, hair, ears and nose."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from orveil.sim.body import Build, ellipse_ring
from orveil.sim.maths import Array, rot_z, smooth, wrap
from orveil.sim.mesh import Mesh, Skinned, close_ends, ellipsoid, loft, skinned
from orveil.sim.skeleton import BONE, rigid
from orveil.sim.textures import Rng, colour, noise2

# z (from the head centre), half width, front, back, in units of H
HEAD = np.array([
    [-.0660, .010, .037, -.014], [-.0630, .020, .044, -.004], [-.0570, .027, .0485, .008],
    [-.0480, .0325, .0505, .020],
    [-.0400, .0355, .0515, .028], [-.0320, .0380, .0525, .035], [-.0230, .0400, .0525, .041],
    [-.0140, .0415, .0525, .046], [-.0050, .0430, .0515, .0505], [.0040, .0440, .0510, .0540],
    [.0120, .0445, .0530, .0565], [.0200, .0447, .0540, .0580], [.0290, .0440, .0530, .0580],
    [.0380, .0420, .0500, .0560], [.0460, .0385, .0450, .0510], [.0530, .0330, .0375, .0440],
    [.0590, .0255, .0285, .0345], [.0635, .0160, .0175, .0220], [.0655, .0070, .0080, .0100]])  # fmt: skip
HEAD_Z, HEAD_X, SEGMENTS = 0.936, 0.006, 32
"""Head centre above the floor and before the axis (units of H); segments around."""
Displacement = Callable[[Array, Array], Array]
"""Outward offset in metres for angles from the front (left positive) and heights."""


def head_centre(b: Build) -> Array:
    """Centre of the head at rest, (3,) metres."""
    return np.array([HEAD_X * b.H, 0, HEAD_Z * b.H])


def _relief(p: Array, a: Array, z: float, k: float) -> None:
    """Brow ridge, eye sockets, lips and chin, on one ring of points p (n, 3)."""
    p[:, 0] -= 0.0045 * k * np.exp(-(((a - 0.42) / 0.17) ** 2) - ((z - 0.003) / 0.007) ** 2)
    p[:, 0] += 0.0022 * k * np.exp(-((a / 0.55) ** 2) - ((z - 0.0135) / 0.005) ** 2)
    p[:, 0] += 0.0025 * k * np.exp(-((a / 0.30) ** 2) - ((z + 0.035) / 0.006) ** 2)
    p[:, 0] += 0.003 * k * np.exp(-((a / 0.25) ** 2) - ((z + 0.057) / 0.006) ** 2)


def head_surface(b: Build, scale: float, displace: Displacement | None = None) -> Mesh:
    """Skull of relative size `scale`, optionally pushed outwards (hair, cap, mask)."""
    theta = np.linspace(0, 2 * np.pi, SEGMENTS + 1)
    front = wrap(theta - np.pi)
    V, UV = [], []
    zs, k = HEAD[:, 0], b.H * scale
    fwd, side = np.cos(front), np.sin(front)
    for z, w, f, back in HEAD:
        cx = (f - back) / 2
        x = np.where(fwd > 0, cx + (f - cx) * np.abs(fwd) ** 0.9, cx + (back + cx) * fwd)
        y = w * np.sign(side) * np.abs(side) ** 0.9
        p = np.stack([x * k, y * k, np.full(SEGMENTS + 1, z * k)], 1)
        _relief(p, np.abs(front), float(z), k)
        if displace is not None:
            level = np.full(SEGMENTS + 1, (z if abs(z) > 0.03 else z * 0.4) * k)
            n = np.stack([p[:, 0] - cx * k * 0.5, p[:, 1], level], 1)
            n /= np.linalg.norm(n, axis=1, keepdims=True) + 1e-9
            p = p + n * displace(front, np.full(SEGMENTS + 1, z))[:, None]
        V.append(p)
        v = (z - zs[0]) / (zs[-1] - zs[0])
        UV.append(np.stack([theta / (2 * np.pi), np.full(SEGMENTS + 1, v)], 1))
    ends = (V[0][:-1].mean(0), V[-1][:-1].mean(0))
    mesh = close_ends(np.concatenate(V), np.concatenate(UV), len(HEAD), SEGMENTS, ends, (0.0, 1.0))
    return Mesh(mesh.V + head_centre(b), mesh.UV, mesh.F)


def split_face(b: Build, mesh: Mesh) -> tuple[Mesh, Mesh]:
    """The skull cut into the face (front, below the hair line) and the rest."""
    centre = mesh.V[mesh.F].mean(1) - head_centre(b)
    angle = np.degrees(np.abs(np.arctan2(centre[:, 1], centre[:, 0])))
    face = (angle < 78) & (centre[:, 2] < 0.040 * b.H)
    return _submesh(mesh, face), _submesh(mesh, ~face)


def _submesh(mesh: Mesh, keep: Array) -> Mesh:
    ids = np.unique(mesh.F[keep])
    new = -np.ones(len(mesh.V), int)
    new[ids] = np.arange(len(ids))
    return Mesh(mesh.V[ids], mesh.UV[ids], new[mesh.F[keep]])


def nose(b: Build, scale: float) -> list[Skinned]:
    """The nose."""
    k, c = b.H * scale, head_centre(b)
    shape = ((-.0235, .049, .006, .005), (-.0205, .0535, .0115, .0095), (-.016, .0550, .0125, .0100),
             (-.009, .0540, .0090, .0065), (.000, .0510, .0065, .0050),
             (.010, .0500, .005, .0045))  # fmt: skip
    rings = [ellipse_ring(1.0, c[2] + z * k, dx * k, wy * k, c[0] + x * k) for z, x, dx, wy in shape]
    V, _, F = loft(rings, 12)
    UV = np.stack([np.full(len(V), 0.5), 0.5 + (V[:, 2] - c[2]) / k * 4], 1)
    return [skinned(Mesh(V, np.clip(UV, 0.42, 0.52), F), rigid(V, "head"))]


def ears(b: Build, scale: float) -> list[Skinned]:
    """Both ears."""
    k, c = b.H * scale, head_centre(b)
    out = []
    for s in (1, -1):
        at = c + np.array([-0.004, s * 0.0435, -0.006]) * k
        m = ellipsoid(at, np.array([0.0105, 0.0045, 0.0175]) * k, 10, 6, rot_z(s * 0.35))
        out.append(skinned(m, rigid(m.V, "head")))
    return out


def neck(b: Build) -> list[Skinned]:
    """The neck between chest and head."""
    H = b.H
    shape = [(.815, .045, -.010), (.835, .0395, -.010), (.850, .034, -.008), (.865, .0315, -.004),
             (.885, .031, .000), (.905, .030, .002)]  # fmt: skip
    m = loft([ellipse_ring(H, z, r * 1.05 * H, r * H, x * H) for z, r, x in shape], 18)
    w = np.zeros((len(m.V), len(BONE)))
    k = smooth(0.83 * H, 0.855 * H, m.V[:, 2])
    q = smooth(0.868 * H, 0.898 * H, m.V[:, 2])
    w[:, BONE["chest"]], w[:, BONE["neck"]], w[:, BONE["head"]] = 1 - k, k * (1 - q), k * q
    return [skinned(m, w)]


def hair(
    b: Build, scale: float, rng: Rng, length: float, *, bun: bool = False, volume: float = 1.0
) -> list[Skinned]:
    """Hair; `length` is its lowest height at the nape (units of H, from the head centre)."""
    thick = rng.uniform(0.006, 0.014) * volume
    line = rng.uniform(0.030, 0.040)
    side = length if length < -0.035 else -0.002

    def displace(a: Array, z: Array) -> Array:
        ends = [line, line - 0.002, 0.012, side, length, length]
        low = np.interp(np.abs(a), [0, 0.8, 1.25, 1.75, 2.1, 3.2], ends)
        t = smooth(low - 0.004, low + 0.004, z)
        return np.asarray(t * thick * (1 + 0.25 * np.sin(a * 17 + z * 300)) - (1 - t) * 0.007)

    m = head_surface(b, scale, displace)
    out = [skinned(m, rigid(m.V, "head"))]
    if bun:
        k = b.H * scale
        m = ellipsoid(head_centre(b) + np.array([-0.066, 0, 0.022]) * k, np.array([0.020, 0.024, 0.022]) * k)
        out.append(skinned(m, rigid(m.V, "head")))
    return out


def long_hair(b: Build, scale: float, rng: Rng, length: float) -> list[Skinned]:
    """Hair falling behind the neck down to `length` (units of H below the head centre)."""
    k, c = b.H * scale, head_centre(b)
    wide = rng.uniform(0.036, 0.046)
    rings = []
    for t in np.linspace(0, 1, 7):
        z = c[2] + (0.02 - (0.02 + length) * t) * k
        taper = 1.0 - 0.35 * t**2
        rings.append(
            ellipse_ring(1.0, z, 0.020 * k * taper, wide * k * taper, c[0] - (0.036 + 0.012 * t) * k, 0.8)
        )
    m = loft(rings, 14)
    w = np.zeros((len(m.V), len(BONE)))
    q = smooth(0.84 * b.H, 0.90 * b.H, m.V[:, 2])
    w[:, BONE["head"]], w[:, BONE["neck"]] = q, 1 - q
    return [skinned(m, w)]


class FacePainter:
    """Paints features on the unrolled head: columns are angles from the front, row 0 the crown."""

    def __init__(self, rng: Rng, skin: Array, size: int = 256) -> None:
        self.size = size
        shade = 0.035 * noise2(rng, size, size, 10, 10)
        shade = shade + 0.02 * rng.standard_normal((size, size)).astype(np.float32)
        self.image = (
            np.ones((size, size, 3), np.float32) * np.asarray(skin, np.float32) * (1 + shade)[..., None]
        )

    def at(self, angle_deg: float, z: float) -> tuple[int, int]:
        """Pixel of an angle from the front and a height from the head centre (units of H)."""
        low, high = HEAD[0, 0], HEAD[-1, 0]
        x = (0.5 + angle_deg / 360.0) * self.size
        return round(x), round((1 - (z - low) / (high - low)) * self.size)

    def soft(
        self, centre: tuple[int, int], radii: Sequence[int], rgb: npt.ArrayLike, amount: float, blur: float
    ) -> None:
        """Blend a blurred ellipse of one colour into the picture."""
        m = np.zeros((self.size, self.size), np.float32)
        cv2.ellipse(m, centre, tuple(radii), 0, 0, 360, 1.0, -1)
        m = np.asarray(cv2.GaussianBlur(m, (0, 0), blur))[..., None] * amount
        self.image = self.image * (1 - m) + np.asarray(rgb, np.float32) * m

    def eye(self, s: int, skin: Array, iris: Sequence[float], brow: Array) -> None:
        """One eye with its socket, cheek and brow; s is the side."""
        at = self.at
        self.soft(at(s * 24, 0.003), (13, 8), skin * 0.55, 0.55, 3)
        self.soft(at(s * 34, -0.024), (12, 10), np.clip(skin * np.array([1.08, 0.88, 0.85]), 0, 1), 0.4, 5)
        cv2.ellipse(self.image, at(s * 24, 0.003), (8, 4), 0, 0, 360, (0.86, 0.84, 0.82), -1)
        cv2.circle(self.image, at(s * 24, 0.003), 4, tuple(iris), -1)
        cv2.circle(self.image, at(s * 24, 0.003), 2, (0.02, 0.02, 0.02), -1)
        cv2.ellipse(self.image, at(s * 24, 0.0045), (9, 4), 0, 180, 360, (0.08, 0.05, 0.04), 2)
        cv2.ellipse(self.image, at(s * 25, 0.0125), (12, 4), 0, 190, 350, colour(brow), 3)

    def glasses(self) -> None:
        """Dark spectacle frames."""
        ink = (0.05, 0.05, 0.06)
        for s in (-1, 1):
            cv2.ellipse(self.image, self.at(s * 24, 0.002), (16, 10), 0, 0, 360, ink, 2)
            cv2.line(self.image, self.at(s * 44, 0.006), self.at(s * 92, 0.006), ink, 2)
        cv2.line(self.image, self.at(-8, 0.004), self.at(8, 0.004), ink, 2)


def tex_head(rng: Rng, skin: Array, hair_rgb: Array, female: bool, glasses: bool) -> Array:
    """Texture (256, 256, 3) of the whole head, the hair region painted too."""
    p = FacePainter(rng, skin)
    for s in (-1, 1):
        iris = ([0.22, 0.13, 0.07], [0.25, 0.35, 0.45], [0.12, 0.08, 0.05])[rng.integers(0, 3)]
        p.eye(s, skin, iris, hair_rgb * 0.7)
        p.soft(p.at(s * 8, -0.020), (3, 2), skin * 0.35, 0.8, 1)
    p.soft(p.at(0, -0.010), (6, 14), np.clip(skin * 1.1, 0, 1), 0.35, 3)
    lip = np.clip(skin * np.array([0.9, 0.58, 0.58]) + (np.array([0.12, 0, 0.02]) if female else 0), 0, 1)
    p.soft(p.at(0, -0.0375), (17, 6), lip, 0.8, 1.5)
    cv2.line(p.image, p.at(-20, -0.0375), p.at(20, -0.0375), colour(lip * 0.5), 1)
    p.soft(p.at(0, -0.062), (60, 8), skin * 0.62, 0.5, 5)
    if not female and rng.random() < 0.5:
        p.soft(p.at(0, -0.048), (52, 22), hair_rgb * 0.8, 0.3 if rng.random() < 0.6 else 0.75, 6)
    for s in (-1, 1):
        p.soft(p.at(s * 92, -0.006), (9, 14), skin * 0.75, 0.5, 3)
    if glasses:
        p.glasses()
    return _paint_hair(p.image, rng, hair_rgb)


def _paint_hair(image: Array, rng: Rng, rgb: Array) -> Array:
    s = image.shape[0]
    strands = noise2(rng, s, s, 30, 60) * 0.25
    height = (1 - np.arange(s) / s)[:, None]
    angle = (np.abs(np.arange(s) / s - 0.5) * 360)[None]
    line = (0.036 - HEAD[0, 0]) / (HEAD[-1, 0] - HEAD[0, 0])
    mask = ((height > line) | ((angle > 100) & (height > 0.30))).astype(np.float32)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 2))[..., None]
    return np.asarray(image * (1 - mask) + rgb * (1 + strands[..., None]) * mask)
