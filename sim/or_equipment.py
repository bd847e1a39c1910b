"""Equipment that stands on the floor of the operating room and blocks the view."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from orveil.sim.maths import Array, Rect
from orveil.sim.or_room import OperatingRoom
from orveil.sim.scene import local_frame
from orveil.sim.textures import Rng


def equip(room: OperatingRoom, rng: Rng) -> None:
    """Anaesthesia machine, instrument tables, Mayo stand, C-arm, carts, bin and infusion stand."""
    _anaesthesia(room, rng)
    for k in range(2):
        _instrument_table(room, rng, (0.55, 0.30) if k == 0 else (0.38, 0.25))
    mayo_side = _mayo_stand(room, rng) if rng.random() < 0.7 else 0
    _c_arm(room, rng, -mayo_side or int(rng.choice([-1, 1])))
    spots = [(rng.uniform(-3, 3), rng.uniform(-3, 3), rng.uniform(-3.1, 3.1)) for _ in range(200)]
    for thing in (_tower, _bin, _infusion_stand, _cart):
        rng.shuffle(spots)
        thing(room, rng, spots)


def _anaesthesia(room: OperatingRoom, rng: Rng) -> None:
    sign, axis = float(rng.choice([-1, 1])), room.table[2]
    spots = [
        (1.25 + rng.uniform(0, 0.5), sign * rng.uniform(0.75, 1.3), axis + math.pi + rng.uniform(-0.3, 0.3))
        for _ in range(60)
    ]
    r = room.place(spots, 0.33, 0.36)
    room.anaesthesia = r
    if r is None:
        return
    s, L, yaw = room.scene, local_frame(r), r[4]
    s.box("beige", L(0, 0, 0.5), (0.30, 0.33, 0.44), yaw)
    s.quad("cart", L(0.305, 0, 0.48), (math.cos(yaw), math.sin(yaw), 0), (0.32, 0.40), 0.004)
    s.box("dark", L(0, 0, 0.03), (0.33, 0.36, 0.03), yaw)
    s.box("beige", L(-0.12, 0, 1.15), (0.16, 0.33, 0.22), yaw)
    s.box("white", L(0.08, 0, 0.95), (0.24, 0.32, 0.012), yaw)
    for i in range(3):
        v = -0.2 + 0.14 * i
        s.cylinder("accent" if i else "dark", L(0.06, v, 1.05), L(0.06, v, 1.24), 0.045)
    facing = np.array([math.cos(yaw + 0.2), math.sin(yaw + 0.2), -0.12])
    room.screen(rng, L(0.02, -0.08, 1.52), facing, (0.17, 0.12))
    room.screen(rng, L(0.02, 0.30, 1.48), facing, (0.13, 0.10))
    s.cylinder("grey", L(-0.1, 0, 1.3), L(-0.02, -0.05, 1.5), 0.03)
    s.geom("ellipsoid", "accent", (0.07, 0.07, 0.14), L(0.34, 0.28, 0.85))
    _hoses(room, L(0.28, 0.2, 0.95), room.at(0.95, 0.05, room.table_height + 0.2))


def _hoses(room: OperatingRoom, start: Array, end: Array) -> None:
    for k in range(2):
        lift = np.array([0, 0, 0.05 * k])
        previous = start + lift
        for t in np.linspace(0.15, 1, 7):
            q = start * (1 - t) + end * t + lift - np.array([0, 0, 0.25 * math.sin(t * math.pi)])
            room.scene.capsule("grey", previous, q, 0.018)
            previous = q


def _instrument_table(room: OperatingRoom, rng: Rng, half: tuple[float, float]) -> None:
    (hx, hy), axis = half, room.table[2]
    spots = [
        (
            rng.uniform(-1.6, 0.3),
            rng.choice([-1, 1]) * rng.uniform(1.25, 1.9),
            axis + rng.uniform(-0.25, 0.25),
        )
        for _ in range(40)
    ]
    spots += [
        (-1.75 - rng.uniform(0, 0.5), rng.uniform(-0.8, 0.8), axis + math.pi / 2 + rng.uniform(-0.2, 0.2))
        for _ in range(40)
    ]
    rng.shuffle(spots)
    r = room.place(spots, hx, hy, 0.30)
    if r is None:
        return
    room.instruments.append(r)
    s, L, yaw, h = room.scene, local_frame(r), r[4], float(rng.uniform(0.88, 1.0))
    c, n = math.cos(yaw), math.sin(yaw)
    s.box("table_top", L(0, 0, h), (hx, hy, 0.015), yaw)
    for sign in (-1, 1):
        s.quad(
            "table_top", L(0, sign * (hy + 0.005), h - 0.17), (-n * sign, c * sign, 0.05), (hx, 0.18), 0.008
        )
        s.quad(
            "table_top", L(sign * (hx + 0.005), 0, h - 0.17), (c * sign, n * sign, 0.05), (hy, 0.18), 0.008
        )
    for u in (0.05 - hx, hx - 0.05):
        for v in (0.05 - hy, hy - 0.05):
            s.cylinder("steel", L(u, v, 0.03), L(u, v, h), 0.014)
    for _ in range(int(rng.integers(10, 18))):
        u, v = rng.uniform(-hx + 0.12, hx - 0.12), rng.uniform(-hy + 0.08, hy - 0.08)
        turn, length = rng.uniform(0, 3.1), rng.uniform(0.05, 0.10)
        du, dv = length * math.cos(turn), length * math.sin(turn)
        s.capsule("steel", L(u - du, v - dv, h + 0.022), L(u + du, v + dv, h + 0.026), 0.006)
    for _ in range(3):
        u, v = rng.uniform(-hx + 0.12, hx - 0.12), rng.uniform(-hy + 0.1, hy - 0.1)
        bowl = "steel" if rng.random() < 0.6 else "white"
        s.cylinder(
            bowl, L(u, v, h + 0.015), L(u, v, h + rng.uniform(0.04, 0.10)), float(rng.uniform(0.04, 0.08))
        )


def _mayo_stand(room: OperatingRoom, rng: Rng) -> int:
    """A tray over the patient's legs; returns the side of its foot."""
    side, s, P = int(rng.choice([-1, 1])), room.scene, room.at
    zt, axis = room.table_height, room.table[2]
    s.box("steel", P(-0.72, side * 0.12, zt + 0.30), (0.20, 0.30, 0.012), axis)
    s.box("table_top", P(-0.72, side * 0.12, zt + 0.315), (0.19, 0.29, 0.008), axis)
    s.cylinder("steel", P(-0.72, side * 0.46, 0.04), P(-0.72, side * 0.46, zt + 0.30), 0.018)
    s.box("steel", P(-0.72, side * 0.46, 0.03), (0.06, 0.22, 0.02), axis)
    x, y, _ = P(-0.72, side * 0.46, 0)
    room.obstacles.append((float(x), float(y), 0.14, 0.14, axis))
    for _ in range(8):
        u, v = rng.uniform(-0.15, 0.15) - 0.72, rng.uniform(-0.22, 0.22) + side * 0.12
        s.capsule("steel", P(u - 0.05, v, zt + 0.33), P(u + 0.05, v + 0.02, zt + 0.334), 0.006)
    return side


