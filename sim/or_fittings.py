"""What hangs on walls and ceiling of the operating room: cupboards, garments, lamps, monitors, light."""

from __future__ import annotations

import math

import numpy as np

from orveil.sim.maths import Array, rot_z, unit
from orveil.sim.mesh import Ring, loft
from orveil.sim.or_room import OperatingRoom, X, Y, Z
from orveil.sim.textures import Rng, tex_cloth

HANGING = np.array([
    [.12, .15, .36], [.36, .10, .16], [.14, .30, .22], [.4, .58, .72], [.85, .85, .84]])  # fmt: skip


def fit_out(room: OperatingRoom, rng: Rng) -> None:
    """Cupboards, notices, hanging garments, operating lamps, monitors on booms and the room's light."""
    _cupboards(room, rng)
    _notices(room, rng)
    _garments(room, rng)
    tint = _lamp_tint(rng, 3000, 6200)
    for k in range(2):
        _lamp(room, rng, k, tint)
    for k in range(2):
        _boom(room, rng, k)
    _room_light(room, rng)


def _lamp_tint(rng: Rng, low: float, high: float) -> Array:
    t = (float(rng.uniform(low, high)) - low) / (high - low)
    return np.array([1.0, 0.86 + 0.14 * t, 0.70 + 0.30 * t])


def _cupboards(room: OperatingRoom, rng: Rng) -> None:
    spots = []
    for _ in range(60):
        wall = rng.integers(0, 3)
        if wall < 2:
            side = 1 - 2 * int(wall)
            spots.append(room.in_table_frame(rng.uniform(-3, 3), side * (Y - 0.28), -side * math.pi / 2))
        else:
            x = -room.door_side * (X - 0.28)
            spots.append(room.in_table_frame(x, rng.uniform(-2.3, 2.3), 0 if room.door_side > 0 else math.pi))
    s = room.scene
    for _ in range(3):
        rng.shuffle(spots)
        h = float(rng.choice([0.95, 1.9])) / 2
        r = room.place(spots, 0.22, 0.60, 0.2)
        if r is not None:
            c, n = math.cos(r[4]), math.sin(r[4])
            s.box("beige", (r[0], r[1], h), (0.21, 0.60, h), r[4])
            s.quad("cabinet", (r[0] + c * 0.215, r[1] + n * 0.215, h), (c, n, 0), (0.59, h - 0.02), 0.004)
            room.machines.append(r)


def _notices(room: OperatingRoom, rng: Rng) -> None:
    for _ in range(3):
        wall, z = int(rng.integers(0, 3)), rng.uniform(1.4, 1.8)
        if wall < 2:
            side = 1 - 2 * wall
            room.scene.quad(
                "notice", (rng.uniform(-3.3, 3.3), side * (Y - 0.01), z), (0, -side, 0), (0.3, 0.4)
            )
        else:
            at = (-room.door_side * (X - 0.01), rng.uniform(-2.8, 2.8), z)
            room.scene.quad("notice", at, (room.door_side, 0, 0), (0.3, 0.4))


def _garments(room: OperatingRoom, rng: Rng) -> None:
    """Lead aprons and gowns on wall hooks: shaped like people, but nobody is in them."""
    s, x0, side = room.scene, rng.uniform(-2.6, 2.6), int(rng.choice([-1, 1]))
    outline = ((.0, .27, .075), (.2, .26, .085), (.45, .24, .08), (.7, .225, .075), (.85, .23, .07),
               (.93, .20, .06), (.98, .12, .05), (1.02, .05, .03))  # fmt: skip
    for k in range(int(rng.integers(1, 4))):
        s.texture(f"garment{k}", tex_cloth(rng, HANGING[rng.integers(0, len(HANGING))], 256, 0.25))
        wide = rng.uniform(0.9, 1.15)
        mesh = loft(
            [Ring((0.012 * math.sin(9 * z), 0, z), (-d, 0, 0), (0, w * wide, 0), 0.8) for z, w, d in outline],
            24,
        )
        mesh.V[:, 0] += 0.018 * np.sin(mesh.V[:, 1] * 38 + k) * (1 - mesh.V[:, 2])
        turned = mesh._replace(V=mesh.V @ rot_z(side * math.pi / 2).T)
        at = (x0 + 0.55 * k, side * (Y - 0.12), rng.uniform(0.45, 0.65))
        s.mesh(f"garment_mesh{k}", turned, f"garment{k}", at)
        x = x0 + 0.5 * k
        s.cylinder("steel", (x, side * (Y - 0.01), 1.68), (x, side * (Y - 0.14), 1.68), 0.012)


