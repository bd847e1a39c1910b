"""Export: from detections and labels on the same frames to the score above which a detector should fire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import area, as_boxes, intersection, iou

__all__ = ["Hits", "OperatingPoint", "choose", "count_hits"]

Boxes = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Hits:
    """Detections of one class over all frames; those on ignored places are left out.

    Attributes:
        score: (N,); hit: (N,) bool, whether the detection found a label that no better one found.
        labels: how many labels there are.
    """

    score: NDArray[np.float64]
    hit: NDArray[np.bool_]
    labels: int

    def recall(self, score: float) -> float:
        """Share of the labels found at this score or above; 1 where there are none."""
        found = int(self.hit[self.score >= score].sum())
        return found / self.labels if self.labels else 1.0

    def precision(self, score: float) -> float:
        """Share of detections at this score or above that are hits; 1 where there are none."""
        chosen = self.hit[self.score >= score]
        return float(chosen.mean()) if len(chosen) else 1.0


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it means on the labelled frames."""

    threshold: float
    recall: float
    precision: float
    labels: int


def count_hits(frames: Sequence[tuple[Boxes, NDArray[Any], Boxes, Boxes]], min_iou: float) -> Hits:
    """Match detections to labels, best score first, as in the PASCAL VOC rules.

    Args:
        frames: for each frame detected boxes (D, 4), scores (D,), labelled boxes (K, 4), ignored (M, 4).
        min_iou: overlap from which a detection finds a label.
    """
    scores: list[float] = []
    hits: list[bool] = []
    for xyxy, score, labelled, ignored in frames:
        order = np.argsort(-np.asarray(score, np.float64), kind="stable")
        overlap = iou(xyxy, labelled)
        hidden = _covered(xyxy, ignored)
        free = np.ones(len(labelled), dtype=bool)
        for row in order.tolist():
            best = np.where(free, overlap[row], -1.0)
            partner = int(best.argmax()) if len(best) else -1
            if partner >= 0 and best[partner] >= min_iou:
                free[partner] = False
                scores.append(float(score[row]))
                hits.append(True)
            elif not hidden[row]:
                scores.append(float(score[row]))
                hits.append(False)
    total = sum(len(labelled) for _, _, labelled, _ in frames)
    return Hits(np.array(scores, np.float64), np.array(hits, dtype=bool), total)


def _covered(xyxy: Boxes, ignored: Boxes) -> NDArray[np.bool_]:
    """(D,) bool: at least half of the box lies in one ignored place."""
    boxes = as_boxes(xyxy)
    inside = intersection(boxes, as_boxes(ignored)).max(axis=1, initial=0.0)
    return np.asarray(inside >= 0.5 * np.maximum(area(boxes), 1e-6))


def choose(hits: Hits, floor: float, recall_share: float, min_precision: float) -> OperatingPoint:
    """The highest threshold that keeps the recall, or the lowest that gives the precision.

    Args:
        hits: on the labelled frames.
        floor: lowest score that the detector gives at all.
        recall_share: share of the recall at the floor that must be kept.
        min_precision: a threshold with less is raised, at the cost of recall, to the lowest that has it.

    Returns:
        The chosen point; 0.3, or the floor if that is higher, where there is nothing to choose by.
    """
    candidates = np.unique(hits.score[hits.hit])
    if hits.labels == 0 or not len(candidates):
        return OperatingPoint(
            _rounded(max(floor, 0.3)), hits.recall(floor), hits.precision(floor), hits.labels
        )
    wanted = recall_share * hits.recall(floor)
    keeps = [c for c in candidates.tolist() if hits.recall(c) >= wanted]
    start = max(keeps)
    precise = [c for c in candidates.tolist() if c >= start and hits.precision(c) >= min_precision]
    chosen = start if hits.precision(start) >= min_precision or not precise else min(precise)
    threshold = _rounded(chosen)
    return OperatingPoint(threshold, hits.recall(threshold), hits.precision(threshold), hits.labels)


def _rounded(score: float) -> float:
    """Down to four digits: the detection that set the threshold stays above it."""
    return float(np.floor(score * 1e4) / 1e4)
