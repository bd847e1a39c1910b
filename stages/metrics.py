"""Evaluation: the figures of the before/after table, computed from boxes and ground truth.

Rules: a prediction is right where it overlaps a ground-truth box of its frame by at least the IoU asked for;
predictions choose in the order of their score, each box is found once, and doubles count as false alarms, as
in COCO's evaluation (Lin et al., 2014). Boxes of every size count; `ignore` boxes (crowds) can absorb any
number of predictions and count neither way; at most 100 predictions per frame are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import area, as_boxes, intersection
from orveil.stages.truth import TruthBoxes, TruthFrames

__all__ = [
    "Match", "Predicted", "all_views_recall", "average_precision", "coco_ap", "match", "precision",
    "recall", "recall_at_precision",
]  # fmt: skip

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
MAX_PER_FRAME = 100
COCO_IOUS = tuple(np.arange(50, 100, 5) / 100.0)
RECALL_STEPS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Predicted:
    """M predicted boxes of one category on frames that have ground truth.

    Attributes:
        frame: (M,) row in `TruthFrames`; xyxy: (M, 4) px; score: (M,) in [0, 1].
        operating: (M,) bool, True where the product would use the box (its score is over the threshold).
    """

    frame: Ints
    xyxy: NDArray[np.float32]
    score: Doubles
    operating: Bools

    @classmethod
    def of(cls, frames: TruthFrames, table: Any, xyxy: Any, score: Any, operating: Any) -> Predicted:
        """Rows of a table with a frame key; rows on frames without ground truth are left out."""
        rows = frames.rows(table)
        known = rows >= 0
        boxes, scores = as_boxes(xyxy)[known], np.asarray(score, dtype=np.float64)[known]
        return cls(rows[known], boxes, scores, np.broadcast_to(operating, rows.shape)[known])

    def __len__(self) -> int:
        return len(self.frame)

    def select(self, rows: Bools) -> Predicted:
        """The rows chosen by a boolean mask (M,)."""
        return Predicted(self.frame[rows], self.xyxy[rows], self.score[rows], self.operating[rows])


@dataclass(frozen=True)
class Match:
    """Result of matching M predictions to N ground-truth boxes at one IoU.

    Attributes:
        score, operating: of the predictions that were read, best first (P,).
        truth: (P,) row of the ground-truth box that the prediction found, -1 for a false alarm, -2 where it
            fell on an ignored box.
        wanted: (N,) bool, the boxes that are to be found.
    """

    score: Doubles
    operating: Bools
    truth: Ints
    wanted: Bools

    @property
    def found(self) -> Bools:
        """(N,) bool: ground-truth boxes found at the operating point."""
        result = np.zeros(len(self.wanted), dtype=bool)
        result[self.truth[self.operating & (self.truth >= 0)]] = True
        return result


def match(truth: TruthBoxes, predicted: Predicted, iou: float) -> Match:
    """Match predictions to ground truth, greedily by score, frame by frame."""
    # By frame and falling score; sorts are stable, so that ties keep the table's order.
    order = np.lexsort((-predicted.score, predicted.frame))
    order = order[_rank_in_group(predicted.frame[order]) < MAX_PER_FRAME]
    truth_order = np.lexsort((truth.ignore, truth.frame))
    outcome = np.full(len(order), -1, dtype=np.int64)
    frames = predicted.frame[order]
    truth_frames = truth.frame[truth_order]
    for frame in np.unique(frames):
        mine = slice(*np.searchsorted(frames, (frame, frame + 1)))
        theirs = truth_order[slice(*np.searchsorted(truth_frames, (frame, frame + 1)))]
        overlap = _overlap(predicted.xyxy[order[mine]], truth.xyxy[theirs], truth.ignore[theirs])
        chosen = _greedy(overlap, truth.ignore[theirs], iou)
        rows = np.append(theirs, -1)[chosen]
        outcome[mine] = np.where((rows >= 0) & truth.ignore[rows] if len(truth) else False, -2, rows)
    best_first = np.argsort(-predicted.score[order], kind="stable")
    kept = order[best_first]
    return Match(predicted.score[kept], predicted.operating[kept], outcome[best_first], ~truth.ignore)


def _rank_in_group(group: Ints) -> Ints:
    """Position of each element in its run of equal values."""
    if not len(group):
        return np.zeros(0, dtype=np.int64)
    starts = np.nonzero(np.append(True, group[1:] != group[:-1]))[0]
    return np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))


def _overlap(predicted: NDArray[Any], truth: NDArray[Any], ignore: Bools) -> Doubles:
    """IoU (P, T); for ignored boxes the share of the prediction that lies in them, as COCO has it."""
    shared = intersection(predicted, truth)
    own = area(predicted)[:, None]
    whole = np.where(ignore[None, :], own, own + area(truth)[None, :] - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _greedy(overlap: Doubles, ignore: Bools, iou: float) -> Ints:
    """Column chosen by each row in turn, -1 for none; ignored columns come last and can be chosen again."""
    chosen = np.full(len(overlap), -1, dtype=np.int64)
    free = np.ones(overlap.shape[1], dtype=bool)
    for row, values in enumerate(overlap):
        for group in (free & ~ignore, ignore):
            possible = np.where(group, values, -1.0)
            if possible.size and possible.max() >= min(iou, 1 - 1e-10):
                # The last of equal overlaps, as COCO's loop does.
                chosen[row] = len(possible) - 1 - int(np.argmax(possible[::-1]))
                free[chosen[row]] = ignore[chosen[row]]
                break
    return chosen


def recall(result: Match, among: Bools | None = None) -> float | None:
    """Share of the wanted boxes (of those in `among` (N,)) found at the operating point; None if none."""
    wanted = result.wanted if among is None else result.wanted & among
    return float(result.found[wanted].mean()) if wanted.any() else None


def precision(result: Match) -> float | None:
    """Share of predictions at the operating point that are right; None without predictions."""
    used = result.operating & (result.truth > -2)
    return float((result.truth[used] >= 0).mean()) if used.any() else None


def _curve(result: Match) -> tuple[Ints, Ints, Doubles]:
    """Counts of right and wrong predictions down the list, and their scores; ignored ones left out."""
    used = result.truth > -2
    right = result.truth[used] >= 0
    return np.cumsum(right), np.cumsum(~right), result.score[used]


def average_precision(result: Match) -> float | None:
    """COCO's 101-point interpolated average precision; None without ground truth."""
    total = int(result.wanted.sum())
    if not total:
        return None
    right, wrong, _ = _curve(result)
    if not len(right):
        return 0.0
    values = right / (right + wrong)
    envelope = np.maximum.accumulate(values[::-1])[::-1]
    position = np.searchsorted(right / total, RECALL_STEPS, side="left")
    return float(np.append(envelope, 0.0)[np.minimum(position, len(envelope))].mean())


