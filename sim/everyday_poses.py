"""Everyday poses: standing, walking, sitting, bending, crouching, reaching, talking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orveil.sim.furniture import Seat
from orveil.sim.maths import Array, rot_y, rot_z
from orveil.sim.person import Person
from orveil.sim.pose import (
    BEND,
    DROP,
    HAND_L,
    HAND_R,
    HEAD_PITCH,
    HEAD_YAW,
    POSE_SIZE,
    SIT_FORWARD,
    STAGGER,
    TWIST,
    Stance,
    pose_bones,
)
from orveil.sim.textures import Rng

PELVIS_ABOVE_SEAT = 0.09


def relaxed(p: Person, rng: Rng) -> Array:
    """Pose vector of somebody standing with hanging arms, looking about."""
    side = p.shoulder * 0.112 * p.H + 0.03 * p.H
    P = np.zeros(POSE_SIZE)
    P[BEND], P[TWIST] = rng.normal(0.04, 0.05), rng.normal(0, 0.15)
    P[HEAD_PITCH], P[HEAD_YAW] = rng.normal(0.12, 0.2), rng.normal(0, 0.4)
    P[HAND_L] = [0.03 * p.H + rng.normal(0, 0.04), side + abs(rng.normal(0, 0.03)), 0.495 * p.H]
    P[HAND_R] = [0.03 * p.H + rng.normal(0, 0.04), -side - abs(rng.normal(0, 0.03)), 0.495 * p.H]
    P[STAGGER] = rng.normal(0, 0.06)
    return P


def _both(P: Array, left: tuple[float, float, float], right: tuple[float, float, float], H: float) -> None:
    """Hands at x, y in metres and z in units of H."""
    P[HAND_L] = [left[0], left[1], left[2] * H]
    P[HAND_R] = [right[0], right[1], right[2] * H]


def _one_hand(P: Array, rng: Rng, at: tuple[float, float, float], H: float) -> None:
    """One hand (left or right by chance) at x, outward y in metres, z in units of H."""
    if rng.random() < 0.5:
        P[HAND_L] = [at[0], at[1], at[2] * H]
    else:
        P[HAND_R] = [at[0], -at[1], at[2] * H]


def _crossed(P: Array, rng: Rng, H: float) -> None:
    _both(P, (0.17, -0.07, 0.645), (0.20, 0.08, 0.665), H)


def _hips(P: Array, rng: Rng, H: float) -> None:
    _both(P, (0.06, 0.19, 0.60), (0.06, -0.19, 0.60), H)


def _clasped(P: Array, rng: Rng, H: float) -> None:
    z = rng.uniform(0.5, 0.62)
    _both(P, (0.20, 0.04, z), (0.20, -0.04, z), H)


def _behind(P: Array, rng: Rng, H: float) -> None:
    _both(P, (-0.16, 0.05, 0.54), (-0.16, -0.05, 0.54), H)


def _carry(P: Array, rng: Rng, H: float) -> None:
    z = rng.uniform(0.55, 0.68)
    _both(P, (0.30, 0.14, z), (0.30, -0.14, z), H)


def _phone(P: Array, rng: Rng, H: float) -> None:
    if rng.random() < 0.5:
        _one_hand(P, rng, (0.07, 0.13, 0.90), H)
    else:
        _one_hand(P, rng, (0.26, 0.05, 0.72), H)
        P[HEAD_PITCH] = 0.5


def _point(P: Array, rng: Rng, H: float) -> None:
    _one_hand(P, rng, (0.5, float(rng.uniform(-0.1, 0.35)), float(rng.uniform(0.7, 0.95))), H)


def _reach_up(P: Array, rng: Rng, H: float) -> None:
    _one_hand(P, rng, (0.25, 0.18, float(rng.uniform(0.98, 1.12))), H)
    P[HEAD_PITCH] = -0.35
    if rng.random() < 0.4:
        _both(P, (0.25, 0.18, 1.08), (0.25, -0.18, 1.08), H)


def _reach_forward(P: Array, rng: Rng, H: float) -> None:
    z = rng.uniform(0.45, 0.75)
    _both(P, (0.45, 0.14, z), (0.45, -0.12, z), H)
    P[BEND], P[HEAD_PITCH] = rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.7)


def _talk(P: Array, rng: Rng, H: float) -> None:
    a, b = rng.uniform(0.55, 0.75, 2)
    _both(P, (0.28, 0.18, a), (0.28, -0.20, b), H)


def _bend(P: Array, rng: Rng, H: float) -> None:
    P[BEND], P[HEAD_PITCH] = rng.uniform(0.7, 1.4), rng.uniform(0.8, 1.4)
    z = rng.uniform(0.12, 0.42)
    _both(P, (0.42, 0.13, z), (0.42, -0.13, z), H)


def _crouch(P: Array, rng: Rng, H: float) -> None:
    P[DROP] = rng.uniform(0.20, 0.31) * H
    P[BEND], P[HEAD_PITCH] = rng.uniform(0.2, 0.9), rng.uniform(0.1, 0.9)
    _both(P, (0.38, 0.13, rng.uniform(0.1, 0.35)), (0.40, -0.10, rng.uniform(0.05, 0.35)), H)
    P[STAGGER] = 0.13


def _wave(P: Array, rng: Rng, H: float) -> None:
    _one_hand(P, rng, (0.18, 0.34, float(rng.uniform(0.86, 1.05))), H)


def _nothing(P: Array, rng: Rng, H: float) -> None:
    return


STANDING: dict[Callable[[Array, Rng, float], None], float] = {
    _nothing: 5, _crossed: 2, _hips: 2, _clasped: 2, _behind: 1, _carry: 2, _phone: 3, _point: 1.5,
    _reach_up: 1.5, _reach_forward: 3, _talk: 3, _bend: 3, _crouch: 2.5, _wave: 1,
}  # fmt: skip


def standing(p: Person, rng: Rng) -> Array:
    """Pose vector of one of the standing, bending or crouching poses, somewhat varied."""
    P = relaxed(p, rng)
    weights = np.array(list(STANDING.values()))
    act = list(STANDING)[rng.choice(len(STANDING), p=weights / weights.sum())]
    act(P, rng, p.H)
    P[5:11] += rng.normal(0, 0.035, 6)
    return P


def stand(p: Person, rng: Rng, x: float, y: float, yaw: float) -> tuple[Array, Array]:
    """Bones of a standing person."""
    return pose_bones(standing(p, rng), p.J, p.H, Stance(np.array([x, y, 0.0]), yaw))


def walk(p: Person, rng: Rng, x: float, y: float, yaw: float) -> tuple[Array, Array]:
    """Bones of a walking person at a random moment of the step."""
    P = relaxed(p, rng)
    P[STAGGER] = 0
    if rng.random() < 0.25:
        (_carry, _phone, _clasped)[rng.integers(0, 3)](P, rng, p.H)
    speed = float(rng.uniform(0.5, 1.4))
    stance = Stance(
        np.array([x, y, 0.0]),
        yaw,
        float(rng.random()),
        min(1.0, speed / 0.55),
        (0.5 + 0.6 * speed) * p.H / 1.75,
    )
    return pose_bones(P, p.J, p.H, stance)


def sit(p: Person, rng: Rng, seat: Seat) -> tuple[Array, Array]:
    """Bones of a person on a seat."""
    P = relaxed(p, rng)
    P[DROP] = 0.522 * p.H - seat.height - PELVIS_ABOVE_SEAT
    P[SIT_FORWARD] = rng.uniform(0.30, 0.52)
    P[STAGGER] = rng.normal(0, 0.05)
    P[BEND] = rng.uniform(-0.25, 0.45)
    P[HEAD_PITCH] = P[BEND] + rng.normal(0.1, 0.2)
    kind, z = rng.random(), seat.height + 0.2
    if kind < 0.4:
        P[HAND_L], P[HAND_R] = [0.30, 0.12, z], [0.30, -0.12, z]
    elif kind < 0.75:
        P[HAND_L], P[HAND_R] = [0.42, 0.15, 0.80], [0.42, -0.13, 0.80]
    else:
        _talk(P, rng, 0.75 * p.H)
    P[5:11] += rng.normal(0, 0.03, 6)
    return pose_bones(
        P, p.J, p.H, Stance(np.array([seat.x, seat.y, 0.0]), seat.yaw + float(rng.normal(0, 0.12)))
    )


def lie(p: Person, rng: Rng, x: float, y: float, yaw: float, height: float) -> tuple[Array, Array]:
    """Bones of a person lying on the back or the side."""
    P = relaxed(p, rng)
    P[BEND] = P[TWIST] = P[STAGGER] = 0
    P[HEAD_PITCH] = -0.05
    roll = float(rng.choice([0.0, 0.0, 0.9, -0.9]))
    R = rot_z(yaw) @ rot_y(-np.pi / 2) @ rot_z(roll)
    origin = np.array([x, y, height + 0.13]) - R @ np.array([0, 0, 0.53 * p.H])
    return pose_bones(P, p.J, p.H, Stance(origin, 0.0, lying=R))
