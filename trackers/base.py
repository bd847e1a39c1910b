"""Trackers: what every causal tracker of this package is, and the settings they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.kalman import Motion

__all__ = ["Tracker", "TrackerSettings"]


@dataclass(frozen=True)
class TrackerSettings:
    """Settings of a tracker within one camera; times in seconds, so that the frame rate does not matter."""

    high_score: float = 0.5
    """Boxes from here on confirm a track and are preferred."""
    low_score: float = 0.1
    """Boxes below it are left alone (track id -1)."""
    max_gap_s: float = 1.0
    """A track that saw no box for longer has ended."""
    min_iou: float = 0.3
    """Least overlap of a predicted and a detected box."""
    tentative_gap_s: float = 0.1
    """A track may miss so many seconds for every box that it has had (and always two frames)."""
    motion: Motion = field(default_factory=Motion)


class Tracker(Protocol):
    """A causal tracker of one camera. Ids belong to the instance and count from 0."""

    def update(
        self, time_s: float, xyxy: NDArray[np.floating], score: NDArray[np.floating]
    ) -> NDArray[np.int64]:
        """Track ids (N,) of the boxes (N, 4) of one frame, in the order of the boxes; -1 for none.

        Frames come with increasing time; frames may be missing.
        """

    def reset(self) -> None:
        """Forget everything, ids included."""
