"""Engine: boxes and keypoints as arrays: overlap, suppression, scaling to a detector's input, interpolation.

Boxes are `xyxy`, float32 (N, 4), pixels, x right, y down, x1 and y1 exclusive, so that width is x1 - x0.
Overlaps are computed and returned in float64. Every function takes and returns empty arrays (0, 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PAD_MULTIPLE", "Fit", "area", "as_boxes", "centre", "clip", "containment", "expand",
    "from_xywh", "interpolate", "intersection", "iou", "keypoints_box", "nms", "to_xywh", "union_box",
]  # fmt: skip

Boxes = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

PAD_MULTIPLE = 32
"""Detector inputs are padded at the right and bottom to a multiple of the largest stride."""


def as_boxes(values: Any) -> Boxes:
    """Any sequence of four-number rows as contiguous float32 (N, 4)."""
    return np.ascontiguousarray(np.asarray(values, dtype=np.float32).reshape(-1, 4))


def area(xyxy: NDArray[Any]) -> Doubles:
    """Areas (N,) in square pixels; a box with negative extent has area 0."""
    boxes = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4)
    extent = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    return np.asarray(extent[:, 0] * extent[:, 1])


def centre(xyxy: NDArray[Any]) -> Doubles:
    """Centres (N, 2) in pixels."""
    boxes = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4)
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2.0)


def intersection(a: NDArray[Any], b: NDArray[Any]) -> Doubles:
    """Shared area (N, M) in square pixels of boxes a (N, 4) and b (M, 4)."""
    first = np.asarray(a, dtype=np.float64).reshape(-1, 1, 4)
    second = np.asarray(b, dtype=np.float64).reshape(1, -1, 4)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    extent = np.maximum(high - low, 0.0)
    return np.asarray(extent[..., 0] * extent[..., 1])


def iou(a: NDArray[Any], b: NDArray[Any]) -> Doubles:
    """Intersection over union (N, M) in [0, 1]; 0 where both boxes have no area."""
    shared = intersection(a, b)
    return _ratio(shared, area(a)[:, None] + area(b)[None, :] - shared)


def containment(a: NDArray[Any], b: NDArray[Any]) -> Doubles:
    """Intersection over the smaller of the two boxes (N, M) in [0, 1]; 1 where one contains the other."""
    return _ratio(intersection(a, b), np.minimum(area(a)[:, None], area(b)[None, :]))


def _ratio(part: Doubles, whole: Doubles) -> Doubles:
    result = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return np.asarray(np.minimum(result, 1.0))


def nms(
    xyxy: NDArray[Any],
    score: NDArray[Any],
    threshold: float,
    label: NDArray[Any] | None = None,
    overlap: Literal["iou", "containment"] = "iou",
) -> Ints:
    """Greedy non-maximum suppression.

    Args:
        xyxy: (N, 4); score: (N,), higher is better; equal scores keep the order given.
        threshold: a box is dropped where its overlap with a kept one is greater than this.
        label: (N,), boxes of different labels never suppress each other.
        overlap: measure of overlap.

    Returns:
        Row numbers of the kept boxes, best first.
    """
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    measure = iou if overlap == "iou" else containment
    boxes = np.asarray(xyxy).reshape(-1, 4)[order]
    clash = measure(boxes, boxes) > threshold
    if label is not None:
        ranked = np.asarray(label)[order]
        clash &= ranked[:, None] == ranked[None, :]
    alive = np.ones(len(order), dtype=bool)
    for rank in range(len(order)):
        if alive[rank]:
            alive[rank + 1 :] &= ~clash[rank, rank + 1 :]
    return np.asarray(order[alive], dtype=np.int64)


def clip(xyxy: NDArray[Any], width: float, height: float) -> Boxes:
    """Boxes cut at the picture's border; a box outside becomes one without area on the border."""
    limit = np.array([width, height, width, height], dtype=np.float32)
    return np.minimum(np.maximum(as_boxes(xyxy), np.float32(0)), limit)


