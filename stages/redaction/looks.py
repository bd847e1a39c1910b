"""Stages: second looks at some pictures: turned by quarters, and larger. They find who lies, bends or is far.

A detector that learned from people who stand misses heads that point sideways or down; in the picture turned
by a quarter the same heads stand. One look every now and then is enough for whoever keeps still: `still.py`
remembers the place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.decode import Pictures
from orveil.pipeline.media import ToArray
from orveil.stages.redaction.look import Look
from orveil.stages.redaction.pipes import taken
from orveil.stages.redaction.search import LARGER, TURNED, Search, View, turned_back
from orveil.stages.redaction.temporal import body_of_head
from orveil.stages.runtime import Boxes, ModelError

__all__ = ["AHEAD_S", "Ahead", "Glance", "Glances", "Now", "SmallGrey", "glance_at"]

AHEAD_S = 20.0
"""A file is looked at this far ahead of the frame that is decided: a head is covered before it is found."""
GREY_PX = 480
"""Long side of the small grey pictures in which places are compared."""
VIEWS = (LARGER, *TURNED)
EPSILON_S = 1e-6


class Glance(NamedTuple):
    """What one look found.

    Attributes:
        time: of the picture, s; grey: the picture, small (see `SmallGrey`).
        heads: (N, 4) px; cover: (N, 4) px, what is to be covered for each: the head, or the body on it.
    """

    time: float
    grey: NDArray[np.uint8]
    heads: NDArray[np.float32]
    cover: NDArray[np.float32]


class Glances(Protocol):
    """Where second looks come from."""

    failed: str

    def upto(self, time: float, frame: Any) -> Iterator[Glance]:
        """Looks not given before that are known when `frame` (upright) of this time is decided."""
        ...

    def close(self) -> None:
        """No more is asked."""
        ...


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
    search: Search, frame: Any, view: View, target: str, thresholds: Mapping[str, float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Heads (or faces) of a frame in one view, and what is to be covered for each; both (N, 4) px.

    Raises:
        ModelError: the detector failed in any way.
    """
    found = search(frame, view)
    names = search.detector.bundle.labels
    wanted = [name for name in ("head", "face") if name in names][: 1 if target != "face" else 2]
    heads = np.concatenate(
        [np.zeros((0, 4), np.float32), *(_of(found, names, n, thresholds) for n in wanted)]
    )
    if target != "body":
        return heads, heads
    size = frame.width, frame.height
    across = size[::-1] if view.turns % 2 else size
    standing = turned_back(heads, -view.turns, *across)
    return heads, turned_back(body_of_head(standing), view.turns, *size)


def _of(
    found: Boxes, names: tuple[str, ...], name: str, thresholds: Mapping[str, float]
) -> NDArray[np.float32]:
    return found.xyxy[(found.label == names.index(name)) & (found.score >= thresholds[name])]


class _Turns:
    """All views of the first picture, then one every `period` seconds, in turn."""

    def __init__(self, search: Search, target: str, period: float, grey: SmallGrey) -> None:
        self.search, self.target, self.period, self.grey = search, target, period, grey
        self.thresholds = search.detector.bundle.thresholds
        self.failed = ""
        self._last, self._number = -math.inf, 0

    def due(self, time: float) -> bool:
        return time - self._last >= self.period - EPSILON_S

    def look(self, time: float, frame: Any) -> Iterator[Glance]:
        number = self._number % len(VIEWS)
        views = VIEWS if self._last == -math.inf else VIEWS[number : number + 1]
        self._last, self._number = time, self._number + 1
        grey = self.grey(frame)
        for view in views:
            try:
                yield Glance(time, grey, *glance_at(self.search, frame, view, self.target, self.thresholds))
            except ModelError as error:  # the plain search goes on, and fails closed where it fails too
                self.failed = self.failed or str(error)


class Now:
    """Looks at the frames that are decided, as they come: for live pictures."""

    def __init__(self, search: Search, target: str, period: float, grey: SmallGrey) -> None:
        self._turns = _Turns(search, target, period, grey)

    @property
    def failed(self) -> str:
        """Why a look failed, "" if none did."""
        return self._turns.failed

    def upto(self, time: float, frame: Any) -> Iterator[Glance]:
        """See `Glances`."""
        if self._turns.due(time):
            yield from self._turns.look(time, frame)

    def close(self) -> None:
        """See `Glances`."""


class Ahead:
    """Reads a file a second time, AHEAD_S in front of what is decided, and keeps none of its pictures.

    What it gives depends on the file alone, not on who is faster.
    """

    def __init__(
        self, source: Path, look: Look, search: Search, target: str, period: float, grey: SmallGrey
    ) -> None:
        self._turns = _Turns(search, target, period, grey)
        self._look = look
        # Whether every sample is exact does not matter here, and leaving out the loop filter saves time.
        self._pictures = Pictures(source, check=True)
        self._frames = enumerate(self._pictures)
        self._reached = -math.inf

    @property
    def failed(self) -> str:
        """Why a look failed, "" if none did."""
        return self._turns.failed

    def upto(self, time: float, frame: Any) -> Iterator[Glance]:
        """See `Glances`."""
        while self._reached < time + AHEAD_S:
            index, picture = next(self._frames, (0, None))
            if picture is None:
                self._reached = math.inf
                return
            self._reached = float(picture.pts * self._look.time_base)
            if self._turns.due(self._reached):
                item = taken(index, picture.pts, picture.frame, self._look)
                if item.frame is not None:
                    yield from self._turns.look(self._reached, item.frame)

    def close(self) -> None:
        """Close the file."""
        self._pictures.close()
