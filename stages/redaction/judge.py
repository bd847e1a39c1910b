"""Stages: what is to be covered in each frame: from the detector and time, or from a list somebody made."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol

from orveil.stages.redaction.clock import Clock
from orveil.stages.redaction.kernels import Smoother, make_smoother
from orveil.stages.redaction.log import BlurSettings, Observer, RedactionLog
from orveil.stages.redaction.look import Look
from orveil.stages.redaction.looks import Looks, SmallGrey
from orveil.stages.redaction.pipes import Item
from orveil.stages.redaction.search import Place, Search, limits_of
from orveil.stages.redaction.still import Still
from orveil.stages.redaction.temporal import Covered
from orveil.stages.runtime import ModelError, OnnxDetector

__all__ = ["BoxSource", "Detecting", "Given", "Judge", "make_detecting"]

LISTED = "whole frame in the list of boxes"


class Judge(Protocol):
    """Says what to cover; may keep frames back until it knows what comes after them."""

    def push(self, item: Item) -> Iterator[Item]:
        """Take the next frame; gives back those that are decided."""
        ...

    def finish(self, frames: int) -> Iterator[Item]:
        """After the last of `frames` frames: the rest."""
        ...


class Detecting:
    """Runs the detector on every n-th frame; tracks fill the time between and around detections.

    Fails closed: from a frame on which the model fails until it works again, everything is covered.

    Args:
        still: adds places of second looks; keep: items keep their frames until they are decided.
    """

    def __init__(
        self, search: Search, smoother: Smoother, every: int, time_base: Any, log: RedactionLog,
        observer: Observer, clock: Clock, still: Still | None = None, keep: bool = True,
    ) -> None:  # fmt: skip
        self.search, self.smoother, self.every, self.time_base = search, smoother, every, time_base
        self.log, self.observer, self.clock, self.still = log, observer, clock, still
        self._healthy, self._due, self._keep = True, True, keep
        self._waiting: deque[Item] = deque()
        self._covered: deque[Item] = deque()

    def push(self, item: Item) -> Iterator[Item]:
        """Search the frame if it is its turn."""
        found = self._found(item)
        if not self._healthy and not item.fault:
            item.fault = "the model failed"
        self._waiting.append(item)
        time = float(item.pts * self.time_base)
        self.smoother.push(item.index, time, found)
        if self.still is not None:
            self.still.push(time, None if item.fault else item.frame)
        if not self._keep:
            item.frame = None
        yield from self._decided(end=False)

    def finish(self, frames: int) -> Iterator[Item]:
        """What was kept back."""
        yield from self._decided(end=True)
        self.log.longest_gap = self.smoother.longest_gap()
        if self.still is not None and self.still.looks.failed:
            self.log.notes.append(f"second looks failed: {self.still.looks.failed}")

    def _decided(self, end: bool) -> Iterator[Item]:
        for covered in self.smoother.ready(end):
            item = self._waiting.popleft()
            item.covered = covered
            self._covered.append(item)
        if end and self.still is not None:
            self.still.finish()
        while self._covered:
            time = float(self._covered[0].pts * self.time_base)
            if self.still is not None and not self.still.knows(time):
                return
            item = self._covered.popleft()
            if self.still is not None and item.covered is not None:
                item.covered = self.still.added(item.covered, time)
            yield item

    def _found(self, item: Item) -> dict[str, Any] | None:
        self._due = self._due or item.index % self.every == 0
        if not self._due or item.frame is None or item.fault:
            return None
        try:
            boxes = self.search(item.frame)
        except ModelError:
            self._healthy = False
            return None
        self._healthy, self._due = True, False
        self.log.frames["inferred"] += 1
        self.observer.found(item.index, item.pts, boxes)
        with self.clock.measure("score filter"):
            names = self.search.detector.bundle.labels
            rows = {name: boxes.label == number for number, name in enumerate(names)}
            return {name: (boxes.xyxy[mine], boxes.score[mine]) for name, mine in rows.items()}


def make_detecting(
    look: Look, time_base: Fraction, detector: OnnxDetector, settings: BlurSettings, log: RedactionLog,
    observer: Observer, clock: Clock, *, again: OnnxDetector | None = None, ahead_s: float = 0.0,
) -> Detecting:  # fmt: skip
    """A judge that searches pictures of this look, in the settings' regions of interest if there are any.

    Args:
        again: for the second looks, default the same detector.
        ahead_s: what is found so much later counts already. Items then come back without their frames.

    Raises:
        OrveilError: a region is not inside the picture.
    """
    limits = limits_of(settings.roi, *look.size, look.step)
    places: list[Place] = [(int(a), int(b), int(c), int(d)) for a, b, c, d in limits]
    search = Search(detector, clock, places if settings.roi else [None])
    # The detector's step must fit into the time over which tracks are joined.
    step = settings.every / float(look.rate)
    hold = settings.hold_s if settings.every == 1 else max(settings.hold_s, 1.5 * step)
    thresholds, target = detector.bundle.thresholds, settings.target
    smoother, still = make_smoother(settings.kernel, thresholds, target, hold), None
    if settings.looks_s and settings.kernel == "tracks" and "head" in thresholds:
        apart = Search(again or detector, Clock(), search.places)  # its times are no frame's
        looks = Looks(apart, target, settings.looks_s)
        still = Still(looks, SmallGrey(look.size), ahead_s, "person" if target == "body" else "head")
    return Detecting(search, smoother, settings.every, time_base, log, observer, clock, still, not ahead_s)


class BoxSource(Protocol):
    """Somebody's list of what to cover."""

    def at(self, index: int, pts: int) -> Covered | None:
        """Exactly what to cover in this frame, no margin added; None: all of it.

        Raises:
            OrveilError: the list belongs to another video.
        """
        ...

    def finish(self, frames: int) -> None:
        """After the last frame: raises OrveilError where the list goes on."""
        ...


class Given:
    """Covers exactly what a list says."""

    def __init__(self, boxes: BoxSource) -> None:
        self.boxes = boxes

    def push(self, item: Item) -> Iterator[Item]:
        """Look the frame up."""
        item.covered = self.boxes.at(item.index, item.pts)
        if item.covered is None and not item.fault:
            item.fault = LISTED
        yield item

    def finish(self, frames: int) -> Iterator[Item]:
        """Nothing is kept back."""
        self.boxes.finish(frames)
        yield from ()
