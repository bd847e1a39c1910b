"""Small rigid geometry of the simulator: rotations, smooth steps and rectangles on the floor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rect = tuple[float, float, float, float, float]
"""A rectangle on the floor: centre x, y, half sizes along its own axes, yaw (metres, radians)."""


def rot_x(angle: float) -> Array:
    """Rotation about x, (3, 3)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def rot_y(angle: float) -> Array:
    """Rotation about y, (3, 3)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def rot_z(angle: float) -> Array:
    """Rotation about z, (3, 3)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def unit(vector: npt.ArrayLike) -> Array:
    """The vector scaled to length one (zero stays zero)."""
    v = np.asarray(vector, float)
    return np.asarray(v / (np.linalg.norm(v) + 1e-12))


def mat2quat(R: Array) -> Array:
    """Rotation matrix (3, 3) to quaternion (4,) in w, x, y, z order."""
    trace = np.trace(R)
    if trace > 0:
        s = math.sqrt(trace + 1) * 2
        return np.array([0.25 * s, (R[2, 1] - R[1, 2]) / s, (R[0, 2] - R[2, 0]) / s, (R[1, 0] - R[0, 1]) / s])
    i = int(np.argmax(np.diag(R)))
    j, k = (i + 1) % 3, (i + 2) % 3
    s = math.sqrt(max(1e-12, 1 + R[i, i] - R[j, j] - R[k, k])) * 2
    q = np.zeros(4)
    q[0] = (R[k, j] - R[j, k]) / s
    q[1 + i] = 0.25 * s
    q[1 + j] = (R[j, i] + R[i, j]) / s
    q[1 + k] = (R[k, i] + R[i, k]) / s
    return q


def smooth(low: Any, high: Any, x: Any) -> Any:
    """Smooth step from 0 at `low` to 1 at `high`, elementwise."""
    t = np.clip((x - low) / (high - low + 1e-12), 0, 1)
    return t * t * (3 - 2 * t)


def wrap(angle: Any) -> Any:
    """Angle in radians brought to [-pi, pi), elementwise."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def frame_of(normal: npt.ArrayLike, up: npt.ArrayLike = (0, 0, 1)) -> Array:
    """Rotation (3, 3) whose z axis is `normal` and whose y axis points towards `up`."""
    n = unit(normal)
    x = unit(np.cross(np.asarray(up, float), n))
    return np.stack([x, np.cross(n, x), n], 1)


def rect_corners(rect: Rect) -> Array:
    """The four corners of a floor rectangle, (4, 2), in order."""
    x, y, hx, hy, a = rect
    c, s = math.cos(a), math.sin(a)
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.array([[x + c * i * hx - s * j * hy, y + s * i * hx + c * j * hy] for i, j in signs])


def rects_overlap(a: Rect, b: Rect, gap: float = 0.0) -> bool:
    """Whether two floor rectangles come closer than `gap` metres (separating axis test)."""
    A = rect_corners((a[0], a[1], a[2] + gap, a[3] + gap, a[4]))
    B = rect_corners(b)
    for P in (A, B):
        for i in range(4):
            edge = P[(i + 1) % 4] - P[i]
            n = np.array([-edge[1], edge[0]])
            p, q = A @ n, B @ n
            if p.max() < q.min() or q.max() < p.min():
                return False
    return True
