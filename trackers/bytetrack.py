"""Trackers: two-stage association of high and low boxes, causal, in seconds, vectorised over tracks.

ByteTrack (Zhang et al., 2022) matches confident boxes first and doubtful ones to what remains. Changes:
time is in seconds; confident boxes get a second chance with grown boxes, as in C-BIoU (Yang et al.,
2023), for low frame rates; a doubtful box that no track wants founds a tentative track of its own
instead of being dropped, so that whoever scores low all the time can still be judged as a track.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import expand, iou
from orveil.trackers.assignment import assign
from orveil.trackers.base import TrackerSettings
from orveil.trackers.kalman import State, begin, join, predict, update

__all__ = ["ByteTrack"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

GROWN = 0.3
"""Growth of both boxes in the second chance for confident boxes, in box sizes on every side."""
TENTATIVE_GAP = 0.5
"""A track without any confident box ends after this share of the longest gap."""


class ByteTrack:
    """A causal tracker of one camera; see the module's text."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self.reset()

    def reset(self) -> None:
        """Forget everything, ids included."""
        self._next = 0
        self._time: float | None = None
        self._state: State = begin(np.zeros((0, 4)), self.settings.motion)
        self._ids: Ints = np.zeros(0, np.int64)
        self._seen: Doubles = np.zeros(0)
        self._sure: Bools = np.zeros(0, np.bool_)

    def predicted(self) -> tuple[Ints, Doubles]:
        """Ids (T,) and boxes (T, 4) of the tracks alive, at the time of the last frame."""
        return self._ids, self._state.boxes()

    def update(self, time_s: float, xyxy: NDArray[np.floating], score: NDArray[np.floating]) -> Ints:
        """Track ids (N,) of the boxes of one frame, in their order; -1 below the low score."""
        self._advance(time_s)
        boxes, scores = np.asarray(xyxy, np.float64).reshape(-1, 4), np.asarray(score, np.float64)
        ids = np.full(len(boxes), -1, np.int64)
        if len(boxes) == 0:
            return ids
        track_of = self._match(boxes, scores)
        hit = np.flatnonzero(track_of >= 0)
        if len(hit):
            self._correct(track_of[hit], boxes[hit], scores[hit], time_s)
            ids[hit] = self._ids[track_of[hit]]
        new = np.flatnonzero((track_of < 0) & (scores >= self.settings.low_score))
        ids[new] = self._found(boxes[new], scores[new], time_s)
        return ids

    def _advance(self, time_s: float) -> None:
        """Move every track to this frame's time and end those not seen for too long."""
        gap = self.settings.max_gap_s
        allowed = np.where(self._sure, gap, TENTATIVE_GAP * gap)
        alive = time_s - self._seen <= allowed + 1e-9
        if not alive.all():
            self._state = self._state.select(alive)
            self._ids, self._seen, self._sure = self._ids[alive], self._seen[alive], self._sure[alive]
        if self._time is not None and len(self._ids):
            if time_s <= self._time:
                raise ValueError(f"frames must come with increasing time: {time_s} after {self._time}")
            self._state = predict(self._state, time_s - self._time, self.settings.motion)
        self._time = time_s

    def _match(self, boxes: Doubles, scores: Doubles) -> Ints:
        """Track row (N,) of each box, -1 where none, in four steps from sure to doubtful."""
        track_of = np.full(len(boxes), -1, np.int64)
        if not len(self._ids):
            return track_of
        settings, tracks = self.settings, self._state.boxes()
        plain = iou(tracks, boxes)
        high = scores >= settings.high_score
        low = ~high & (scores >= settings.low_score)
        free = np.ones(len(self._ids), np.bool_)
        grown: Doubles | None = None
        for rows, columns, grow in (
            (self._sure, high, False), (self._sure, high, True), (self._sure, low, False),
            (~self._sure, high, False), (~self._sure, low, False),
        ):  # fmt: skip
            i, j = np.flatnonzero(rows & free), np.flatnonzero(columns & (track_of < 0))
            if not len(i) or not len(j):
                continue
            if grow and grown is None:
                grown = iou(expand(tracks, GROWN), expand(boxes, GROWN))
            overlap = (grown if grow and grown is not None else plain)[np.ix_(i, j)]
            a, b = assign(1.0 - overlap, 1.0 - settings.min_iou)
            track_of[j[b]] = i[a]
            free[i[a]] = False
        return track_of

    def _correct(self, rows: Ints, boxes: Doubles, scores: Doubles, time_s: float) -> None:
        order = np.argsort(rows)
        rows, boxes, scores = rows[order], boxes[order], scores[order]
        fixed = update(self._state.select(rows), boxes, scores, self.settings.motion)
        for name in ("value", "velocity", "p00", "p01", "p11"):
            getattr(self._state, name)[rows] = getattr(fixed, name)
        self._seen[rows] = time_s
        self._sure[rows] |= scores >= self.settings.high_score

    def _found(self, boxes: Doubles, scores: Doubles, time_s: float) -> Ints:
        """Begin a track for each box and give their ids (N,)."""
        ids = np.arange(self._next, self._next + len(boxes), dtype=np.int64)
        self._next += len(boxes)
        self._state = join([self._state, begin(boxes, self.settings.motion)])
        self._ids = np.concatenate([self._ids, ids])
        self._seen = np.concatenate([self._seen, np.full(len(boxes), time_s)])
        self._sure = np.concatenate([self._sure, scores >= self.settings.high_score])
        return ids