def expand(xyxy: NDArray[Any], margin: float | NDArray[Any]) -> Boxes:
    """Boxes grown on every side by `margin` (scalar or (N,)) times their width and height."""
    boxes = as_boxes(xyxy)
    grow = (boxes[:, 2:] - boxes[:, :2]) * np.asarray(margin, dtype=np.float32).reshape(-1, 1)
    return as_boxes(np.concatenate([boxes[:, :2] - grow, boxes[:, 2:] + grow], axis=1))


def union_box(xyxy: NDArray[Any]) -> Boxes:
    """The smallest box (4,) around all of (N, 4), N at least 1."""
    boxes = as_boxes(xyxy)
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def to_xywh(xyxy: NDArray[Any]) -> Boxes:
    """(x0, y0, x1, y1) to COCO's (x, y, width, height)."""
    boxes = as_boxes(xyxy)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def from_xywh(xywh: NDArray[Any]) -> Boxes:
    """COCO's (x, y, width, height) to (x0, y0, x1, y1)."""
    boxes = as_boxes(xywh)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def interpolate(at: NDArray[Any], times: NDArray[Any], xyxy: NDArray[Any]) -> Boxes:
    """Boxes (K, 4) at times `at` (K,), linear between the rows of (N, 4) at `times` (N,), increasing.

    Before the first and after the last time the end box is held.
    """
    boxes = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4)
    wanted, known = np.asarray(at, dtype=np.float64), np.asarray(times, dtype=np.float64)
    return as_boxes(np.stack([np.interp(wanted, known, boxes[:, side]) for side in range(4)], axis=1))


def keypoints_box(keypoints: NDArray[Any], min_score: float, margin: float = 0.0) -> tuple[Boxes, Ints]:
    """Boxes around the confident keypoints.

    Args:
        keypoints: (N, K, 3) x, y in pixels and confidence.
        min_score: keypoints below it, or not finite, do not count.
        margin: growth on each side, as a share of the box's sides.

    Returns:
        Boxes (N, 4), zeros where no keypoint counts, and how many counted (N,).
    """
    points = np.asarray(keypoints, dtype=np.float32)
    counts = (points[..., 2] >= min_score) & np.isfinite(points).all(axis=-1)
    low = np.where(counts[..., None], points[..., :2], np.inf).min(axis=1, initial=np.inf)
    high = np.where(counts[..., None], points[..., :2], -np.inf).max(axis=1, initial=-np.inf)
    number = counts.sum(axis=1).astype(np.int64)
    boxes = np.where((number > 0)[:, None], np.concatenate([low, high], axis=1), 0.0)
    return expand(boxes, margin), number


@dataclass(frozen=True)
class Fit:
    """How a picture is scaled and padded to a detector's input (no offset: padding is right and bottom).

    Attributes:
        source: (width, height) of the picture.
        resized: (width, height) after scaling; the long side is the one asked for.
        padded: (width, height) after padding to `multiple`.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]

    @classmethod
    def of(cls, width: int, height: int, long_side: int, multiple: int = PAD_MULTIPLE) -> Fit:
        """Fit of a picture of width x height pixels; small pictures are enlarged."""
        if min(width, height, long_side, multiple) < 1:
            raise ValueError(f"sizes must be positive: {width} x {height}, {long_side}, {multiple}")
        scale = long_side / max(width, height)
        resized = max(1, round(width * scale)), max(1, round(height * scale))
        padded = -(-resized[0] // multiple) * multiple, -(-resized[1] // multiple) * multiple
        return cls((width, height), resized, padded)

    @property
    def scale(self) -> NDArray[np.float32]:
        """Input pixels per source pixel, repeated for the four sides (4,); rounding makes x and y differ."""
        x, y = self.resized[0] / self.source[0], self.resized[1] / self.source[1]
        return np.array([x, y, x, y], dtype=np.float32)

    def to_input(self, xyxy: NDArray[Any]) -> Boxes:
        """Source pixels to input pixels."""
        return as_boxes(as_boxes(xyxy) * self.scale)

    def to_source(self, xyxy: NDArray[Any]) -> Boxes:
        """Input pixels to source pixels, cut at the picture's border."""
        return clip(as_boxes(xyxy) / self.scale, *self.source)
