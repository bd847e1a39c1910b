"""Trackers: people followed while the video runs, missed boxes filled, with a bounded look-ahead.

The same causal core as in whole recordings. A frame is answered at once or a set time later; what is seen in
that time closes gaps by interpolation instead of prediction, and shows a track from its first box on although
it was confirmed later. Imports numpy and lap only, as an appliance needs it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.base import TrackerSettings
from orveil.trackers.causal import BEST, HITS, ID, ROW, SEEN, CausalTracker
from orveil.trackers.kalman import corners

__all__ = ["OnlineTracker", "TrackedFrame"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TrackedFrame:
    """The confirmed tracks of one frame, by id.

    Attributes:
        time_s: the frame's time; track_id: (K,); xyxy: (K, 4) pixels, freed of the detector's jitter.
        row: (K,) row of the track's box among the boxes given for this frame, -1 for a filled box.
    """

    time_s: float
    track_id: Ints
    xyxy: Doubles
    row: Ints


@dataclass
class _Waiting:
    """A frame not yet answered: all its tracks, confirmed or not (columns by id)."""

    time_s: float
    track_id: Ints
    xyxy: Doubles
    row: Ints
    shown: Bools


class OnlineTracker:
    """Follows the people of one camera; ids belong to the instance and count from 0.

    A track is confirmed by `confirm` boxes, one of which must be confident (`high_score`). A confirmed track
    without a box is filled at its predicted place for `hold_s`, if it is not seen again in the look-ahead.

    Args:
        settings: thresholds and times.
        look_ahead_s: a frame is answered as soon as one at least this much later was given; 0: at once.
        hold_s: None: as long as a track lives.
        confirm: boxes after which a track is shown.
    """

    def __init__(
        self,
        settings: TrackerSettings | None = None,
        look_ahead_s: float = 0.0,
        hold_s: float | None = None,
        confirm: int = 2,
    ) -> None:
        self.settings = settings or TrackerSettings()
        self.look_ahead_s, self.confirm = look_ahead_s, confirm
        self.hold_s = self.settings.max_gap_s if hold_s is None else hold_s
        self._core = CausalTracker(self.settings)
        self.reset()

    def reset(self) -> None:
        """Forget everything, ids and unanswered frames included."""
        self._core.reset()
        self._waiting: deque[_Waiting] = deque()

    def update(
        self, time_s: float, xyxy: NDArray[np.floating], score: NDArray[np.floating]
    ) -> list[TrackedFrame]:
        """Boxes (N, 4) and scores (N,) of the next frame; the frames that can be answered now, in order.

        Frames come with increasing time; frames may be missing.

        Raises:
            ValueError: the time is not later than that of the frame before.
        """
        self._core.update(time_s, xyxy, score)
        tracks = self._core.tracks  # by id: tracks are founded in that order
        ids, row, box = tracks[ID].astype(np.int64), tracks[ROW].astype(np.int64), corners(tracks)
        confirmed = (tracks[HITS] >= self.confirm) & (tracks[BEST] >= self.settings.high_score)
        shown = confirmed & (time_s - tracks[SEEN] <= self.hold_s + 1e-9)
        if self.look_ahead_s <= 0:
            return [TrackedFrame(time_s, ids[shown], box[shown], row[shown])]
        hit = confirmed & (row >= 0)
        self._revise(ids[hit], box[hit], time_s)
        self._waiting.append(_Waiting(time_s, ids, box, row, shown))
        return self._answer(time_s - self.look_ahead_s + 1e-9)

    def flush(self) -> list[TrackedFrame]:
        """The frames not answered yet, at the end of the video."""
        return self._answer(np.inf)

    def _answer(self, until: float) -> list[TrackedFrame]:
        answered = []
        while self._waiting and self._waiting[0].time_s <= until:
            f = self._waiting.popleft()
            answered.append(TrackedFrame(f.time_s, f.track_id[f.shown], f.xyxy[f.shown], f.row[f.shown]))
        return answered

    def _revise(self, ids: Ints, xyxy: Doubles, time_s: float) -> None:
        """Show the waiting past of confirmed tracks (K,) and close the gap before their new boxes (K, 4)."""
        if not self._waiting:
            return
        known = np.isin(ids, self._waiting[-1].track_id, assume_unique=True)
        ids, xyxy = ids[known], xyxy[known]
        last = self._waiting[-1]
        place = np.searchsorted(last.track_id, ids)
        changed = (last.row[place] < 0) | ~last.shown[place]
        for track, box in zip(ids[changed].tolist(), xyxy[changed], strict=True):
            self._revise_track(track, box, time_s)

    def _revise_track(self, track: int, box: Doubles, time_s: float) -> None:
        """Straight line from the last box, or from the oldest frame that still waits, to the new one."""
        past = []
        for frame in reversed(self._waiting):
            k = int(np.searchsorted(frame.track_id, track))
            if k == len(frame.track_id) or frame.track_id[k] != track:
                break
            past.append((frame, k))
        gap = next((n for n, (frame, k) in enumerate(past) if frame.row[k] >= 0), len(past) - 1)
        start, at = past[gap]
        for frame, k in past[:gap]:
            share = (frame.time_s - start.time_s) / (time_s - start.time_s)
            frame.xyxy[k] = (1 - share) * start.xyxy[at] + share * box
        for frame, k in past:
            frame.shown[k] = True
