"""Where fixed cameras hang in the operating room, in layouts with more or less overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from orveil.sim.camera import Camera, look_at
from orveil.sim.maths import Array, unit
from orveil.sim.or_room import OperatingRoom, X, Y
from orveil.sim.textures import Rng

LAYOUTS = ("wide", "partial", "narrow", "split")
"""wide: all look at the table; partial: some look past it; narrow: each sees its part of the room;
split: half of the cameras look at the head half of the room, half at the other."""
Spot = tuple[float, float]


def _candidates(room: OperatingRoom, rng: Rng) -> list[Spot]:
    """Corners first, then the middle of three walls."""
    spots = [
        (sx * (X - rng.uniform(0.15, 0.45)), sy * (Y - rng.uniform(0.15, 0.45)))
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    spots.append((rng.uniform(-1.5, 1.5), Y - rng.uniform(0.12, 0.3)))
    spots.append((rng.uniform(-1.5, 1.5), -Y + rng.uniform(0.12, 0.3)))
    spots.append((-room.door_side * (X - rng.uniform(0.12, 0.3)), rng.uniform(-1.3, 1.3)))
    return [(float(x), float(y)) for x, y in spots]


def _blocked(room: OperatingRoom, spot: Spot) -> float:
    """Share of points round the table that a lamp, a screen or the anaesthesia machine hides from there."""
    balls = [(c, 0.33) for c in room.screens] + [(c, 0.34) for c in room.lamps]
    if room.anaesthesia is not None:
        balls.append((np.array([*room.anaesthesia[:2], 1.0]), 0.50))
    eye = np.array([*spot, 2.5])
    hidden = 0
    goals = [room.at(a, b, z) for a in (-0.8, -0.2, 0.3, 1.2) for b in (-0.7, 0, 0.7) for z in (1.0, 1.5)]
    for goal in goals:
        d, far = unit(goal - eye), float(np.linalg.norm(goal - eye))
        hidden += any(
            np.linalg.norm((c - eye) - d * np.clip((c - eye) @ d, 0, far)) < r * 0.8 for c, r in balls
        )
    return hidden / len(goals)


def choose_spots(room: OperatingRoom, rng: Rng, n: int) -> list[Spot]:
    """`n` camera places, apart from each other and with a clear view where possible."""
    spots = _candidates(room, rng)
    cost = [_blocked(room, s) + rng.uniform(0, 0.15) + (0.05 if i > 3 else 0) for i, s in enumerate(spots)]
    pool = [spots[i] for i in np.argsort(cost)]
    chosen: list[Spot] = []
    for gap in (3.0, 2.0, 0.5):
        for s in pool:
            apart = all(math.hypot(s[0] - q[0], s[1] - q[1]) > gap for q in chosen)
            if len(chosen) < n and s not in chosen and apart:
                chosen.append(s)
    rng.shuffle(chosen)
    return [chosen[k % len(chosen)] for k in range(n)]


def or_cameras(room: OperatingRoom, rng: Rng, layout: str, sizes: Sequence[tuple[int, int]]) -> list[Camera]:
    """One camera per size (width, height), placed and aimed as the layout says."""
    spots = choose_spots(room, rng, len(sizes))
    out = []
    for k, (spot, size) in enumerate(zip(spots, sizes, strict=True)):
        eye = np.array([*spot, rng.uniform(2.3, 2.9)])
        target, fovy = _aim(room, rng, layout, k, eye)
        roll = math.radians(float(rng.choice([0, 0, rng.uniform(-9, 9)])))
        out.append(look_at(k + 1, eye, target, fovy, size, roll))
    return out


def _aim(room: OperatingRoom, rng: Rng, layout: str, k: int, eye: Array) -> tuple[Array, float]:
    tx, ty, _ = room.table
    far = max(math.hypot(eye[0] - tx, eye[1] - ty), 2.6)
    centre = np.array([tx * 0.8, ty * 0.8])
    reach, spread = (1.02, 1.52), 1.2
    if layout in ("partial", "narrow"):
        # Every camera looks past the table, to its own side: the views meet near the middle.
        side = 1 - 2 * (k % 2)
        d = unit(centre - eye[:2])
        amount = (0.9, 1.4) if layout == "partial" else (1.2, 1.9)
        centre = centre + np.array([-d[1], d[0]]) * side * rng.uniform(*amount)
        reach, spread = ((0.95, 1.2), 0.5) if layout == "partial" else ((0.75, 0.95), 0.4)
    elif layout == "split":
        half = 1 if k % 2 else -1
        centre = np.array([tx, ty]) + room.along * half * rng.uniform(1.2, 1.7)
        reach, spread = (0.75, 1.0), 0.4
    xy = centre + rng.uniform(-spread, spread, 2)
    target = np.array([xy[0], xy[1], rng.uniform(0.75, 1.15)])
    fovy = math.degrees(2 * math.atan(float(rng.uniform(*reach)) / far))
    return target, float(np.clip(fovy, 30 if layout == "wide" else 22, 60))
