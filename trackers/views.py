"""Trackers: what a box says about where its person stands, as numbers that a regression can use."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

__all__ = ["TARGETS", "ViewScale", "boxes_of", "describe", "features", "touches"]

Doubles = NDArray[np.float64]

TARGETS = 4
"""Numbers in the description of a box."""
DEGREE = 3
CUBIC = 0.3
"""Cubic terms are scaled down, so that the ridge prior holds them back more than the others."""
BORDER = 0.01
"""A box ends at the border of the picture if it is nearer than this share of the longer side."""


@dataclass(frozen=True)
class ViewScale:
    """Picture size (2,) in pixels of one camera, and mean and spread (4,) of its descriptions."""

    size: Doubles
    mean: Doubles
    spread: Doubles


def describe(xyxy: NDArray[np.floating], size: Doubles) -> Doubles:
    """Boxes (N, 4) in pixels as (N, 4): middle of the top edge, and logarithms of width and height.

    The head is what an operating room shows most reliably, the feet are usually hidden; sizes tell the
    distance. Everything is relative to the longer side of the picture, its centre at 0.
    """
    unit = float(np.max(size))
    box = np.asarray(xyxy, np.float64).reshape(-1, 4) / unit
    extent = np.maximum(box[:, 2:] - box[:, :2], 1e-3)
    middle = (box[:, 0] + box[:, 2]) / 2 - size[0] / unit / 2
    return np.stack([middle, box[:, 1] - size[1] / unit / 2, *np.log(extent).T], axis=1)


def boxes_of(description: Doubles, size: Doubles) -> Doubles:
    """Boxes (N, 4) in pixels of descriptions (N, 4), cut at the borders of the picture (size (2,))."""
    unit = float(np.max(size))
    middle, top = (description[:, k] + size[k] / unit / 2 for k in (0, 1))
    width, height = np.exp(description[:, 2]), np.exp(description[:, 3])
    box = np.stack([middle - width / 2, top, middle + width / 2, top + height], axis=1) * unit
    return np.clip(box, 0.0, np.tile(size, 2))


def touches(xyxy: NDArray[np.floating], size: Doubles) -> Doubles:
    """1 where a box (N, 4) ends at the left, upper, right, lower border of the picture, else 0: (N, 4)."""
    box = np.asarray(xyxy, np.float64).reshape(-1, 4)
    slack = float(np.max(size)) * BORDER
    low, high = box[:, :2] < slack, box[:, 2:] > np.asarray(size) - slack
    return np.concatenate([low, high], axis=1).astype(np.float64)


def features(description: Doubles, border: Doubles, scale: ViewScale) -> Doubles:
    """Polynomial of degree 3 in the standardised description (N, 4), and the border flags: (N, 39)."""
    z = (description - scale.mean) / scale.spread
    columns = [np.ones(len(z))]
    for degree in range(1, DEGREE + 1):
        factor = CUBIC if degree == 3 else 1.0
        for chosen in combinations_with_replacement(range(TARGETS), degree):
            columns.append(factor * np.prod(z[:, chosen], axis=1))
    return np.concatenate([np.stack(columns, axis=1), border], axis=1)
