"""Trackers: the causal core: boxes of one frame after the other joined to tracks, vectorised over tracks.

As in ByteTrack (Zhang et al., 2022) confident boxes come before doubtful ones, and tracks before those that
have just begun; but here this is one assignment with handicaps instead of two in a row, so that a confident
piece of clutter cannot take a track from the doubtful box that fits it better. Further changes: time is in
seconds; where a prediction is uncertain (low frame rate, long gap) boxes that are left over get a second
chance with grown boxes, as in C-BIoU (Yang et al., 2023), grown by that uncertainty; a doubtful box that no
track wants begins a track of its own, so that whoever scores low all the time can still be judged as a track.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.assignment import assign
from orveil.trackers.base import TrackerSettings
from orveil.trackers.kalman import ROWS, begin, centre_size, predict, update

__all__ = ["BEST", "HITS", "ID", "ROW", "SEEN", "CausalTracker"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

SEEN, HITS, BEST, ID, ROW = range(ROWS, ROWS + 5)
"""Rows of the table of tracks after the filter's: time of the last box, number of boxes, best score, track
id, and the row of the box in this frame, -1 for none. One table, so that tracks come and go in one copy."""

LOW_HANDICAP = 0.1
"""Overlap that a doubtful box must have more than a confident one to be preferred."""
TENTATIVE_HANDICAP = 0.3
"""The same for a track of a single box."""
UNCERTAIN = 0.15
"""Standard deviation of the predicted position, in mean sides, from which there is a second chance."""
GROWTH = 4.0
"""How much boxes grow for it, mean sides per standard deviation over half of `UNCERTAIN`; one at most."""
UNSURE_GAP = 0.5
"""A track without any confident box ends after this share of the longest gap."""


class CausalTracker:
    """A causal tracker of one camera; see the module's text."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self.reset()

    def reset(self) -> None:
        """Forget everything, ids included."""
        self._next = 0
        self._time: float | None = None
        self._before: float | None = None
        self._table: Doubles = np.zeros((ROW + 1, 64))
        self._count = 0

    @property
    def tracks(self) -> Doubles:
        """The T tracks alive at the time of the last frame, (16, T): the filter's rows, then those above."""
        return self._table[:, : self._count]

    def update(self, time_s: float, xyxy: NDArray[np.floating], score: NDArray[np.floating]) -> Ints:
        """Track ids (N,) of the boxes (N, 4) of one frame, in their order; -1 below the low score.

        Raises:
            ValueError: the time is not later than that of the frame before.
        """
        self._advance(time_s)
        value, scores = centre_size(xyxy), np.asarray(score, np.float64)
        ids = np.full(len(scores), -1, np.int64)
        lowest = scores.min(initial=1.0)
        usable = None if lowest >= self.settings.low_score else scores >= self.settings.low_score
        rows, columns = self._match(value, scores, usable)
        if len(rows):
            ids[columns] = self._correct(rows, columns, value, scores, time_s)
        new = ids < 0
        if usable is not None:
            new &= usable
        found = new.nonzero()[0]
        if len(found):
            ids[found] = self._found(found, value, scores, time_s)
        return ids

    def _advance(self, time_s: float) -> None:
        """Move every track to this frame's time and end those not seen for too long."""
        before, self._before, self._time = self._time, self._time, time_s
        if before is None:
            return
        step = time_s - before
        if step <= 0:
            self._time = before
            raise ValueError(f"frames must come with increasing time: {time_s} after {before}")
        tracks, settings = self.tracks, self.settings
        allowed = np.maximum(settings.tentative_gap_s * tracks[HITS], 3.5 * step)
        longest = np.where(tracks[BEST] >= settings.high_score, 1.0, UNSURE_GAP) * settings.max_gap_s
        alive = time_s - tracks[SEEN] <= np.minimum(allowed, longest) + 1e-9
        kept = int(np.count_nonzero(alive))
        if kept < self._count:
            tracks[:, :kept] = tracks[:, alive]
            self._count = kept
        predict(self.tracks[:ROWS], step, settings.motion)
        self.tracks[ROW] = -1

    def _match(self, value: Doubles, scores: Doubles, usable: NDArray[np.bool_] | None) -> tuple[Ints, Ints]:
        """Columns of the tracks (K,) and of the boxes (K,) that belong together."""
        tracks, limit = self.tracks, 1.0 - self.settings.min_iou
        if not self._count or not len(scores):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        handicap = LOW_HANDICAP * (scores < self.settings.high_score)
        if usable is not None:
            handicap[~usable] = 2.0
        cost = 1.0 - _overlap(tracks, value)
        cost += handicap
        cost += (TENTATIVE_HANDICAP * (tracks[HITS] < 2))[:, None]
        rows, columns = assign(cost, limit)
        again = (tracks[8] > UNCERTAIN**2) & ((tracks[HITS] > 1) | (tracks[SEEN] == self._before))
        again[rows] = False
        left = (handicap == 0).nonzero()[0]
        if len(left) and again.any():
            taken = np.zeros(len(scores), np.bool_)
            taken[columns] = True
            left, lost = left[~taken[left]], again.nonzero()[0]
            i, j = assign(1.0 - _grown_overlap(tracks[:, lost], value[:, left]), limit)
            return np.concatenate([rows, lost[i]]), np.concatenate([columns, left[j]])
        return rows, columns

    def _correct(self, rows: Ints, columns: Ints, value: Doubles, scores: Doubles, time_s: float) -> Doubles:
        """Give tracks their boxes; their ids (K,)."""
        part, score = self._table[:, rows], scores[columns]
        update(part[:ROWS], value[:, columns], score, self.settings.motion)
        part[SEEN] = time_s
        part[HITS] += 1.0
        part[BEST] = np.maximum(part[BEST], score)
        part[ROW] = columns
        self._table[:, rows] = part
        return np.asarray(part[ID])

    def _found(self, columns: Ints, value: Doubles, scores: Doubles, time_s: float) -> Ints:
        """Begin a track for each of the boxes (K,) and give their ids (K,)."""
        first, count = self._count, self._count + len(columns)
        if count > self._table.shape[1]:
            self._table = np.concatenate([self._table, np.zeros((ROW + 1, count))], axis=1)
        ids = np.arange(self._next, self._next + len(columns))
        self._next += len(columns)
        self._count = count
        new = self._table[:, first:count]
        new[:ROWS] = begin(value[:, columns], self.settings.motion)
        new[SEEN], new[HITS], new[BEST] = time_s, 1.0, scores[columns]
        new[ID], new[ROW] = ids, columns
        return ids