def _c_arm(room: OperatingRoom, rng: Rng, side: int) -> None:
    """An X-ray C-arm, in use across the table or parked."""
    axis, r = room.table[2], None
    if rng.random() < 0.40:
        spots = [(rng.uniform(-0.65, -0.2), side * rng.uniform(1.15, 1.3), axis) for _ in range(10)]
        r = room.place(spots, 0.30, 0.40, 0.02)
    used = r is not None
    if r is None:
        spots = [
            (
                rng.uniform(-2.8, 2.2),
                rng.choice([-1, 1]) * rng.uniform(1.6, 2.8),
                axis + rng.uniform(-0.5, 0.5),
            )
            for _ in range(80)
        ]
        r = room.place(spots, 0.34, 0.55, 0.1)
    if r is None:
        return
    s, L, yaw = room.scene, local_frame(r), r[4]
    to_table = np.array(room.table[:2]) - np.array(r[:2])
    g = -1.0 if np.array([-math.sin(yaw), math.cos(yaw)]) @ to_table < 0 else 1.0
    s.box("white", L(0, -g * 0.05, 0.55), (0.24, 0.34, 0.42), yaw)
    s.quad("cart", L(0.25, -g * 0.05, 0.55), (math.cos(yaw), math.sin(yaw), 0), (0.32, 0.38), 0.004)
    s.box("dark", L(0, 0, 0.06), (0.28, 0.45, 0.06), yaw)
    s.cylinder("grey", L(0, 0, 0.9), L(0, 0, 1.15), 0.06)
    s.cylinder("white", L(0, 0, 1.08), L(0, g * 0.52, 1.08), 0.05)
    radius, zc, vc = 0.66, 1.05, g * (1.2 if used else 1.15)
    arc = [
        L(0, vc - g * radius * math.cos(a), zc + radius * math.sin(a))
        for a in np.radians(np.linspace(-100, 100, 17))
    ]
    for a, b in pairwise(arc):
        s.capsule("beige", a, b, 0.055)
    s.cylinder("white", L(0, vc, zc + 0.40), L(0, vc, zc + 0.66), 0.17)
    s.box("grey", L(0, vc, zc - 0.62), (0.15, 0.15, 0.16), yaw)
    reach, half = (0.55, (0.10, 0.2)) if used else (0.85, (0.15, 0.5))
    x, y, _ = L(0, g * reach, 0)
    room.obstacles.append((float(x), float(y), *half, yaw))


