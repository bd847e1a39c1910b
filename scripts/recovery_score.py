"""Benchmark part: right and found boxes of one way of choosing them, against the ground truth of one site.

A box is right where it overlaps a person at IoU 0.5, one to one, greedily by falling score. The people to
recover are those whose best candidate at IoU 0.5 scores below 0.5: in every frame, everybody who has a
candidate but no good one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import iou
from orveil.pipeline.types import PERSON, Detections
from orveil.stages.metrics import Predicted, match
from orveil.stages.truth import Truth

__all__ = ["IOU", "Row", "best_prefix", "doubtful", "overlaps", "score"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]

IOU, GOOD = 0.5, 0.5


@dataclass(frozen=True)
class Row:
    """Counts of one way on one site.

    Attributes:
        boxes, right: boxes chosen, and those that are right.
        people, found: people in frames, and those found.
        hard, recovered: people whose best candidate scores below 0.5, and those found.
        low, low_right: chosen boxes that score below 0.5 or were filled in, and those that are right.
    """

    boxes: int
    right: int
    people: int
    found: int
    hard: int
    recovered: int
    low: int
    low_right: int

    @property
    def precision(self) -> float:
        """Share of the chosen boxes that are right; 1 where none was chosen."""
        return self.right / self.boxes if self.boxes else 1.0

    @property
    def recall(self) -> float:
        """Share of the people found."""
        return self.found / max(self.people, 1)

    @property
    def recovery(self) -> float:
        """Share found of the people whose best candidate scores below 0.5."""
        return self.recovered / max(self.hard, 1)

    @property
    def low_precision(self) -> float:
        """Share of the chosen low and filled-in boxes that are right."""
        return self.low_right / self.low if self.low else 1.0


def doubtful(truth: Truth, candidates: Detections) -> Bools:
    """People of the truth (N,) with a candidate at IoU 0.5, but none there that scores 0.5."""
    persons = truth.boxes[PERSON]
    any_, good = np.zeros(len(persons), np.bool_), np.zeros(len(persons), np.bool_)
    frame = truth.frames.rows(candidates)
    order = np.argsort(frame, kind="stable")
    for row in range(len(persons)):
        first, last = np.searchsorted(frame[order], (persons.frame[row], persons.frame[row] + 1))
        mine = order[first:last]
        near = iou(persons.xyxy[[row]], candidates.xyxy[mine])[0] >= IOU
        any_[row] = near.any()
        good[row] = (near & (candidates.score[mine] >= GOOD)).any()
    return any_ & ~good & ~persons.ignore


def score(truth: Truth, table: Any, chosen: NDArray[Any], hard: Bools, detected: Any) -> Row:
    """Count one way.

    Args:
        truth: of the site.
        table: rows with frame key, `xyxy` and `score`.
        chosen: mask or rows of the table that the way calls people.
        hard: (N,) as of `doubtful`.
        detected: (len(table),) the detector's own score of every row, 0 where a box was filled in.
    """
    picked = table.select(chosen)
    own = np.asarray(detected)[chosen]
    low = own < GOOD
    predicted = Predicted.of(truth.frames, picked, picked.xyxy, picked.score, low)
    result = match(truth.boxes[PERSON], predicted, IOU)
    right = result.truth >= 0
    counted = result.truth != -2
    found = np.zeros(len(truth.boxes[PERSON]), np.bool_)
    found[result.truth[right]] = True
    return Row(
        boxes=int(counted.sum()),
        right=int(right.sum()),
        people=int(result.wanted.sum()),
        found=int(found.sum()),
        hard=int(hard.sum()),
        recovered=int((found & hard).sum()),
        low=int((counted & result.operating).sum()),
        low_right=int((right & result.operating).sum()),
    )


def overlaps(truth: Truth, table: Any, xyxy: NDArray[np.floating]) -> tuple[Doubles, Doubles]:
    """Largest overlap (N,) of each box (N, 4) of a table with a person of its frame; and the same where the
    box is the best one of that person and right, else 0."""
    persons, frame = truth.boxes[PERSON], truth.frames.rows(table)
    largest, best = np.zeros(len(table)), np.zeros(len(table))
    order = np.argsort(frame, kind="stable")
    for row in range(len(persons)):
        first, last = np.searchsorted(frame[order], (persons.frame[row], persons.frame[row] + 1))
        mine = order[first:last]
        if len(mine):
            overlap = iou(persons.xyxy[[row]], xyxy[mine])[0]
            largest[mine] = np.maximum(largest[mine], overlap)
            top = mine[np.argmax(overlap)]
            best[top] = max(best[top], overlap.max() if overlap.max() >= IOU else 0.0)
    return largest, best


def best_prefix(truth: Truth, table: Any, precision: float) -> NDArray[np.int64]:
    """Rows of the longest list of best-scored rows of a table that has the given precision."""
    order = np.argsort(-table.score, kind="stable")
    ranked = table.select(order)
    result = match(
        truth.boxes[PERSON], Predicted.of(truth.frames, ranked, ranked.xyxy, ranked.score, True), IOU
    )
    good = np.flatnonzero(np.cumsum(result.truth >= 0) >= precision * np.arange(1, len(result.truth) + 1))
    return np.asarray(order[: good[-1] + 1 if len(good) else 0])
