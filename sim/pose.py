"""From a short pose vector to the position and rotation of the 17 bones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orveil.sim.maths import Array, rot_y, rot_z, smooth, unit

# Entries of the pose vector: angles in radians, lengths in metres, hands in the heading frame
# (x forward, y left, origin on the floor under the pelvis).
BEND, TWIST, HEAD_PITCH, HEAD_YAW, DROP = range(5)
HAND_L, HAND_R = slice(5, 8), slice(8, 11)
SIT_FORWARD, STAGGER = 11, 12
POSE_SIZE = 13
ARM_UPPER, ARM_LOWER, LEG_UPPER, LEG_LOWER = 0.172, 0.150, 0.235, 0.240


@dataclass(frozen=True)
class Stance:
    """Where a person stands and how far the step has gone.

    `phase` counts steps (1 = a whole cycle), `amplitude` is 0 standing to 1 walking, `stride` metres.
    """

    position: Array
    yaw: float
    phase: float = 0.0
    amplitude: float = 0.0
    stride: float = 1.0
    lying: Array | None = None


def two_bone(
    start: Array, target: Array, l1: float, l2: float, pole: Array, sign: float
) -> tuple[Array, ...]:
    """Two-bone inverse kinematics: joint, end (3,) and both bone rotations (3, 3).

    The joint bends towards `pole`; x axes point along `pole * sign`, z axes back along the bones.
    """
    v = target - start
    d = float(np.linalg.norm(v))
    u = v / (d + 1e-9)
    d = min(max(d, abs(l1 - l2) + 0.02), (l1 + l2) * 0.997)
    a = (l1 * l1 - l2 * l2 + d * d) / (2 * d)
    height = math.sqrt(max(l1 * l1 - a * a, 1e-8))
    p = unit(pole - u * (pole @ u))
    knee = start + u * a + p * height
    end = start + u * d
    z1, z2 = unit(start - knee), unit(knee - end)
    x1 = unit(p * sign - z1 * (p * sign @ z1))
    y = np.cross(z1, x1)
    x2 = unit(np.cross(y, z2))
    return knee, end, np.stack([x1, y, z1], 1), np.stack([x2, np.cross(z2, x2), z2], 1)


def pose_bones(P: Array, joints: Array, H: float, stance: Stance) -> tuple[Array, Array]:
    """Bone positions (17, 3) and rotations (17, 3, 3) in the world for pose vector P (13,)."""
    X, R = np.zeros((17, 3)), np.zeros((17, 3, 3))
    world = rot_z(stance.yaw) if stance.lying is None else stance.lying
    bob = stance.amplitude * (0.026 * H + 0.012 * H * math.cos(4 * math.pi * stance.phase))
    _trunk(P, joints, H, stance, world, bob, X, R)
    _arms(P, joints, H, stance, world, bob, X, R)
    _legs(P, joints, H, stance, world, X, R)
    return X, R


def _trunk(
    P: Array, J: Array, H: float, stance: Stance, world: Array, bob: float, X: Array, R: Array
) -> None:
    bend, twist, drop = P[BEND], P[TWIST], P[DROP]
    pelvis = 0.53 * H - drop - 0.008 * H - bob
    # Bending moves the hips back, or the person would fall over; crouching does not.
    back = -0.10 * H * math.sin(bend * 0.5) * (drop < 0.2 * H)
    X[0] = stance.position + world @ np.array([back, 0, pelvis])
    sway = 0.06 * stance.amplitude * math.sin(2 * math.pi * stance.phase)
    R[0] = world @ rot_z(sway) @ rot_y(bend * 0.34)
    X[1] = X[0] + R[0] @ (J[1] - J[0])
    R[1] = R[0] @ rot_z(twist * 0.4 - sway) @ rot_y(bend * 0.33)
    X[2] = X[1] + R[1] @ (J[2] - J[1])
    R[2] = R[1] @ rot_z(twist * 0.6 - sway) @ rot_y(bend * 0.33)
    X[3] = X[2] + R[2] @ (J[3] - J[2])
    pitch = min(max(P[HEAD_PITCH], bend - 1.0), bend + 0.75)
    turn = min(max(P[HEAD_YAW], -1.15), 1.15)
    R[3] = world @ rot_z(twist + turn * 0.45) @ rot_y(0.5 * (bend + pitch))
    X[4] = X[3] + R[3] @ (J[4] - J[3])
    R[4] = world @ rot_z(twist + turn) @ rot_y(pitch)


def _arms(P: Array, J: Array, H: float, stance: Stance, world: Array, bob: float, X: Array, R: Array) -> None:
    amp = stance.amplitude
    for i, (s, hand) in enumerate(((1, P[HAND_L]), (-1, P[HAND_R]))):
        u = 5 + 3 * i
        X[u] = X[2] + R[2] @ (J[u] - J[2])
        swing = -s * math.sin(2 * math.pi * stance.phase) * amp
        gait = np.array([0.20 * swing - 0.02 * amp, 0, 0.05 * abs(swing) - bob * 0.5])
        target = stance.position + world @ (hand + gait)
        pole = R[2] @ np.array([-0.75, s * 0.55, -0.55])
        X[u + 1], X[u + 2], R[u], R[u + 1] = two_bone(X[u], target, ARM_UPPER * H, ARM_LOWER * H, pole, -1.0)
        R[u + 2] = R[u + 1] @ rot_z(-s * 0.5)


def _foot_path(phase: float, stride: float, H: float) -> tuple[float, float, float]:
    """Forward position, lift and pitch of a foot through one step cycle."""
    if phase < 0.6:
        q = phase / 0.6
        pitch = 0.55 * smooth(0.7, 1.0, q) - 0.25 * (1 - smooth(0, 0.15, q))
        return stride * (0.3 - 0.6 * q), 0.055 * H * float(smooth(0.7, 1.0, q)), float(pitch)
    q = (phase - 0.6) / 0.4
    forward = stride * (-0.3 + 0.6 * (q * q * (3 - 2 * q)))
    lift = 0.055 * H * math.cos(q * math.pi / 2) + 0.03 * H * math.sin(q * math.pi)
    return forward, lift, 0.55 * (1 - q * 1.6) if q < 0.75 else -0.11 - 0.56 * (q - 0.75)


def _legs(P: Array, J: Array, H: float, stance: Stance, world: Array, X: Array, R: Array) -> None:
    amp, drop = stance.amplitude, P[DROP]
    squat = float(smooth(0.1 * H, 0.3 * H, drop))
    for i, s in enumerate((1, -1)):
        t = 11 + 3 * i
        X[t] = X[0] + R[0] @ (J[t] - J[0])
        forward, lift, pitch = _foot_path((stance.phase + (0 if s > 0 else 0.5)) % 1.0, stance.stride, H)
        spread = 0.052 + 0.014 * (1 - amp) + 0.05 * squat
        fx = forward * amp + (P[SIT_FORWARD] + s * P[STAGGER]) * (1 - amp) + 0.01
        target = stance.position + world @ np.array([fx, s * spread * H, 0.045 * H + lift * amp])
        pole = world @ np.array([1.0, s * (0.12 + 0.5 * squat), 0.15])
        X[t + 1], X[t + 2], R[t], R[t + 1] = two_bone(X[t], target, LEG_UPPER * H, LEG_LOWER * H, pole, 1.0)
        # Deep crouching lifts the heels; sitting does not.
        heel = 0.5 * float(smooth(0.2 * H, 0.34 * H, drop)) * (1 if s > 0 else 0.3) * (P[SIT_FORWARD] < 0.1)
        R[t + 2] = world @ rot_z(s * (0.08 + 0.1 * (1 - amp))) @ rot_y(pitch * amp + heel)