def _lamp(room: OperatingRoom, rng: Rng, k: int, tint: Array) -> None:
    s = room.scene
    if k == 0:
        along, across = rng.uniform(-0.15, 0.25), rng.uniform(0.25, 0.5)
    else:
        along, across = rng.uniform(-0.6, -0.15), -rng.uniform(0.25, 0.6)
    c = room.at(along, across, rng.uniform(2.0, 2.18))
    n = unit(room.at(0 if k == 0 else -0.15, 0, room.table_height + 0.1) - c)
    hub = room.at(0.1, 0.1 * (2 * k - 1), Z)
    elbow = c * 0.35 + hub * 0.65
    elbow[2] = 2.62 + 0.12 * k
    joint = (hub[0], hub[1], elbow[2])
    s.cylinder("white", hub, joint, 0.045)
    s.capsule("white", joint, elbow, 0.035)
    s.capsule("white", elbow, c - n * 0.1, 0.03)
    radius = float(rng.uniform(0.23, 0.31))
    s.cylinder("white", c - n * 0.07, c, radius)
    s.cylinder("grey", c - n * 0.12, c - n * 0.05, radius * 0.55)
    s.cylinder("lamp_glow", c, c + n * 0.012, radius * 0.22)
    u = unit(np.cross(n, [0, 0, 1.0]) + 1e-6)
    v = np.cross(n, u)
    for t in range(7):
        d = (u * math.cos(t * 0.9) + v * math.sin(t * 0.9)) * radius * 0.66
        s.cylinder("lamp_glow", c + d, c + d + n * 0.01, radius * 0.19)
    s.cylinder("steel", c, c + n * 0.16, 0.018)
    room.lamps.append(c)
    # Only the room's light throws shadows: each light that does costs a pass over the whole picture.
    s.spot(c - [0, 0, 0.14], n, tint * rng.uniform(0.55, 0.85), cutoff=42, exponent=6, shadow=False)


def _boom(room: OperatingRoom, rng: Rng, k: int) -> None:
    s, (tx, ty, _) = room.scene, room.table
    for _ in range(30):
        c = room.at(rng.uniform(-1.2, 0.6), (1 - 2 * k) * rng.uniform(1.0, 1.7), rng.uniform(1.80, 2.08))
        at_door = np.hypot(c[0] - room.door_side * X, c[1] - room.door_y) < 1.2
        if abs(c[0]) < X - 0.7 and abs(c[1]) < Y - 0.7 and not at_door:
            break
    look = unit([tx - c[0], ty - c[1], -0.15])
    room.screen(rng, c, look, (float(rng.uniform(0.22, 0.31)), float(rng.uniform(0.14, 0.18))))
    if k == 0 and rng.random() < 0.5:
        room.screen(rng, c + np.cross(look, [0, 0, 1.0]) * 0.72, look, (0.26, 0.16))
    hub = np.array([c[0] * 0.6 + tx * 0.4, c[1] * 0.6 + ty * 0.4, Z])
    b = c - look * 0.08
    s.cylinder("white", hub, (hub[0], hub[1], 2.75), 0.05)
    s.capsule("white", (hub[0], hub[1], 2.75), (b[0], b[1], 2.55), 0.04)
    s.cylinder("white", (b[0], b[1], 2.55), (b[0], b[1], c[2]), 0.025)


def _room_light(room: OperatingRoom, rng: Rng) -> None:
    s = room.scene
    t = float(rng.uniform(0, 1))
    tint = np.array([min(1.0, 1.08 - 0.12 * t), 0.95, 0.78 + 0.24 * t])
    light = tint * float(rng.uniform(0.58, 0.80))
    at = (float(rng.uniform(-1.2, 1.2)), float(rng.uniform(-1, 1)), Z - 0.06)
    s.spot(at, (0, 0, -1), light, cutoff=78, exponent=0.6, shadow=True)
    for side in (-1, 1):
        s.point((side * 2.6, side * -1.9, Z - 0.3), light * 0.62)
    s.point((room.door_side * (X + 1.2), 0, Z - 0.3), [0.22, 0.22, 0.22], "0.6 0.25 0")
    s.ambient = tint * float(rng.uniform(0.38, 0.46))
