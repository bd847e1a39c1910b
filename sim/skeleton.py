"""The 17 bones of a person, their rest position and how the mesh follows them."""

from __future__ import annotations

import numpy as np

from orveil.sim.maths import Array, smooth

BONES = (
    "root", "spine", "chest", "neck", "head",
    "ua_l", "fa_l", "ha_l", "ua_r", "fa_r", "ha_r",
    "th_l", "sh_l", "ft_l", "th_r", "sh_r", "ft_r",
)  # fmt: skip
"""Bone names: ua/fa/ha are upper arm, forearm and hand; th/sh/ft thigh, shank and foot."""
BONE = {name: index for index, name in enumerate(BONES)}
SIDES = ((1, "l"), (-1, "r"))
"""Sign of y and suffix of the left and the right side; a person faces +x with z up."""


def rest_joints(height: float, shoulder: float) -> Array:
    """Joint positions (17, 3) in metres of a person standing at the origin, arms straight down."""
    j: dict[str, tuple[float, float, float]] = {
        "root": (0, 0, 0.53), "spine": (0, 0, 0.60), "chest": (0, 0, 0.70),
        "neck": (-0.004, 0, 0.845), "head": (0.002, 0, 0.885),
    }  # fmt: skip
    for s, n in SIDES:
        j["ua_" + n] = (-0.004, s * 0.112 * shoulder, 0.812)
        j["fa_" + n] = (-0.004, s * 0.112 * shoulder, 0.812 - 0.172)
        j["ha_" + n] = (-0.004, s * 0.112 * shoulder, 0.812 - 0.172 - 0.150)
        j["th_" + n] = (0, s * 0.052, 0.52)
        j["sh_" + n] = (0, s * 0.052, 0.285)
        j["ft_" + n] = (0, s * 0.052, 0.045)
    return np.array([j[b] for b in BONES]) * height


def rigid(V: Array, bone: str) -> Array:
    """Weights (n, 17) of vertices that follow one bone."""
    w = np.zeros((len(V), len(BONES)))
    w[:, BONE[bone]] = 1
    return w


def torso_weights(V: Array, H: float) -> Array:
    """Weights (n, 17) blending pelvis, spine, chest and neck by height."""
    z = V[:, 2] / H
    w = np.zeros((len(V), len(BONES)))
    a, b, c = smooth(0.55, 0.64, z), smooth(0.65, 0.74, z), smooth(0.835, 0.865, z)
    w[:, BONE["root"]] = 1 - a
    w[:, BONE["spine"]] = a * (1 - b)
    w[:, BONE["chest"]] = a * b * (1 - c)
    w[:, BONE["neck"]] = a * b * c
    return w


def skirt_weights(V: Array, H: float, amount: float = 0.75) -> Array:
    """Torso weights whose lower part follows the thighs, and a little the shanks."""
    w = torso_weights(V, H)
    z = V[:, 2] / H
    k = (1 - smooth(0.34, 0.53, z)) * amount
    left = smooth(-0.05, 0.05, V[:, 1] / H)
    root = w[:, BONE["root"]].copy()
    below_knee = 1 - smooth(0.22, 0.30, z)
    w[:, BONE["root"]] = root * (1 - k)
    for s, side in ((left, "l"), (1 - left, "r")):
        w[:, BONE["th_" + side]] += root * k * s * (1 - 0.5 * below_knee)
        w[:, BONE["sh_" + side]] += root * k * s * 0.5 * below_knee
    return w


def limb_weights(
    V: Array, H: float, joints: Array, upper: str, lower: str, end: str | None = None, blend: float = 0.035
) -> Array:
    """Weights (n, 17) of a hanging limb that bends at `lower` and, if given, at `end`."""
    z = V[:, 2]
    w = np.zeros((len(V), len(BONES)))
    zj = joints[BONE[lower]][2]
    k = 1 - smooth(zj - blend * H, zj + blend * H, z)
    w[:, BONE[upper]] = 1 - k
    w[:, BONE[lower]] = k
    if end:
        ze = joints[BONE[end]][2]
        q = 1 - smooth(ze - 0.01 * H, ze + 0.01 * H, z)
        w[:, BONE[end]] = w[:, BONE[lower]] * q
        w[:, BONE[lower]] *= 1 - q
    return w


def share(w: Array, bone: str, amount: Array) -> Array:
    """Weights with `amount` (n,) of each vertex handed over to another bone."""
    w = w * (1 - amount)[:, None]
    w[:, BONE[bone]] += amount
    return w
