"""Pose vectors of staff at work: at the table, at instruments and machines, looking, talking, crouching."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orveil.sim.maths import Array, unit
from orveil.sim.person import Person
from orveil.sim.pose import BEND, DROP, HAND_L, HAND_R, HEAD_PITCH, HEAD_YAW, STAGGER, TWIST
from orveil.sim.stations import Station
from orveil.sim.textures import Rng

ARM_REACH = 0.62


@dataclass
class Manner:
    """How one person moves: rhythm and phase of small movements (6,), and a style (4,) in 0..1."""

    rhythm: Array
    phase: Array
    style: Array

    def drift(self, k: int, t: float, speed: float = 1.0) -> float:
        """Slow movement number `k` in about [-1, 1] at time t seconds."""
        f, p = self.rhythm[k], self.phase[k]
        slow = math.sin(2 * math.pi * 0.23 * f * t * speed + p)
        fast = math.sin(2 * math.pi * 0.61 * f * t * speed + 1.7 * p)
        return slow * 0.6 + fast * 0.4


def sample_manner(rng: Rng) -> Manner:
    """A random manner."""
    return Manner(rng.uniform(0.6, 1.4, 6), rng.uniform(0, 6.28, 6), rng.random(4))


def upright(p: Person, m: Manner, t: float) -> Array:
    """Pose vector of standing with hanging arms."""
    side, H = p.shoulder * 0.112 * p.H + 0.03 * p.H, p.H
    return np.array([
        0.03, 0, 0.10 + 0.05 * m.drift(0, t), 0.35 * m.drift(1, t, 0.5), 0,
        0.03 * H, side, 0.495 * H, 0.03 * H, -side, 0.495 * H, 0, 0.0])  # fmt: skip


def strolling(p: Person, m: Manner, t: float) -> Array:
    """Pose vector while walking, sometimes carrying something."""
    side, H = p.shoulder * 0.112 * p.H + 0.025 * p.H, p.H
    look = 0.12 * math.sin(t * 0.9 + m.phase[0])
    V = np.array([0.06, 0, 0.12, look, 0, 0.04 * H, side, 0.50 * H, 0.04 * H, -side, 0.50 * H, 0, 0])
    if m.style[3] < 0.3:
        V[HAND_L], V[HAND_R] = [0.28, 0.12, 0.62 * H], [0.28, -0.12, 0.62 * H]
    return V


def act(p: Person, m: Manner, station: Station, position: Array, yaw: float, t: float) -> Array:
    """Pose vector of somebody at a station."""
    V = upright(p, m, t)
    if station.action in ("table", "instruments", "head", "machine"):
        _work(V, p, m, station, position, yaw, t)
    else:
        _stand_about(V, p, m, station.action, t)
    return V


def _work(V: Array, p: Person, m: Manner, s: Station, position: Array, yaw: float, t: float) -> None:
    heading = np.array([math.cos(yaw), math.sin(yaw)])
    across = np.array([-heading[1], heading[0]])

    def n(k: int, speed: float = 1.0) -> float:
        return m.drift(k, t, speed)

    def hand(at: Array, z: float) -> list[float]:
        d = at - position
        v = np.array([heading @ d, across @ d])
        reach = float(np.linalg.norm(v))
        if reach > ARM_REACH:
            v = v * ARM_REACH / reach
        return [float(v[0]), float(v[1]), z]

    z = s.height + {"table": 0.20, "head": 0.10, "instruments": 0.03, "machine": 0.0}[s.action]
    face = np.array(s.face)
    if np.linalg.norm(face - position) > 0.5:
        face = position + unit(face - position) * 0.50
    low = max(0.0, 0.60 * p.H - z) / 0.35
    if s.action in ("table", "head"):
        V[BEND] = 0.20 + 0.16 * m.style[0] + 0.06 * n(2) + 0.35 * low
    else:
        V[BEND] = 0.14 + 0.04 * n(2) + 0.3 * low
    V[TWIST] = 0.18 * n(3, 0.6)
    machine = s.action == "machine"
    V[HEAD_PITCH] = 0.22 + 0.2 * n(4) if machine else 0.55 + 0.25 * m.style[1] + 0.10 * n(4)
    if n(5, 0.35) > 0.62:  # A glance up from the work.
        V[HEAD_PITCH], V[HEAD_YAW] = 0.05, 0.8 * np.sign(n(1, 0.2))
    left = face + across * (0.13 + 0.05 * n(0, 1.5)) + heading * 0.05 * n(1, 1.4)
    right = face - across * (0.11 + 0.05 * n(2, 1.5)) + heading * 0.05 * n(3, 1.4)
    V[HAND_L] = hand(left, z + 0.06 + 0.04 * n(4, 1.6))
    V[HAND_R] = hand(right, z + 0.06 + 0.04 * n(5, 1.6))
    V[STAGGER] = 0.05 * (m.style[2] - 0.5) * 2


def _stand_about(V: Array, p: Person, m: Manner, action: str, t: float) -> None:
    H = p.H
    n = [m.drift(k, t) for k in range(6)]
    fast = [m.drift(k, t, 2) for k in range(6)]
    if action == "look":
        V[HEAD_PITCH] = -0.12 + 0.05 * n[0]
        if m.style[0] < 0.5:
            V[HAND_L], V[HAND_R] = [0.16, 0.07, 0.62 * H], [0.17, -0.06, 0.60 * H]
        else:
            V[HAND_R] = [0.42, -0.10 + 0.05 * n[2], 0.76 * H + 0.03 * n[3]]
    elif action == "hold":
        V[HEAD_PITCH] = 0.5 + 0.1 * n[0]
        V[HAND_L], V[HAND_R] = [0.27, 0.10, 0.64 * H], [0.28, -0.06 + 0.05 * n[2], 0.66 * H]
    elif action == "cross":
        V[HAND_L], V[HAND_R] = [0.17, -0.07, 0.645 * H], [0.20, 0.08, 0.665 * H]
        V[HEAD_PITCH] = 0.12 + 0.1 * n[0]
    elif action == "talk":
        V[HAND_L] = [0.26 + 0.06 * fast[2], 0.16, 0.62 * H + 0.06 * fast[3]]
        V[HAND_R] = [0.26 + 0.08 * fast[4], -0.18, 0.64 * H + 0.08 * fast[5]]
        V[HEAD_PITCH] = 0.05 + 0.08 * n[0]
    elif action == "crouch":
        V[DROP], V[BEND], V[HEAD_PITCH], V[STAGGER] = 0.29 * H, 0.75 + 0.05 * n[0], 0.9, 0.13
        V[HAND_L] = [0.38, 0.12, 0.30]
        V[HAND_R] = [0.46 + 0.05 * n[2], -0.06, 0.10 + 0.04 * n[3]]
    elif action == "idle" and m.style[1] < 0.5:
        # Scrubbed staff keep their hands clasped in front.
        V[HAND_L], V[HAND_R] = [0.20, 0.05, 0.60 * H], [0.20, -0.05, 0.60 * H]
