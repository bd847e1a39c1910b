"""Rooms of the source domain: offices, corridors, lobbies and living rooms."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from orveil.sim import interior_textures as paint
from orveil.sim.everyday import everyday_person, sample_colour
from orveil.sim.furniture import CATALOGUE, PALETTE, Seat
from orveil.sim.maths import Rect, rect_corners, rects_overlap
from orveil.sim.scene import Scene
from orveil.sim.textures import Rng, flat, mottled

# Half length x, half length y, height (ranges in metres) and furniture with its relative frequency.
KINDS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float], dict[str, int]]] = {
    "office": ((2.5, 5.0), (2.2, 4.5), (2.4, 3.0), {"desk": 5, "chair": 6, "shelf": 3, "plant": 1, "boxes": 1,
                                                    "lamp": 1, "coat_rack": 1, "column": 1}),
    "corridor": ((4.0, 8.0), (0.9, 1.6), (2.3, 3.0), {"chair": 2, "plant": 1, "shelf": 1, "boxes": 1,
                                                      "column": 1}),
    "lobby": ((4.0, 7.5), (3.5, 6.5), (2.8, 4.5), {"sofa": 3, "table": 3, "plant": 3, "column": 3, "chair": 3,
                                                   "desk": 1, "boxes": 1, "coat_rack": 1}),
    "living": ((2.2, 4.0), (2.0, 3.5), (2.3, 2.9), {"sofa": 3, "table": 3, "shelf": 2, "plant": 1, "lamp": 2,
                                                    "chair": 3, "boxes": 1, "coat_rack": 1}),
}  # fmt: skip


@dataclass
class SourceRoom:
    """A furnished room with people who are not yet posed; size is half x, half y, height in metres."""

    kind: str
    size: tuple[float, float, float]
    scene: Scene
    furniture: list[Rect] = field(default_factory=list)
    seats: list[Seat] = field(default_factory=list)

    def is_free(self, x: float, y: float, radius: float) -> bool:
        """Whether a disc on the floor keeps clear of walls and furniture."""
        if abs(x) > self.size[0] - radius or abs(y) > self.size[1] - radius:
            return False
        disc = (x, y, radius, radius, 0.0)
        return not any(rects_overlap(disc, r) for r in self.furniture)


def source_room(rng: Rng, people: int) -> SourceRoom:
    """A random room, its furniture and `people` persons."""
    kind = str(rng.choice(list(KINDS), p=[0.35, 0.15, 0.25, 0.25]))
    xs, ys, zs, stock = KINDS[kind]
    room = SourceRoom(
        kind, (float(rng.uniform(*xs)), float(rng.uniform(*ys)), float(rng.uniform(*zs))), Scene()
    )
    _materials(room.scene, rng)
    _shell(room, rng)
    _furnish(room, rng, stock)
    _wall_things(room, rng)
    _lights(room, rng)
    room.scene.people = [everyday_person(i + 1, rng) for i in range(people)]
    return room


def _materials(scene: Scene, rng: Rng) -> None:
    for k in range(PALETTE):
        scene.material(f"c{k}", sample_colour(rng), (float(rng.uniform(0, 0.6)), float(rng.uniform(0, 0.7))))
    scene.material("glow", [1.0, 0.95, 0.85], emission=0.9)
    scene.texture("floor", paint.everyday_floor(rng), (float(rng.uniform(3, 10)),) * 2, (0.2, 0.4))
    scene.texture("wall0", paint.everyday_wall(rng), (float(rng.uniform(1, 5)), float(rng.uniform(1, 3))))
    scene.texture("wall1", paint.everyday_wall(rng), (float(rng.uniform(1, 5)), float(rng.uniform(1, 3))))
    scene.texture("ceiling", mottled(rng, np.full(3, rng.uniform(0.6, 0.95))), (3, 3))
    for k in range(3):
        scene.texture(f"picture{k}", paint.picture(rng))
    scene.texture("window", paint.window(rng), None, (0.3, 0.6), float(rng.uniform(0.3, 0.9)))
    scene.texture("books", paint.books(rng))
    scene.texture("desktop", paint.desktop(rng), None, (0.3, 0.6), float(rng.uniform(0.2, 0.8)))
    scene.texture("door", paint.door(rng))
    scene.texture("leaf", paint.foliage(rng))


def _shell(room: SourceRoom, rng: Rng) -> None:
    (X, Y, Z), s = room.size, room.scene
    s.geom("plane", "floor", (X + 0.5, Y + 0.5, 0.4), (0, 0, 0))
    s.box("ceiling", (0, 0, Z + 0.05), (X + 0.2, Y + 0.2, 0.05))
    names = (
        ["wall0", "wall0", "wall0", "wall0"] if rng.random() < 0.5 else ["wall0", "wall1", "wall0", "wall1"]
    )
    s.wall(names[0], (X, 0, Z / 2), (-1, 0, 0), (Y, Z / 2))
    s.wall(names[1], (-X, 0, Z / 2), (1, 0, 0), (Y, Z / 2))
    s.wall(names[2], (0, Y, Z / 2), (0, -1, 0), (X, Z / 2))
    s.wall(names[3], (0, -Y, Z / 2), (0, 1, 0), (X, Z / 2))
    if rng.random() < 0.6:
        for x, y, hx, hy in ((X, 0, 0.01, Y), (-X, 0, 0.01, Y), (0, Y, X, 0.01), (0, -Y, X, 0.01)):
            s.box("c0", (x, y, 0.05), (hx, hy, 0.05))


def _spot(room: SourceRoom, rng: Rng, hx: float, hy: float, at_wall: bool) -> Rect:
    X, Y, _ = room.size
    if not at_wall:
        yaw = float(rng.choice([0, math.pi / 2, math.pi, -math.pi / 2]) + rng.normal(0, 0.25))
        return float(rng.uniform(-X, X)), float(rng.uniform(-Y, Y)), hx, hy, yaw
    side = int(rng.integers(0, 4))
    if side < 2:
        sign = 1 - 2 * side
        return sign * (X - hx - 0.02), float(rng.uniform(-Y, Y)), hx, hy, math.pi if sign > 0 else 0.0
    sign = 5 - 2 * side
    return float(rng.uniform(-X, X)), sign * (Y - hx - 0.02), hx, hy, -sign * math.pi / 2


def _furnish(room: SourceRoom, rng: Rng, stock: dict[str, int]) -> None:
    X, Y, _ = room.size
    names, weights = list(stock), np.array(list(stock.values()), float)
    for _ in range(int(rng.integers(3, 8 + int(X * Y * 0.6)))):
        build, low, high, wall = CATALOGUE[str(rng.choice(names, p=weights / weights.sum()))]
        hx, hy = (float(rng.uniform(a, b)) for a, b in zip(low, high, strict=True))
        for _ in range(12):
            r = _spot(room, rng, hx, hy, wall or rng.random() < 0.3)
            p = np.abs(rect_corners(r))
            if p[:, 0].max() > X - 0.01 or p[:, 1].max() > Y - 0.01:
                continue
            if not any(rects_overlap(r, o, 0.12) for o in room.furniture):
                room.furniture.append(r)
                room.seats += build(room.scene, r, rng)
                break


def _wall_things(room: SourceRoom, rng: Rng) -> None:
    X, Y, Z = room.size
    for _ in range(int(rng.integers(2, 10))):
        k = int(rng.integers(0, 4))
        normal = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0)][k]
        along = rng.uniform(-1, 1) * ((Y if k < 2 else X) - 0.8)
        kind = rng.random()
        name, half, z = f"picture{rng.integers(0, 3)}", rng.uniform(0.2, 0.6, 2), rng.uniform(1.2, 1.9)
        if kind < 0.3:
            name, half, z = "window", rng.uniform([0.5, 0.5], [1.4, 0.8]), rng.uniform(1.4, 1.6)
        elif kind < 0.5:
            name, half, z = "door", np.array([0.45, 1.02]), 1.02
        elif kind < 0.6:
            name, half = "desktop", np.array([0.5, 0.3])
        z = min(float(z), Z - float(half[1]) - 0.02)
        d = 0.012 * (1 + k % 2)
        centre = [(X - d, along, z), (-X + d, along, z), (along, Y - d, z), (along, -Y + d, z)][k]
        room.scene.quad(name, centre, normal, (float(half[0]), float(half[1])))


def _lights(room: SourceRoom, rng: Rng) -> None:
    X, Y, Z = room.size
    at = (float(rng.uniform(-X, X) * 0.5), float(rng.uniform(-Y, Y) * 0.5), Z - 0.06)
    room.scene.spot(at, (0, 0, -1), np.full(3, 0.6), cutoff=80, exponent=0.6, shadow=True)
    for _ in range(2):
        at = (
            float(rng.uniform(-X, X) * 0.9),
            float(rng.uniform(-Y, Y) * 0.9),
            float(rng.uniform(1.0, Z - 0.1)),
        )
        room.scene.point(at, np.full(3, 0.35))
    room.scene.texture("lamp", flat([1.0, 1.0, 0.97], 8), emission=1.0)
    for _ in range(int(rng.integers(1, 6))):
        at = (float(rng.uniform(-X, X) * 0.8), float(rng.uniform(-Y, Y) * 0.8), Z - 0.005)
        room.scene.box("lamp", at, (0.6, float(rng.choice([0.1, 0.3, 0.6])), 0.01))
