"""One picture of the source domain: who is there, doing what, seen from where, in which light."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from orveil.sim.camera import Camera, look_at
from orveil.sim.everyday import sample_colour, sample_tints
from orveil.sim.everyday_poses import lie, sit, stand, walk
from orveil.sim.furniture import PALETTE, Seat
from orveil.sim.maths import Array
from orveil.sim.person import Person
from orveil.sim.render import Renderer
from orveil.sim.source_room import SourceRoom
from orveil.sim.textures import Rng

HOW_MANY = np.array([0.05, 0.16, 0.20, 0.18, 0.14, 0.11, 0.08, 0.05, 0.03])
"""Chance of 0 to 8 people in a picture."""
_APART = 0.42


def sample_poses(room: SourceRoom, rng: Rng) -> dict[int, tuple[Array, Array]]:
    """Poses of a random part of the room's people, keyed by person id."""
    people = room.scene.people
    chance = HOW_MANY[: len(people) + 1]
    n = int(rng.choice(len(chance), p=chance / chance.sum()))
    taken: list[tuple[float, float]] = []
    seats = list(room.seats)
    rng.shuffle(seats)
    out = {}
    for k in rng.permutation(len(people))[:n]:
        placed = _place(people[k], room, rng, taken, seats)
        if placed is not None:
            out[people[k].pid] = placed
    return out


def _place(
    p: Person, room: SourceRoom, rng: Rng, taken: list[tuple[float, float]], seats: list[Seat]
) -> tuple[Array, Array] | None:
    action = rng.random()
    if action < 0.30:
        while seats:
            seat = seats.pop()
            if _clear(seat.x, seat.y, taken):
                taken.append((seat.x, seat.y))
                return sit(p, rng, seat)
    spot = _floor_spot(room, rng, taken)
    if spot is None:
        return None
    x, y = spot
    yaw = float(rng.uniform(-math.pi, math.pi))
    if taken and rng.random() < 0.45:  # Facing somebody, as in a conversation.
        other = taken[int(rng.integers(len(taken)))]
        yaw = math.atan2(other[1] - y, other[0] - x) + float(rng.normal(0, 0.3))
    taken.append((x, y))
    if action > 0.985:
        return lie(p, rng, x, y, yaw, 0.0)
    return (walk if action > 0.68 else stand)(p, rng, x, y, yaw)


def _clear(x: float, y: float, taken: list[tuple[float, float]]) -> bool:
    return all(math.hypot(x - a, y - b) > _APART for a, b in taken)


def _floor_spot(room: SourceRoom, rng: Rng, taken: list[tuple[float, float]]) -> tuple[float, float] | None:
    X, Y, _ = room.size
    for _ in range(40):
        if taken and rng.random() < 0.4:  # Close to somebody: people overlap in the picture.
            a, b = taken[int(rng.integers(len(taken)))]
            angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(_APART, 1.3)
            x, y = a + far * math.cos(angle), b + far * math.sin(angle)
        else:
            x, y = rng.uniform(-X, X), rng.uniform(-Y, Y)
        if room.is_free(x, y, 0.2) and _clear(x, y, taken):
            return float(x), float(y)
    return None


def sample_camera(
    room: SourceRoom, rng: Rng, size: tuple[int, int], poses: dict[int, tuple[Array, Array]]
) -> Camera:
    """An eye-level, ceiling or odd camera somewhere in the room, mostly aimed at somebody."""
    X, Y, Z = room.size
    chests = [X_[2] for X_, _ in poses.values()]
    for attempt in range(60):
        kind = rng.random()
        if kind < 0.45:
            at = np.array([*rng.uniform([-X, -Y], [X, Y]) * 0.97, rng.uniform(1.1, 1.85)])
        elif kind < 0.85:
            edge = rng.choice([-1, 1], 2) * rng.uniform(0.75, 0.98, 2)
            at = np.array([X * edge[0], Y * edge[1], min(Z - 0.1, rng.uniform(2.0, 3.3))])
        else:
            at = np.array([*rng.uniform([-X, -Y], [X, Y]) * 0.97, rng.uniform(0.4, Z - 0.15)])
        if any(np.linalg.norm(c - at) < 0.75 for c in chests):
            continue
        if at[2] > 1.9 or attempt > 40 or room.is_free(at[0], at[1], 0.12):
            break
    target = rng.uniform([-X, -Y, 0.4], [X, Y, 1.5])
    if chests and rng.random() < 0.93:
        chest = chests[int(rng.integers(len(chests)))]
        target = chest + rng.normal(0, 1, 3) * np.array([0.5, 0.5, 0.3])
    tall = size[1] / size[0]
    across = math.radians(float(rng.uniform(32, 88)))
    fovy = math.degrees(2 * math.atan(math.tan(across / 2) * tall))
    roll = math.radians(float(rng.choice([0, rng.normal(0, 3), rng.normal(0, 9)])))
    return look_at(1, at, target, float(np.clip(fovy, 22, 100)), size, roll)


def randomise(renderer: Renderer, room: SourceRoom, rng: Rng, poses: dict[int, Any]) -> None:
    """New colours of clothes, furniture and walls, and new light, for the next picture."""
    model, mj = renderer.model, renderer.mj
    for pid in poses:
        renderer.tint(pid, sample_tints(rng))
    for k in range(PALETTE):
        model.mat_rgba[_material(mj, model, f"c{k}"), :3] = sample_colour(rng)
    for name in ("wall0", "wall1", "floor", "ceiling"):
        cast = 1 - rng.uniform(0, 0.35) * rng.random(3)
        model.mat_rgba[_material(mj, model, name), :3] = cast * rng.uniform(0.75, 1.0)
    warm = rng.uniform(-1, 1)
    colour_cast = np.array([1 + 0.12 * warm, 1.0, 1 - 0.18 * warm])
    model.vis.headlight.ambient[:] = colour_cast * rng.uniform(0.28, 0.62)
    model.vis.headlight.diffuse[:] = rng.choice([0.06, rng.uniform(0, 0.5)])
    X, Y, Z = room.size
    main = rng.uniform(0.35, 1.0)
    model.light_diffuse[0] = colour_cast * main
    model.light_pos[0] = [rng.uniform(-X, X) * 0.8, rng.uniform(-Y, Y) * 0.8, Z - 0.06]
    model.light_dir[0] = np.array([*rng.normal(0, 0.35, 2), -1.0]) / 1.1
    for k in range(1, model.nlight):
        model.light_diffuse[k] = colour_cast * rng.uniform(0.05, 0.75)
        model.light_pos[k] = [rng.uniform(-X, X) * 0.9, rng.uniform(-Y, Y) * 0.9, rng.uniform(0.8, Z - 0.1)]


def _material(mj: Any, model: Any, name: str) -> int:
    return int(mj.mj_name2id(model, mj.mjtObj.mjOBJ_MATERIAL, name))
