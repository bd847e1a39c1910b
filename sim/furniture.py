"""Everyday furniture of offices, corridors, lobbies and living rooms."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from orveil.sim.maths import Array, Rect, rot_z
from orveil.sim.mesh import Ring, loft
from orveil.sim.scene import Scene, local_frame
from orveil.sim.textures import Rng

PALETTE = 10
"""Plain materials c0 .. c9 whose colours change from picture to picture."""


class Seat(NamedTuple):
    """A place to sit: floor position, heading of the sitter, height of the seat in metres."""

    x: float
    y: float
    yaw: float
    height: float


def palette(rng: Rng) -> str:
    """A random plain material."""
    return f"c{rng.integers(0, PALETTE)}"


def _seat(at: Array, yaw: float) -> Seat:
    return Seat(float(at[0]), float(at[1]), yaw, float(at[2]))


def chair(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """A chair; the sitter looks along its +u axis."""
    L, frame, cover = local_frame(r), palette(rng), palette(rng)
    h, yaw = float(rng.uniform(0.42, 0.50)), r[4]
    scene.box(cover, L(0, 0, h - 0.03), (0.22, 0.22, 0.03), yaw)
    if rng.random() < 0.9:
        top = float(rng.uniform(0.72, 1.15))
        scene.box(cover, L(-0.21, 0, (h + top) / 2 + 0.06), (0.025, 0.21, (top - h) / 2), yaw)
    if rng.random() < 0.5:
        scene.cylinder(frame, L(0, 0, 0.08), L(0, 0, h - 0.05), 0.03)
        for k in range(5):
            a = 2 * math.pi * k / 5
            scene.capsule(frame, L(0, 0, 0.08), L(0.28 * math.cos(a), 0.28 * math.sin(a), 0.05), 0.022)
    else:
        for u in (-0.19, 0.19):
            for v in (-0.19, 0.19):
                scene.cylinder(frame, L(u, v, 0), L(u, v, h - 0.05), 0.016)
    if rng.random() < 0.35:
        for v in (-0.25, 0.25):
            scene.box(frame, L(0, v, h + 0.2), (0.18, 0.025, 0.02), yaw)
    return [_seat(L(-0.02, 0, h), yaw)]


def desk(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """A desk with a screen or papers on it."""
    L, hx, hy, yaw = local_frame(r), r[2], r[3], r[4]
    h, top, leg = float(rng.uniform(0.70, 0.78)), palette(rng), palette(rng)
    scene.box(top, L(0, 0, h), (hx, hy, 0.018), yaw)
    if rng.random() < 0.5:
        for v in (-1, 1):
            scene.box(leg, L(0, v * (hy - 0.03), h / 2), (hx * 0.9, 0.02, h / 2), yaw)
    else:
        for u in (-1, 1):
            for v in (-1, 1):
                scene.cylinder(
                    leg, L(u * (hx - 0.05), v * (hy - 0.05), 0), L(u * (hx - 0.05), v * (hy - 0.05), h), 0.025
                )
    for _ in range(int(rng.integers(0, 3))):
        at_v = float(rng.uniform(-hy + 0.3, max(hy - 0.3, -hy + 0.31)))
        face = (1 if rng.random() < 0.5 else -1) * np.array([math.cos(yaw), math.sin(yaw), 0])
        scene.quad(palette(rng), L(0, at_v, h + 0.32), face, (0.28, 0.17), 0.02)
        scene.quad("desktop", L(0, at_v, h + 0.32) + face * 0.025, face, (0.27, 0.155), 0.003)
        scene.cylinder(leg, L(0, at_v, h), L(0, at_v, h + 0.2), 0.03)
    for _ in range(int(rng.integers(0, 6))):
        at = L(rng.uniform(-hx, hx) * 0.8, rng.uniform(-hy, hy) * 0.8, h + 0.03)
        scene.box(
            palette(rng), at, rng.uniform([0.05, 0.04, 0.008], [0.16, 0.12, 0.06]), yaw + rng.uniform(-1, 1)
        )
    return []


def sofa(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """A sofa or, when narrow, an armchair."""
    L, hx, hy, yaw, cover = local_frame(r), r[2], r[3], r[4], palette(rng)
    h, back = float(rng.uniform(0.38, 0.46)), float(rng.uniform(0.68, 0.95))
    scene.box(cover, L(0.05, 0, h / 2), (hx - 0.05, hy, h / 2), yaw)
    scene.box(cover, L(-hx + 0.09, 0, back / 2), (0.09, hy, back / 2), yaw)
    for v in (-1, 1):
        scene.box(cover, L(0, v * (hy - 0.07), h / 2 + 0.1), (hx, 0.07, h / 2 + 0.1), yaw)
    n = max(1, int((2 * hy - 0.28) / 0.6))
    if rng.random() < 0.6:
        for k in range(n):
            middle = (k - (n - 1) / 2) * 0.6
            scene.box(
                palette(rng),
                L(-hx + 0.26, middle, h + 0.17),
                (0.06, 0.17, 0.15),
                yaw + float(rng.uniform(-0.3, 0.3)),
            )
    return [_seat(L(-0.02, (k - (n - 1) / 2) * 0.6, h), yaw) for k in range(n)]


def table(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """A low or high table, round or square, with things on it."""
    L, hx, hy, yaw = local_frame(r), r[2], r[3], r[4]
    h, top = float(rng.choice([0.42, 0.74, 1.05])), palette(rng)
    if rng.random() < 0.4:
        scene.cylinder(top, L(0, 0, h - 0.02), L(0, 0, h + 0.01), min(hx, hy))
        scene.cylinder(palette(rng), L(0, 0, 0), L(0, 0, h), 0.05)
    else:
        scene.box(top, L(0, 0, h), (hx, hy, 0.02), yaw)
        for u in (-1, 1):
            for v in (-1, 1):
                scene.cylinder(
                    palette(rng), L(u * hx * 0.9, v * hy * 0.9, 0), L(u * hx * 0.9, v * hy * 0.9, h), 0.03
                )
    for _ in range(int(rng.integers(0, 6))):
        u, v = rng.uniform(-0.6, 0.6, 2) * (hx, hy)
        scene.cylinder(
            palette(rng), L(u, v, h), L(u, v, h + rng.uniform(0.05, 0.28)), float(rng.uniform(0.03, 0.07))
        )
    return []


def shelf(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """Book shelves or a cupboard, front towards +u."""
    L, hx, hy, yaw = local_frame(r), r[2], r[3], r[4]
    h = float(rng.uniform(0.8, 2.2))
    scene.box(palette(rng), L(0, 0, h / 2), (hx, hy, h / 2), yaw)
    if rng.random() < 0.7:
        front = np.array([math.cos(yaw), math.sin(yaw), 0])
        scene.quad("books", L(hx + 0.006, 0, h / 2), front, (hy - 0.02, h / 2 - 0.03), 0.004)
    return []


def plant(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """A potted plant."""
    L = local_frame(r)
    scene.cylinder(palette(rng), L(0, 0, 0), L(0, 0, 0.35), 0.15)
    for _ in range(int(rng.integers(5, 14))):
        u, v = rng.normal(0, 0.13, 2)
        at = L(u, v, rng.uniform(0.45, 1.5))
        scene.capsule("leaf", L(0, 0, 0.35), at, 0.01)
        scene.geom(
            "ellipsoid",
            "leaf",
            rng.uniform([0.05, 0.03, 0.02], [0.2, 0.12, 0.2]),
            at,
            rot_z(rng.uniform(0, 3)),
        )
    return []


def lamp(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """A floor lamp."""
    L, h = local_frame(r), float(rng.uniform(1.3, 1.8))
    scene.cylinder(palette(rng), L(0, 0, 0), L(0, 0, h), 0.015)
    scene.cylinder(palette(rng), L(0, 0, 0), L(0, 0, 0.03), 0.14)
    scene.cylinder("glow", L(0, 0, h), L(0, 0, h + 0.28), 0.17)
    return []


def column(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """A column or partition from floor to ceiling height."""
    L = local_frame(r)
    if rng.random() < 0.5:
        scene.cylinder(palette(rng), L(0, 0, 0), L(0, 0, 3.4), 0.2)
    else:
        h = float(rng.choice([1.3, 1.6, 3.4]))
        scene.box("wall1", L(0, 0, h / 2), (r[2], r[3], h / 2), r[4])
    return []


def boxes(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """A pile of boxes or suitcases, sometimes as tall and wide as a person."""
    L, z = local_frame(r), 0.0
    for _ in range(int(rng.integers(1, 5))):
        half, material = rng.uniform([0.12, 0.12, 0.08], [0.26, 0.26, 0.3]), palette(rng)
        u, v = rng.normal(0, 0.04, 2)
        scene.box(material, L(u, v, z + half[2]), half, r[4] + float(rng.normal(0, 0.3)))
        z += 2 * half[2]
    return []


def coat_rack(scene: Scene, r: Rect, rng: Rng) -> list[Seat]:
    """Coats on a stand: shaped a little like people, but nobody is in them."""
    L, name = local_frame(r), f"coat{len(scene.meshes)}"
    scene.cylinder(palette(rng), L(0, 0, 0), L(0, 0, 1.8), 0.02)
    scene.cylinder(palette(rng), L(0, 0, 0), L(0, 0, 0.03), 0.2)
    wide, outline = (
        rng.uniform(0.7, 1.1),
        ((0.0, 0.26), (0.3, 0.25), (0.6, 0.22), (0.85, 0.21), (0.95, 0.14), (1.0, 0.03)),
    )
    rings = [Ring((0.01 * math.sin(9 * z), 0, z), (-0.08, 0, 0), (0, w * wide, 0), 0.8) for z, w in outline]
    mesh = loft(rings, 20)
    mesh.V[:, 0] += 0.02 * np.sin(mesh.V[:, 1] * 38) * (1 - mesh.V[:, 2])
    scene.mesh(name, mesh._replace(V=mesh.V @ rot_z(r[4]).T), palette(rng), L(0.1, 0, rng.uniform(0.5, 0.75)))
    return []


# name: builder, smallest and largest half sizes (along, across), stands against a wall
CATALOGUE = {
    "chair": (chair, (0.24, 0.24), (0.26, 0.26), False),
    "desk": (desk, (0.33, 0.55), (0.42, 0.95), False),
    "sofa": (sofa, (0.38, 0.45), (0.46, 1.05), False),
    "table": (table, (0.3, 0.3), (0.5, 0.9), False),
    "shelf": (shelf, (0.15, 0.35), (0.25, 0.9), True),
    "plant": (plant, (0.18, 0.18), (0.2, 0.2), False),
    "lamp": (lamp, (0.15, 0.15), (0.16, 0.16), False),
    "column": (column, (0.06, 0.2), (0.25, 0.8), False),
    "boxes": (boxes, (0.25, 0.25), (0.27, 0.27), False),
    "coat_rack": (coat_rack, (0.25, 0.25), (0.26, 0.26), False),
}
