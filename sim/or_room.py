"""The operating room itself: walls, door with corridor, and the operating table in the middle."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from orveil.sim import or_textures as paint
from orveil.sim.floor import Floor
from orveil.sim.maths import Array, Rect, rect_corners, rects_overlap, unit
from orveil.sim.scene import Scene
from orveil.sim.textures import Rng, tex_cloth

X, Y, Z = 4.0, 3.5, 3.2
"""Half length, half width and height of the room in metres."""
DOOR_HALF, CORRIDOR = 0.62, 2.4
DRAPES = np.array([[0.20, 0.46, 0.42], [0.22, 0.42, 0.64], [0.38, 0.58, 0.70], [0.15, 0.34, 0.52]])
ACCENTS = np.array([[0.2, 0.45, 0.6], [0.55, 0.25, 0.2], [0.25, 0.5, 0.35], [0.6, 0.55, 0.25]])


@dataclass
class OperatingRoom:
    """The room and where its things stand; the table frame has `along` from feet to head.

    door_side is the sign of x of the wall with the door; `obstacles` are floor rectangles that nobody
    enters, the other rectangles are those that people work at.
    """

    scene: Scene
    door_side: int
    door_y: float
    table: tuple[float, float, float]
    table_height: float
    drape: Array
    obstacles: list[Rect] = field(default_factory=list)
    screens: list[Array] = field(default_factory=list)
    lamps: list[Array] = field(default_factory=list)
    instruments: list[Rect] = field(default_factory=list)
    machines: list[Rect] = field(default_factory=list)
    anaesthesia: Rect | None = None
    arm_side: int = 0

    @property
    def along(self) -> Array:
        """Unit vector (2,) from the feet to the head end of the table."""
        return np.array([math.cos(self.table[2]), math.sin(self.table[2])])

    @property
    def across(self) -> Array:
        """Unit vector (2,) across the table."""
        return np.array([-math.sin(self.table[2]), math.cos(self.table[2])])

    def at(self, along: float, across: float, z: float) -> Array:
        """World point (3,) of coordinates in the table frame."""
        xy = np.array(self.table[:2]) + self.along * along + self.across * across
        return np.array([xy[0], xy[1], z])

    def in_table_frame(self, x: float, y: float, yaw: float) -> tuple[float, float, float]:
        """World position and yaw as (along, across, yaw) for `place`."""
        d = np.array([x - self.table[0], y - self.table[1]])
        return float(d @ self.along), float(d @ self.across), yaw

    def place(
        self, candidates: Iterable[tuple[float, float, float]], hx: float, hy: float, gap: float = 0.12
    ) -> Rect | None:
        """The first candidate (along, across, yaw) where a thing of these half sizes fits; it is kept."""
        doorway = (self.door_side * (X - 0.7), self.door_y, 0.9, 0.75, 0.0)
        for along, across, yaw in candidates:
            x, y, _ = self.at(along, across, 0)
            r = (float(x), float(y), hx, hy, float(yaw))
            corners = np.abs(rect_corners(r))
            if corners[:, 0].max() > X - 0.05 or corners[:, 1].max() > Y - 0.05:
                continue
            if not any(rects_overlap(r, o, gap) for o in [*self.obstacles, doorway]):
                self.obstacles.append(r)
                return r
        return None

    def screen(self, rng: Rng, centre: Array, normal: Array, half: tuple[float, float]) -> None:
        """A monitor facing `normal`."""
        name = f"screen{len(self.screens)}"
        self.scene.texture(name, paint.medical_screen(rng), None, (0.3, 0.6), 0.8)
        self.screens.append(np.array(centre))
        n = unit(normal)
        self.scene.quad("dark", centre - n * 0.03, n, (half[0] + 0.02, half[1] + 0.02), 0.025)
        self.scene.quad(name, centre, n, half, 0.003)


def theatre_floor_plan(room: OperatingRoom) -> Floor:
    """The floor of the room, the doorway and the corridor."""
    side, y = room.door_side, room.door_y
    regions = [
        (-X, X, -Y, Y),
        (side * X * 0.99, side * (X + 0.2), y - 0.56, y + 0.56),
        (side * (X + 0.12), side * (X + 2.3), -Y, Y),
    ]
    return Floor((X + CORRIDOR, Y), (X, Y), regions, room.obstacles)


def empty_room(rng: Rng, seed: int) -> OperatingRoom:
    """Walls, floor, door and the operating table."""
    scene = Scene()
    drape = DRAPES[rng.integers(0, len(DRAPES))]
    _materials(scene, rng, seed, drape)
    door_side = 1 if rng.random() < 0.5 else -1
    axis = float(rng.choice([0, math.pi / 2, math.pi, -math.pi / 2]) + rng.uniform(-0.3, 0.3))
    table = (float(rng.uniform(-0.5, 0.5) - door_side * 0.35), float(rng.uniform(-0.35, 0.35)), axis)
    room = OperatingRoom(
        scene, door_side, float(rng.uniform(-2.1, 2.1)), table, float(rng.uniform(0.86, 0.96)), drape
    )
    _shell(room, rng)
    _table(room, rng)
    return room


def _materials(s: Scene, rng: Rng, seed: int, drape: Array) -> None:
    s.texture("floor", paint.theatre_floor(rng), (7, 7), (0.3, 0.5))
    s.texture("wall", paint.theatre_wall(np.random.default_rng([seed, 11])), (3, 1))
    s.texture("ceiling", paint.theatre_ceiling(rng), (3, 3), (0.05, 0.1), 0.35)
    s.texture("corridor", paint.theatre_wall(rng), (3, 1))
    s.texture("door", paint.theatre_door(rng))
    s.texture("cart", paint.cart(rng))
    s.texture("cabinet", paint.cabinet(rng))
    s.texture("notice", paint.notice(rng))
    s.texture("drape", tex_cloth(rng, drape, 512, 0.28), (2, 1))
    s.texture("sheet", tex_cloth(rng, drape * 1.15, 256, 0.2))
    s.texture("table_top", tex_cloth(rng, drape * rng.uniform(0.8, 1.2), 256, 0.15))
    s.material("steel", [0.66, 0.68, 0.70], (0.7, 0.7))
    s.material("white", [0.84, 0.85, 0.84], (0.3, 0.4))
    s.material("beige", np.array([0.80, 0.78, 0.72]) * rng.uniform(0.85, 1.05), (0.3, 0.4))
    s.material("dark", [0.13, 0.13, 0.15], (0.3, 0.4))
    s.material("grey", [0.45, 0.47, 0.49], (0.3, 0.4))
    s.material("accent", ACCENTS[rng.integers(0, len(ACCENTS))])
    s.material("lamp_glow", [1, 0.98, 0.92], (0, 0), 1.0)


def _shell(room: OperatingRoom, rng: Rng) -> None:
    s, side, dy, mid = room.scene, room.door_side, room.door_y, Z / 2
    s.geom("plane", "floor", (X + CORRIDOR, Y + 0.3, 0.4), (0, 0, 0))
    s.box("ceiling", (0, 0, Z + 0.05), (X + CORRIDOR, Y + 0.3, 0.05))
    s.wall("wall", (-side * (X + 0.05), 0, mid), (side, 0, 0), (Y, mid), 0.05)
    s.wall("wall", (0, Y + 0.05, mid), (0, -1, 0), (X, mid), 0.05)
    s.wall("wall", (0, -Y - 0.05, mid), (0, 1, 0), (X, mid), 0.05)
    for a, b in ((-Y, dy - DOOR_HALF), (dy + DOOR_HALF, Y)):
        s.wall("wall", (side * (X + 0.05), (a + b) / 2, mid), (-side, 0, 0), ((b - a) / 2, mid), 0.05)
    top = 2.12
    s.wall("wall", (side * (X + 0.05), dy, (top + Z) / 2), (-side, 0, 0), (DOOR_HALF, (Z - top) / 2), 0.05)
    for y in (dy - DOOR_HALF, dy + DOOR_HALF):
        s.box("grey", (side * (X + 0.03), y, 1.06), (0.10, 0.04, 1.06))
    s.box("grey", (side * (X + 0.03), dy, 2.14), (0.10, DOOR_HALF + 0.04, 0.04))
    # The leaf stands open into the corridor.
    leaf, hinge = DOOR_HALF * 0.95, 1 if rng.random() < 0.5 else -1
    centre = (side * (X + 0.12 + leaf), dy + hinge * (DOOR_HALF + 0.02), 1.04)
    s.quad("door", centre, (0, -hinge, 0), (leaf, 1.03), 0.025)
    s.wall("corridor", (side * (X + 2.35), 0, mid), (-side, 0, 0), (Y, mid), 0.05)
    for y in (-1, 1):
        s.wall("corridor", (side * (X + 1.2), y * (Y + 0.05), mid), (0, -y, 0), (1.2, mid), 0.05)


def _table(room: OperatingRoom, rng: Rng) -> None:
    s, P, zt, axis = room.scene, room.at, room.table_height, room.table[2]
    A, S = room.along, room.across
    s.box("grey", P(0, 0, 0.06), (0.5, 0.22, 0.06), axis)
    s.box("steel", P(-0.05, 0, zt / 2), (0.16, 0.14, zt / 2 - 0.08), axis)
    s.box("dark", P(0, 0, zt - 0.06), (1.02, 0.26, 0.05), axis)
    s.box("sheet", P(0, 0, zt - 0.005), (1.0, 0.265, 0.025), axis)
    # Hanging drapes are panels of the room, not part of the patient.
    for side in (-1, 1):
        s.quad("drape", P(-0.14, side * 0.285, zt - 0.21), (*(S * side), 0.12), (0.80, 0.23), 0.012)
    s.quad("drape", P(-1.03, 0, zt - 0.2), (-A[0], -A[1], 0.1), (0.27, 0.22), 0.012)
    room.obstacles.append((*room.table[:2], 1.02, 0.30, axis))
    if rng.random() < 0.5:
        s.cylinder("steel", P(0.52, -0.42, zt + 0.42), P(0.52, 0.42, zt + 0.42), 0.012)
        s.quad("drape", P(0.52, 0, zt + 0.27), (A[0], A[1], 0), (0.40, 0.17), 0.01)
    if rng.random() < 0.6:
        room.arm_side = int(rng.choice([-1, 1]))
        s.box("dark", P(0.42, room.arm_side * 0.55, zt), (0.06, 0.30, 0.02), axis)
        x, y, _ = P(0.42, room.arm_side * 0.55, 0)
        room.obstacles.append((float(x), float(y), 0.08, 0.28, axis))
