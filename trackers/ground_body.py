"""Trackers: what a box says about where its person stands, given the camera: a body of known size.

A person's head is about 1.65 m above the floor, lower where somebody bends or sits; the box ends at the
feet or, where something hides them, above; its width is that of a trunk with arms. Every box becomes a few
hypotheses along the ray through its head: distances, each with a weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.ground_camera import GroundCamera

__all__ = ["BoxShapes", "Stands", "log_shape", "shapes", "stands"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]

RANGES = np.geomspace(0.8, 13.0, 26)
"""Distances from the camera along the floor at which a person may stand, metres."""
USUAL_RANGE, RANGE_SPREAD = 3.6, 0.55
"""Median distance and spread of its logarithm."""
HEADS = ((0.70, 1.64, 0.11), (0.30, 1.35, 0.28))
"""Top of the head above the floor: share, mean and deviation (m) of those who stand, who bend or sit."""
HIDDEN = 0.6
"""Share of boxes that end above the feet, because something hides them."""
WIDTH, WIDTH_SPREAD = 0.62, 0.35
"""Median width of a box in metres, and spread of its logarithm."""
BORDER = 0.01
"""A box ends at the border of the picture if it is nearer than this share of the longer side."""
LOOSE = 0.012
"""How exactly a box ends at head or feet, as a share of the picture, besides a share of its height."""
STRAY = 0.08
"""Share of boxes whose shape says nothing (no person, two in one)."""


@dataclass(frozen=True)
class BoxShapes:
    """N boxes relative to the longer side, from the middle of the picture; and where they are cut off."""

    head: Doubles
    """(N, 2): middle of the upper edge."""
    bottom: Doubles
    width: Doubles
    cut_top: Bools
    cut_bottom: Bools
    cut_side: Bools

    def select(self, rows: NDArray[np.integer] | Bools) -> BoxShapes:
        """The rows chosen."""
        return BoxShapes(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def shapes(xyxy: NDArray[np.floating], size: Doubles) -> BoxShapes:
    """Boxes (N, 4) in pixels of a picture of the given size (2,)."""
    unit = float(np.max(size))
    box = (np.asarray(xyxy, np.float64).reshape(-1, 4) - np.tile(np.asarray(size) / 2, 2)) / unit
    low, high = -np.asarray(size) / unit / 2 + BORDER, np.asarray(size) / unit / 2 - BORDER
    return BoxShapes(
        head=np.stack([(box[:, 0] + box[:, 2]) / 2, box[:, 1]], axis=1),
        bottom=box[:, 3],
        width=np.maximum(box[:, 2] - box[:, 0], 1e-3),
        cut_top=box[:, 1] < low[1],
        cut_bottom=box[:, 3] > high[1],
        cut_side=(box[:, 0] < low[0]) | (box[:, 2] > high[0]),
    )


@dataclass(frozen=True)
class Stands:
    """Hypotheses of N boxes at K distances: where the head is and how probable that is.

    `point` (N, K, 3) on the camera's own floor; `prior` (N, K) log weights from the head alone, `weight`
    (N, K) with the rest of the box, both normalised over K; `shape` (N,) log density of bottom and width.
    """

    point: Doubles
    prior: Doubles
    weight: Doubles
    shape: Doubles


def log_head(z: Doubles) -> Doubles:
    """Log density of the height of a head, any shape."""
    parts = [np.log(s / d) - 0.5 * ((z - m) / d) ** 2 for s, m, d in HEADS]
    return np.asarray(np.logaddexp(*parts) - 0.5 * np.log(2 * np.pi))


def stands(boxes: BoxShapes, camera: GroundCamera) -> Stands:
    """Where the persons of boxes may stand."""
    ray = camera.rays(boxes.head)
    flat = np.hypot(ray[:, 0], ray[:, 1])
    step = RANGES[None, :] / np.maximum(flat, 1e-3)[:, None]
    z = camera.height + step * ray[:, 2:3]
    # Where the picture cuts the head off, the ray only tells how high it is at least.
    mean = np.where(boxes.cut_top[:, None], np.maximum(z, HEADS[0][1]), z)
    height = np.where(boxes.cut_top[:, None], _log_above(z), log_head(z) + np.log(RANGES)[None, :])
    prior = height - 0.5 * (np.log(RANGES / USUAL_RANGE) / RANGE_SPREAD)[None, :] ** 2
    prior -= _log_sum(prior)[:, None]
    point = np.concatenate([step[..., None] * ray[:, None, :2], mean[..., None]], axis=2)
    shape = log_shape(boxes, camera, point)
    weight = prior + shape
    total = _log_sum(weight)
    return Stands(point, prior, weight - total[:, None], total)


def log_shape(boxes: BoxShapes, camera: GroundCamera, point: Doubles) -> Doubles:
    """Log density (N, K) of bottom and width of boxes whose heads are at points (N, K, 3)."""
    head, depth = camera.project(point)
    foot, _ = camera.project(point * np.array([1.0, 1.0, 0.0]))
    top, feet = head[..., 1], foot[..., 1]
    tall = np.maximum(feet - top, 1e-3)
    bottom = boxes.bottom[:, None]
    loose = LOOSE + 0.06 * tall
    seen = np.exp(-0.5 * ((bottom - feet) / loose) ** 2) / (np.sqrt(2 * np.pi) * loose)
    short = 1.0 / (tall * (1.0 + np.exp(np.clip((bottom - feet) / (0.5 * loose), -30, 30))))
    inside = (1 - HIDDEN) * seen + HIDDEN * short
    beyond = 1.0 / (1.0 + np.exp(np.clip((bottom - feet) / loose, -30, 30)))
    cut = (1 - HIDDEN) * beyond + HIDDEN * 0.3 * beyond
    ends = np.where(boxes.cut_bottom[:, None], cut, inside)
    metres = boxes.width[:, None] * depth / camera.focal
    spread = np.where(boxes.cut_side, 3.0 * WIDTH_SPREAD, WIDTH_SPREAD)[:, None]
    wide = np.exp(-0.5 * (np.log(metres / WIDTH) / spread) ** 2) / (np.sqrt(2 * np.pi) * spread)
    return np.asarray(np.log((1 - STRAY) * ends * wide + STRAY))


def _log_above(z: Doubles) -> Doubles:
    """Log probability that a head is higher than z."""
    share = sum(s / (1.0 + np.exp(np.clip(1.7 * (z - m) / d, -30, 30))) for s, m, d in HEADS)
    return np.asarray(np.log(share + 1e-9))


def _log_sum(values: Doubles) -> Doubles:
    top = values.max(axis=-1)
    return np.asarray(top + np.log(np.exp(values - top[..., None]).sum(axis=-1)))
