"""Evaluation: tracks against ground truth that knows who is who: HOTA, IDF1 and MOTA.

Definitions: HOTA (Luiten et al., 2021), identity measures (Ristani et al., 2016), CLEAR MOT (Bernardin and
Stiefelhagen, 2008), each with the details of TrackEval, whose figures these equal. Everything is counted per
sequence (one camera); counts of several sequences add up, and ratios are taken of the sums.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from orveil.pipeline.geometry import as_boxes, iou

__all__ = ["ALPHAS", "SAME", "TrackBoxes", "TrackFigures", "track_figures"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""Overlaps over which HOTA is averaged."""
SAME = 0.5
"""Overlap from which a box counts as right for IDF1 and MOTA."""
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class TrackBoxes:
    """N boxes of one sequence: frame (N,), track id (N,), box (N, 4); one box per track and frame.

    Raises:
        ValueError: a track has two boxes in one frame.
    """

    frame: Ints
    track_id: Ints
    xyxy: NDArray[Any]

    def __post_init__(self) -> None:
        keys = np.stack([self.frame, self.track_id], axis=1)
        if len(np.unique(keys, axis=0)) != len(keys):
            raise ValueError("a track has two boxes in one frame")

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class TrackFigures:
    """Counts of one or more sequences; `+` joins sequences. Ratios are None without ground truth.

    Attributes:
        hota_tp, hota_fn, hota_fp: (19,) boxes matched, missed and wrong at each of `ALPHAS`.
        hota_ass, hota_loc: (19,) sums over matched boxes of association accuracy and of overlap.
        idtp, idfn, idfp: boxes with the right identity, missed, wrong, under the best one-to-one naming.
        tp, fn, fp, switches: CLEAR counts.
    """

    hota_tp: Doubles
    hota_fn: Doubles
    hota_fp: Doubles
    hota_ass: Doubles
    hota_loc: Doubles
    idtp: int
    idfn: int
    idfp: int
    tp: int
    fn: int
    fp: int
    switches: int

    def __add__(self, other: TrackFigures) -> TrackFigures:
        return TrackFigures(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def det_a(self) -> float | None:
        """Detection accuracy, mean over `ALPHAS`."""
        return self._mean(self._det_a())

    @property
    def ass_a(self) -> float | None:
        """Association accuracy, mean over `ALPHAS`."""
        return self._mean(self._ass_a())

    @property
    def hota(self) -> float | None:
        """Higher order tracking accuracy, mean over `ALPHAS`."""
        return self._mean(np.sqrt(self._det_a() * self._ass_a()))

    @property
    def loc_a(self) -> float | None:
        """Mean overlap of matched boxes, mean over `ALPHAS`."""
        return self._mean(np.maximum(self.hota_loc, 1e-10) / np.maximum(self.hota_tp, 1e-10))

    @property
    def idf1(self) -> float | None:
        """F1 of identities."""
        total = self.idtp + 0.5 * (self.idfn + self.idfp)
        return self.idtp / total if self.tp + self.fn else None

    @property
    def mota(self) -> float | None:
        """Multiple object tracking accuracy."""
        people = self.tp + self.fn
        return (self.tp - self.fp - self.switches) / people if people else None

    def _det_a(self) -> Doubles:
        return self.hota_tp / np.maximum(1, self.hota_tp + self.hota_fn + self.hota_fp)

    def _ass_a(self) -> Doubles:
        return self.hota_ass / np.maximum(1, self.hota_tp)

    def _mean(self, values: Doubles) -> float | None:
        return float(values.mean()) if self.tp + self.fn else None


def track_figures(truth: TrackBoxes, predicted: TrackBoxes) -> TrackFigures:
    """All counts of one sequence; frames need not be numbered without gaps."""
    frames = np.union1d(truth.frame, predicted.frame)
    gt, pr = _sorted(truth, frames), _sorted(predicted, frames)
    pairs = _pairs(gt, pr, len(frames))
    tp, fn, fp, ass, loc = _hota(gt, pr, pairs)
    return TrackFigures(
        tp, fn, fp, ass, loc, *_identity(gt, pr, pairs), *_clear(gt, pr, pairs, len(frames))
    )  # fmt: skip


@dataclass(frozen=True)
class _Side:
    """Boxes by frame: position of the frame, track as a number from 0, boxes of each track."""

    frame: Ints
    track: Ints
    xyxy: NDArray[Any]
    count: Doubles


@dataclass(frozen=True)
class _Pairs:
    """Overlapping pairs (K,), by frame: rows of truth and prediction, overlap."""

    gt: Ints
    pr: Ints
    overlap: Doubles


def _sorted(boxes: TrackBoxes, frames: Ints) -> _Side:
    order = np.argsort(boxes.frame, kind="stable")
    names, track = np.unique(boxes.track_id[order], return_inverse=True)
    track = track.astype(np.int64).reshape(-1)
    count = np.bincount(track, minlength=len(names)).astype(np.float64)
    return _Side(np.searchsorted(frames, boxes.frame[order]), track, as_boxes(boxes.xyxy)[order], count)


def _pairs(gt: _Side, pr: _Side, frames: int) -> _Pairs:
    edges = np.arange(frames + 1)
    gt_at, pr_at = np.searchsorted(gt.frame, edges), np.searchsorted(pr.frame, edges)
    found: list[tuple[Ints, Ints, Doubles]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for k in range(frames):
        overlap = iou(gt.xyxy[gt_at[k] : gt_at[k + 1]], pr.xyxy[pr_at[k] : pr_at[k + 1]])
        i, j = np.nonzero(overlap > 0)
        found.append((i + gt_at[k], j + pr_at[k], overlap[i, j]))
    return _Pairs(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _best(rows: Ints, columns: Ints, gain: Doubles) -> Ints:
    """Positions (M,) of the one-to-one pairs with the largest total gain, all gains positive."""
    if not len(rows):
        return np.zeros(0, np.int64)
    by_row = np.lexsort((-gain, rows))
    first = by_row[np.append(True, np.diff(rows[by_row]) > 0)]
    if len(np.unique(columns[first])) == len(first):
        return np.asarray(first)  # every row has its best: no assignment is better
    row_names, i = np.unique(rows, return_inverse=True)
    column_names, j = np.unique(columns, return_inverse=True)
    dense = np.zeros((len(row_names), len(column_names)))
    position = np.full(dense.shape, -1, np.int64)
    dense[i, j], position[i, j] = gain, np.arange(len(rows))
    chosen = position[linear_sum_assignment(dense, maximize=True)]
    return np.asarray(chosen[chosen >= 0])


def _hota(gt: _Side, pr: _Side, pairs: _Pairs) -> tuple[Doubles, Doubles, Doubles, Doubles, Doubles]:
    """Matching maximises alignment of the tracks over the sequence times overlap, frame by frame."""
    shape = (len(gt.count), len(pr.count))
    total = np.bincount(pairs.gt, pairs.overlap, len(gt.frame))[pairs.gt]
    total = total + np.bincount(pairs.pr, pairs.overlap, len(pr.frame))[pairs.pr]
    who = gt.track[pairs.gt] * max(shape[1], 1) + pr.track[pairs.pr]
    names, who = np.unique(who, return_inverse=True)
    shared = np.bincount(who, pairs.overlap / (total - pairs.overlap), len(names))
    boxes = gt.count[names // max(shape[1], 1)] + pr.count[names % max(shape[1], 1)]
    gain = (shared / (boxes - shared))[who] * pairs.overlap
    ends = np.flatnonzero(np.diff(gt.frame[pairs.gt])) + 1
    starts = np.concatenate([[0], ends]).astype(np.int64)
    groups = zip(starts, np.append(ends, len(who)), strict=True)
    chosen = np.concatenate([s + _best(pairs.gt[s:e], pairs.pr[s:e], gain[s:e]) for s, e in groups])
    right = pairs.overlap[chosen][None, :] >= ALPHAS[:, None] - EPSILON
    tp = right.sum(axis=1).astype(np.float64)
    ass = np.zeros(len(ALPHAS))
    for a, mask in enumerate(right):
        matches = np.bincount(who[chosen[mask]], minlength=len(names)).astype(np.float64)
        ass[a] = (matches * matches / np.maximum(1, boxes - matches)).sum()
    loc = right @ pairs.overlap[chosen]
    return tp, len(gt.frame) - tp, len(pr.frame) - tp, ass, loc


def _identity(gt: _Side, pr: _Side, pairs: _Pairs) -> tuple[int, int, int]:
    """The one-to-one naming of tracks under which most boxes are right."""
    same = pairs.overlap >= SAME
    who = gt.track[pairs.gt[same]] * max(len(pr.count), 1) + pr.track[pairs.pr[same]]
    names, count = np.unique(who, return_counts=True)
    width = max(len(pr.count), 1)
    chosen = _best(names // width, names % width, count.astype(np.float64))
    right = int(count[chosen].sum())
    return right, len(gt.frame) - right, len(pr.frame) - right


def _clear(gt: _Side, pr: _Side, pairs: _Pairs, frames: int) -> tuple[int, int, int, int]:
    """Who was matched in the frame before keeps the match; the rest by overlap.

    "The frame before" is the last one that had both people and predictions.
    """
    same = pairs.overlap >= SAME - EPSILON
    rows, columns, overlap = pairs.gt[same], pairs.pr[same], pairs.overlap[same]
    person, track = gt.track[rows], pr.track[columns]
    edges = np.searchsorted(gt.frame[rows], np.arange(frames + 1))
    both = np.isin(np.arange(frames), gt.frame) & np.isin(np.arange(frames), pr.frame)
    before, last = np.full(len(gt.count), -1), np.full(len(gt.count), -1)
    matched = switches = 0
    for k in np.flatnonzero(both):
        here = slice(edges[k], edges[k + 1])
        who, which = person[here], track[here]
        chosen = _best(rows[here], columns[here], overlap[here] + 1000.0 * (before[who] == which))
        who, which = who[chosen], which[chosen]
        switches += int(((last[who] >= 0) & (last[who] != which)).sum())
        before[:] = -1
        before[who] = last[who] = which
        matched += len(who)
    return matched, len(gt.frame) - matched, len(pr.frame) - matched, switches
