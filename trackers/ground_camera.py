"""Trackers: a pinhole camera that hangs over a level floor, in metres; rays, projection and how it turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GroundCamera", "Pose", "Poses"]

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class GroundCamera:
    """A camera without distortion, its principal point in the middle of the picture.

    Args:
        size: (2,) width and height of the picture in pixels.
        focal: focal length as a share of the longer side.
        tilt: radians that the axis points below the horizon.
        roll: radians that the picture is turned about the axis.
        height: metres above the floor.
    """

    size: Doubles
    focal: float
    tilt: float
    roll: float
    height: float

    @property
    def unit(self) -> float:
        """Longer side in pixels: image coordinates here are relative to it, 0 in the middle."""
        return float(np.max(self.size))

    def relative(self, pixels: Doubles) -> Doubles:
        """Pixels (N, 2) as shares of the longer side, from the middle of the picture."""
        return np.asarray((pixels - np.asarray(self.size) / 2) / self.unit)

    def rays(self, image: Doubles) -> Doubles:
        """Directions (N, 3) of image points (N, 2): forward along the floor, to the left, up."""
        return _rays(image, self.focal, self.tilt, self.roll)

    def project(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """Points (..., 3), forward, left and up from the floor below the camera, in the picture.

        Returns:
            Image points (..., 2) and depths (...) along the axis, at least 0.1 m.
        """
        forward, left, up = points[..., 0], points[..., 1], points[..., 2] - self.height
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        depth = np.maximum(cos * forward - sin * up, 0.1)
        x, y = -left / depth, (-sin * forward - cos * up) / depth
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        image = np.stack([cos * x + sin * y, -sin * x + cos * y], axis=-1) * self.focal
        return image, np.asarray(depth)


def _rays(image: Doubles, focal: float, tilt: float, roll: float) -> Doubles:
    cos, sin = np.cos(roll), np.sin(roll)
    x = (cos * image[..., 0] - sin * image[..., 1]) / focal
    y = (sin * image[..., 0] + cos * image[..., 1]) / focal
    cos, sin = np.cos(tilt), np.sin(tilt)
    return np.stack([cos - sin * y, -x, -sin - cos * y], axis=-1)


@dataclass(frozen=True)
class Pose:
    """Where a camera stands on the common floor: metres (2,), and the direction it looks in, radians."""

    place: Doubles
    yaw: float

    def out(self, points: Doubles) -> Doubles:
        """Points (..., 3) of the camera's own floor on the common one."""
        turned = self._turn(points[..., :2], self.yaw) + self.place
        return np.concatenate([turned, points[..., 2:]], axis=-1)

    def back(self, points: Doubles) -> Doubles:
        """Points (..., 3) of the common floor on the camera's own."""
        turned = self._turn(points[..., :2] - self.place, -self.yaw)
        return np.concatenate([turned, points[..., 2:]], axis=-1)

    @staticmethod
    def _turn(flat: Doubles, angle: float) -> Doubles:
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = flat[..., 0], flat[..., 1]
        return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)

    def seen_from(self, other: Pose) -> Pose:
        """This pose on the floor of another camera."""
        return Pose(self._turn(self.place - other.place, -other.yaw), self.yaw - other.yaw)

    def after(self, base: Pose) -> Pose:
        """A pose given on the floor of `base`, on the common floor."""
        return Pose(self._turn(self.place, base.yaw) + base.place, self.yaw + base.yaw)


@dataclass(frozen=True)
class Poses:
    """P poses of one camera: metres (P, 2), radians (P,)."""

    place: Doubles
    yaw: Doubles

    @staticmethod
    def of(poses: Sequence[Pose]) -> Poses:
        """Several poses as one."""
        return Poses(np.array([p.place for p in poses]).reshape(-1, 2), np.array([p.yaw for p in poses]))

    def select(self, rows: Any) -> Poses:
        """The rows chosen."""
        return Poses(self.place[rows], self.yaw[rows])

    def one(self, row: int) -> Pose:
        """A single row."""
        return Pose(self.place[row], float(self.yaw[row]))
