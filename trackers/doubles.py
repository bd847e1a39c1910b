"""Trackers: of boxes that overlap in one frame, which show a person of their own.

A box inside a better one may be a part of the same person, or somebody in front. Whether it counts is
decided by other views: a person of their own has a partner there whom the better box does not claim.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import containment, iou

__all__ = ["frames_of", "inside_better", "one_each"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

INSIDE = 0.8
"""Share of a box inside a better one from which it may be a part of the same person."""
SAME = 0.5
"""Overlap (IoU) from which two boxes of one frame are one person seen twice."""


def frames_of(camera: Ints, tick: Ints) -> list[Ints]:
    """Rows of every frame, given camera and tick of N boxes."""
    order = np.lexsort((tick, camera))
    change = (np.diff(camera[order]) != 0) | (np.diff(tick[order]) != 0)
    return list(np.split(order, np.flatnonzero(change) + 1)) if len(order) else []


def inside_better(frames: list[Ints], xyxy: NDArray[np.floating], score: Doubles, sure: float) -> Bools:
    """Whether each box (N,) lies inside a better one of its frame that scores at least `sure`."""
    out = np.zeros(len(score), np.bool_)
    for rows in frames:
        better = (score[rows][None, :] > score[rows][:, None]) & (score[rows][None, :] >= sure)
        out[rows] = ((containment(xyxy[rows], xyxy[rows]) > INSIDE) & better).any(axis=1)
    return out


def one_each(frames: list[Ints], xyxy: NDArray[np.floating], worth: Doubles, own: Bools) -> Ints:
    """Rows that show a person of their own, sorted.

    Args:
        frames: rows of every frame; rows that are left out do not take part.
        xyxy: (N, 4) boxes.
        worth: (N,) the higher, the earlier a box is taken.
        own: (N,) boxes with a partner of their own in another view: they may lie inside others, or
            around them, but not on them.
    """
    kept: list[int] = []
    for rows in frames:
        ranked = rows[np.argsort(-worth[rows], kind="stable")]
        overlap, inside = iou(xyxy[ranked], xyxy[ranked]), containment(xyxy[ranked], xyxy[ranked])
        alive: list[int] = []
        for k in range(len(ranked)):
            nested = (inside[k, alive] > INSIDE).any() and not own[ranked[k]]
            if not nested and (overlap[k, alive] <= SAME).all():
                alive.append(k)
        kept += ranked[alive].tolist()
    return np.sort(np.array(kept, np.int64))
