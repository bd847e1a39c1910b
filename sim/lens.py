"""sim, cameras: lens distortion after Brown (1966), applied to pictures, label maps and points alike.

The renderer knows only pinholes. A `Warp` bends its output: pictures bilinearly, label and depth maps by the
nearest pixel, points exactly, so that boxes and keypoints stay on what they mark.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from orveil.sim.camera import Camera
from orveil.sim.maths import Array

# The polynomial folds back far from the axis; where its slope has fallen to this, it is continued linearly.
_LEAST_SLOPE = 0.3


@dataclass(frozen=True)
class Lens:
    """Coefficients for the plane at distance one: k1, k2 radial, p1, p2 tangential (as in OpenCV)."""

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @property
    def identity(self) -> bool:
        """Whether the lens does not distort at all."""
        return self == Lens()

    @property
    def reach(self) -> float:
        """Distance from the axis up to which the polynomial holds; beyond it the map goes on linearly."""
        radii = np.linspace(0.0, 4.0, 801)
        slope = 1 + 3 * self.k1 * radii**2 + 5 * self.k2 * radii**4
        low = np.nonzero(slope < _LEAST_SLOPE)[0]
        return float(radii[low[0]]) if len(low) else float(radii[-1])

    def distort(self, points: Array) -> Array:
        """Ideal points (N, 2) -> where the lens puts them (N, 2); continuous and monotone everywhere."""
        near, stretch = self._within_reach(points)
        return np.asarray(self._polynomial(near) * stretch[:, None])

    def undistort(self, points: Array) -> Array:
        """The inverse of `distort`, by Newton's method to about 1e-12."""
        target = np.asarray(points, float)
        guess = target.copy()
        for _ in range(60):
            error = target - self.distort(guess)
            if len(error) == 0 or np.abs(error).max() < 1e-12:
                break
            guess = guess + self._newton_step(guess, error)
        return guess

    def _within_reach(self, points: Array) -> tuple[Array, Array]:
        points = np.asarray(points, float)
        radius = np.linalg.norm(points, axis=1)
        stretch = np.maximum(1.0, radius / self.reach)
        return points / stretch[:, None], stretch

    def _polynomial(self, points: Array) -> Array:
        x, y = points.T
        r2 = x * x + y * y
        radial = 1 + self.k1 * r2 + self.k2 * r2 * r2
        return np.stack(
            [
                x * radial + 2 * self.p1 * x * y + self.p2 * (r2 + 2 * x * x),
                y * radial + self.p1 * (r2 + 2 * y * y) + 2 * self.p2 * x * y,
            ],
            1,
        )

    def _newton_step(self, points: Array, error: Array) -> Array:
        near, stretch = self._within_reach(points)
        x, y = near.T
        r2 = x * x + y * y
        radial = 1 + self.k1 * r2 + self.k2 * r2 * r2
        # Beyond the reach the map only scales, so its slope is the radial factor itself.
        grow = (stretch <= 1.0) * 2 * (self.k1 + 2 * self.k2 * r2)
        cross = x * y * grow + 2 * self.p1 * x + 2 * self.p2 * y
        xx = radial + x * x * grow + 2 * self.p1 * y + 6 * self.p2 * x
        yy = radial + y * y * grow + 6 * self.p1 * y + 2 * self.p2 * x
        det = xx * yy - cross * cross
        ex, ey = error.T
        return np.stack([(yy * ex - cross * ey) / det, (xx * ey - cross * ex) / det], 1)

    def describe(self) -> dict[str, float]:
        """The coefficients, for the ground truth's camera list."""
        return {k: round(v, 6) for k, v in asdict(self).items()}