def _overlap(tracks: Doubles, value: Doubles) -> Doubles:
    """IoU (T, N) of tracks (4 rows or more, T) and boxes (4, N), (cx, cy, w, h); sizes of a pixel or more."""
    one, other = 0.5 * np.maximum(tracks[2:4], 1.0), 0.5 * np.maximum(value[2:], 1.0)
    low, high = tracks[:2] - one, tracks[:2] + one
    side = np.minimum(high[:, :, None], (value[:2] + other)[:, None, :])
    side -= np.maximum(low[:, :, None], (value[:2] - other)[:, None, :])
    np.maximum(side, 0.0, out=side)
    shared = side[0]
    shared *= side[1]
    whole = 4.0 * ((one[0] * one[1])[:, None] + other[0] * other[1])
    whole -= shared
    shared /= whole
    return np.asarray(shared)


def _grown_overlap(tracks: Doubles, value: Doubles) -> Doubles:
    """IoU (T, N) of boxes grown on every side by how uncertain the track of the pair is."""
    side = np.sqrt(np.maximum(tracks[2], 1.0) * np.maximum(tracks[3], 1.0))
    growth = side * np.minimum(GROWTH * (np.sqrt(tracks[8]) - 0.5 * UNCERTAIN), 1.0)
    half = 0.5 * (np.maximum(tracks[2:4], 1.0) + growth)[:, :, None]
    other = 0.5 * (np.maximum(value[2:], 1.0)[:, None, :] + growth[None, :, None])
    one, two = tracks[:2, :, None], value[:2, None, :]
    shared = np.maximum(np.minimum(one + half, two + other) - np.maximum(one - half, two - other), 0.0).prod(
        0
    )
    return np.asarray(shared / (4.0 * (half.prod(0) + other.prod(0)) - shared))
