"""Stages: second looks at some pictures: turned by quarters, and larger. They find who lies, bends or is far.

A detector that learned from people who stand misses heads that point sideways or down; in the picture turned
by a quarter the same heads stand. One look every now and then is enough for whoever keeps still: `still.py`
remembers the place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.media import ToArray
from orveil.stages.redaction.search import LARGER, TURNED, Search, View, turned_back
from orveil.stages.redaction.temporal import EPSILON_S, body_of_head
from orveil.stages.runtime import ModelError

__all__ = ["Glance", "Looks", "SmallGrey", "glance_at"]

GREY_PX = 320
"""Long side of the small grey pictures in which places are compared."""
VIEWS = (LARGER, *TURNED)


class Glance(NamedTuple):
    """What one look found.

    Attributes:
        time: of the picture, s; grey: the picture, small (see `SmallGrey`).
        heads: (N, 4) px; scores: (N,); cover: (N, 4) px, what is to be covered: it, or the body on it.
    """

    time: float
    grey: NDArray[np.uint8]
    heads: NDArray[np.float32]
    cover: NDArray[np.float32]
    scores: NDArray[np.float32]


class SmallGrey:
    """Upright frames -> small grey pictures (h, w) uint8; `scale` is their px per px of the frame."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.scale = min(1.0, GREY_PX / max(size))
        width, height = (max(2, round(side * self.scale)) for side in size)
        self._to = ToArray((width, height), "gray")

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        """The picture, small."""
        return self._to(frame)


def glance_at(
    search: Search, time: float, frame: Any, grey: NDArray[np.uint8], view: View, target: str
) -> Glance:
    """Heads (where faces are covered: and faces) that count, of an upright frame in one view.

    Raises:
        ModelError: the detector failed in any way.
    """
    found, bundle = search(frame, view), search.detector.bundle
    wanted = ("head", "face") if target == "face" else ("head",)
    rows = [
        (found.label == number) & (found.score >= bundle.thresholds[name])
        for number, name in enumerate(bundle.labels)
        if name in wanted
    ]
    keep = np.any(rows, axis=0)
    heads, size = found.xyxy[keep], (frame.width, frame.height)
    cover = heads
    if target == "body":
        turned = turned_back(heads, -view.turns, *(size[::-1] if view.turns % 2 else size))
        cover = turned_back(body_of_head(turned), view.turns, *size)
    return Glance(time, grey, heads, cover, found.score[keep])


class Looks:
    """All views of the first picture, then one every `period` seconds, in turn.

    Attributes:
        failed: why a look failed, "" if none did; the plain search goes on, and fails closed by itself.
    """

    def __init__(self, search: Search, target: str, period: float) -> None:
        self.search, self.target, self.period, self.failed = search, target, period, ""
        self._last, self._number = -math.inf, 0

    def due(self, time: float) -> bool:
        """Whether a picture of this time is to be looked at."""
        return time - self._last >= self.period - EPSILON_S

    def __call__(self, time: float, frame: Any, grey: NDArray[np.uint8]) -> Iterator[Glance]:
        """Look at an upright frame; `grey` is the same, small."""
        number = self._number % len(VIEWS)
        views = VIEWS if self._last == -math.inf else VIEWS[number : number + 1]
        self._last, self._number = time, self._number + 1
        for view in views:
            try:
                yield glance_at(self.search, time, frame, grey, view, self.target)
            except ModelError as error:
                self.failed = self.failed or str(error)