class Warp:
    """Bends what a pinhole camera rendered; the picture keeps its size and has no empty border.

    Barrel distortion shrinks the picture, so it is magnified until it covers the frame again: the camera
    behind the lens has the longer focal length `focal`.

    Args:
        lens: the distortion.
        focal: focal length of the rendered picture in pixels, principal point in the middle.
        size: (width, height) in pixels.

    """

    def __init__(self, lens: Lens, focal: float, size: tuple[int, int]) -> None:
        self.lens, self.size = lens, size
        self._source = focal
        self._middle = np.array(size, float) / 2
        self.focal = focal if lens.identity else self._covering_focal()
        width, height = size
        grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1).reshape(-1, 2)
        at = self.backward(grid).reshape(height, width, 2) - 0.5
        self._map = at.astype(np.float32)
        nearest = np.rint(at).astype(np.intp)
        self._column = np.clip(nearest[..., 0], 0, width - 1)
        self._row = np.clip(nearest[..., 1], 0, height - 1)

    def _covering_focal(self) -> float:
        """The shortest focal length at which every border pixel comes from inside the rendered picture."""
        low, high = 0.5 * self._source, 4.0 * self._source
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if self._covers(middle) else (middle, high)
        return high

    def _covers(self, focal: float) -> bool:
        width, height = self.size
        x, y = np.linspace(0, width, 65), np.linspace(0, height, 65)
        zero_x, zero_y = np.zeros_like(x), np.zeros_like(y)
        sides = [(x, zero_x), (x, zero_x + height), (zero_y, y), (zero_y + width, y)]
        border = np.concatenate([np.stack(side, 1) for side in sides])
        at = self.lens.undistort((border - self._middle) / focal) * self._source
        return bool((np.abs(at) <= self._middle + 1e-6).all())

    @property
    def K(self) -> Array:  # noqa: N802 - the field's letter
        """Intrinsic matrix (3, 3) of the camera behind the lens."""
        cx, cy = self._middle
        return np.array([[self.focal, 0, cx], [0, self.focal, cy], [0, 0, 1]])

    @property
    def covered(self) -> Array:
        """(height, width) bool: rendered pixels that the bent picture still shows."""
        width, height = self.size
        grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1).reshape(-1, 2)
        at = self.forward(grid)
        return np.asarray(((at >= 0) & (at < self.size)).all(1).reshape(height, width))

    def forward(self, pixels: Array) -> Array:
        """Rendered pixel positions (N, 2) -> positions in the bent picture (N, 2)."""
        if self.lens.identity:
            return np.asarray(pixels, float)
        ideal = (np.asarray(pixels, float) - self._middle) / self._source
        return np.asarray(self.lens.distort(ideal) * self.focal + self._middle)

    def backward(self, pixels: Array) -> Array:
        """Positions in the bent picture (N, 2) -> rendered pixel positions (N, 2)."""
        if self.lens.identity:
            return np.asarray(pixels, float)
        bent = (np.asarray(pixels, float) - self._middle) / self.focal
        return np.asarray(self.lens.undistort(bent) * self._source + self._middle)

    def picture(self, image: Array) -> Array:
        """The bent picture (height, width, channels), bilinear."""
        if self.lens.identity:
            return image
        x, y = self._map[..., 0], self._map[..., 1]
        return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    def labels(self, image: Array) -> Array:
        """The bent label, class or depth map (height, width): each pixel is copied, none is mixed."""
        return image if self.lens.identity else np.asarray(image[self._row, self._column])


@dataclass(frozen=True)
class LensCamera:
    """A pinhole camera seen through a warp: what ground truth is written in."""

    camera: Camera
    warp: Warp

    @property
    def width(self) -> int:
        """Picture width in pixels."""
        return self.camera.width

    @property
    def height(self) -> int:
        """Picture height in pixels."""
        return self.camera.height

    @property
    def position(self) -> Array:
        """Where the camera is, (3,) metres."""
        return self.camera.position

    def project(self, points: Array) -> tuple[Array, Array]:
        """World points (N, 3) -> pixels of the bent picture (N, 2) and metres along the axis (N,)."""
        pixels, depth = self.camera.project(points)
        return self.warp.forward(pixels), depth

    def describe(self) -> dict[str, Any]:
        """What goes into the ground truth's camera list: K of the bent picture, and `distortion`."""
        return {
            **self.camera.describe(),
            "K": self.warp.K.tolist(),
            "distortion": self.warp.lens.describe(),
        }


def sample_lens(rng: np.random.Generator, strength: float = 1.0) -> Lens:
    """A ceiling or room camera's lens: mostly barrel distortion; `strength` 0 is a perfect lens."""
    k1 = float(rng.uniform(-0.22, 0.02)) * strength
    k2 = float(rng.uniform(-0.01, 0.03)) * strength
    p1, p2 = (float(v) * strength for v in rng.normal(0.0, 0.001, 2))
    return Lens(k1, k2, p1, p2)