def coco_ap(truth: TruthBoxes, predicted: Predicted) -> float | None:
    """Average precision, mean over IoU 0.50, 0.55 ... 0.95."""
    values = [average_precision(match(truth, predicted, iou)) for iou in COCO_IOUS]
    return None if values[0] is None else float(np.mean([v for v in values if v is not None]))


def recall_at_precision(result: Match, least: float = 0.9) -> float | None:
    """The highest recall of any score threshold whose precision is at least `least`; 0 where none is.

    Unlike recall at a fixed score it compares detectors whose scores are calibrated differently.
    """
    total = int(result.wanted.sum())
    if not total:
        return None
    right, wrong, score = _curve(result)
    if not len(score):
        return 0.0
    last_of_tie = np.append(score[1:] != score[:-1], True)
    good = last_of_tie & (right / (right + wrong) >= least)
    return float(right[good].max() / total) if good.any() else 0.0


def all_views_recall(frames: TruthFrames, truth: TruthBoxes, found: Bools) -> float | None:
    """Share of (person, moment) that were found in every view that shows them; None if there is none.

    Args:
        found: (N,) bool, which of the ground-truth boxes were found.
    """
    moment = frames.moment[truth.frame]
    counts = (moment >= 0) & (truth.track_id >= 0) & ~truth.ignore
    if not counts.any():
        return None
    people = np.stack([moment[counts], truth.track_id[counts]], axis=1)
    _, person = np.unique(people, axis=0, return_inverse=True)
    missed = np.bincount(person.reshape(-1), weights=~found[counts])
    return float((missed == 0).mean())
