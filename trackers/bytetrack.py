"""Trackers: plain ByteTrack, frame by frame: the yardstick for the project's own tracker.

ByteTrack (Zhang et al., 2022) in the form of the `trackers` library (ByteTrackTracker, version 2.6.1), with
which it agrees box by box up to ties: corners of boxes under a constant-velocity filter with constant noise,
confident boxes matched to all tracks, the others to those left over, both by the largest sum of overlaps.
Times are frames here, and a missed box is not filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from orveil.pipeline.geometry import iou

__all__ = ["ByteTrack", "ByteTrackSettings"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

MEASUREMENT, PROCESS = 0.1, 0.01
"""Variances of a measured side and of every step of a side and of its velocity, px^2."""


@dataclass(frozen=True)
class ByteTrackSettings:
    """Settings, with the defaults of the library."""

    buffer: int = 30
    """Frames that a track lives without a box."""
    activation: float = 0.7
    """Least score of a box that begins a track."""
    consecutive: int = 2
    """Boxes in consecutive frames after which a track gets its id."""
    min_iou: float = 0.1
    high_score: float = 0.6
    """From here on boxes are matched first."""


@dataclass
class _Tracks:
    """T tracks: corners and velocities (T, 4), covariance (T, 3), id, frames unseen, boxes in a row (T,)."""

    box: Doubles
    velocity: Doubles
    spread: Doubles
    name: Ints
    unseen: Ints
    streak: Ints

    @classmethod
    def begin(cls, boxes: Doubles) -> _Tracks:
        count = len(boxes)
        spread = np.tile([1.0, 0.0, 1.0], (count, 1))
        none, zero = np.full(count, -1, np.int64), np.zeros(count, np.int64)
        return cls(boxes.copy(), np.zeros((count, 4)), spread, none, zero, zero + 1)

    def select(self, rows: Bools) -> _Tracks:
        return _Tracks(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def join(self, other: _Tracks) -> _Tracks:
        names = self.__dataclass_fields__
        return _Tracks(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in names))

    def predict(self) -> None:
        self.box += self.velocity
        p00, p01, p11 = self.spread.T
        self.spread = np.stack([p00 + 2 * p01 + p11 + PROCESS, p01 + p11, p11 + PROCESS], axis=1)
        self.streak[self.unseen > 0] = 0
        self.unseen += 1

    def correct(self, rows: Ints, boxes: Doubles) -> None:
        p00, p01, p11 = self.spread[rows].T
        gain, gain_v = p00 / (p00 + MEASUREMENT), p01 / (p00 + MEASUREMENT)
        error = boxes - self.box[rows]
        self.box[rows] += gain[:, None] * error
        self.velocity[rows] += gain_v[:, None] * error
        self.spread[rows] = np.stack([(1 - gain) * p00, (1 - gain) * p01, p11 - gain_v * p01], axis=1)
        self.unseen[rows] = 0
        self.streak[rows] += 1


class ByteTrack:
    """A causal tracker of one camera that counts in frames; see the module's text."""

    def __init__(self, settings: ByteTrackSettings | None = None) -> None:
        self.settings = settings or ByteTrackSettings()
        self.reset()

    def reset(self) -> None:
        """Forget everything, ids included."""
        self._next = 0
        self._tracks = _Tracks.begin(np.zeros((0, 4)))

    def update(self, time_s: float, xyxy: NDArray[np.floating], score: NDArray[np.floating]) -> Ints:
        """Track ids (N,) of the next frame's boxes, in their order, -1 for none; the time is not used."""
        boxes, scores = np.asarray(xyxy, np.float64).reshape(-1, 4), np.asarray(score)
        settings, tracks = self.settings, self._tracks
        tracks.predict()
        ids = np.full(len(boxes), -1, np.int64)
        free = np.ones(len(tracks.name), np.bool_)
        overlap = iou(tracks.box, boxes)
        high = scores >= settings.high_score
        left = high.copy()
        for group in (high, ~high):
            rows, columns = free.nonzero()[0], group.nonzero()[0]
            i, j = _matched(overlap[np.ix_(rows, columns)], settings.min_iou)
            rows, columns = rows[i], columns[j]
            tracks.correct(rows, boxes[columns])
            self._name(rows)
            ids[columns] = tracks.name[rows]
            free[rows] = left[columns] = False
        born = _Tracks.begin(boxes[left & (scores >= settings.activation)])
        alive = (tracks.unseen <= settings.buffer) & ((tracks.name >= 0) | (tracks.unseen == 0))
        self._tracks = tracks.select(alive).join(born)
        return ids

    def _name(self, rows: Ints) -> None:
        """Ids for tracks that have been seen often enough."""
        tracks = self._tracks
        ripe = rows[(tracks.name[rows] < 0) & (tracks.streak[rows] >= self.settings.consecutive)]
        tracks.name[ripe] = np.arange(self._next, self._next + len(ripe))
        self._next += len(ripe)


def _matched(overlap: Doubles, least: float) -> tuple[Ints, Ints]:
    """The assignment with the largest sum of overlaps, without its pairs below `least`."""
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    kept = overlap[rows, columns] >= least
    return rows[kept], columns[kept]
