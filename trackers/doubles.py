"""Trackers: of boxes that overlap in one frame, which show a person of their own.

Two boxes that overlap may be one person seen twice, a person and a part of them, or two people of whom one
stands before the other. Other views tell: people who are matched to different persons there are two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import area, containment, intersection, iou

__all__ = ["frames_of", "neighbours", "one_each", "without_nested"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Boxes = NDArray[np.floating]
Scores = NDArray[np.floating]

SAME = 0.5
"""Overlap (IoU) from which two boxes of one frame are one person seen twice."""
CERTAIN = 0.75
"""Overlap from which they are, even where both are matched to different persons."""
INSIDE = 0.8
"""Of two boxes of one frame, one containing this much of the other, one may be a part of the other."""


def frames_of(camera: NDArray[np.generic], tick: Ints, rows: Ints | None = None) -> list[Ints]:
    """Rows of every frame, given camera and tick of N boxes; of all, or of some rows, in their order."""
    rows = np.arange(len(tick)) if rows is None else rows
    number = np.unique(camera[rows], return_inverse=True)[1]
    order = np.lexsort((tick[rows], number))
    change = (np.diff(number[order]) != 0) | (np.diff(tick[rows][order]) != 0)
    return list(np.split(rows[order], np.flatnonzero(change) + 1)) if len(order) else []


def without_nested(frames: list[Ints], xyxy: Boxes, score: Scores, limit: float = INSIDE) -> Ints:
    """Rows, sorted, without those that a better one of the frame contains or is contained in by `limit`."""
    kept: list[int] = []
    for rows in frames:
        ranked = rows[np.argsort(-score[rows], kind="stable")]
        nested = containment(xyxy[ranked], xyxy[ranked]) > limit
        alive: list[int] = []
        for k in range(len(ranked)):
            if not nested[k, alive].any():
                alive.append(k)
        kept += ranked[alive].tolist()
    return np.sort(np.array(kept, np.int64))


def one_each(
    frames: list[Ints], xyxy: Boxes, worth: Doubles, person: Ints, found: Boxes | None = None
) -> Ints:
    """Rows that show a person of their own, sorted: of double boxes the most worth stays.

    Args:
        frames: rows of every frame; rows that are left out do not take part.
        xyxy: (N, 4) boxes.
        worth: (N,) the higher, the earlier a box is taken.
        person: (N,) who it is by other views; -1 unknown.
        found: (N, 4) boxes by which people told apart are compared, where `xyxy` were merged with their
            neighbours, which draws them together.
    """
    found = xyxy if found is None else found
    kept: list[int] = []
    for rows in frames:
        ranked = rows[np.argsort(-worth[rows], kind="stable")]
        overlap, apart = iou(xyxy[ranked], xyxy[ranked]), iou(found[ranked], found[ranked])
        who = person[ranked]
        two = (who[:, None] >= 0) & (who[None, :] >= 0) & (who[:, None] != who[None, :])
        double = np.where(two, apart > CERTAIN, overlap > SAME)
        alive: list[int] = []
        for k in range(len(ranked)):
            if not double[k, alive].any():
                alive.append(k)
        kept += ranked[alive].tolist()
    return np.sort(np.array(kept, np.int64))


def neighbours(frames: list[Ints], xyxy: Boxes, score: Doubles) -> Doubles:
    """What the better boxes of its frame say against each box (N, 3), from 0 to 1: the largest share of it in
    one, the largest share of one in it, the largest overlap (IoU) with one; each times its score.
    """
    out = np.zeros((len(score), 3))
    for rows in frames:
        box, s = xyxy[rows], score[rows]
        better = np.where(s[None, :] > s[:, None], s[None, :], 0.0)
        size = np.maximum(area(box), 1e-9)
        shared = intersection(box, box)
        for k, part in enumerate((shared / size[:, None], shared / size[None, :], iou(box, box))):
            out[rows, k] = (part * better).max(axis=1)
    return out
