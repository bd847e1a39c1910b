"""A pinhole camera in the room."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orveil.sim.maths import Array, unit


@dataclass(frozen=True)
class Camera:
    """Pinhole camera; R (3, 3) turns world into camera axes (OpenCV: x right, y down, z forward)."""

    id: int
    position: Array
    R: Array
    fovy: float
    """Vertical opening angle in degrees."""
    width: int
    height: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.height / 2 / math.tan(math.radians(self.fovy) / 2)

    @property
    def K(self) -> Array:  # noqa: N802 - the field's letter
        """Intrinsic matrix (3, 3)."""
        return np.array([[self.focal, 0, self.width / 2], [0, self.focal, self.height / 2], [0, 0, 1]])

    @property
    def t(self) -> Array:
        """Translation of x_cam = R x_world + t, (3,)."""
        return np.asarray(-self.R @ self.position)

    def project(self, points: Array) -> tuple[Array, Array]:
        """World points (n, 3) to pixels (n, 2) and depth along the axis (n,) in metres.

        Pixels of points behind the camera are meaningless: test the depth.
        """
        q = (points - self.position) @ self.R.T
        z = q[:, 2]
        safe = np.where(np.abs(z) < 1e-9, 1e-9, z)
        uv = q[:, :2] / safe[:, None] * self.focal + np.array([self.width / 2, self.height / 2])
        return uv, z

    def describe(self) -> dict[str, Any]:
        """What goes into the ground truth's camera list."""
        return {
            "id": self.id, "name": f"cam{self.id:02d}", "width": self.width, "height": self.height,
            "K": self.K.tolist(), "R": self.R.tolist(), "t": self.t.tolist(),
            "position": self.position.tolist(),
            "convention": "x_cam = R x_world + t, OpenCV axes",
        }  # fmt: skip


def look_at(
    camera_id: int,
    position: npt.ArrayLike,
    target: npt.ArrayLike,
    fovy: float,
    size: tuple[int, int],
    roll: float = 0.0,
) -> Camera:
    """Camera at `position` aimed at `target`, rolled by `roll` radians; size is (width, height)."""
    position = np.asarray(position, float)
    forward = unit(np.asarray(target, float) - position)
    right = unit(np.cross(forward, [0, 0, 1.0]))
    up = np.cross(right, forward)
    right = right * math.cos(roll) + up * math.sin(roll)
    up = np.cross(right, forward)
    return Camera(camera_id, position, np.stack([right, -up, forward]), fovy, *size)
