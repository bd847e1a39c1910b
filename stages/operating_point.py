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
    """Detections of one class over all frames.

    Attributes:
        score: (N,).
        hit: (N,) bool, whether the detection found a label that no better one found.
        worth: (N,) in [0, 1], how likely it is right: 1 for a hit, and on a doubtful place its probability.
        labels: how many labels there are.
    """

    score: NDArray[np.float64]
    hit: NDArray[np.bool_]
    worth: NDArray[np.float64]
    labels: int

    def recall(self, score: float) -> float:
        """Share of the labels found at this score or above; 1 where there are none."""
        found = int(self.hit[self.score >= score].sum())
        return found / self.labels if self.labels else 1.0

    def precision(self, score: float) -> float:
        """Share of detections at this score or above that are right; 1 where there are none."""
        chosen = self.worth[self.score >= score]
        return float(chosen.mean()) if len(chosen) else 1.0


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it means on the labelled frames."""

    threshold: float
    recall: float
    precision: float
    labels: int


def count_hits(
    frames: Sequence[tuple[Boxes, NDArray[Any], Boxes, Boxes, NDArray[Any]]], min_iou: float
) -> Hits:
    """Match detections to labels, best score first, as in the PASCAL VOC rules.

    A detection on a doubtful place is neither right nor wrong: it counts with that place's probability.
    Leaving it out would make every threshold look precise where nearly all candidates are doubtful. A place
    holds one person at most: it counts for the best detection on it, and further ones there are wrong.

    Args:
        frames: for each frame detected boxes (D, 4) and scores (D,), labelled boxes (K, 4), doubtful places
            (M, 4) and their probabilities (M,).
        min_iou: overlap from which a detection finds a label.
    """
    scores: list[float] = []
    hits: list[bool] = []
    worths: list[float] = []
    for xyxy, score, labelled, doubtful, chance in frames:
        order = np.argsort(-np.asarray(score, np.float64), kind="stable")
        overlap = iou(xyxy, labelled)
        likely = _likely(xyxy, doubtful, chance)
        free = np.ones(len(labelled), dtype=bool)
        for row in order.tolist():
            best = np.where(free, overlap[row], -1.0)
            partner = int(best.argmax()) if len(best) else -1
            found = partner >= 0 and best[partner] >= min_iou
            if found:
                free[partner] = False
            scores.append(float(score[row]))
            hits.append(found)
            worth = float(likely[row].max(initial=0.0))
            worths.append(1.0 if found else worth)
            if worth > 0:
                likely[:, likely[row].argmax()] = 0.0  # nobody else can be there
    total = sum(len(frame[2]) for frame in frames)
    return Hits(np.array(scores, np.float64), np.array(hits, dtype=bool), np.array(worths, np.float64), total)


def _likely(xyxy: Boxes, doubtful: Boxes, chance: NDArray[Any]) -> NDArray[np.float64]:
    """(D, M) probability of each doubtful place that holds at least half of a box; 0 elsewhere."""
    boxes, places = as_boxes(xyxy), as_boxes(doubtful)
    held = intersection(boxes, places) >= 0.5 * np.maximum(area(boxes), 1e-6)[:, None]
    return np.asarray(held * np.asarray(chance, np.float64)[None])


def choose(hits: Hits, floor: float, miss_cost: float) -> OperatingPoint:
    """The threshold of least cost: a missed person weighs as much as `miss_cost` needless boxes.

    A box pays as long as it is right with a probability of at least 1 / (1 + miss_cost); the lowest of
    equally good thresholds is taken.

    Args:
        hits: on the labelled frames.
        floor: lowest score that the detector gives at all.
        miss_cost: needless boxes for one missed person.

    Returns:
        The chosen point; 0.3, or the floor if that is higher, where there is nothing to choose by.
    """
    if hits.labels == 0 or not hits.hit.any():
        threshold = _rounded(max(floor, 0.3))
    else:
        order = np.argsort(-hits.score, kind="stable")
        score, worth = hits.score[order], hits.worth[order]
        saved = np.cumsum(worth * (1.0 + miss_cost) - 1.0)
        # The end of each run of equal scores; a threshold that finds no label at all is none.
        possible = np.append(score[1:] != score[:-1], True) & (score <= hits.score[hits.hit].max())
        threshold = _rounded(float(score[possible & (saved >= saved[possible].max() - 1e-9)].min()))
    return OperatingPoint(threshold, hits.recall(threshold), hits.precision(threshold), hits.labels)


def _rounded(score: float) -> float:
    """Down to four digits: the detection that set the threshold stays above it."""
    return float(np.floor(score * 1e4) / 1e4)