Spots = list[tuple[float, float, float]]


def _tower(room: OperatingRoom, rng: Rng, spots: Spots) -> None:
    """A video tower with a screen on top."""
    r = room.place(spots, 0.28, 0.32, 0.25)
    if r is None:
        return
    s, L, yaw = room.scene, local_frame(r), r[4]
    for z in (0.25, 0.65, 1.05):
        s.box("white", L(0, 0, z), (0.26, 0.30, 0.015), yaw)
        s.box("dark" if z < 0.5 else "grey", L(0, 0, z + 0.12), (0.20, 0.24, 0.09), yaw)
    for side in (-1, 1):
        s.box("grey", L(-0.24, side * 0.28, 0.75), (0.02, 0.02, 0.7), yaw)
    room.screen(rng, L(-0.05, 0, 1.55), np.array([math.cos(yaw), math.sin(yaw), 0]), (0.26, 0.17))
    room.machines.append(r)


def _bin(room: OperatingRoom, rng: Rng, spots: Spots) -> None:
    r = room.place(spots, 0.22, 0.22, 0.3)
    if r is not None:
        room.scene.cylinder("accent", (r[0], r[1], 0.0), (r[0], r[1], 0.55), 0.19)
        room.scene.cylinder("dark", (r[0], r[1], 0.55), (r[0], r[1], 0.58), 0.20)


def _infusion_stand(room: OperatingRoom, rng: Rng, spots: Spots) -> None:
    near = [(rng.uniform(0.7, 1.5), rng.choice([-1, 1]) * rng.uniform(0.75, 1.3), 0.0) for _ in range(50)]
    r: Rect | None = room.place(near, 0.15, 0.15, 0.15)
    if r is None:
        return
    s, (x, y) = room.scene, r[:2]
    s.cylinder("steel", (x, y, 0.05), (x, y, 1.95), 0.014)
    s.cylinder("steel", (x - 0.12, y, 1.95), (x + 0.12, y, 1.95), 0.008)
    s.cylinder("dark", (x, y, 0.02), (x, y, 0.07), 0.24)
    s.box("sheet", (x + 0.11, y, 1.75), (0.06, 0.02, 0.12))
    s.box("white", (x, y + 0.05, 1.25), (0.045, 0.06, 0.09))


def _cart(room: OperatingRoom, rng: Rng, spots: Spots) -> None:
    r = room.place(spots, 0.3, 0.25, 0.25)
    if r is not None:
        L = local_frame(r)
        room.scene.box("cart", L(0, 0, 0.45), (0.28, 0.23, 0.42), r[4])
        room.scene.box("accent", L(0, 0, 0.9), (0.30, 0.25, 0.03), r[4])
        room.machines.append(r)
