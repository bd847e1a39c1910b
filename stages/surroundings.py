"""Stage part: what the other boxes of its frame say of a box: doubles, parts of people, heads in place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import area, containment, iou
from orveil.pipeline.types import Detections, Tracks
from orveil.trackers.doubles import frames_of

__all__ = ["look_around"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

SAME_IOU = 0.4
"""Candidates that overlap this much probably mean the same person."""
FILLED_SCORE = 0.02
"""What a filled-in box counts against detections where boxes are merged."""
NESTED = 0.8
"""Share of a box inside a better, larger one from which it may be a part of that person."""


def look_around(
    tracks: Tracks, own: Doubles, heads: Detections | None
) -> tuple[dict[str, Doubles], NDArray[np.float32]]:
    """Cues from the other boxes of the frame (N,), and the merged boxes (N, 4).

    Args:
        tracks: N boxes of every camera.
        own: (N,) log odds of their scores; of filled-in boxes, of their neighbours in time.
        heads: head candidates; None where the detector knows no heads.
    """
    out = {n: np.zeros(len(tracks)) for n in ("nested", "twins", "beaten", "parts", "holds", "head")}
    merged = tracks.xyxy.astype(np.float64)
    chance = np.where(tracks.interpolated, 0.5 / (1.0 + np.exp(-own)), tracks.score)
    trust = np.where(tracks.interpolated, FILLED_SCORE, tracks.score).astype(np.float64) ** 2
    by_frame = _by_frame(heads) if heads is not None else {}
    for rows in frames_of(tracks.camera, tracks.index):
        boxes, p = tracks.xyxy[rows], chance[rows]
        overlap, within = iou(boxes, boxes), containment(boxes, boxes)
        same = np.where(overlap >= SAME_IOU, overlap, 0.0) * trust[rows]
        merged[rows] = (same / same.sum(axis=1, keepdims=True)) @ boxes
        np.fill_diagonal(overlap, 0.0)
        np.fill_diagonal(within, 0.0)
        better = p[None, :] > p[:, None]
        size = area(boxes)
        smaller = size[:, None] <= size[None, :]
        out["nested"][rows] = np.where(better & smaller, within, 0.0).max(axis=1) > NESTED
        out["twins"][rows] = np.minimum((overlap > SAME_IOU) @ p, 2.0)
        out["beaten"][rows] = np.where(better, overlap, 0.0).max(axis=1)
        out["parts"][rows] = np.where(~better & smaller, within * p, 0.0).max(axis=1)
        out["holds"][rows] = np.where(~smaller, within * p, 0.0).max(axis=1)
        near = by_frame.get((str(tracks.camera[rows[0]]), int(tracks.index[rows[0]])))
        if near is not None and heads is not None:
            out["head"][rows] = _heads(boxes, heads.xyxy[near], heads.score[near])
    return out, merged.astype(np.float32)


def _by_frame(table: Detections) -> dict[tuple[str, int], Ints]:
    """Rows of each frame."""
    parts = frames_of(table.camera, table.index)
    return {(str(table.camera[p[0]]), int(table.index[p[0]])): p for p in parts}


def _heads(boxes: NDArray[np.float32], heads: NDArray[np.float32], score: NDArray[np.float32]) -> Doubles:
    """Best score (P,) of a head where the head of each box belongs: at its top, of fitting width."""
    box, head = boxes.astype(np.float64), heads.astype(np.float64)
    size = np.maximum(box[:, 2:] - box[:, :2], 1.0)
    middle = ((head[:, :2] + head[:, 2:]) / 2 - box[:, None, :2]) / size[:, None]
    x, y = middle[..., 0], middle[..., 1]
    above = np.abs(head[:, 1] - box[:, 1:2]) / size[:, 1:]
    share = (head[:, 2] - head[:, 0]) / size[:, :1]
    fits = (x > 0.1) & (x < 0.9) & (y > -0.05) & (y < 0.4) & (above < 0.12) & (share > 0.15) & (share < 0.9)
    return np.asarray(np.where(fits, score, 0.0).max(axis=1, initial=0.0), np.float64)
